/* check: a configuration as a whole, after its rows have been read one by one. */
#include "config.h"

#include "xmlconf/fields.h"

static gboolean fail(GError **error, const char *message)
{
    g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, message);
    return FALSE;
}

static gboolean check_sizes(const XmlconfDomainConfig *config, GError **error)
{
    if (config->current_memory_kib > config->memory_kib) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                    "currentMemory %" G_GUINT64_FORMAT " KiB is more than memory %" G_GUINT64_FORMAT
                    " KiB",
                    config->current_memory_kib, config->memory_kib);
        return FALSE;
    }
    if (config->current_vcpus > config->max_vcpus) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                    "current vCPUs %u are more than vCPUs %u", config->current_vcpus,
                    config->max_vcpus);
        return FALSE;
    }
    return xmlconf_cputune_check(&config->cputune, config->max_vcpus, error);
}

gboolean xmlconf_console_listens(const XmlconfConsole *console)
{
    return g_strcmp0(console->mode, "bind") == 0;
}

/* What <source> needs for each type, and what it may not have. */
static gboolean check_source(const XmlconfConsole *console, GError **error)
{
    gboolean file = console->type == XMLCONF_CHAR_FILE, local = console->type == XMLCONF_CHAR_UNIX;
    gboolean tcp = console->type == XMLCONF_CHAR_TCP;

    if (console->append && !file)
        return fail(error, "attribute 'append' of element <source> needs a console of type 'file'");
    if (console->mode && !local && !tcp)
        return fail(error, "attribute 'mode' of element <source> needs a console of type 'unix' or 'tcp'");
    if ((console->host || console->service) && !tcp)
        return fail(error, "attributes 'host' and 'service' of element <source> need a console of type 'tcp'");
    if (file && !console->path)
        return fail(error, "a console of type 'file' needs a <source path='...'/>");
    if (local && !console->path)
        return fail(error, "a console of type 'unix' needs a <source path='...'/>");
    if (tcp && (!console->service || (!console->host && !xmlconf_console_listens(console))))
        return fail(error, "a console of type 'tcp' needs a <source host='...' service='...'/>");
    if ((file || local) && console->path[0] != '/') {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "console path '%s' is not absolute", console->path);
        return FALSE;
    }
    return TRUE;
}

/* Xen's consoles have their numbers in order. */
static gboolean complete_console(XmlconfConsole *console, guint number, GError **error)
{
    if (console->port && console->port != number) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "console %u cannot be at port %u: they are numbered in order",
                    number, console->port);
        return FALSE;
    }
    console->port = number;
    if (console->log_append && !console->log_path)
        return fail(error, "attribute 'append' of element <log> needs a 'file'");
    return check_source(console, error);
}

/* virsh console has to work with what virt-install leaves out, so a domain has a console. */
static gboolean complete_consoles(XmlconfDomainConfig *config, GError **error)
{
    if (!config->consoles)
        config->consoles = xmlconf_record_list_new();
    if (config->consoles->len == 0)
        xmlconf_record_list_add(config->consoles, &xmlconf_console_record);
    for (guint i = 0; i < config->consoles->len; i++) {
        if (!complete_console(config->consoles->pdata[i], i, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean complete_devices(XmlconfDomainConfig *config, gboolean live, GError **error)
{
    for (guint i = 0; config->disks && i < config->disks->len; i++) {
        if (!xmlconf_disk_complete(config->disks->pdata[i], error))
            return FALSE;
    }
    for (guint i = 0; config->interfaces && i < config->interfaces->len; i++) {
        if (!xmlconf_interface_complete(config->interfaces->pdata[i], live, error))
            return FALSE;
    }
    return xmlconf_disks_check(config->disks, error);
}

gboolean xmlconf_config_complete(XmlconfDomainConfig *config, gboolean live, GError **error)
{
    if (!config->uuid)
        config->uuid = g_uuid_string_random();
    if (!config->kernel)
        return fail(error,
                    "element <kernel> is missing in <os>: a PVH guest is booted from its kernel");
    return check_sizes(config, error) && xmlconf_cpu_complete(&config->cpu, error) && complete_consoles(config, error) &&
           complete_devices(config, live, error);
}
