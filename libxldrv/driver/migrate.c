/* Migration: parameters and cookies. */
#include "config.h"

#include "libxldrv/driver/migrate.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "libxldrv/driver/store.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/rpc/rpc.h"

#define METHOD       "zstd" /* of compression */
#define QUEUE_BYTES  (128u * 1024u)
#define LINK_DEAD_MS 30000u /* without an answer of the other host */

void xldrv_migration_tune_socket(int fd)
{
    const unsigned dead = LINK_DEAD_MS;
    const int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
}

void xldrv_migration_keep_short(int fd)
{
    const unsigned bytes = QUEUE_BYTES;

    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
}

/* ---- flags */

static const struct {
    guint flag;
    const char *name;
} refused[] = {
    {VIR_MIGRATE_TUNNELLED, "tunnelled"},
    {VIR_MIGRATE_NON_SHARED_DISK, "copying disks (--copy-storage-all)"},
    {VIR_MIGRATE_NON_SHARED_INC, "copying disks (--copy-storage-inc)"},
    {VIR_MIGRATE_POSTCOPY_RESUME, "resuming post-copy"},
    {VIR_MIGRATE_PARALLEL, "parallel"},
    {VIR_MIGRATE_RDMA_PIN_ALL, "RDMA"},
};

static gboolean check_postcopy(guint flags, GError **error)
{
    if (flags & (VIR_MIGRATE_TLS | VIR_MIGRATE_COMPRESSED))
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "post-copy migration is not supported with %s",
                               flags & VIR_MIGRATE_TLS ? "TLS" : "compression");
    return flags & VIR_MIGRATE_LIVE || xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                                                       "post-copy migration is not supported with non-live or paused migration");
}

static gboolean check_flags(guint flags, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        if (flags & refused[i].flag)
            return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s migration is not supported",
                                   refused[i].name);
    }
    if (flags & ~(guint)XLDRV_MIGRATE_FLAGS)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) of a migration",
                               flags & ~(guint)XLDRV_MIGRATE_FLAGS);
    if (flags & VIR_MIGRATE_OFFLINE && !(flags & VIR_MIGRATE_PERSIST_DEST))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "offline migration must be specified with the persistent flag set");
    return !(flags & VIR_MIGRATE_POSTCOPY) || check_postcopy(flags, error);
}

/* ---- parameters */

#define TEXT(name, field) {name, G_STRUCT_OFFSET(XldrvMigration, field), TRUE}

static const struct {
    const char *name;
    gsize offset;
    gboolean is_text; /* else an unsigned long long */
} known[] = {
    TEXT(VIR_MIGRATE_PARAM_URI, uri),
    TEXT(VIR_MIGRATE_PARAM_DEST_NAME, dname),
    TEXT(VIR_MIGRATE_PARAM_DEST_XML, xml),
    TEXT(VIR_MIGRATE_PARAM_PERSIST_XML, persistent_xml),
    TEXT(VIR_MIGRATE_PARAM_LISTEN_ADDRESS, listen_address),
    TEXT(VIR_MIGRATE_PARAM_TLS_DESTINATION, tls_destination),
    TEXT(VIR_MIGRATE_PARAM_COMPRESSION, compression),
    {VIR_MIGRATE_PARAM_BANDWIDTH, G_STRUCT_OFFSET(XldrvMigration, bandwidth_mib), FALSE},
    {VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, G_STRUCT_OFFSET(XldrvMigration, postcopy_bandwidth_mib), FALSE},
};

static gboolean take(XldrvMigration *migration, const char *name, GVariant *value)
{
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strcmp(known[i].name, name) != 0)
            continue;
        if (known[i].is_text && g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
            *(const char **)((char *)migration + known[i].offset) = g_variant_get_string(value, NULL);
        else if (!known[i].is_text && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
            *(guint64 *)((char *)migration + known[i].offset) = g_variant_get_uint64(value);
        else
            return FALSE;
        return TRUE;
    }
    return FALSE;
}

/* The parameter may come several times, for several methods; there is one. */
static gboolean check_compression(const XldrvMigration *migration, GError **error)
{
    if (!migration->compression)
        return TRUE;
    if (strcmp(migration->compression, METHOD) != 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "compression method '%s' is not supported, '%s' is",
                               migration->compression, METHOD);
    return migration->flags & VIR_MIGRATE_COMPRESSED ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "compression method '%s' is given for a migration that is not compressed",
                           METHOD);
}

gboolean xldrv_migration_read(GVariant *params, guint flags, XldrvMigration *migration, GError **error)
{
    gsize n = params ? g_variant_n_children(params) : 0;

    *migration = (XldrvMigration){.flags = flags};
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) value = NULL;
        const char *name;

        g_variant_get_child(params, i, "(&sv)", &name, &value);
        if (!take(migration, name, value))
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "migration parameter '%s' is not supported", name);
    }
    return check_flags(flags, error) && check_compression(migration, error);
}

GVariant *xldrv_migration_params(const XldrvMigration *migration)
{
    GVariantBuilder params;

    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        gconstpointer at = (const char *)migration + known[i].offset;
        const char *text = known[i].is_text ? *(const char *const *)at : NULL;
        guint64 number = known[i].is_text ? 0 : *(const guint64 *)at;

        if (text)
            xldrv_params_add(&params, known[i].name, g_variant_new_string(text));
        else if (number)
            xldrv_params_add(&params, known[i].name, g_variant_new_uint64(number));
    }
    return g_variant_builder_end(&params);
}

/* ---- cookies */

#define COOKIE_MAGIC "domus-migration-1"
#define COOKIE_TYPE  G_VARIANT_TYPE("(si(ia(saya(uu))))")

GVariant *xldrv_cookie_encode(const XldrvCookie *cookie)
{
    g_autoptr(GVariant) empty = g_variant_ref_sink(g_variant_new_parsed("(0, @a(saya(uu)) [])"));
    g_autoptr(GVariant) whole = g_variant_ref_sink(
        g_variant_new("(si@(ia(saya(uu))))", COOKIE_MAGIC, cookie->id, cookie->store ? cookie->store : empty));
    g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(whole);

    return g_variant_new_from_bytes(G_VARIANT_TYPE_BYTESTRING, bytes, TRUE);
}

gboolean xldrv_cookie_decode(GVariant *bytes, XldrvCookie *cookie, GError **error)
{
    g_autoptr(GBytes) data = g_variant_get_data_as_bytes(bytes);
    g_autoptr(GVariant) whole = NULL;
    const char *magic;

    *cookie = (XldrvCookie){0};
    if (!g_bytes_get_size(data))
        return TRUE;
    whole = g_variant_ref_sink(g_variant_new_from_bytes(COOKIE_TYPE, data, FALSE));
    g_variant_get_child(whole, 0, "&s", &magic);
    if (!g_variant_is_normal_form(whole) || strcmp(magic, COOKIE_MAGIC) != 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "the other side's migration cookie is of another driver or version");
    g_variant_get_child(whole, 1, "i", &cookie->id);
    cookie->store = g_variant_get_child_value(whole, 2);
    return TRUE;
}
