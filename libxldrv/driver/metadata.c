/* Procedures about a domain's title, description and metadata. */
#include "config.h"

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define IMPACT_FLAGS (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)

static gboolean convert_type(int type, XmlconfMetadata *converted, GError **error)
{
    switch (type) {
    case VIR_DOMAIN_METADATA_DESCRIPTION:
        *converted = XMLCONF_METADATA_DESCRIPTION;
        return TRUE;
    case VIR_DOMAIN_METADATA_TITLE:
        *converted = XMLCONF_METADATA_TITLE;
        return TRUE;
    case VIR_DOMAIN_METADATA_ELEMENT:
        *converted = XMLCONF_METADATA_ELEMENT;
        return TRUE;
    default:
        *converted = XMLCONF_METADATA_DESCRIPTION;
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unknown metadata type %d", type);
    }
}

static gboolean check_uri(int type, const char *uri, GError **error)
{
    if ((type == VIR_DOMAIN_METADATA_ELEMENT) == (uri != NULL))
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                           "a namespace URI goes with metadata elements, and only with them");
}

GVariant *xldrv_handle_domain_get_metadata(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int type = xldrv_args_i32(args, 1);
    const char *uri = xldrv_args_optional_string(args, 2);
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *value = NULL;
    XmlconfMetadata converted;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, IMPACT_FLAGS, "live and config", error) ||
        !convert_type(type, &converted, error) || !check_uri(type, uri, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain || !xldrv_impact(domain, flags, &impact, error))
        return NULL;
    config = xldrv_domain_get_config(domain, impact.config);
    value = xmlconf_domain_get_metadata(config, converted, uri, &why);
    if (value)
        return xldrv_reply_string(value);
    if (why)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    else
        xldrv_set_error(error, VIR_ERR_NO_DOMAIN_METADATA, "Requested metadata element is not present");
    return NULL;
}

typedef struct {
    XmlconfMetadata type;
    const char *value, *key, *uri;
} Change;

static gboolean change_metadata(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    const Change *change = data;
    g_autoptr(GError) why = NULL;

    return xmlconf_domain_set_metadata(domain, change->type, change->value, change->key, change->uri, &why) ||
           xldrv_set_xml_error(error, g_steal_pointer(&why));
}

GVariant *xldrv_handle_domain_set_metadata(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    int type = xldrv_args_i32(args, 1);
    guint flags = xldrv_args_u32(args, 5);
    Change change = {.value = xldrv_args_optional_string(args, 2),
                     .key = xldrv_args_optional_string(args, 3),
                     .uri = xldrv_args_optional_string(args, 4)};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error) ||
        !convert_type(type, &change.type, error) || !check_uri(type, change.uri, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set metadata", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) ||
        !xldrv_change(driver, job, &impact, change_metadata, &change, error))
        return NULL;
    xldrv_event_metadata_change(driver->events, job, type, change.uri);
    return xldrv_reply_void();
}
