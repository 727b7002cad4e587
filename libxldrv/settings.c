/* The settings file: one table of groups and keys. */
#include "config.h"

#include "libxldrv/settings.h"

#include <string.h>

#include "libxldrv/host/log.h"

#define MODE_BY_AUTH G_MAXUINT

typedef enum { STRING, NUMBER, SIGNED_NUMBER, MODE, AUTH, LIST, N_KINDS } Kind;

static const struct {
    const char *group, *key;
    Kind kind;
    gsize offset;
    gint64 min, max;
} keys[] = {
#define AT(member) G_STRUCT_OFFSET(XldrvSettings, member)
    {"hypervisor", "program", STRING, AT(hypervisor), 0, 0},
    {"hypervisor", "engine", STRING, AT(engine), 0, 0},
    {"hypervisor", "user", STRING, AT(user), 0, 0},
    {"store", "program", STRING, AT(store_daemon), 0, 0},
    {"secrets", "uri", STRING, AT(secret_uri), 0, 0},
    {"networks", "uri", STRING, AT(network_uri), 0, 0},
    {"filters", "uri", STRING, AT(filter_uri), 0, 0},
    {"storage", "uri", STRING, AT(storage_uri), 0, 0},
    {"relay", "sockets", STRING, AT(relay_sockets), 0, 0},
    {"sockets", "unix_sock_group", STRING, AT(socket_group), 0, 0},
    {"sockets", "unix_sock_rw_perms", MODE, AT(socket_mode), 0, 0777},
    {"sockets", "unix_sock_ro_perms", MODE, AT(socket_ro_mode), 0, 0777},
    {"sockets", "listen_tls", NUMBER, AT(listen_tls), 0, 1},
    {"sockets", "listen_tcp", NUMBER, AT(listen_tcp), 0, 1},
    {"sockets", "listen_addr", STRING, AT(listen_address), 0, 0},
    {"sockets", "tls_port", NUMBER, AT(tls_port), 1, 65535},
    {"sockets", "tcp_port", NUMBER, AT(tcp_port), 1, 65535},
    {"authentication", "auth_unix_rw", AUTH, AT(auth_unix_rw), XLDRV_AUTH_NONE, XLDRV_AUTH_POLKIT},
    {"authentication", "auth_unix_ro", AUTH, AT(auth_unix_ro), XLDRV_AUTH_NONE, XLDRV_AUTH_POLKIT},
    {"authentication", "auth_tls", AUTH, AT(auth_tls), XLDRV_AUTH_NONE, XLDRV_AUTH_SASL},
    {"authentication", "auth_tcp", AUTH, AT(auth_tcp), XLDRV_AUTH_NONE, XLDRV_AUTH_SASL},
    {"authentication", "tcp_min_ssf", NUMBER, AT(tcp_min_ssf), 56, 100000},
    {"authentication", "access_drivers", LIST, AT(access_drivers), 0, 0},
    {"authentication", "sasl_allowed_username_list", LIST, AT(sasl_allowed), 0, 0},
    {"tls", "key_file", STRING, AT(key_file), 0, 0},
    {"tls", "cert_file", STRING, AT(cert_file), 0, 0},
    {"tls", "client_key_file", STRING, AT(client_key_file), 0, 0},
    {"tls", "client_cert_file", STRING, AT(client_cert_file), 0, 0},
    {"tls", "ca_file", STRING, AT(ca_file), 0, 0},
    {"tls", "crl_file", STRING, AT(crl_file), 0, 0},
    {"tls", "tls_priority", STRING, AT(tls_priority), 0, 0},
    {"tls", "tls_no_verify_certificate", NUMBER, AT(tls_no_verify), 0, 1},
    {"tls", "tls_no_sanity_certificate", NUMBER, AT(tls_no_sanity), 0, 1},
    {"tls", "tls_allowed_dn_list", LIST, AT(tls_allowed_names), 0, 0},
    {"tls", "backup_tls_x509_cert_dir", STRING, AT(backup_cert_dir), 0, 0},
    {"tls", "backup_tls_x509_verify", NUMBER, AT(backup_verify), 0, 1},
    {"console_logs", "max_size", NUMBER, AT(console_log_bytes), 65536, G_MAXUINT32},
    {"console_logs", "max_backups", NUMBER, AT(console_log_backups), 0, 1000},
    {"log", "verbosity", SIGNED_NUMBER, AT(verbosity), 0, 2},
    {"log", "log_level", NUMBER, AT(log_level), 1, 4},
    {"log", "log_filters", STRING, AT(log_filters), 0, 0},
    {"log", "log_outputs", STRING, AT(log_outputs), 0, 0},
    {"clients", "max_clients", NUMBER, AT(limits.max_clients), 1, 100000},
    {"clients", "max_anonymous_clients", NUMBER, AT(limits.max_anonymous_clients), 1, 100000},
    {"clients", "max_queued_clients", NUMBER, AT(limits.max_queued_clients), 1, 65535},
    {"clients", "max_client_requests", NUMBER, AT(limits.max_client_requests), 1, 1000},
    {"clients", "auth_timeout", NUMBER, AT(limits.auth_timeout), 1, 3600},
    {"clients", "keepalive_interval", SIGNED_NUMBER, AT(limits.keepalive_interval), -1, 86400},
    {"clients", "keepalive_count", NUMBER, AT(limits.keepalive_count), 0, 1000},
    {"admin", "admin_min_workers", NUMBER, AT(admin_limits.min_workers), 1, 1000},
    {"admin", "admin_max_workers", NUMBER, AT(admin_limits.max_workers), 1, 1000},
    {"admin", "admin_max_clients", NUMBER, AT(admin_limits.max_clients), 1, 100000},
    {"admin", "admin_max_queued_clients", NUMBER, AT(admin_limits.max_queued_clients), 1, 65535},
    {"admin", "admin_max_client_requests", NUMBER, AT(admin_limits.max_client_requests), 1, 1000},
    {"workers", "min_workers", NUMBER, AT(limits.min_workers), 1, 1000},
    {"workers", "max_workers", NUMBER, AT(limits.max_workers), 1, 1000},
    {"workers", "prio_workers", NUMBER, AT(limits.prio_workers), 1, 1000},
#undef AT
};

void xldrv_settings_clear(XldrvSettings *settings)
{
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        gpointer at = G_STRUCT_MEMBER_P(settings, keys[i].offset);
        if (keys[i].kind == STRING)
            g_clear_pointer((char **)at, g_free);
        else if (keys[i].kind == LIST)
            g_clear_pointer((char ***)at, g_strfreev);
    }
}

/* ---- values, each by its kind */

typedef gboolean (*SetFn)(gpointer at, gsize row, const char *text, GError **error);

static gboolean set_string(gpointer at, gsize row G_GNUC_UNUSED, const char *text, GError **error G_GNUC_UNUSED)
{
    g_free(*(char **)at);
    *(char **)at = *text ? g_strdup(text) : NULL;
    return TRUE;
}

static gboolean set_number(gpointer at, gsize row, const char *text, GError **error)
{
    gint64 number;

    if (!g_ascii_string_to_signed(text, 10, keys[row].min, keys[row].max, &number, NULL))
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX,
                               "%s in [%s] is '%s', not a number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT,
                               keys[row].key, keys[row].group, text, keys[row].min, keys[row].max);
    if (keys[row].kind == SIGNED_NUMBER)
        *(int *)at = number;
    else
        *(guint *)at = number;
    return TRUE;
}

static gboolean set_mode(gpointer at, gsize row, const char *text, GError **error)
{
    guint64 number;

    if (!g_ascii_string_to_unsigned(text, 8, keys[row].min, keys[row].max, &number, NULL))
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "%s in [%s] is '%s', not an octal number up to 0777",
                               keys[row].key, keys[row].group, text);
    *(guint *)at = number;
    return TRUE;
}

static gboolean set_auth(gpointer at, gsize row, const char *text, GError **error)
{
    static const char *const names[] = {
        [XLDRV_AUTH_NONE] = "none", [XLDRV_AUTH_SASL] = "sasl", [XLDRV_AUTH_POLKIT] = "polkit"};

    for (gint64 i = keys[row].min; i <= keys[row].max; i++) {
        if (strcmp(names[i], text) == 0) {
            *(XldrvAuth *)at = i;
            return TRUE;
        }
    }
    return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "%s in [%s] is '%s', not none, sasl%s", keys[row].key,
                           keys[row].group, text, keys[row].max == XLDRV_AUTH_POLKIT ? " or polkit" : "");
}

/* [ "one", "two" ] */
static gboolean set_list(gpointer at, gsize row, const char *text, GError **error)
{
    g_autoptr(GVariant) list = g_variant_parse(G_VARIANT_TYPE_STRING_ARRAY, text, NULL, NULL, NULL);

    if (!list)
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "%s in [%s] is '%s', not a list like [ \"one\", \"two\" ]",
                               keys[row].key, keys[row].group, text);
    g_strfreev(*(char ***)at);
    *(char ***)at = g_variant_dup_strv(list, NULL);
    return TRUE;
}

static const SetFn set_value[N_KINDS] = {[STRING] = set_string, [NUMBER] = set_number, [SIGNED_NUMBER] = set_number,
                                         [MODE] = set_mode,     [AUTH] = set_auth,     [LIST] = set_list};

/* Values may be in quotes, as in libvirt's own files. */
static char *unquote(const char *text)
{
    gsize length = strlen(text);

    if (length >= 2 && text[0] == '"' && text[length - 1] == '"')
        return g_strndup(text + 1, length - 2);
    return g_strdup(text);
}

static gboolean set_key(XldrvSettings *settings, GKeyFile *file, const char *group, const char *key,
                        GError **error)
{
    g_autofree char *value = g_key_file_get_value(file, group, key, NULL);
    g_autofree char *text = unquote(value);

    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (strcmp(keys[i].group, group) == 0 && strcmp(keys[i].key, key) == 0)
            return set_value[keys[i].kind](G_STRUCT_MEMBER_P(settings, keys[i].offset), i, text, error);
    }
    return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "there is no setting %s in [%s]", key, group);
}

static gboolean set_all(XldrvSettings *settings, GKeyFile *file, GError **error)
{
    g_auto(GStrv) groups = g_key_file_get_groups(file, NULL);

    for (char **group = groups; *group; group++) {
        g_auto(GStrv) names = g_key_file_get_keys(file, *group, NULL, NULL);
        for (char **key = names; key && *key; key++) {
            if (!set_key(settings, file, *group, *key, error))
                return FALSE;
        }
    }
    for (char **name = settings->access_drivers; name && *name; name++) {
        if (strcmp(*name, "polkit") != 0 && strcmp(*name, "none") != 0)
            return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "there is no access driver '%s', but polkit and none", *name);
        settings->access_polkit |= strcmp(*name, "polkit") == 0;
    }
    if (settings->limits.min_workers > settings->limits.max_workers)
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "min_workers is above max_workers");
    return TRUE;
}

/* A socket that asks who comes may be open to all. */
static void complete(XldrvSettings *settings)
{
    if (settings->socket_mode == MODE_BY_AUTH)
        settings->socket_mode = settings->auth_unix_rw == XLDRV_AUTH_NONE ? 0600 : 0666;
}

gboolean xldrv_settings_load(XldrvSettings *settings, const char *path, gboolean must_exist, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) why = NULL;

    *settings = (XldrvSettings){.console_log_bytes = 2 << 20, /* as virtlogd has it, and the next */
                                .console_log_backups = 3,
                                .socket_mode = MODE_BY_AUTH,
                                .socket_ro_mode = 0666,
                                .tls_port = 16514,
                                .tcp_port = 16509,
                                .auth_unix_rw = XLDRV_AUTH_POLKIT,
                                .auth_tcp = XLDRV_AUTH_SASL,
                                .tcp_min_ssf = 112,
                                .backup_verify = TRUE,
                                .log_level = XLDRV_LOG_WARNING,
                                .limits = xldrv_default_limits,
                                .admin_limits = xldrv_default_limits};
    settings->admin_limits.min_workers = 1;
    settings->admin_limits.max_workers = 5;
    settings->admin_limits.max_clients = 5;
    settings->admin_limits.max_queued_clients = 5;
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &why)) {
        complete(settings);
        if (!must_exist && g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return TRUE;
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "cannot read '%s': %s", path, why->message);
    }
    if (set_all(settings, file, &why)) {
        complete(settings);
        return TRUE;
    }
    xldrv_settings_clear(settings);
    return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "'%s': %s", path, why->message);
}
