/* Graphics, video and input: what is filled in, what a running domain has, secrets, and what is refused. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

#define VNC(rest) "<graphics type='vnc'" rest "</graphics>"

static XmlconfDomain *parse(const char *devices, XmlconfParseFlags flags, GError **error)
{
    g_autofree char *xml = g_strdup_printf("<domain type='xen' id='3'><name>g</name><memory unit='MiB'>64</memory>"
                                           "<os><type>xenpvh</type><kernel>/k</kernel></os><devices>%s</devices></domain>",
                                           devices);

    return xmlconf_domain_parse(xml, flags | XMLCONF_VALIDATE, error);
}

/* What a document says of its graphics, inputs and video; @flags of the format. */
static char *written(XmlconfDomain *domain, XmlconfFormatFlags flags)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = xmlconf_domain_format(domain, flags, &error);
    g_auto(GStrv) lines = g_strsplit(xml, "\n", -1);
    GString *out = g_string_new(NULL);
    gboolean inside = FALSE;

    g_assert_no_error(error);
    for (char **line = lines; *line; line++) {
        char *text = g_strstrip(*line);
        inside = inside || g_str_has_prefix(text, "<graphics") || g_str_has_prefix(text, "<input") ||
                 g_str_has_prefix(text, "<video");
        inside = inside && !g_str_has_prefix(text, "</devices");
        if (inside)
            g_string_append(out, text);
    }
    return g_string_free(out, FALSE);
}

#define ADDED                                                                                                          \
    "<input type='mouse' bus='xen'/><input type='keyboard' bus='xen'/>"
#define VIDEO "<video><model type='xen' vram='4096' heads='1' primary='yes'/></video>"

static const struct {
    const char *in, *out;
} rows[] = {
    {"<graphics type='vnc'/>",
     ADDED "<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>" VIDEO},
    {"<graphics type='vnc' port='-1' listen='0.0.0.0'/>",
     ADDED "<graphics type='vnc' port='-1' autoport='yes' listen='0.0.0.0'><listen type='address' address='0.0.0.0'/>"
           "</graphics>" VIDEO},
    {"<graphics type='vnc' port='5901' websocket='-1' keymap='de' sharePolicy='ignore'/>",
     ADDED "<graphics type='vnc' port='5901' autoport='no' websocket='-1' keymap='de' sharePolicy='ignore'>"
           "<listen type='address'/></graphics>" VIDEO},
    {"<graphics type='vnc' port='5999' autoport='yes'/>",
     ADDED "<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>" VIDEO},
    {"<graphics type='vnc' socket='/run/x.sock'/>",
     ADDED "<graphics type='vnc' socket='/run/x.sock'><listen type='socket' socket='/run/x.sock'/></graphics>" VIDEO},
    {"<graphics type='vnc'><listen type='none'/></graphics>",
     ADDED "<graphics type='vnc'><listen type='none'/></graphics>" VIDEO},
    {"<input type='tablet' bus='xen'/><video><model type='xen' vram='8192' heads='1' primary='yes'>"
     "<resolution x='1024' y='768'/></model></video>",
     "<input type='tablet' bus='xen'/><video><model type='xen' vram='8192' heads='1' primary='yes'>"
     "<resolution x='1024' y='768'/></model></video>"},
    {"<graphics type='vnc'/><video/><input type='tablet' bus='usb'/>",
     "<input type='tablet' bus='xen'/><input type='keyboard' bus='xen'/>"
     "<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>" VIDEO},
};

static void test_defaults(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(XmlconfDomain) domain = parse(rows[i].in, 0, &error);
        g_assert_no_error(error);
        g_autofree char *once = written(domain, XMLCONF_FORMAT_INACTIVE);
        g_autoptr(XmlconfDomain) copy = xmlconf_domain_copy(domain);
        g_autofree char *copied = written(copy, XMLCONF_FORMAT_INACTIVE);
        g_autoptr(XmlconfDomain) again = parse(once, 0, &error);
        g_assert_no_error(error);
        g_autofree char *twice = written(again, XMLCONF_FORMAT_INACTIVE);

        g_assert_cmpstr(once, ==, rows[i].out);
        g_assert_cmpstr(copied, ==, rows[i].out);
        g_assert_cmpstr(twice, ==, rows[i].out);
    }
}

/* A running domain has a port, which its definition, or one made of its document, has not. */
static void test_live(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse("<graphics type='vnc' websocket='-1'/>", 0, &error);
    XmlconfGraphics *graphics = xmlconf_domain_config(domain)->graphics->pdata[0];

    graphics->port = 5907;
    graphics->websocket_port = 5707;
    graphics->address = g_strdup("127.0.0.1");
    g_autofree char *live = written(domain, 0);
    g_assert_nonnull(strstr(live, "port='5907' autoport='yes' websocket='5707' listen='127.0.0.1'"));
    g_assert_nonnull(strstr(live, "<listen type='address' address='127.0.0.1'/>"));
    g_autoptr(XmlconfDomain) status = parse(live, XMLCONF_PARSE_LIVE, &error);
    g_autofree char *again = written(status, XMLCONF_FORMAT_STATUS);
    g_assert_cmpstr(again, ==, live);
    g_autofree char *inactive = written(status, XMLCONF_FORMAT_INACTIVE);
    g_assert_nonnull(strstr(inactive, "port='-1' autoport='yes'"));
}

static void test_secrets(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse(VNC(" passwd='geheim' passwdValidTo='2030-01-02T03:04:05'>"), 0, &error);
    const XmlconfGraphics *graphics = xmlconf_domain_config(domain)->graphics->pdata[0];
    gint64 seconds = 0;
    g_autofree char *open = written(domain, XMLCONF_FORMAT_INACTIVE | XMLCONF_FORMAT_SECURE);
    g_autofree char *hidden = written(domain, XMLCONF_FORMAT_INACTIVE);
    g_autoptr(XmlconfDomain) nobody = parse(VNC(" passwd=''>"), 0, &error);
    g_autofree char *empty = written(nobody, XMLCONF_FORMAT_SECURE);

    g_assert_nonnull(strstr(open, " passwd='geheim' passwdValidTo='2030-01-02T03:04:05'"));
    g_assert_null(strstr(hidden, "geheim"));
    g_assert_nonnull(strstr(hidden, "passwdValidTo='2030-01-02T03:04:05'"));
    g_assert_true(xmlconf_graphics_valid_to(graphics, &seconds));
    g_assert_cmpint(seconds, ==, 1893553445);
    g_assert_nonnull(strstr(empty, "passwd=''"));
}

static const struct {
    const char *devices;
    XmlconfError code;
    const char *message;
} bad[] = {
    {"<graphics type='spice'/>", XMLCONF_ERROR_UNSUPPORTED, "'spice' of attribute 'type' is not supported"},
    {"<graphics type='sdl'/>", XMLCONF_ERROR_UNSUPPORTED, "shown over VNC"},
    {"<graphics type='vnc'/><graphics type='vnc'/>", XMLCONF_ERROR_UNSUPPORTED, "more than 1 element <graphics>"},
    {"<graphics type='vnc' autoport='no'/>", XMLCONF_ERROR_XML, "'port' of element <graphics> is missing"},
    {"<graphics type='vnc' port='5900' websocket='5900'/>", XMLCONF_ERROR_XML, "are the same"},
    {VNC(" listen='127.0.0.1'><listen type='address' address='::1'/>"), XMLCONF_ERROR_UNSUPPORTED, "must be the same"},
    {VNC("><listen type='network' network='default'/>"), XMLCONF_ERROR_UNSUPPORTED, "'network'"},
    {VNC("><listen type='address'/><listen type='none'/>"), XMLCONF_ERROR_XML, "<listen> is there more than once"},
    {VNC(" passwd='123456789'>"), XMLCONF_ERROR_UNSUPPORTED, "VNC's limit of 8 bytes"},
    {VNC(" keymap='klingon'>"), XMLCONF_ERROR_UNSUPPORTED, "'klingon' of attribute 'keymap'"},
    {VNC(" powerControl='yes'>"), XMLCONF_ERROR_UNSUPPORTED, "'yes' of attribute 'powerControl'"},
    {"<video><model type='qxl'/></video>", XMLCONF_ERROR_UNSUPPORTED, "Xen's framebuffer"},
    {"<video><model type='xen' vram='16'/></video>", XMLCONF_ERROR_XML, "'16' of attribute 'vram'"},
    {"<video><model type='xen' heads='2'/></video>", XMLCONF_ERROR_UNSUPPORTED, "'2' of attribute 'heads'"},
    {"<video><model type='xen'><resolution x='8000' y='8000'/></model></video>", XMLCONF_ERROR_XML, "does not fit"},
    {"<input type='mouse' bus='ps2'/>", XMLCONF_ERROR_UNSUPPORTED, "'ps2' of attribute 'bus'"},
    {"<input type='evdev'><source dev='/dev/input/event0'/></input>", XMLCONF_ERROR_UNSUPPORTED, "'evdev'"},
};

static void test_bad(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        g_test_message("%s", bad[i].devices);
        g_assert_null(parse(bad[i].devices, 0, &error));
        g_assert_error(error, XMLCONF_ERROR, (int)bad[i].code);
        g_assert_nonnull(strstr(error->message, bad[i].message));
        g_assert_null(strstr(error->message, "123456789"));
    }
}

static void test_device(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse("", 0, &error);
    XmlconfDevice *device = xmlconf_device_parse("<graphics type='vnc' passwd='a'/>", &error);

    g_assert_no_error(error);
    g_assert_cmpint(xmlconf_device_type(device), ==, XMLCONF_DEVICE_GRAPHICS);
    g_assert_cmpint(xmlconf_domain_find_device(domain, device, &error), ==, -1);
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_NO_DEVICE);
    g_clear_error(&error);
    g_assert_true(xmlconf_domain_add_device(domain, device, &error));
    g_autofree char *with = written(domain, XMLCONF_FORMAT_SECURE | XMLCONF_FORMAT_INACTIVE);
    g_assert_cmpstr(with, ==,
                    ADDED "<graphics type='vnc' port='-1' autoport='yes' passwd='a'><listen type='address'/></graphics>" VIDEO);
    g_assert_cmpint(xmlconf_domain_find_device(domain, device, &error), ==, 0);
    g_assert_false(xmlconf_domain_add_device(domain, device, &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED);
    xmlconf_device_free(device);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/graphics/defaults", test_defaults);
    g_test_add_func("/graphics/live", test_live);
    g_test_add_func("/graphics/secrets", test_secrets);
    g_test_add_func("/graphics/bad", test_bad);
    g_test_add_func("/graphics/device", test_device);
    return g_test_run();
}
