/* The nodes that a toolstack writes for a domain, one row each.
 * Source: Xen docs/misc/xenstore-paths.pandoc; the set is what libxl writes for a PVH domain.
 */
#include "config.h"

#include "hv/store/domain-nodes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "hv/store/transaction.h"

/* Whose it is: the toolstack's and readable by the domain, or writable too (a backend's: hv/backend/xenbus.h says why
 * that may be), or the domain's own. */
enum owner { TOOLSTACK, BACKEND, DOMAIN };

struct writer {
    struct hv_xs_tx *tx;
    const struct hv_store_domain *domain;
    char base[64];
    int err;
};

HV_PRINTF(4, 5)
static void put(struct writer *w, enum owner owner, const char *path, const char *format, ...)
{
    const struct hv_xs_perm toolstack[] = {{0, 0}, {w->domain->domid, HV_XS_READ}};
    const struct hv_xs_perm backend[] = {{0, 0}, {w->domain->domid, HV_XS_READ | HV_XS_WRITE}};
    const struct hv_xs_perm own[] = {{w->domain->domid, 0}};
    const struct hv_xs_perm *const perms[] = {toolstack, backend, own};
    char full[XENSTORE_ABS_PATH_MAX + 1], value[512];
    va_list args;
    int length;

    if (w->err)
        return;
    va_start(args, format);
    length = vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    snprintf(full, sizeof(full), "%s%s%s", path[0] == '/' ? "" : w->base, path[0] && path[0] != '/' ? "/" : "", path);
    if (length < 0 || (size_t)length >= sizeof(value))
        w->err = -EINVAL;
    if (!w->err)
        w->err = hv_xs_tx_write(w->tx, full, value, (size_t)length);
    if (!w->err)
        w->err = hv_xs_tx_set_perms(w->tx, full, perms[owner], owner == DOMAIN ? 1 : 2);
}

static void format_uuid(const uint8_t uuid[16], char out[37])
{
    char *p = out;

    for (unsigned i = 0; i < 16; i++)
        p += sprintf(p, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static void put_identity(struct writer *w)
{
    char uuid[37], path[64];

    format_uuid(w->domain->uuid, uuid);
    put(w, TOOLSTACK, "", "%s", "");
    put(w, TOOLSTACK, "vm", "/vm/%s", uuid);
    put(w, TOOLSTACK, "name", "%s", w->domain->name);
    put(w, TOOLSTACK, "domid", "%u", w->domain->domid);
    snprintf(path, sizeof(path), "/vm/%s", uuid);
    put(w, TOOLSTACK, path, "%s", "");
    snprintf(path, sizeof(path), "/vm/%s/name", uuid);
    put(w, TOOLSTACK, path, "%s", w->domain->name);
    snprintf(path, sizeof(path), "/vm/%s/uuid", uuid);
    put(w, TOOLSTACK, path, "%s", uuid);
}

static void put_cpus(struct writer *w)
{
    put(w, TOOLSTACK, "cpu", "%s", "");
    for (unsigned i = 0; i < w->domain->nr_vcpus; i++) {
        char path[64];

        snprintf(path, sizeof(path), "cpu/%u", i);
        put(w, TOOLSTACK, path, "%s", "");
        snprintf(path, sizeof(path), "cpu/%u/availability", i);
        put(w, TOOLSTACK, path, "online");
    }
}

static void put_console(struct writer *w)
{
    put(w, TOOLSTACK, "console", "%s", "");
    put(w, TOOLSTACK, "console/ring-ref", "%" PRIu64, w->domain->console_gfn);
    put(w, TOOLSTACK, "console/port", "%u", w->domain->console_port);
    put(w, TOOLSTACK, "console/limit", "1048576");
    put(w, TOOLSTACK, "console/type", "xenconsoled");
    put(w, TOOLSTACK, "console/output", "pty");
    put(w, TOOLSTACK, "console/tty", "%s", w->domain->console_tty ? w->domain->console_tty : "");
}

static void put_rest(struct writer *w)
{
    static const struct {
        enum owner owner;
        const char *path, *value;
    } rows[] = {
        {TOOLSTACK, "device", ""},
        {TOOLSTACK, "control", ""},
        {DOMAIN, "control/shutdown", ""},
        {DOMAIN, "control/feature-poweroff", ""},
        {DOMAIN, "control/feature-reboot", ""},
        {DOMAIN, "control/feature-suspend", ""},
        {DOMAIN, "control/sysrq", ""},
        {TOOLSTACK, "control/platform-feature-multiprocessor-suspend", "1"},
        {TOOLSTACK, "control/platform-feature-xs_reset_watches", "1"},
        {DOMAIN, "device/suspend/event-channel", ""},
        {DOMAIN, "data", ""},
        {DOMAIN, "drivers", ""},
        {DOMAIN, "feature", ""},
        {DOMAIN, "attr", ""},
        {DOMAIN, "error", ""},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        put(w, rows[i].owner, rows[i].path, "%s", rows[i].value);
}

static void put_memory_and_store(struct writer *w)
{
    put(w, TOOLSTACK, "memory", "%s", "");
    put(w, TOOLSTACK, "memory/target", "%" PRIu64, w->domain->memory_kib);
    put(w, TOOLSTACK, "memory/static-max", "%" PRIu64, w->domain->memory_kib);
    put(w, TOOLSTACK, "memory/videoram", "-1");
    put(w, TOOLSTACK, "store", "%s", "");
    put(w, TOOLSTACK, "store/ring-ref", "%" PRIu64, w->domain->store_gfn);
    put(w, TOOLSTACK, "store/port", "%u", w->domain->store_port);
}

/* A device as a toolstack makes it: what both of its ends have in any class. */
struct device {
    struct writer *w;
    char front[64], back[64];
};

HV_PRINTF(5, 6)
static void put_in(struct device *device, enum owner owner, const char *base, const char *key, const char *format, ...)
{
    char path[96], value[128];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    snprintf(path, sizeof(path), "%s%s%s", base, key[0] ? "/" : "", key);
    put(device->w, owner, path, "%s", value);
}

static void put_device(struct writer *w, const char *class, uint32_t devid, struct device *out)
{
    out->w = w;
    snprintf(out->front, sizeof(out->front), "device/%s/%u", class, devid);
    snprintf(out->back, sizeof(out->back), "/local/domain/0/backend/%s/%u/%u", class, w->domain->domid, devid);
    put_in(out, BACKEND, out->back, "", "%s", "");
    put_in(out, BACKEND, out->back, "frontend", "%s/%s", w->base, out->front);
    put_in(out, BACKEND, out->back, "frontend-id", "%u", w->domain->domid);
    put_in(out, BACKEND, out->back, "online", "1");
    put_in(out, BACKEND, out->back, "state", "1");
    put_in(out, DOMAIN, out->front, "", "%s", "");
    put_in(out, DOMAIN, out->front, "state", "1");
    put_in(out, TOOLSTACK, out->front, "backend", "%s", out->back);
    put_in(out, TOOLSTACK, out->front, "backend-id", "0");
}

static void put_disk(struct writer *w, const struct hv_store_disk *disk)
{
    struct device device;

    put_device(w, "vbd", disk->devid, &device);
    put_in(&device, BACKEND, device.back, "mode", "%s", disk->read_only ? "r" : "w");
    put_in(&device, TOOLSTACK, device.front, "device-type", "disk");
    put_in(&device, TOOLSTACK, device.front, "virtual-device", "%u", disk->devid);
}

static void put_nic(struct writer *w, const struct hv_store_nic *nic)
{
    const uint8_t *mac = nic->mac;
    struct device device;

    put_device(w, "vif", nic->devid, &device);
    put_in(&device, TOOLSTACK, device.front, "handle", "%u", nic->devid);
    put_in(&device, TOOLSTACK, device.front, "mac", "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
           mac[4], mac[5]);
    put_in(&device, TOOLSTACK, device.front, "mtu", "%u", nic->mtu);
}

/* Looking for its devices, a guest reads the directories above them. */
static void put_disks(struct writer *w)
{
    if (w->domain->nr_disks)
        put(w, TOOLSTACK, "device/vbd", "%s", "");
    for (unsigned i = 0; i < w->domain->nr_disks; i++)
        put_disk(w, &w->domain->disks[i]);
}

static void put_nics(struct writer *w)
{
    if (w->domain->nr_nics)
        put(w, TOOLSTACK, "device/vif", "%s", "");
    for (unsigned i = 0; i < w->domain->nr_nics; i++)
        put_nic(w, &w->domain->nics[i]);
}

int hv_xs_write_domain_nodes(struct hv_xs *xs, const struct hv_store_domain *domain)
{
    static const struct hv_xs_who dom0 = {.privileged = true, .target = -1};
    struct writer w = {.domain = domain};
    int err = hv_xs_tx_new(xs, &dom0, &w.tx);

    if (err)
        return err;
    snprintf(w.base, sizeof(w.base), "/local/domain/%u", domain->domid);
    put_identity(&w);
    put_memory_and_store(&w);
    put_cpus(&w);
    put_console(&w);
    put_rest(&w);
    put_disks(&w);
    put_nics(&w);
    err = w.err ? w.err : hv_xs_tx_commit(w.tx);
    hv_xs_tx_free(w.tx);
    return err;
}
