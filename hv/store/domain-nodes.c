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

/* Both ends of one disk. */
static void put_disk(struct writer *w, const struct hv_store_disk *disk)
{
    char front[64], back[64], path[96];
    const struct {
        enum owner owner;
        const char *base, *key, *value;
    } rows[] = {
        {BACKEND, back, "", ""},
        {BACKEND, back, "online", "1"},
        {BACKEND, back, "state", "1"},
        {BACKEND, back, "mode", disk->read_only ? "r" : "w"},
        {DOMAIN, front, "", ""},
        {DOMAIN, front, "state", "1"},
        {TOOLSTACK, front, "device-type", "disk"},
        {TOOLSTACK, front, "backend-id", "0"},
    };

    snprintf(front, sizeof(front), "device/vbd/%u", disk->devid);
    snprintf(back, sizeof(back), "/local/domain/0/backend/vbd/%u/%u", w->domain->domid, disk->devid);
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        snprintf(path, sizeof(path), "%s%s%s", rows[i].base, rows[i].key[0] ? "/" : "", rows[i].key);
        put(w, rows[i].owner, path, "%s", rows[i].value);
    }
    snprintf(path, sizeof(path), "%s/frontend-id", back);
    put(w, BACKEND, path, "%u", w->domain->domid);
    snprintf(path, sizeof(path), "%s/frontend", back);
    put(w, BACKEND, path, "%s/%s", w->base, front);
    snprintf(path, sizeof(path), "%s/virtual-device", front);
    put(w, TOOLSTACK, path, "%u", disk->devid);
    snprintf(path, sizeof(path), "%s/backend", front);
    put(w, TOOLSTACK, path, "%s", back);
}

/* Looking for its devices, a guest reads the directories above them. */
static void put_disks(struct writer *w)
{
    if (w->domain->nr_disks)
        put(w, TOOLSTACK, "device/vbd", "%s", "");
    for (unsigned i = 0; i < w->domain->nr_disks; i++)
        put_disk(w, &w->domain->disks[i]);
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
    err = w.err ? w.err : hv_xs_tx_commit(w.tx);
    hv_xs_tx_free(w.tx);
    return err;
}
