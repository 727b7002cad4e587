/* A guest's disks, and whose they are. */
#include "config.h"

#include "libxldrv/driver/guest.h"

#include <string.h>

#define MAX_DISKS   256
#define PARTITIONS  "0123456789"
#define DEVICE_PATH "/dev/"

/* Linux names a disk of Xen's by the number that its target has. */
const char *xldrv_guest_disk_target(XmlconfDomain *domain, const char *device)
{
    const GPtrArray *disks = xmlconf_domain_config(domain)->disks;
    const char *name = device && g_str_has_prefix(device, DEVICE_PATH) ? device + strlen(DEVICE_PATH) : "";
    g_autofree char *whole = g_strndup(name, strcspn(name, PARTITIONS));
    guint number, other;

    if (!xmlconf_disk_vdev(whole, &number))
        return NULL;
    for (guint i = 0; disks && i < disks->len; i++) {
        const char *target = ((const XmlconfDisk *)disks->pdata[i])->target;
        if (xmlconf_disk_vdev(target, &other) && other == number)
            return target;
    }
    return NULL;
}

static gboolean add_dependencies(GVariantBuilder *params, guint i, JsonNode *disk, GError **error)
{
    JsonNode *node = xldrv_agent_find(disk, "dependencies");
    JsonArray *names = node ? xldrv_agent_array(node, MAX_DISKS, error) : NULL;
    guint n = names ? json_array_get_length(names) : 0;

    if (n)
        xldrv_guest_param(params, g_variant_new_uint32(n), "disk.%u.dependency.count", i);
    for (guint j = 0; j < n; j++) {
        const char *name = json_array_get_string_element(names, j);
        xldrv_guest_param(params, g_variant_new_string(name ? name : ""), "disk.%u.dependency.%u.name", i, j);
    }
    return names || !node;
}

static gboolean add_disk(GVariantBuilder *params, guint i, XmlconfDomain *domain, JsonNode *disk, GError **error)
{
    JsonNode *address = xldrv_agent_find(disk, "address");
    const char *serial = xldrv_agent_find_string(address, "serial"), *alias = xldrv_agent_find_string(disk, "alias");
    const char *name, *target;
    gboolean partition;

    if (!xldrv_agent_get_string(disk, "name", &name, error) ||
        !xldrv_agent_get_boolean(disk, "partition", &partition, error))
        return FALSE;
    xldrv_guest_param(params, g_variant_new_string(name), "disk.%u.name", i);
    xldrv_guest_param(params, g_variant_new_boolean(partition), "disk.%u.partition", i);
    if (!add_dependencies(params, i, disk, error))
        return FALSE;
    if (serial)
        xldrv_guest_param(params, g_variant_new_string(serial), "disk.%u.serial", i);
    target = partition ? NULL : xldrv_guest_disk_target(domain, name);
    if (target)
        xldrv_guest_param(params, g_variant_new_string(target), "disk.%u.alias", i);
    if (alias)
        xldrv_guest_param(params, g_variant_new_string(alias), "disk.%u.guest_alias", i);
    return TRUE;
}

gboolean xldrv_guest_disks_add(XldrvAgentSession *session, GVariantBuilder *params, GError **error)
{
    g_autoptr(XmlconfDomain) domain = xldrv_domain_get_config(xldrv_agent_domain(session), FALSE);
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-get-disks", NULL, error);
    JsonArray *disks = reply ? xldrv_agent_array(reply, MAX_DISKS, error) : NULL;

    if (!disks)
        return FALSE;
    xldrv_guest_param(params, g_variant_new_uint32(json_array_get_length(disks)), "disk.count");
    for (guint i = 0; i < json_array_get_length(disks); i++) {
        if (!add_disk(params, i, domain, json_array_get_element(disks, i), error))
            return FALSE;
    }
    return TRUE;
}
