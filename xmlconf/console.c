/* console: the rows of <console> and <channel>. Both are Xen's console devices, and one structure: a channel has a name
 * in the store, a console a number that its guest knows it by. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

#define CONSOLE(member) .offset = G_STRUCT_OFFSET(XmlconfConsole, member)
#define CHANNEL_ALIAS   "channel"

#define CHAR_TYPES "consoles and channels are of type pty, file, null, unix or tcp"
static const XmlconfChoice char_types[] = {
    {"pty", XMLCONF_CHAR_PTY, NULL},
    {"file", XMLCONF_CHAR_FILE, NULL},
    {"null", XMLCONF_CHAR_NULL, NULL},
    {"unix", XMLCONF_CHAR_UNIX, NULL},
    {"tcp", XMLCONF_CHAR_TCP, NULL},
    {"vc", 0, CHAR_TYPES},
    {"dev", 0, CHAR_TYPES},
    {"pipe", 0, CHAR_TYPES},
    {"stdio", 0, CHAR_TYPES},
    {"udp", 0, CHAR_TYPES},
    {"spicevmc", 0, CHAR_TYPES ": a guest has no SPICE server"},
    {"spiceport", 0, CHAR_TYPES ": a guest has no SPICE server"},
    {"qemu-vdagent", 0, CHAR_TYPES ": a guest has no SPICE agent"},
    {"dbus", 0, CHAR_TYPES},
    {"nmdm", 0, CHAR_TYPES},
    {NULL, 0, NULL},
};

static const XmlconfChoice char_modes[] = {{"bind", 0, NULL}, {"connect", 0, NULL}, {NULL, 0, NULL}};

#define CHANNEL_TARGETS "channels of Xen guests have targets of type xen"
static const XmlconfChoice channel_targets[] = {
    {"xen", 0, NULL},
    {"virtio", 0, CHANNEL_TARGETS},
    {"guestfwd", 0, CHANNEL_TARGETS},
    {NULL, 0, NULL},
};

static const XmlconfChoice channel_states[] = {{"connected", 0, NULL}, {"disconnected", 0, NULL}, {NULL, 0, NULL}};

/* <source path> is the file, or, of a running domain, once more the pty: it depends on what is beside the value. */
static const XmlconfConsole *console_of_path(gconstpointer value)
{
    return (const XmlconfConsole *)((const char *)value - G_STRUCT_OFFSET(XmlconfConsole, path));
}

static gboolean read_source(const XmlconfField *field G_GNUC_UNUSED, xmlNode *element G_GNUC_UNUSED,
                            const char *text, gpointer value, GError **error G_GNUC_UNUSED)
{
    XmlconfCharType type = console_of_path(value)->type;

    if ((type == XMLCONF_CHAR_FILE || type == XMLCONF_CHAR_UNIX) && *text)
        *(char **)value = g_strdup(text);
    return TRUE;
}

static char *write_source(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live)
{
    const XmlconfConsole *console = console_of_path(value);

    if (console->type == XMLCONF_CHAR_PTY)
        return live ? g_strdup(console->tty) : NULL;
    return g_strdup(console->path);
}

static const XmlconfValueType console_source = {read_source, write_source, TRUE};

/* A channel has its terminal nowhere else. */
static gboolean read_channel_source(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                                    GError **error)
{
    return console_of_path(value)->type == XMLCONF_CHAR_PTY ? xmlconf_value_string.read(field, element, text, value, error)
                                                            : read_source(field, element, text, value, error);
}

static char *write_channel_source(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return !live && console_of_path(value)->type == XMLCONF_CHAR_PTY ? NULL : xmlconf_value_string.write(field, value, live);
}

static const XmlconfValueType channel_source = {read_channel_source, write_channel_source, TRUE};

/* A word that is checked where it stands, and kept. */
static gboolean read_target(const XmlconfField *field, xmlNode *element, const char *text, gpointer value G_GNUC_UNUSED,
                            GError **error)
{
    int ignored = 0;

    return xmlconf_value_enum.read(field, element, text, &ignored, error);
}

static char *write_target(const XmlconfField *field, gconstpointer value G_GNUC_UNUSED, gboolean live G_GNUC_UNUSED)
{
    return g_strdup(field->choices[0].word);
}

static const XmlconfValueType channel_target = {read_target, write_target, FALSE};

#define SOURCE_ROWS(path_type)                                                                                         \
    {"source@mode", &xmlconf_value_word, CONSOLE(mode), .choices = char_modes},                                        \
    {"source@path", path_type, CONSOLE(path)},                                                                         \
    {"source@host", &xmlconf_value_string, CONSOLE(host)},                                                             \
    {"source@service", &xmlconf_value_string, CONSOLE(service)},                                                       \
    {"source@append", &xmlconf_value_switch, CONSOLE(append)},                                                         \
    {"protocol@type", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "raw"},                           \
    {"log@file", &xmlconf_value_path, CONSOLE(log_path)},                                                              \
    {"log@append", &xmlconf_value_switch, CONSOLE(log_append)}

static const XmlconfField console_fields[] = {
    {"@type", &xmlconf_value_enum, CONSOLE(type), .fallback = "pty", .choices = char_types},
    {"@tty", &xmlconf_value_string, CONSOLE(tty), .flags = XMLCONF_FIELD_LIVE},
    SOURCE_ROWS(&console_source),
    {"target@type", &xmlconf_value_fixed, .fallback = "xen"},
    {"target@port", &xmlconf_value_uint, CONSOLE(port), .max = XMLCONF_MAX_CONSOLES - 1},
    {"alias@name", &xmlconf_value_string, CONSOLE(alias), .flags = XMLCONF_FIELD_LIVE},
};

const XmlconfRecord xmlconf_console_record = {
    .element = "console",
    .size = sizeof(XmlconfConsole),
    .fields = console_fields,
    .n_fields = G_N_ELEMENTS(console_fields),
};

static const XmlconfField channel_fields[] = {
    {"@type", &xmlconf_value_enum, CONSOLE(type), .fallback = "pty", .choices = char_types},
    SOURCE_ROWS(&channel_source),
    {"target@type", &channel_target, .flags = XMLCONF_FIELD_REQUIRED, .choices = channel_targets},
    {"target@name", &xmlconf_value_line, CONSOLE(name), .flags = XMLCONF_FIELD_REQUIRED},
    {"target@state", &xmlconf_value_word, CONSOLE(state), .flags = XMLCONF_FIELD_LIVE, .choices = channel_states},
    {"alias@name", &xmlconf_value_string, CONSOLE(alias), .flags = XMLCONF_FIELD_LIVE},
};

const XmlconfRecord xmlconf_channel_record = {
    .element = "channel",
    .size = sizeof(XmlconfConsole),
    .fields = channel_fields,
    .n_fields = G_N_ELEMENTS(channel_fields),
};

gboolean xmlconf_console_listens(const XmlconfConsole *console)
{
    return g_strcmp0(console->mode, "bind") == 0;
}

const char *xmlconf_console_tty(const XmlconfConsole *console)
{
    return console->name && console->type == XMLCONF_CHAR_PTY ? console->path : console->tty;
}

void xmlconf_console_set_tty(XmlconfConsole *console, const char *tty)
{
    char **where = console->name ? &console->path : &console->tty;

    g_free(*where);
    *where = g_strdup(tty);
}

char *xmlconf_console_alias(const XmlconfConsole *console)
{
    return g_strdup_printf(console->name ? CHANNEL_ALIAS "%u" : "console%u", console->port);
}

/* ---- what no row can say */

G_GNUC_PRINTF(3, 4)
static gboolean fail(const XmlconfConsole *console, GError **error, const char *format, ...)
{
    g_autofree char *problem = NULL;
    va_list args;

    va_start(args, format);
    problem = g_strdup_vprintf(format, args);
    va_end(args);
    if (console->name)
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "channel '%s': %s", console->name, problem);
    else
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "console: %s", problem);
    return FALSE;
}

static gboolean check_log(const XmlconfConsole *console, GError **error)
{
    return !console->log_append || console->log_path ||
           fail(console, error, "attribute 'append' of element <log> needs a 'file'");
}

/* Of a channel that names no socket the driver chooses one, on which it listens, as libvirt's does. */
static gboolean path_is_chosen(const XmlconfConsole *console)
{
    return console->name && console->type == XMLCONF_CHAR_UNIX && !console->path;
}

/* What <source> needs for each type, and what it may not have. */
static gboolean check_source(const XmlconfConsole *console, GError **error)
{
    gboolean file = console->type == XMLCONF_CHAR_FILE, local = console->type == XMLCONF_CHAR_UNIX;
    gboolean tcp = console->type == XMLCONF_CHAR_TCP;

    if (console->append && !file)
        return fail(console, error, "attribute 'append' of element <source> needs type 'file'");
    if (console->mode && !local && !tcp)
        return fail(console, error, "attribute 'mode' of element <source> needs type 'unix' or 'tcp'");
    if ((console->host || console->service) && !tcp)
        return fail(console, error, "attributes 'host' and 'service' of element <source> need type 'tcp'");
    if (file && !console->path)
        return fail(console, error, "type 'file' needs a <source path='...'/>");
    if (local && !console->path && !(path_is_chosen(console) && xmlconf_console_listens(console)))
        return fail(console, error, "type 'unix' needs a <source path='...'/>");
    if (tcp && (!console->service || (!console->host && !xmlconf_console_listens(console))))
        return fail(console, error, "type 'tcp' needs a <source host='...' service='...'/>");
    if ((file || local) && console->path && console->path[0] != '/')
        return fail(console, error, "path '%s' is not absolute", console->path);
    return TRUE;
}

gboolean xmlconf_console_complete(XmlconfConsole *console, gboolean live, GError **error)
{
    if (!live && xmlconf_console_tty(console))
        xmlconf_console_set_tty(console, NULL);
    if (path_is_chosen(console) && !console->mode)
        console->mode = g_strdup("bind");
    return check_log(console, error) && check_source(console, error);
}

/* The number of a running domain's channel is kept in its alias. */
static void read_channel_number(XmlconfConsole *channel)
{
    guint64 number = 0;

    if (channel->alias && g_str_has_prefix(channel->alias, CHANNEL_ALIAS))
        g_ascii_string_to_unsigned(channel->alias + strlen(CHANNEL_ALIAS), 10, 0, XMLCONF_MAX_CONSOLES - 1, &number, NULL);
    channel->port = (guint)number;
}

static guint length_of(const GPtrArray *list)
{
    return list ? list->len : 0;
}

/* Of a definition, consoles have their numbers in order, and channels those that follow. */
static gboolean number_defined(XmlconfDomainConfig *config, GError **error)
{
    guint number = 0;

    for (guint i = 0; i < length_of(config->consoles); i++) {
        XmlconfConsole *console = config->consoles->pdata[i];
        if (console->port && console->port != number)
            return fail(console, error, "console %u cannot be at port %u: they are numbered in order", number,
                        console->port);
        console->port = number++;
    }
    for (guint i = 0; i < length_of(config->channels); i++)
        ((XmlconfConsole *)config->channels->pdata[i])->port = number++;
    return TRUE;
}

void xmlconf_consoles_renumber(XmlconfDomainConfig *config)
{
    for (guint i = 0; i < length_of(config->consoles); i++)
        ((XmlconfConsole *)config->consoles->pdata[i])->port = 0;
    number_defined(config, NULL);
}

static gboolean has_number(const GPtrArray *list, guint number)
{
    for (guint i = 0; i < length_of(list); i++) {
        if (((const XmlconfConsole *)list->pdata[i])->port == number)
            return TRUE;
    }
    return FALSE;
}

guint xmlconf_console_free_port(const XmlconfDomainConfig *config)
{
    guint number = 0;

    while (has_number(config->consoles, number) || has_number(config->channels, number))
        number++;
    return number;
}

gboolean xmlconf_consoles_check(const XmlconfDomainConfig *config, GError **error)
{
    guint n = length_of(config->consoles) + length_of(config->channels);

    if (n > XMLCONF_MAX_CONSOLES) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "%u consoles and channels are more than %u", n,
                    XMLCONF_MAX_CONSOLES);
        return FALSE;
    }
    for (guint i = 0; i < length_of(config->channels); i++) {
        const XmlconfConsole *channel = config->channels->pdata[i];
        for (guint j = 0; j < i; j++) {
            if (strcmp(channel->name, ((const XmlconfConsole *)config->channels->pdata[j])->name) == 0)
                return fail(channel, error, "there are two of that name");
        }
    }
    return TRUE;
}

static gboolean complete_list(GPtrArray *list, gboolean live, GError **error)
{
    for (guint i = 0; i < length_of(list); i++) {
        if (!xmlconf_console_complete(list->pdata[i], live, error))
            return FALSE;
    }
    return TRUE;
}

/* virsh console has to work with what virt-install leaves out, so a domain has a console. */
gboolean xmlconf_consoles_complete(XmlconfDomainConfig *config, gboolean live, GError **error)
{
    if (!config->consoles)
        config->consoles = xmlconf_record_list_new();
    if (config->consoles->len == 0)
        xmlconf_record_list_add(config->consoles, &xmlconf_console_record);
    if (!complete_list(config->consoles, live, error) || !complete_list(config->channels, live, error))
        return FALSE;
    for (guint i = 0; live && i < length_of(config->channels); i++)
        read_channel_number(config->channels->pdata[i]);
    return (live || number_defined(config, error)) && xmlconf_consoles_check(config, error);
}
