/* From xl.cfg to domain XML. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xmlconf/xlcfg/xlcfg.h"

#define MAX_BYTES      (1u * 1024 * 1024)
#define SHARES_PER_UNIT 4       /* Xen's default weight is 256, that of Linux' shares 1024 */
#define CAP_PERIOD_US  100000   /* in which a cap of 100 is this much CPU time */

typedef struct {
    XLU_Config *cfg;
    xmlNode *root, *devices;
} Parser;

gboolean xmlconf_xlcfg_fail(const char *key, const char *value, const char *why, GError **error)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);

    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "%s = \"%s\": %s", key, valid, why);
    return FALSE;
}

/* ---- the tree */

static xmlNode *find_or_add(xmlNode *parent, const char *name)
{
    for (xmlNode *child = parent->children; child; child = child->next) {
        if (xmlStrEqual(child->name, BAD_CAST name))
            return child;
    }
    return xmlNewChild(parent, NULL, BAD_CAST name, NULL);
}

gboolean xmlconf_xlcfg_put(xmlNode *base, const char *path, const char *text, const char *key, GError **error)
{
    g_auto(GStrv) halves = g_strsplit(path, "@", 2);
    g_auto(GStrv) names = g_strsplit(halves[0], "/", -1);
    xmlNode *node = base;

    if (!xmlconf_document_can_hold(text))
        return xmlconf_xlcfg_fail(key, text, "is not text", error);
    for (char **name = names; *name && **name; name++)
        node = find_or_add(node, *name);
    if (halves[1])
        xmlSetProp(node, BAD_CAST halves[1], BAD_CAST text);
    else
        xmlNodeAddContent(node, BAD_CAST text);
    return TRUE;
}

static gboolean put(Parser *p, const char *path, const char *text, const char *key, GError **error)
{
    return xmlconf_xlcfg_put(p->root, path, text, key, error);
}

static const char *get(Parser *p, const char *key)
{
    const char *value = NULL;

    return xlu_cfg_get_string(p->cfg, key, &value, 1) == 0 ? value : NULL;
}

/* ---- keys whose value goes to one place as it is */

static const struct {
    const char *key, *path;
} words[] = {
    {"name", "name"},
    {"uuid", "uuid"},
    {"kernel", "os/kernel"},
    {"ramdisk", "os/initrd"},
    {"bootloader", "bootloader"},
    {"on_poweroff", "on_poweroff"},
    {"on_reboot", "on_reboot"},
    {"on_crash", "on_crash"},
};

static gboolean put_words(Parser *p, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        const char *value = get(p, words[i].key);
        if (value && *value && !put(p, words[i].path, value, words[i].key, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- pairs of numbers: what there is at most, and what of it at first. Each is the other's default. */

static const struct {
    const char *now, *most;         /* keys */
    const char *now_path, *most_path;
    const char *unit;               /* attribute of both elements; or NULL */
    const char *fallback;           /* of both; NULL: one must be there */
} pairs[] = {
    {"memory", "maxmem", "currentMemory", "memory", "MiB", NULL},
    {"vcpus", "maxvcpus", "vcpu@current", "vcpu", NULL, "1"},
};

static gboolean put_pairs(Parser *p, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(pairs); i++) {
        const char *now = get(p, pairs[i].now), *most = get(p, pairs[i].most);

        most = most ? most : now ? now : pairs[i].fallback;
        if (!most) {
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "'%s' is missing", pairs[i].now);
            return FALSE;
        }
        if (!put(p, pairs[i].most_path, most, pairs[i].most, error) ||
            (now && !put(p, pairs[i].now_path, now, pairs[i].now, error)))
            return FALSE;
        if (pairs[i].unit) {
            xmlSetProp(find_or_add(p->root, pairs[i].most_path), BAD_CAST "unit", BAD_CAST pairs[i].unit);
            if (now)
                xmlSetProp(find_or_add(p->root, pairs[i].now_path), BAD_CAST "unit", BAD_CAST pairs[i].unit);
        }
    }
    return TRUE;
}

/* ---- the kind of guest */

static const struct {
    const char *key, *value, *type;
} kinds[] = {
    {"type", "pvh", "xenpvh"}, {"type", "pv", "linux"},          {"type", "hvm", "hvm"},
    {"pvh", "1", "xenpvh"},    {"builder", "generic", "linux"}, {"builder", "linux", "linux"},
    {"builder", "hvm", "hvm"},
};

/* The first key of the table that is there decides; without any a guest is paravirtual, as for xl. */
static gboolean put_type(Parser *p, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (g_strcmp0(get(p, kinds[i].key), kinds[i].value) == 0)
            return put(p, "os/type", kinds[i].type, kinds[i].key, error);
    }
    if (get(p, "type"))
        return xmlconf_xlcfg_fail("type", get(p, "type"), "is not \"pvh\", \"pv\" or \"hvm\"", error);
    return put(p, "os/type", "linux", "type", error);
}

/* As xl puts it together: "cmdline", or "root" and "extra". */
static gboolean put_cmdline(Parser *p, GError **error)
{
    const char *root = get(p, "root"), *extra = get(p, "extra");
    g_autofree char *text = g_strdup(get(p, "cmdline"));

    if (!text && (root || extra))
        text = g_strconcat(root ? "root=" : "", root ? root : "", root && extra ? " " : "", extra ? extra : "", NULL);
    return !text || !*text || put(p, "os/cmdline", text, "cmdline", error);
}

/* A list of words, or one string of them. */
static gboolean put_bootloader_args(Parser *p, GError **error)
{
    g_autoptr(GString) line = g_string_new(get(p, "bootloader_args"));
    XLU_ConfigList *list;
    int n;

    if (xlu_cfg_get_list(p->cfg, "bootloader_args", &list, &n, 1) == 0) {
        for (int i = 0; i < n; i++) {
            const char *item = xlu_cfg_get_listitem(list, i);
            g_autofree char *quoted = g_shell_quote(item ? item : "");
            g_string_append_printf(line, "%s%s", i ? " " : "", quoted);
        }
    }
    return line->len == 0 || put(p, "bootloader_args", line->str, "bootloader_args", error);
}

/* ---- CPUs */

static gboolean put_vcpu_pin(Parser *p, int vcpu, const char *cpus, GError **error)
{
    g_autofree char *number = g_strdup_printf("%d", vcpu);
    xmlNode *pin = xmlNewChild(find_or_add(p->root, "cputune"), NULL, BAD_CAST "vcpupin", NULL);

    return xmlconf_xlcfg_put(pin, "@vcpu", number, "cpus", error) && xmlconf_xlcfg_put(pin, "@cpuset", cpus, "cpus", error);
}

static gboolean put_cpus(Parser *p, GError **error)
{
    const char *all = get(p, "cpus");
    XLU_ConfigList *list;
    int n;

    if (all)
        return strcmp(all, "all") == 0 || put(p, "vcpu@cpuset", all, "cpus", error);
    if (xlu_cfg_get_list(p->cfg, "cpus", &list, &n, 1) != 0)
        return TRUE;
    for (int i = 0; i < n; i++) {
        const char *cpus = xlu_cfg_get_listitem(list, i);
        if (cpus && strcmp(cpus, "all") != 0 && !put_vcpu_pin(p, i, cpus, error))
            return FALSE;
    }
    return TRUE;
}

/* What nodes have together is the most memory, as for xl, unless that is said too: then it has to be the same. */
static gboolean put_vnuma(Parser *p, GError **error)
{
    guint64 mib;
    g_autofree char *text = NULL;

    if (get(p, "vnuma"))
        return xmlconf_xlcfg_fail("vnuma", get(p, "vnuma"), "is not a list", error);
    if (!xmlconf_xlcfg_put_vnuma(p->cfg, p->root, &mib, error))
        return FALSE;
    if (mib && !get(p, "maxmem")) {
        text = g_strdup_printf("%" G_GUINT64_FORMAT, mib);
        xmlNodeSetContent(find_or_add(p->root, "memory"), BAD_CAST text);
    }
    return TRUE;
}

static gboolean put_scaled(Parser *p, const char *key, guint64 factor, const char *path, GError **error)
{
    const char *text = get(p, key);
    g_autofree char *scaled = NULL;
    guint64 value;

    if (!text)
        return TRUE;
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT16, &value, NULL))
        return xmlconf_xlcfg_fail(key, text, "is not a number up to 65535", error);
    scaled = g_strdup_printf("%" G_GUINT64_FORMAT, value * factor);
    return value == 0 || put(p, path, scaled, key, error);
}

static gboolean put_scheduling(Parser *p, GError **error)
{
    return put_scaled(p, "cpu_weight", SHARES_PER_UNIT, "cputune/shares", error) &&
           put_scaled(p, "cap", CAP_PERIOD_US / 100, "cputune/global_quota", error) &&
           (!get(p, "cap") || strcmp(get(p, "cap"), "0") == 0 ||
            put(p, "cputune/global_period", G_STRINGIFY(CAP_PERIOD_US), "cap", error));
}

/* ---- devices */

static const struct {
    const char *key;
    gboolean (*put)(XLU_Config *cfg, xmlNode *devices, const char *spec, GError **error);
} lists[] = {
    {"disk", xmlconf_xlcfg_put_disk},
    {"vif", xmlconf_xlcfg_put_vif},
    {"channel", xmlconf_xlcfg_put_channel},
    {"vfb", xmlconf_xlcfg_put_vfb},
};

static gboolean put_devices(Parser *p, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(lists); i++) {
        XLU_ConfigList *list;
        int n = 0;

        if (get(p, lists[i].key))
            return xmlconf_xlcfg_fail(lists[i].key, get(p, lists[i].key), "is not a list", error);
        if (xlu_cfg_get_list(p->cfg, lists[i].key, &list, &n, 1) != 0)
            continue;
        for (int k = 0; k < n; k++) {
            const char *spec = xlu_cfg_get_listitem(list, k);
            if (!spec)
                return xmlconf_xlcfg_fail(lists[i].key, "[...]", "is not a list of strings", error);
            if (!lists[i].put(p->cfg, p->devices, spec, error))
                return FALSE;
        }
    }
    return TRUE;
}

/* ---- keys that have no place: refused but for values that change nothing */

static const struct {
    const char *key, *harmless;
} refused[] = {
    {"firmware", NULL},       {"firmware_override", NULL}, {"bios", NULL},         {"loader", NULL},
    {"pci", NULL},            {"usbctrl", NULL},           {"usbdev", NULL},       {"usb", "0"},
    {"usbdevice", NULL},      {"rdm", NULL},               {"gfx_passthru", "0"},  {"dtdev", NULL},
    {"ioports", NULL},        {"irqs", NULL},              {"iomem", NULL},        {"vtpm", NULL},
    {"p9", NULL},             {"pvcalls", NULL},           {"vdispl", NULL},       {"vsnd", NULL},
    {"vkb", NULL},            {"virtio", NULL},            {"spice", "0"},         {"sdl", "0"},
    {"opengl", "0"},          {"soundhw", NULL},           {"serial", NULL},       {"device_model_version", NULL},
    {"device_model_args", NULL}, {"device_model_override", NULL}, {"device_model_stubdomain_override", "0"},
    {"pool", NULL},           {"cpus_soft", NULL},         {"cpuid", NULL},
    {"msr_relaxed", "0"},     {"localtime", "0"},          {"rtc_timeoffset", "0"}, {"tsc_mode", "default"},
    {"nomigrate", "0"},       {"seclabel", NULL},          {"driver_domain", "0"}, {"claim_mode", NULL},
    {"nestedhvm", "0"},       {"altp2m", NULL},            {"acpi", "1"},          {"apic", "1"},
    {"pae", "1"},             {"dtb", NULL},               {"e820_host", "0"},     {"on_watchdog", NULL},
    {"on_soft_reset", NULL},  {"passthrough", "disabled"}, {"pvshim", "0"},        {"max_grant_frames", NULL},
    {"iommu_memory", NULL},
};

static gboolean check_refused(Parser *p, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        const char *value = get(p, refused[i].key);
        int n = 0;

        if (value && *value && g_strcmp0(value, refused[i].harmless) != 0)
            return xmlconf_xlcfg_fail(refused[i].key, value, "is not supported", error);
        if (xlu_cfg_get_list(p->cfg, refused[i].key, NULL, &n, 1) == 0 && n > 0)
            return xmlconf_xlcfg_fail(refused[i].key, "[...]", "is not supported", error);
    }
    return TRUE;
}

/* ---- the whole */

static const struct {
    gboolean (*put)(Parser *p, GError **error);
} steps[] = {{check_refused}, {put_words},  {put_type},       {put_pairs},  {put_cmdline},
             {put_bootloader_args}, {put_cpus}, {put_vnuma}, {put_scheduling}, {put_devices}};

static XmlconfDomain *convert(XLU_Config *cfg, GError **error)
{
    g_autoptr(xmlDoc) doc = xmlNewDoc(BAD_CAST "1.0");
    g_autofree char *xml = NULL;
    Parser p = {.cfg = cfg, .root = xmlNewNode(NULL, BAD_CAST "domain")};

    xmlDocSetRootElement(doc, p.root);
    xmlSetProp(p.root, BAD_CAST "type", BAD_CAST "xen");
    p.devices = xmlNewChild(p.root, NULL, BAD_CAST "devices", NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (!steps[i].put(&p, error))
            return NULL;
    }
    xml = xmlconf_document_format(p.root, 0, FALSE);
    return xmlconf_domain_parse(xml, 0, error);
}

/* libxlutil's messages are lines that end with the one that matters. */
static void fail_messages(FILE *file, char *const *messages, GError **error)
{
    g_autofree char *valid = NULL;

    fflush(file);
    valid = g_utf8_make_valid(*messages ? g_strchomp(*messages) : "", -1);
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "cannot read the configuration: %s", valid);
}

XmlconfDomain *xmlconf_xlcfg_parse(const char *text, GError **error)
{
    XmlconfDomain *domain = NULL;
    char *messages = NULL;
    size_t bytes = 0, length = strlen(text);
    FILE *report;
    XLU_Config *cfg;

    if (length > MAX_BYTES) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "the configuration is longer than %u bytes", MAX_BYTES);
        return NULL;
    }
    report = open_memstream(&messages, &bytes);
    cfg = report ? xlu_cfg_init(report, "xl.cfg") : NULL;
    if (!cfg)
        g_error("no memory to read a configuration"); /* as GLib's own allocations do */
    if (xlu_cfg_readdata(cfg, text, (int)length) != 0)
        fail_messages(report, &messages, error);
    else if (!(domain = convert(cfg, error)) && error && !*error)
        fail_messages(report, &messages, error);
    xlu_cfg_destroy(cfg);
    fclose(report);
    free(messages);
    return domain;
}
