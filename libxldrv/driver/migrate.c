/* Migration: parameters and cookies. */
#include "config.h"

#include "libxldrv/driver/migrate.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "libxldrv/driver/store.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/stripes.h"
#include "libxldrv/host/tcp.h"
#include "libxldrv/rpc/rpc.h"

#define METHOD       "zstd" /* of compression */
#define QUEUE_BYTES  (128u * 1024u)
#define LINK_DEAD_MS 30000u /* without an answer of the other host */
#define FIRST_PORT   49152  /* libvirt's range for migrations */
#define LAST_PORT    49215

#define CONNECTIONS_DEFAULT 2 /* libvirt's */
#define NOT_GIVEN           G_MININT

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

int xldrv_migration_listen(const char *address, int port, int *chosen, GError **error)
{
    int fd = -1;

    for (int i = port ? port : FIRST_PORT; fd < 0 && i <= (port ? port : LAST_PORT); i++) {
        g_autofree char *service = g_strdup_printf("%d", i);

        g_clear_error(error);
        fd = xldrv_tcp_open(address, service, TRUE, 0, error);
        *chosen = i;
    }
    return fd;
}

/* ---- flags */

static const struct {
    guint flag;
    const char *name;
} refused[] = {
    {VIR_MIGRATE_POSTCOPY_RESUME, "resuming post-copy"},
    {VIR_MIGRATE_RDMA_PIN_ALL, "RDMA"},
};

#define POSTCOPY  VIR_MIGRATE_POSTCOPY, "post-copy"
#define TUNNELLED VIR_MIGRATE_TUNNELLED, "tunnelled"

static const struct {
    guint flag;
    const char *name;
    guint with;
    const char *with_name;
} not_both[] = {
    {POSTCOPY, VIR_MIGRATE_TLS, "TLS"},
    {POSTCOPY, VIR_MIGRATE_COMPRESSED, "compression"},
    {POSTCOPY, VIR_MIGRATE_PARALLEL, "several connections"},
    {POSTCOPY, VIR_MIGRATE_TUNNELLED, "a tunnel"},
    {TUNNELLED, VIR_MIGRATE_TLS, "TLS of its own"},
    {TUNNELLED, VIR_MIGRATE_PARALLEL, "several connections"},
    {TUNNELLED, XLDRV_MIGRATE_COPY_FLAGS, "disks that are copied"},
    {TUNNELLED, VIR_MIGRATE_OFFLINE, "a definition alone"},
};

static gboolean check_both(guint flags, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(not_both); i++) {
        if (flags & not_both[i].flag && flags & not_both[i].with)
            return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s migration is not supported with %s",
                                   not_both[i].name, not_both[i].with_name);
    }
    return TRUE;
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
    if (flags & VIR_MIGRATE_OFFLINE && flags & XLDRV_MIGRATE_COPY_FLAGS)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "offline migration cannot handle non-shared storage");
    if (flags & VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES && !(flags & XLDRV_MIGRATE_COPY_FLAGS))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "synchronous writes are asked for of a migration that copies no disks");
    if (flags & VIR_MIGRATE_POSTCOPY && !(flags & VIR_MIGRATE_LIVE))
        return xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                               "post-copy migration is not supported with non-live or paused migration");
    return check_both(flags, error);
}

/* ---- parameters */

#define FIELD(name, field, type) {name, G_STRUCT_OFFSET(XldrvMigration, field), type}
#define TEXT(name, field)        FIELD(name, field, "s")

static const struct {
    const char *name;
    gsize offset;
    const char *type; /* "s", "t" or "i" */
} known[] = {
    TEXT(VIR_MIGRATE_PARAM_URI, uri),
    TEXT(VIR_MIGRATE_PARAM_DEST_NAME, dname),
    TEXT(VIR_MIGRATE_PARAM_DEST_XML, xml),
    TEXT(VIR_MIGRATE_PARAM_PERSIST_XML, persistent_xml),
    TEXT(VIR_MIGRATE_PARAM_LISTEN_ADDRESS, listen_address),
    TEXT(VIR_MIGRATE_PARAM_TLS_DESTINATION, tls_destination),
    TEXT(VIR_MIGRATE_PARAM_COMPRESSION, compression),
    TEXT(VIR_MIGRATE_PARAM_DISKS_URI, disks_uri),
    FIELD(VIR_MIGRATE_PARAM_BANDWIDTH, bandwidth_mib, "t"),
    FIELD(VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, postcopy_bandwidth_mib, "t"),
    FIELD(VIR_MIGRATE_PARAM_DISKS_PORT, disks_port, "i"),
    FIELD(VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, connections, "i"),
};

static gboolean take(XldrvMigration *migration, const char *name, GVariant *value)
{
    if (strcmp(name, VIR_MIGRATE_PARAM_MIGRATE_DISKS) == 0) /* any number of times: xldrv_migration_next_disk */
        return g_variant_is_of_type(value, G_VARIANT_TYPE_STRING);
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        gpointer field = (char *)migration + known[i].offset;

        if (strcmp(known[i].name, name) != 0)
            continue;
        if (!g_variant_is_of_type(value, G_VARIANT_TYPE(known[i].type)))
            return FALSE;
        if (*known[i].type == 's')
            *(const char **)field = g_variant_get_string(value, NULL);
        else if (*known[i].type == 't')
            *(guint64 *)field = g_variant_get_uint64(value);
        else
            *(int *)field = g_variant_get_int32(value);
        return TRUE;
    }
    return FALSE;
}

const char *xldrv_migration_next_disk(const XldrvMigration *migration, guint *at)
{
    guint n = migration->params ? (guint)g_variant_n_children(migration->params) : 0;

    while (*at < n) {
        g_autoptr(GVariant) value = NULL;
        const char *name;

        g_variant_get_child(migration->params, (*at)++, "(&sv)", &name, &value);
        if (strcmp(name, VIR_MIGRATE_PARAM_MIGRATE_DISKS) == 0)
            return g_variant_get_string(value, NULL); /* which the parameters keep */
    }
    return NULL;
}

gboolean xldrv_migration_copies(const XldrvMigration *migration, const XmlconfDisk *disk)
{
    gboolean any = FALSE;
    const char *name;

    if (!(migration->flags & XLDRV_MIGRATE_COPY_FLAGS))
        return FALSE;
    for (guint at = 0; (name = xldrv_migration_next_disk(migration, &at)); any = TRUE) {
        if (strcmp(name, disk->target) == 0)
            return TRUE;
    }
    return !any && !disk->readonly && !disk->shareable &&
           (xmlconf_disk_source(disk) || disk->type == XMLCONF_DISK_VOLUME);
}

/* A URI, or a port alone, as libvirt has it. */
static gboolean check_disks_address(const XldrvMigration *migration, GError **error)
{
    g_autoptr(GUri) uri = migration->disks_uri ? g_uri_parse(migration->disks_uri, G_URI_FLAGS_NONE, NULL) : NULL;

    if (migration->disks_port < 0 || migration->disks_port > G_MAXUINT16)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%d is no port", migration->disks_port);
    if (!migration->disks_uri)
        return TRUE;
    if (migration->disks_port)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "both port and URI requested for disk migration while being mutually exclusive");
    return (uri && strcmp(g_uri_get_scheme(uri), "tcp") == 0 && g_uri_get_host(uri) && *g_uri_get_host(uri)) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "disks cannot be copied to '%s': tcp://HOST[:PORT] is expected",
                           migration->disks_uri);
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

static gboolean check_connections(XldrvMigration *migration, GError **error)
{
    gboolean given = migration->connections != NOT_GIVEN, parallel = migration->flags & VIR_MIGRATE_PARALLEL;

    if (given && !parallel)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "a number of parallel connections is given for a migration that is not parallel");
    if (!given)
        migration->connections = parallel ? CONNECTIONS_DEFAULT : 0;
    return !parallel || (migration->connections >= 1 && migration->connections <= (int)XLDRV_STRIPES_MAX) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%d parallel connections are not possible, 1 to %u are",
                           migration->connections, XLDRV_STRIPES_MAX);
}

gboolean xldrv_migration_read(GVariant *params, guint flags, XldrvMigration *migration, GError **error)
{
    gsize n = params ? g_variant_n_children(params) : 0;

    *migration = (XldrvMigration){.flags = flags, .params = params, .connections = NOT_GIVEN};
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) value = NULL;
        const char *name;

        g_variant_get_child(params, i, "(&sv)", &name, &value);
        if (!take(migration, name, value))
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "migration parameter '%s' is not supported", name);
    }
    return check_flags(flags, error) && check_compression(migration, error) && check_disks_address(migration, error) &&
           check_connections(migration, error);
}

static GVariant *value_of(const XldrvMigration *migration, gsize which)
{
    gconstpointer field = (const char *)migration + known[which].offset;
    const char *text = *known[which].type == 's' ? *(const char *const *)field : NULL;
    guint64 number = *known[which].type == 't' ? *(const guint64 *)field : 0;
    int small = *known[which].type == 'i' ? *(const int *)field : 0;

    if (text)
        return g_variant_new_string(text);
    return number ? g_variant_new_uint64(number) : small ? g_variant_new_int32(small) : NULL;
}

GVariant *xldrv_migration_params(const XldrvMigration *migration)
{
    GVariantBuilder params;
    const char *name;

    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++) {
        GVariant *value = value_of(migration, i);

        if (value)
            xldrv_params_add(&params, known[i].name, value);
    }
    for (guint at = 0; (name = xldrv_migration_next_disk(migration, &at));)
        xldrv_params_add(&params, VIR_MIGRATE_PARAM_MIGRATE_DISKS, g_variant_new_string(name));
    return g_variant_builder_end(&params);
}

/* ---- cookies */

#define COOKIE_MAGIC "domus-migration-4"
#define COOKIE_STORE "(ia(saya(uu)))"
#define COOKIE_TYPE  G_VARIANT_TYPE("(si" COOKIE_STORE XLDRV_COOKIE_DISKS "(us)b)")

GVariant *xldrv_cookie_encode(const XldrvCookie *cookie)
{
    g_autoptr(GVariant) no_store = g_variant_ref_sink(g_variant_new_parsed("(0, @a(saya(uu)) [])"));
    g_autoptr(GVariant) no_disks = g_variant_ref_sink(g_variant_new_parsed("@" XLDRV_COOKIE_DISKS " []"));
    g_autoptr(GVariant) whole = g_variant_ref_sink(
        g_variant_new("(si@" COOKIE_STORE "@" XLDRV_COOKIE_DISKS "(us)b)", COOKIE_MAGIC, cookie->id,
                      cookie->store ? cookie->store : no_store, cookie->disks ? cookie->disks : no_disks, cookie->port,
                      cookie->word, cookie->copied));
    g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(whole);

    return g_variant_new_from_bytes(G_VARIANT_TYPE_BYTESTRING, bytes, TRUE);
}

void xldrv_cookie_clear(XldrvCookie *cookie)
{
    g_clear_pointer(&cookie->store, g_variant_unref);
    g_clear_pointer(&cookie->disks, g_variant_unref);
}

gboolean xldrv_cookie_make_word(char word[XLDRV_COOKIE_WORD_CHARS + 1], GError **error)
{
    guint8 bytes[XLDRV_COOKIE_WORD_CHARS / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return xldrv_set_system_error(error, errno, "cannot make a secret word");
    for (gsize i = 0; i < sizeof(bytes); i++)
        g_snprintf(word + 2 * i, 3, "%02x", bytes[i]);
    return TRUE;
}

static gboolean has_nodes(GVariant *store)
{
    g_autoptr(GVariant) nodes = g_variant_get_child_value(store, 1);

    return g_variant_n_children(nodes) != 0;
}

gboolean xldrv_cookie_decode(GVariant *bytes, XldrvCookie *cookie, GError **error)
{
    g_autoptr(GBytes) data = g_variant_get_data_as_bytes(bytes);
    g_autoptr(GVariant) whole = NULL;
    const char *magic, *word;

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
    if (!has_nodes(cookie->store))
        g_clear_pointer(&cookie->store, g_variant_unref);
    cookie->disks = g_variant_get_child_value(whole, 3);
    g_variant_get_child(whole, 4, "(u&s)", &cookie->port, &word);
    g_variant_get_child(whole, 5, "b", &cookie->copied);
    g_strlcpy(cookie->word, word, sizeof(cookie->word));
    return TRUE;
}
