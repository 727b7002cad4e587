/* What a domain finds in xenstore when it starts, and who may touch it. */
#include "config.h"

#include "libxldrv/driver/store-nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/xen-abi.h"

/* Who may do what with a node: Dom0 always may everything. */
typedef enum {
    HIDDEN,   /* the guest sees nothing */
    READABLE, /* the guest reads */
    OWNED,    /* the guest's own */
    SHARED,   /* the guest reads and writes */
} Access;

typedef struct {
    XldrvStoreBatch *batch;
    int id;
    const char *base; /* what relative paths are below */
} Writer;

G_GNUC_PRINTF(4, 5)
static void put(Writer *w, Access access, const char *node, const char *format, ...)
{
    struct xs_permissions guest_reads[] = {{0, XS_PERM_NONE}, {w->id, XS_PERM_READ}};
    struct xs_permissions guest_owns[] = {{w->id, XS_PERM_NONE}};
    struct xs_permissions guest_writes[] = {{0, XS_PERM_NONE}, {w->id, XS_PERM_READ | XS_PERM_WRITE}};
    g_autofree char *path = *node ? g_strconcat(w->base, "/", node, NULL) : g_strdup(w->base);
    g_autofree char *value = NULL;
    va_list args;

    va_start(args, format);
    value = g_strdup_vprintf(format, args);
    va_end(args);
    xldrv_store_batch_write(w->batch, path, value, strlen(value));
    if (access == READABLE)
        xldrv_store_batch_set_permissions(w->batch, path, guest_reads, 2);
    if (access == OWNED)
        xldrv_store_batch_set_permissions(w->batch, path, guest_owns, 1);
    if (access == SHARED)
        xldrv_store_batch_set_permissions(w->batch, path, guest_writes, 2);
}

/* Directories and constants below /local/domain/ID, in the order in which they have to be made. */
static const struct {
    const char *node;
    const char *value;
    Access access;
} fixed_nodes[] = {
    {"cpu", "", READABLE},
    {"memory", "", READABLE},
    {"device", "", READABLE},
    {"device/suspend", "", READABLE},
    {"device/suspend/event-channel", "", OWNED},
    {"control", "", READABLE},
    {"control/shutdown", "", OWNED},
    {"control/sysrq", "", OWNED},
    {"control/feature-poweroff", "", OWNED},
    {"control/feature-reboot", "", OWNED},
    {"control/feature-suspend", "", OWNED},
    {"control/feature-s3", "", OWNED},
    {"control/feature-s4", "", OWNED},
    {"control/platform-feature-multiprocessor-suspend", "1", READABLE},
    {"control/platform-feature-xs_reset_watches", "1", READABLE},
    {"data", "", OWNED},
    {"drivers", "", OWNED},
    {"feature", "", OWNED},
    {"attr", "", OWNED},
    {"error", "", OWNED},
    {"console", "", READABLE},
    {"console/backend-id", "0", READABLE},
    {"console/type", "xenconsoled", READABLE},
    {"console/output", "pty", READABLE},
    {"console/limit", "1048576", READABLE},
    {"store", "", READABLE},
};

static void put_rings(Writer *w, const XldrvStoreDomain *what)
{
    put(w, READABLE, "store/ring-ref", "%" G_GUINT64_FORMAT, what->ring_gfn);
    put(w, READABLE, "store/port", "%u", what->ring_port);
    put(w, READABLE, "console/ring-ref", "%" G_GUINT64_FORMAT, what->console_gfn);
    put(w, READABLE, "console/port", "%u", what->console_port);
    if (what->tty)
        put(w, READABLE, "console/tty", "%s", what->tty);
}

void xldrv_store_add_rings(XldrvStoreBatch *batch, const XldrvStoreDomain *what)
{
    g_autofree char *base = g_strdup_printf("/local/domain/%d", what->id);
    Writer w = {batch, what->id, base};

    put_rings(&w, what);
}

static void put_domain(Writer *w, const XldrvStoreDomain *what)
{
    const XmlconfDomainConfig *config = xmlconf_domain_config(what->domain);

    put(w, READABLE, "", "%s", "");
    put(w, READABLE, "vm", "/vm/%s", config->uuid);
    put(w, READABLE, "name", "%s", config->name);
    put(w, READABLE, "domid", "%d", what->id);
    for (gsize i = 0; i < G_N_ELEMENTS(fixed_nodes); i++)
        put(w, fixed_nodes[i].access, fixed_nodes[i].node, "%s", fixed_nodes[i].value);
    put(w, READABLE, "memory/static-max", "%" G_GUINT64_FORMAT, config->memory_kib);
    put(w, READABLE, "memory/target", "%" G_GUINT64_FORMAT, config->current_memory_kib);
    put(w, READABLE, "memory/videoram", "%d", 0);
    for (guint i = 0; i < config->max_vcpus; i++) {
        g_autofree char *dir = g_strdup_printf("cpu/%u", i);
        g_autofree char *node = g_strdup_printf("cpu/%u/availability", i);

        put(w, READABLE, dir, "%s", "");
        put(w, READABLE, node, "%s", i < config->current_vcpus ? "online" : "offline");
    }
    put_rings(w, what);
}

static void put_vm(Writer *w, const XldrvStoreDomain *what)
{
    const XmlconfDomainConfig *config = xmlconf_domain_config(what->domain);

    put(w, READABLE, "", "%s", "");
    put(w, READABLE, "uuid", "%s", config->uuid);
    put(w, READABLE, "name", "%s", config->name);
    put(w, READABLE, "start_time", "%" G_GINT64_FORMAT, g_get_real_time() / G_USEC_PER_SEC);
    put(w, READABLE, "image", "%s", "");
    put(w, READABLE, "image/ostype", "%s", "pvh");
}

static void put_libxl(Writer *w)
{
    put(w, HIDDEN, "", "%s", "");
    put(w, HIDDEN, "type", "%s", "pvh");
    put(w, HIDDEN, "dm-version", "%s", "none_required");
}

static void write_domain(XldrvStoreBatch *batch, gconstpointer data)
{
    const XldrvStoreDomain *what = data;
    g_autofree char *domain_base = g_strdup_printf("/local/domain/%d", what->id);
    g_autofree char *vm_base = g_strdup_printf("/vm/%s", xmlconf_domain_config(what->domain)->uuid);
    g_autofree char *libxl_base = g_strdup_printf("/libxl/%d", what->id);
    Writer w = {batch, what->id, domain_base};

    put_domain(&w, what);
    w.base = vm_base;
    put_vm(&w, what);
    w.base = libxl_base;
    put_libxl(&w);
}

gboolean xldrv_store_write_nodes(XldrvStoreBatch *batch, const XldrvStoreDomain *what)
{
    return xldrv_store_batch_transaction(batch, write_domain, what);
}

/* ---- devices */

static const char *const device_kinds[] = {"vbd", "vif", "console", "vfb", "vkbd"};

static char *frontend_path(int id, const char *kind, guint devid)
{
    return g_strdup_printf("/local/domain/%d/device/%s/%u", id, kind, devid);
}

static char *backend_path(int id, const char *kind, guint devid)
{
    return g_strdup_printf("/local/domain/0/backend/%s/%d/%u", kind, id, devid);
}

static char *libxl_path(int id, const char *kind, guint devid)
{
    return g_strdup_printf("/libxl/%d/device/%s/%u", id, kind, devid);
}

static void put_keys(Writer *w, Access access, const XldrvStoreKey *keys)
{
    for (; keys->key; keys++)
        put(w, access, keys->key, "%s", keys->value);
}

/* The front end is the guest's. The back end, in the hypervisor, speaks to the store as the domain, so the guest can
 * write there as well: see hv/backend/xenbus.h for why that is safe. Paths of the host are kept from the guest, so
 * what Xen's tools have in "params" is under /libxl. */
static void write_device(XldrvStoreBatch *batch, gconstpointer data)
{
    const XldrvStoreDevice *device = data;
    g_autofree char *frontend = frontend_path(device->id, device->kind, device->devid);
    g_autofree char *backend = backend_path(device->id, device->kind, device->devid);
    g_autofree char *libxl = libxl_path(device->id, device->kind, device->devid);
    Writer w = {batch, device->id, backend};

    put(&w, SHARED, "", "%s", "");
    put(&w, SHARED, "frontend", "%s", frontend);
    put(&w, SHARED, "frontend-id", "%d", device->id);
    put(&w, SHARED, "online", "%d", 1);
    put_keys(&w, SHARED, device->backend);
    put(&w, SHARED, "state", "%d", XenbusStateInitialising);
    w.base = libxl;
    put(&w, HIDDEN, "frontend", "%s", frontend);
    put(&w, HIDDEN, "backend", "%s", backend);
    if (device->hidden)
        put_keys(&w, HIDDEN, device->hidden);
    w.base = frontend;
    put(&w, OWNED, "", "%s", "");
    put(&w, OWNED, "backend", "%s", backend);
    put(&w, OWNED, "backend-id", "%d", 0);
    put_keys(&w, OWNED, device->frontend);
    put(&w, OWNED, "state", "%d", XenbusStateInitialising);
}

gboolean xldrv_store_write_device(XldrvStoreBatch *batch, const XldrvStoreDevice *device)
{
    return xldrv_store_batch_transaction(batch, write_device, device);
}

/* Removes a directory that has nothing in it. */
static void remove_if_empty(struct xs_handle *handle, const char *path)
{
    unsigned n = 0;
    char **entries = xs_directory(handle, XBT_NULL, path, &n);

    if (entries && n == 0)
        xs_rm(handle, XBT_NULL, path);
    free(entries);
}

void xldrv_store_remove_device_nodes(struct xs_handle *handle, int id, const char *kind, guint devid)
{
    g_autofree char *frontend = frontend_path(id, kind, devid);
    g_autofree char *backend = backend_path(id, kind, devid);
    g_autofree char *libxl = libxl_path(id, kind, devid);
    g_autofree char *backends = g_path_get_dirname(backend);

    xs_rm(handle, XBT_NULL, frontend);
    xs_rm(handle, XBT_NULL, backend);
    xs_rm(handle, XBT_NULL, libxl);
    remove_if_empty(handle, backends);
}

guint xldrv_store_tree_watch(XldrvStoreBatch *batch, int id)
{
    g_autofree char *domain = g_strdup_printf("/local/domain/%d", id);

    xldrv_store_batch_watch(batch, domain);
    for (gsize i = 0; i < G_N_ELEMENTS(device_kinds); i++) {
        g_autofree char *path = g_strdup_printf("/local/domain/0/backend/%s/%d", device_kinds[i], id);

        xldrv_store_batch_watch(batch, path);
    }
    return 1 + G_N_ELEMENTS(device_kinds);
}

static void remove_backends(struct xs_handle *handle, int id)
{
    for (gsize i = 0; i < G_N_ELEMENTS(device_kinds); i++) {
        g_autofree char *path = g_strdup_printf("/local/domain/0/backend/%s/%d", device_kinds[i], id);
        xs_rm(handle, XBT_NULL, path);
    }
}

void xldrv_store_remove_nodes(struct xs_handle *handle, int id, const char *uuid)
{
    g_autofree char *domain_base = g_strdup_printf("/local/domain/%d", id);
    g_autofree char *vm_base = g_strdup_printf("/vm/%s", uuid);
    g_autofree char *libxl_base = g_strdup_printf("/libxl/%d", id);

    remove_backends(handle, id);
    xs_rm(handle, XBT_NULL, domain_base);
    xs_rm(handle, XBT_NULL, vm_base);
    xs_rm(handle, XBT_NULL, libxl_base);
}
