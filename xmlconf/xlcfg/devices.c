/* Device specifications of xl.cfg: xl-disk-configuration(5), xl-network-configuration(5), and "channel" and "vfb" of
 * xl.cfg(5). */
#include "config.h"

#include <string.h>

#include "xmlconf/xlcfg/xlcfg.h"

/* ---- disks: libxlutil reads them */

static const struct {
    libxl_disk_format format;
    const char *name; /* of <driver type> */
} formats[] = {
    {LIBXL_DISK_FORMAT_RAW, "raw"},   {LIBXL_DISK_FORMAT_UNKNOWN, "raw"}, {LIBXL_DISK_FORMAT_QCOW, "qcow"},
    {LIBXL_DISK_FORMAT_QCOW2, "qcow2"}, {LIBXL_DISK_FORMAT_VHD, "vpc"},     {LIBXL_DISK_FORMAT_QED, "qed"},
};

static const char *format_name(libxl_disk_format format)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (formats[i].format == format)
            return formats[i].name;
    }
    return "raw";
}

/* What has no place in domain XML. */
static gboolean check_disk(const libxl_device_disk *disk, const char *spec, GError **error)
{
    const char *why = disk->backend_domname ? "the backend of a disk is in domain 0"
                      : disk->script        ? "scripts of disks are not supported"
                      : disk->colo_host     ? "COLO is not supported"
                      : !disk->vdev         ? "has no target (vdev)"
                                            : NULL;

    return !why || xmlconf_xlcfg_fail("disk", spec, why, error);
}

static gboolean put_source(xmlNode *node, const libxl_device_disk *disk, const char *spec, GError **error)
{
    gboolean block = disk->backend == LIBXL_DISK_BACKEND_PHY || (disk->pdev_path && g_str_has_prefix(disk->pdev_path, "/dev/"));
    gboolean empty = disk->format == LIBXL_DISK_FORMAT_EMPTY || !disk->pdev_path || !*disk->pdev_path;

    xmlSetProp(node, BAD_CAST "type", BAD_CAST(block ? "block" : "file"));
    if (empty)
        return disk->is_cdrom || xmlconf_xlcfg_fail("disk", spec, "has no image (target)", error);
    return xmlconf_xlcfg_put(node, block ? "source@dev" : "source@file", disk->pdev_path, "disk", error);
}

static gboolean put_disk(xmlNode *devices, const libxl_device_disk *disk, const char *spec, GError **error)
{
    xmlNode *node = xmlNewChild(devices, NULL, BAD_CAST "disk", NULL);

    xmlSetProp(node, BAD_CAST "device", BAD_CAST(disk->is_cdrom ? "cdrom" : "disk"));
    if (!put_source(node, disk, spec, error) || !xmlconf_xlcfg_put(node, "target@dev", disk->vdev, "disk", error) ||
        !xmlconf_xlcfg_put(node, "driver@type", format_name(disk->format), "disk", error))
        return FALSE;
    if (!libxl_defbool_is_default(disk->discard_enable))
        xmlconf_xlcfg_put(node, "driver@discard", libxl_defbool_val(disk->discard_enable) ? "unmap" : "ignore", "disk", NULL);
    if (disk->direct_io_safe)
        xmlconf_xlcfg_put(node, "driver@cache", "none", "disk", NULL);
    if (!disk->readwrite)
        xmlNewChild(node, NULL, BAD_CAST "readonly", NULL);
    return TRUE;
}

gboolean xmlconf_xlcfg_put_disk(XLU_Config *cfg, xmlNode *devices, const char *spec, GError **error)
{
    libxl_device_disk disk;
    gboolean ok;

    libxl_device_disk_init(&disk);
    ok = xlu_disk_parse(cfg, 1, &spec, &disk) == 0 && check_disk(&disk, spec, error) &&
         put_disk(devices, &disk, spec, error);
    libxl_device_disk_dispose(&disk);
    return ok;
}

/* ---- options "NAME=VALUE,...": one row says where a value goes, or why it goes nowhere */

typedef struct {
    const char *name;
    const char *value;   /* only this one is meant; NULL: any */
    const char *path;    /* of the device's node; NULL: says nothing that is not so */
    const char *refused; /* or why it cannot be */
} Option;

static const Option *find_option(const Option *options, const char *name, const char *value)
{
    while (options->name && (strcmp(options->name, name) != 0 || (options->value && strcmp(options->value, value) != 0)))
        options++;
    return options->name ? options : NULL;
}

static gboolean put_option(xmlNode *node, const Option *options, const char *key, char *text, GError **error)
{
    char *value = strchr(text, '=');
    const Option *option;

    if (value)
        *value++ = '\0';
    else
        value = text + strlen(text);
    g_strstrip(text);
    g_strstrip(value);
    option = find_option(options, text, value);
    if (!option || option->refused) {
        g_autofree char *shown = g_strdup_printf("%s=%s", text, value);
        return xmlconf_xlcfg_fail(key, shown, option ? option->refused : "is not known", error);
    }
    return !option->path || xmlconf_xlcfg_put(node, option->path, value, key, error);
}

static gboolean put_options(xmlNode *node, const Option *options, const char *key, const char *spec, GError **error)
{
    g_auto(GStrv) items = g_strsplit(spec, ",", -1);

    for (char **item = items; *item; item++) {
        if (*g_strstrip(*item) && !put_option(node, options, key, *item, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- network interfaces */

#define DEFAULT_BRIDGE "xenbr0" /* xl.conf(5), vif.default.bridge */

static const Option vif_options[] = {
    {"mac", NULL, "mac@address", NULL},
    {"bridge", NULL, "source@bridge", NULL},
    {"vifname", NULL, "target@dev", NULL},
    {"mtu", NULL, "mtu@size", NULL},
    {"type", "vif", NULL, NULL},
    {"type", NULL, NULL, "a PVH guest has no emulated interfaces"},
    {"model", NULL, NULL, "a PVH guest has no emulated interfaces"},
    {"script", "vif-bridge", NULL, NULL},
    {"script", "/etc/xen/scripts/vif-bridge", NULL, NULL},
    {"script", NULL, NULL, "scripts of network interfaces are not supported"},
    {"backend", "0", NULL, NULL},
    {"backend", "Domain-0", NULL, NULL},
    {"backend", NULL, NULL, "the backend of a network interface is in domain 0"},
    {"ip", NULL, NULL, "addresses of interfaces are not supported: the guest has its own, or asks by DHCP"},
    {"gatewaydev", NULL, NULL, "is not supported"},
    {"forwarddev", NULL, NULL, "is not supported"},
    {"devid", NULL, NULL, "interfaces are numbered in order"},
    {"trusted", NULL, NULL, "is not supported"},
    {"rate", NULL, "@rate", NULL},
    {NULL, NULL, NULL, NULL},
};

static gboolean has_child(const xmlNode *node, const char *name)
{
    const xmlNode *child = node->children;

    while (child && !xmlStrEqual(child->name, BAD_CAST name))
        child = child->next;
    return child != NULL;
}

/* "10Mb/s", "250KB/s", "1MB/s@20ms": bits or bytes in a second, and how often there is more credit, which is finer here.
 * Source: xl-network-configuration(5). */
static gboolean put_rate(xmlNode *node, GError **error)
{
    xmlChar *rate = xmlGetProp(node, BAD_CAST "rate");
    g_autofree char *text = g_strdup((const char *)rate), *kib = NULL;
    char *end = text;
    guint64 n, unit = 1;

    if (!rate)
        return TRUE;
    xmlFree(rate);
    xmlUnsetProp(node, BAD_CAST "rate");
    n = g_ascii_strtoull(text, &end, 10);
    if (*end == 'K' || *end == 'M' || *end == 'G') {
        unit = *end == 'K' ? 1000 : *end == 'M' ? 1000000 : 1000000000;
        end++;
    }
    if (end == text || (*end != 'b' && *end != 'B') || !g_str_has_prefix(end + 1, "/s") || (end[3] && end[3] != '@') ||
        !n || n > G_MAXUINT64 / unit)
        return xmlconf_xlcfg_fail("vif", text, "has no rate, as 10Mb/s", error);
    kib = g_strdup_printf("%" G_GUINT64_FORMAT, MAX(n * unit / (*end == 'b' ? 8 : 1) / 1024, 1));
    return xmlconf_xlcfg_put(node, "bandwidth/outbound@average", kib, "vif", error);
}

gboolean xmlconf_xlcfg_put_vif(XLU_Config *cfg G_GNUC_UNUSED, xmlNode *devices, const char *spec, GError **error)
{
    xmlNode *node = xmlNewChild(devices, NULL, BAD_CAST "interface", NULL);

    xmlSetProp(node, BAD_CAST "type", BAD_CAST "bridge");
    if (!put_options(node, vif_options, "vif", spec, error) || !put_rate(node, error))
        return FALSE;
    return has_child(node, "source") || xmlconf_xlcfg_put(node, "source@bridge", DEFAULT_BRIDGE, "vif", error);
}

/* ---- channels */

static const Option channel_options[] = {
    {"name", NULL, "target@name", NULL},
    {"connection", "pty", NULL, NULL},
    {"connection", "socket", NULL, NULL},
    {"path", NULL, "source@path", NULL},
    {"backend", "0", NULL, NULL},
    {"backend", NULL, NULL, "the backend of a channel is in domain 0"},
    {NULL, NULL, NULL, NULL},
};

gboolean xmlconf_xlcfg_put_channel(XLU_Config *cfg G_GNUC_UNUSED, xmlNode *devices, const char *spec, GError **error)
{
    xmlNode *node = xmlNewChild(devices, NULL, BAD_CAST "channel", NULL);
    gboolean local = strstr(spec, "connection=socket") != NULL;

    xmlSetProp(node, BAD_CAST "type", BAD_CAST(local ? "unix" : "pty"));
    if (!xmlconf_xlcfg_put(node, "target@type", "xen", "channel", error) ||
        (local && !xmlconf_xlcfg_put(node, "source@mode", "bind", "channel", error)))
        return FALSE;
    return put_options(node, channel_options, "channel", spec, error);
}

/* ---- framebuffers */

static const Option vfb_options[] = {
    {"vnc", "1", NULL, NULL},
    {"vnc", NULL, NULL, "a framebuffer is seen by VNC"},
    {"vnclisten", NULL, "@listen", NULL},
    {"vncpasswd", NULL, "@passwd", NULL},
    {"vncunused", "1", "@autoport", NULL},
    {"vncunused", "0", NULL, NULL},
    {"vncdisplay", NULL, "@display", NULL},
    {"keymap", NULL, "@keymap", NULL},
    {"sdl", "0", NULL, NULL},
    {"sdl", NULL, NULL, "a framebuffer is seen by VNC"},
    {"opengl", "0", NULL, NULL},
    {NULL, NULL, NULL, NULL},
};

/* A display is a port from 5900 on; "listen" may name it after a colon. */
static gboolean put_port(xmlNode *node, const char *spec, GError **error)
{
    xmlChar *display = xmlGetProp(node, BAD_CAST "display");
    xmlChar *automatic = xmlGetProp(node, BAD_CAST "autoport");
    gboolean is_auto = automatic || !display;
    g_autofree char *port = NULL;
    guint64 number = 0;
    gboolean ok = !display || g_ascii_string_to_unsigned((const char *)display, 10, 0, 65535 - 5900, &number, NULL);

    port = g_strdup_printf("%" G_GUINT64_FORMAT, number + 5900);
    xmlUnsetProp(node, BAD_CAST "display");
    xmlSetProp(node, BAD_CAST "autoport", BAD_CAST(is_auto ? "yes" : "no"));
    if (!is_auto)
        xmlSetProp(node, BAD_CAST "port", BAD_CAST port);
    xmlFree(display);
    xmlFree(automatic);
    return ok || xmlconf_xlcfg_fail("vfb", spec, "has no display number", error);
}

gboolean xmlconf_xlcfg_put_vfb(XLU_Config *cfg G_GNUC_UNUSED, xmlNode *devices, const char *spec, GError **error)
{
    xmlNode *node = xmlNewChild(devices, NULL, BAD_CAST "graphics", NULL);

    xmlSetProp(node, BAD_CAST "type", BAD_CAST "vnc");
    return put_options(node, vfb_options, "vfb", spec, error) && put_port(node, spec, error);
}
