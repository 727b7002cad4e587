/* From a domain's configuration to xl.cfg.
 *
 * What only describes a domain (title, metadata ...) is left out; what would make it another one is refused. */
#include "config.h"

#include <string.h>

#include "xmlconf/xlcfg/xlcfg.h"

#define WEIGHT_SHARES 4 /* as parse.c has it */

static gboolean lost(const XmlconfDomainConfig *config, const char *what, GError **error)
{
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "domain '%s': xl.cfg has no word for %s", config->name, what);
    return FALSE;
}

/* ---- text: libxlutil knows these escapes of C, and takes no other control character */

static void append_quoted(GString *out, const char *text)
{
    static const char plain[] = "\"\\\n\r\t", escaped[] = "\"\\nrt";

    g_string_append_c(out, '"');
    for (const char *c = text; *c; c++) {
        const char *special = strchr(plain, *c);
        if (special)
            g_string_append_c(out, '\\');
        g_string_append_c(out, special ? escaped[special - plain] : *c);
    }
    g_string_append_c(out, '"');
}

static void add_text(GString *out, const char *key, const char *value)
{
    if (!value)
        return;
    g_string_append_printf(out, "%s = ", key);
    append_quoted(out, value);
    g_string_append_c(out, '\n');
}

static void add_number(GString *out, const char *key, guint64 value)
{
    g_string_append_printf(out, "%s = %" G_GUINT64_FORMAT "\n", key, value);
}

static void add_list(GString *out, const char *key, GPtrArray *items)
{
    if (items->len == 0)
        return;
    g_string_append_printf(out, "%s = [ ", key);
    for (guint i = 0; i < items->len; i++) {
        if (i)
            g_string_append(out, ",\n    ");
        append_quoted(out, items->pdata[i]);
    }
    g_string_append(out, " ]\n");
}

/* ---- what is written as it is */

static const char *const actions[] = {
    [XMLCONF_ACTION_DESTROY] = "destroy",
    [XMLCONF_ACTION_RESTART] = "restart",
    [XMLCONF_ACTION_PRESERVE] = "preserve",
    [XMLCONF_ACTION_RENAME_RESTART] = "rename-restart",
    [XMLCONF_ACTION_COREDUMP_DESTROY] = "coredump-destroy",
    [XMLCONF_ACTION_COREDUMP_RESTART] = "coredump-restart",
};

static gboolean add_machine(GString *out, const XmlconfDomainConfig *config, GError **error G_GNUC_UNUSED)
{
    add_text(out, "name", config->name);
    add_text(out, "uuid", config->uuid);
    add_text(out, "type", "pvh");
    add_number(out, "maxmem", config->memory_kib / 1024);
    add_number(out, "memory", config->current_memory_kib / 1024);
    add_number(out, "maxvcpus", config->max_vcpus);
    add_number(out, "vcpus", config->current_vcpus);
    add_text(out, "bootloader", xmlconf_bootloader(config));
    add_text(out, "bootloader_args", config->bootloader_args);
    add_text(out, "kernel", config->kernel);
    add_text(out, "ramdisk", config->initrd);
    add_text(out, "cmdline", config->cmdline);
    add_text(out, "on_poweroff", actions[config->on_poweroff]);
    add_text(out, "on_reboot", actions[config->on_reboot]);
    add_text(out, "on_crash", actions[config->on_crash]);
    return TRUE;
}

/* ---- CPUs */

/* One string for all, or an item for each vCPU up to the last one that is bound. */
static void add_pins(GString *out, const XmlconfDomainConfig *config)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(g_free);
    guint last = 0;

    if (!config->cputune.pins || config->cputune.pins->len == 0) {
        add_text(out, "cpus", config->cpuset);
        return;
    }
    for (guint i = 0; i < config->cputune.pins->len; i++) {
        const XmlconfVcpuPin *pin = config->cputune.pins->pdata[i];
        last = MAX(last, pin->vcpu);
    }
    for (guint vcpu = 0; vcpu <= last; vcpu++) {
        const char *cpus = xmlconf_vcpu_cpuset(config, vcpu);
        g_ptr_array_add(items, g_strdup(cpus ? cpus : "all"));
    }
    add_list(out, "cpus", items);
}

static gboolean add_cpus(GString *out, const XmlconfDomainConfig *config, GError **error)
{
    const XmlconfCputune *tune = &config->cputune;
    const XmlconfCpuLimit *limit = &tune->global;
    const char *missing;

    if (tune->emulator_pin || tune->emulator.quota || tune->vcpu.quota)
        return lost(config, "limits and places of single threads (<emulatorpin>, <quota>, <emulator_quota>)", error);
    if (config->cpu.model || (config->cpu.features && config->cpu.features->len))
        return lost(config, "CPU models and features", error);
    missing = xmlconf_xlcfg_add_vnuma(out, config);
    if (missing)
        return lost(config, missing, error);
    add_pins(out, config);
    if (tune->shares)
        add_number(out, "cpu_weight", MAX(1, tune->shares / WEIGHT_SHARES));
    if (limit->quota > 0)
        add_number(out, "cap", MAX(1, (guint64)limit->quota * 100 / (limit->period ? limit->period : 100000)));
    return TRUE;
}

/* ---- disks */

static gboolean check_disk(const XmlconfDomainConfig *config, const XmlconfDisk *disk, GError **error)
{
    static const XmlconfIotune none;

    if (disk->type != XMLCONF_DISK_FILE && disk->type != XMLCONF_DISK_BLOCK)
        return lost(config, "disks that are not files or block devices", error);
    if (disk->encryption)
        return lost(config, "encrypted disks", error);
    if (memcmp(&disk->iotune, &none, sizeof(none)) != 0)
        return lost(config, "limits of disks (<iotune>)", error);
    return !disk->shareable || lost(config, "disks that are shared", error);
}

/* libxl's words for formats are QEMU's, but for this one. */
static const char *format_word(const XmlconfDisk *disk)
{
    return strcmp(disk->format, "vpc") == 0 ? "vhd" : disk->format;
}

static char *disk_spec(const XmlconfDisk *disk)
{
    GString *spec = g_string_new(NULL);
    const char *source = xmlconf_disk_source(disk);

    g_string_append_printf(spec, "vdev=%s,format=%s,access=%s", disk->target, source ? format_word(disk) : "empty",
                           disk->readonly || disk->device == XMLCONF_DISK_CDROM ? "ro" : "rw");
    if (disk->device == XMLCONF_DISK_CDROM)
        g_string_append(spec, ",devtype=cdrom");
    if (disk->discard != XMLCONF_DISCARD_DEFAULT)
        g_string_append(spec, disk->discard == XMLCONF_DISCARD_UNMAP ? ",discard" : ",no-discard");
    if (disk->cache == XMLCONF_CACHE_NONE)
        g_string_append(spec, ",direct-io-safe");
    if (source)
        g_string_append_printf(spec, ",target=%s", source); /* the rest of the specification, whatever is in it */
    return g_string_free(spec, FALSE);
}

static gboolean add_disks(GString *out, const XmlconfDomainConfig *config, GError **error)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; config->disks && i < config->disks->len; i++) {
        if (!check_disk(config, config->disks->pdata[i], error))
            return FALSE;
        g_ptr_array_add(items, disk_spec(config->disks->pdata[i]));
    }
    add_list(out, "disk", items);
    return TRUE;
}

/* ---- network interfaces */

static gboolean add_interfaces(GString *out, const XmlconfDomainConfig *config, GError **error)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; config->interfaces && i < config->interfaces->len; i++) {
        const XmlconfInterface *interface = config->interfaces->pdata[i];
        GString *spec;

        if (interface->type != XMLCONF_INTERFACE_BRIDGE)
            return lost(config, "network interfaces that are not on a bridge", error);
        if (interface->bandwidth.inbound.average_kib || interface->bandwidth.outbound.peak_kib ||
            interface->bandwidth.outbound.burst_kib)
            return lost(config, "limits of an interface that are no rate of what it sends", error);
        spec = g_string_new(NULL);
        g_string_append_printf(spec, "mac=%s,bridge=%s", interface->mac, interface->bridge);
        if (interface->target)
            g_string_append_printf(spec, ",vifname=%s", interface->target);
        if (interface->mtu)
            g_string_append_printf(spec, ",mtu=%u", interface->mtu);
        if (interface->bandwidth.outbound.average_kib)
            g_string_append_printf(spec, ",rate=%" G_GUINT64_FORMAT "B/s",
                                   (guint64)interface->bandwidth.outbound.average_kib * 1024);
        g_ptr_array_add(items, g_string_free(spec, FALSE));
    }
    add_list(out, "vif", items);
    return TRUE;
}

/* Not written yet. */
static gboolean add_graphics(GString *out G_GNUC_UNUSED, const XmlconfDomainConfig *config, GError **error)
{
    return !config->graphics || config->graphics->len == 0 || lost(config, "graphics", error);
}

/* xl's own console is all that a guest has. */
static gboolean add_consoles(GString *out G_GNUC_UNUSED, const XmlconfDomainConfig *config, GError **error)
{
    const XmlconfConsole *first = config->consoles->pdata[0];

    return (config->consoles->len == 1 && first->type == XMLCONF_CHAR_PTY) ||
           lost(config, "consoles but one of type pty", error);
}

static gboolean add_channels(GString *out, const XmlconfDomainConfig *config, GError **error)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; config->channels && i < config->channels->len; i++) {
        const XmlconfConsole *channel = config->channels->pdata[i];
        gboolean local = channel->type == XMLCONF_CHAR_UNIX && xmlconf_console_listens(channel);

        if (!local && channel->type != XMLCONF_CHAR_PTY)
            return lost(config, "channels but of type pty, or of type unix that listen", error);
        g_ptr_array_add(items, g_strconcat("name=", channel->name, ",connection=", local ? "socket" : "pty",
                                           channel->path ? ",path=" : NULL, channel->path, NULL));
    }
    add_list(out, "channel", items);
    return TRUE;
}

/* ---- the whole */

static const struct {
    gboolean (*add)(GString *out, const XmlconfDomainConfig *config, GError **error);
} parts[] = {{add_machine}, {add_cpus}, {add_consoles}, {add_channels}, {add_graphics}, {add_disks}, {add_interfaces}};

char *xmlconf_xlcfg_format(XmlconfDomain *domain, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (!parts[i].add(out, xmlconf_domain_config(domain), error))
            return NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}
