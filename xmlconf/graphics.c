/* graphics: the rows of <graphics>, and what they mean together.
 *
 * Where it listens stands in two places, an attribute of <graphics> from before there was <listen>, and there: both are
 * read, must agree, and are written. Source: libvirt docs/formatdomain, "Graphical framebuffers". */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

#define GRAPHICS(member) .offset = G_STRUCT_OFFSET(XmlconfGraphics, member)

/* Of VNC's authentication, which encrypts with a key of 56 bits. */
#define PASSWORD_MAX_BYTES 8

#define GRAPHICS_TYPES "a Xen framebuffer is shown over VNC"
static const XmlconfChoice types[] = {
    {"vnc", 0, NULL},
    {"spice", 0, GRAPHICS_TYPES},
    {"sdl", 0, GRAPHICS_TYPES},
    {"rdp", 0, GRAPHICS_TYPES},
    {"desktop", 0, GRAPHICS_TYPES},
    {"egl-headless", 0, GRAPHICS_TYPES},
    {"dbus", 0, GRAPHICS_TYPES},
    {NULL, 0, NULL},
};

static const XmlconfChoice listen_types[] = {
    {"address", XMLCONF_LISTEN_ADDRESS, NULL},
    {"socket", XMLCONF_LISTEN_SOCKET, NULL},
    {"none", XMLCONF_LISTEN_NONE, NULL},
    {"network", 0, "the address of a network is to be named by <listen type='address'>"},
    {NULL, 0, NULL},
};

static const XmlconfChoice share_policies[] = {
    {"allow-exclusive", XMLCONF_SHARE_ALLOW_EXCLUSIVE, NULL},
    {"force-shared", XMLCONF_SHARE_FORCE_SHARED, NULL},
    {"ignore", XMLCONF_SHARE_IGNORE, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice yes_no[] = {{"yes", XMLCONF_YES, NULL}, {"no", XMLCONF_NO, NULL}, {NULL, 0, NULL}};

/* ---- ports: -1 is any that is free, which a running domain has a number for */

static gboolean read_port(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    if (strcmp(text, "-1") != 0)
        return xmlconf_value_uint.read(field, element, text, value, error);
    *(int *)value = -1;
    return TRUE;
}

static const XmlconfGraphics *of(gconstpointer value, gsize offset)
{
    return (const XmlconfGraphics *)((const char *)value - offset);
}

static char *write_port(const XmlconfField *field, gconstpointer value, gboolean live)
{
    const XmlconfGraphics *graphics = of(value, field->offset);

    if (graphics->listen != XMLCONF_LISTEN_ADDRESS)
        return NULL;
    if (graphics->autoport == XMLCONF_YES && (!live || graphics->port <= 0))
        return g_strdup("-1");
    return g_strdup_printf("%d", graphics->port);
}

static const XmlconfValueType value_port = {read_port, write_port, FALSE};

static char *write_websocket(const XmlconfField *field, gconstpointer value, gboolean live)
{
    const XmlconfGraphics *graphics = of(value, field->offset);

    if (!graphics->websocket)
        return NULL;
    return live && graphics->websocket_port ? g_strdup_printf("%d", graphics->websocket_port)
                                            : g_strdup_printf("%d", graphics->websocket);
}

static const XmlconfValueType value_websocket = {read_port, write_websocket, FALSE};

static gboolean read_enum(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    return xmlconf_value_enum.read(field, element, text, value, error);
}

static char *write_autoport(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return of(value, field->offset)->listen == XMLCONF_LISTEN_ADDRESS ? xmlconf_value_enum.write(field, value, live)
                                                                       : NULL;
}

static const XmlconfValueType value_autoport = {read_enum, write_autoport, FALSE};

/* ---- where it listens, said once or twice */

static gboolean read_place(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text, gpointer value,
                           GError **error)
{
    char **place = value;

    if (*place && strcmp(*place, text) != 0)
        return xmlconf_value_error(field, XMLCONF_ERROR_UNSUPPORTED, text,
                                   "must be the same in <graphics> and its <listen>", error);
    if (!*place && *text)
        *place = g_strdup(text);
    return TRUE;
}

static char *write_address(const XmlconfField *field, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    const XmlconfGraphics *graphics = of(value, field->offset);

    return graphics->listen == XMLCONF_LISTEN_ADDRESS ? g_strdup(graphics->address) : NULL;
}

static gboolean read_socket(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    if (*text && *text != '/')
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not an absolute path", error);
    return read_place(field, element, text, value, error);
}

static char *write_socket(const XmlconfField *field, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    const XmlconfGraphics *graphics = of(value, field->offset);

    return graphics->listen == XMLCONF_LISTEN_SOCKET ? g_strdup(graphics->socket) : NULL;
}

/* One of the two rows owns the text. */
static const XmlconfValueType value_address = {read_place, write_address, TRUE};
static const XmlconfValueType value_address_again = {read_place, write_address, FALSE};
static const XmlconfValueType value_socket = {read_socket, write_socket, TRUE};
static const XmlconfValueType value_socket_again = {read_socket, write_socket, FALSE};

/* ---- the password: an empty one is one, with which nobody gets in */

static gboolean read_password(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text,
                              gpointer value, GError **error)
{
    if (strlen(text) > PASSWORD_MAX_BYTES) /* which is not quoted */
        return xmlconf_value_error(field, XMLCONF_ERROR_UNSUPPORTED, NULL,
                                   "is longer than VNC's limit of " G_STRINGIFY(PASSWORD_MAX_BYTES) " bytes", error);
    *(char **)value = g_strdup(text);
    return TRUE;
}

static char *write_password(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    return g_strdup(*(char *const *)value);
}

static const XmlconfValueType value_password = {read_password, write_password, TRUE};

static gboolean parse_time(const char *text, gint64 *seconds)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, utc);

    *seconds = time ? g_date_time_to_unix(time) : 0;
    return time != NULL;
}

static gboolean read_time(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    gint64 seconds;

    if (!parse_time(text, &seconds))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a time like 2030-11-28T14:29:01", error);
    return xmlconf_value_string.read(field, element, text, value, error);
}

static const XmlconfValueType value_time = {read_time, write_password, TRUE};

gboolean xmlconf_graphics_valid_to(const XmlconfGraphics *graphics, gint64 *seconds)
{
    return graphics->passwd_valid_to && parse_time(graphics->passwd_valid_to, seconds);
}

/* ---- keymaps */

static gboolean read_keymap(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    if (!xmlconf_keymap_layout(text))
        return xmlconf_value_error(field, XMLCONF_ERROR_UNSUPPORTED, text, "is not known", error);
    return xmlconf_value_string.read(field, element, text, value, error);
}

static const XmlconfValueType value_keymap = {read_keymap, write_password, TRUE};

static const XmlconfField fields[] = {
    {"@type", &xmlconf_value_enum, GRAPHICS(type), .flags = XMLCONF_FIELD_REQUIRED, .choices = types},
    {"@socket", &value_socket_again, GRAPHICS(socket)},
    {"@port", &value_port, GRAPHICS(port), .min = 1, .max = G_MAXUINT16},
    {"@autoport", &value_autoport, GRAPHICS(autoport), .choices = yes_no},
    {"@websocket", &value_websocket, GRAPHICS(websocket), .min = 1, .max = G_MAXUINT16},
    {"@listen", &value_address_again, GRAPHICS(address)},
    {"@keymap", &value_keymap, GRAPHICS(keymap)},
    {"@sharePolicy", &xmlconf_value_enum, GRAPHICS(share_policy), .choices = share_policies},
    {"@powerControl", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "no"},
    {"@passwd", &value_password, GRAPHICS(passwd), .flags = XMLCONF_FIELD_SECRET},
    {"@passwdValidTo", &value_time, GRAPHICS(passwd_valid_to)},
    {"@connected", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "keep"},
    {"listen@type", &xmlconf_value_enum, GRAPHICS(listen), .choices = listen_types},
    {"listen@address", &value_address, GRAPHICS(address)},
    {"listen@socket", &value_socket, GRAPHICS(socket)},
    XMLCONF_REFUSED("audio", "sound devices are not supported"),
};

const XmlconfRecord xmlconf_graphics_record = {
    .element = "graphics",
    .size = sizeof(XmlconfGraphics),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

/* ---- all of it */

static gboolean fail(GError **error, const char *message)
{
    g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, message);
    return FALSE;
}

static void choose_listen(XmlconfGraphics *graphics)
{
    if (graphics->socket && graphics->listen != XMLCONF_LISTEN_NONE)
        graphics->listen = XMLCONF_LISTEN_SOCKET;
    else if (graphics->listen == XMLCONF_LISTEN_DEFAULT)
        graphics->listen = XMLCONF_LISTEN_ADDRESS;
}

/* A definition knows no number of a port that is to be found; where a domain runs there is one. */
static void choose_ports(XmlconfGraphics *graphics, gboolean live)
{
    if (graphics->autoport == XMLCONF_YES_NO_DEFAULT)
        graphics->autoport = graphics->port > 0 ? XMLCONF_NO : XMLCONF_YES;
    if (graphics->port < 0 || (graphics->autoport == XMLCONF_YES && !live))
        graphics->port = 0;
    if (live && graphics->websocket > 0)
        graphics->websocket_port = graphics->websocket;
}

gboolean xmlconf_graphics_complete(XmlconfGraphics *graphics, gboolean live, GError **error)
{
    choose_listen(graphics);
    choose_ports(graphics, live);
    if (graphics->listen == XMLCONF_LISTEN_ADDRESS && graphics->autoport == XMLCONF_NO && graphics->port == 0)
        return fail(error, "attribute 'port' of element <graphics> is missing, and 'autoport' is 'no'");
    if (graphics->listen != XMLCONF_LISTEN_ADDRESS && graphics->websocket)
        return fail(error, "attribute 'websocket' of element <graphics> needs a <listen type='address'>");
    if (graphics->port > 0 && graphics->port == graphics->websocket)
        return fail(error, "attributes 'port' and 'websocket' of element <graphics> are the same");
    if (graphics->passwd_valid_to && !graphics->passwd)
        g_clear_pointer(&graphics->passwd_valid_to, g_free); /* of nothing, as libvirt has it */
    return TRUE;
}
