/* Bindings of filters, by libvirt's public interface. Source: libvirt formatnwfilter.html, virNWFilterBindingCreateXML. */
#include "config.h"

#include "libxldrv/driver/filter.h"

#include "libxldrv/driver/peer.h"

static char *describe(const XldrvDeviceHost *host, const XmlconfInterface *interface)
{
    const XmlconfFilterBinding binding = {
        .owner_name = (char *)host->name,
        .owner_uuid = (char *)host->uuid,
        .port = interface->target,
        .link = interface->actual == XMLCONF_INTERFACE_DIRECT ? interface->dev : NULL,
        .mac = interface->mac,
        .filter = interface->filter,
        .parameters = interface->filter_parameters,
    };

    return xmlconf_filter_binding_format(&binding);
}

gboolean xldrv_filter_bind(const XldrvDeviceHost *host, const XmlconfInterface *interface, GError **error)
{
    g_autofree char *xml = interface->filter ? describe(host, interface) : NULL;
    g_autoptr(virConnect) connection = xml ? xldrv_peer_open(host->driver->filter_uri, "filter", error) : NULL;
    g_autoptr(virNWFilterBinding) binding = connection ? virNWFilterBindingCreateXML(connection, xml, 0) : NULL;

    if (!xml || binding)
        return TRUE;
    return connection ? xldrv_peer_error(error, "filter '%s' of interface '%s'", interface->filter, interface->mac) : FALSE;
}

static gboolean unbind(XldrvDriver *driver, const XmlconfInterface *interface, GError **error)
{
    g_autoptr(virConnect) connection = xldrv_peer_open(driver->filter_uri, "filter", error);
    g_autoptr(virNWFilterBinding) binding =
        connection ? virNWFilterBindingLookupByPortDev(connection, interface->target) : NULL;

    if (!connection)
        return FALSE;
    return !binding || virNWFilterBindingDelete(binding) == 0 || /* else it is gone */
           xldrv_peer_error(error, "filter '%s'", interface->filter);
}

void xldrv_filter_unbind(XldrvDriver *driver, const XmlconfInterface *interface)
{
    g_autoptr(GError) why = NULL;

    if (interface->filter && interface->target && !unbind(driver, interface, &why))
        g_warning("the filter of '%s' stays: %s", interface->target, why->message);
}
