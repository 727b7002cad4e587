/* check: a configuration as a whole, after its rows have been read one by one. */
#include "config.h"

#include "xmlconf/fields.h"

static gboolean check_sizes(XmlconfDomainConfig *config, GError **error)
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
    return xmlconf_cputune_check(&config->cputune, config->max_vcpus, error) &&
           xmlconf_memtune_check(&config->memtune, error) && xmlconf_blkiotune_check(&config->blkiotune, error) &&
           xmlconf_memory_backing_check(config, error) && xmlconf_numa_complete(config, error);
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
    return xmlconf_disks_check(config->disks, error) && xmlconf_boot_check(config, error) &&
           xmlconf_video_complete(config, live, error);
}

gboolean xmlconf_config_complete(XmlconfDomainConfig *config, gboolean live, GError **error)
{
    if (!config->uuid)
        config->uuid = g_uuid_string_random();
    return check_sizes(config, error) && xmlconf_cpu_complete(&config->cpu, error) && xmlconf_consoles_complete(config, live, error) &&
           complete_devices(config, live, error);
}
