/* The settings file: one table of groups and keys. */
#include "config.h"

#include "libxldrv/settings.h"

#include <string.h>

typedef enum { STRING, NUMBER, SIGNED_NUMBER, MODE } Kind;

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
    {"sockets", "mode", MODE, AT(socket_mode), 0, 0777},
    {"sockets", "readonly_mode", MODE, AT(socket_ro_mode), 0, 0777},
    {"log", "verbosity", SIGNED_NUMBER, AT(verbosity), 0, 2},
    {"clients", "max", NUMBER, AT(limits.max_clients), 1, 100000},
    {"clients", "max_anonymous", NUMBER, AT(limits.max_anonymous_clients), 1, 100000},
    {"clients", "max_requests", NUMBER, AT(limits.max_client_requests), 1, 1000},
    {"clients", "auth_timeout", NUMBER, AT(limits.auth_timeout), 1, 3600},
    {"clients", "keepalive_interval", SIGNED_NUMBER, AT(limits.keepalive_interval), -1, 86400},
    {"clients", "keepalive_count", NUMBER, AT(limits.keepalive_count), 0, 1000},
    {"workers", "min", NUMBER, AT(limits.min_workers), 1, 1000},
    {"workers", "max", NUMBER, AT(limits.max_workers), 1, 1000},
    {"workers", "priority", NUMBER, AT(limits.prio_workers), 1, 1000},
#undef AT
};

void xldrv_settings_clear(XldrvSettings *settings)
{
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (keys[i].kind == STRING)
            g_clear_pointer((char **)G_STRUCT_MEMBER_P(settings, keys[i].offset), g_free);
    }
}

static gboolean set_value(XldrvSettings *settings, gsize row, const char *text, GError **error)
{
    gint64 number;
    gpointer at = G_STRUCT_MEMBER_P(settings, keys[row].offset);
    guint base = keys[row].kind == MODE ? 8 : 10;

    if (keys[row].kind == STRING) {
        g_free(*(char **)at);
        *(char **)at = *text ? g_strdup(text) : NULL;
        return TRUE;
    }
    if (!g_ascii_string_to_signed(text, base, keys[row].min, keys[row].max, &number, NULL))
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX,
                               base == 8 ? "%s in [%s] is '%s', not an octal number from %" G_GINT64_MODIFIER
                                           "o to %" G_GINT64_MODIFIER "o"
                                         : "%s in [%s] is '%s', not a number from %" G_GINT64_FORMAT
                                           " to %" G_GINT64_FORMAT,
                               keys[row].key, keys[row].group, text, keys[row].min, keys[row].max);
    if (keys[row].kind == SIGNED_NUMBER)
        *(int *)at = number;
    else
        *(guint *)at = number;
    return TRUE;
}

static gboolean set_key(XldrvSettings *settings, GKeyFile *file, const char *group, const char *key,
                        GError **error)
{
    g_autofree char *text = g_key_file_get_value(file, group, key, NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (strcmp(keys[i].group, group) == 0 && strcmp(keys[i].key, key) == 0)
            return set_value(settings, i, text, error);
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
    if (settings->limits.min_workers > settings->limits.max_workers)
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "min in [workers] is above max");
    return TRUE;
}

gboolean xldrv_settings_load(XldrvSettings *settings, const char *path, gboolean must_exist, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) why = NULL;

    *settings = (XldrvSettings){
        .socket_mode = 0600, .socket_ro_mode = 0666, .limits = xldrv_default_limits};
    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &why)) {
        if (!must_exist && g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return TRUE;
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "cannot read '%s': %s", path, why->message);
    }
    if (set_all(settings, file, &why))
        return TRUE;
    xldrv_settings_clear(settings);
    return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "'%s': %s", path, why->message);
}
