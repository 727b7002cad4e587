/* Procedures that convert between domain XML and the configuration files of xl. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

/* libvirt's names; the files of xm were Python, of which xl's are what was in use. */
static const char *const formats[] = {"xen-xl", "xen-xm"};

static gboolean check_format(const char *format, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++) {
        if (strcmp(format, formats[i]) == 0)
            return TRUE;
    }
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported config type %s: configuration files are xen-xl", format);
}

static GVariant *reply(char *text, GError *why, GError **error)
{
    g_autofree char *mine = text;

    if (mine)
        return xldrv_reply_string(mine);
    xldrv_set_xml_error(error, why);
    return NULL;
}

GVariant *xldrv_handle_connect_domain_xml_from_native(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XmlconfDomain) domain = NULL;
    GError *why = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error) || !check_format(xldrv_args_string(args, 0), error))
        return NULL;
    domain = xmlconf_xlcfg_parse(xldrv_args_string(args, 1), &why);
    return reply(domain ? xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE | XMLCONF_FORMAT_SECURE, &why) : NULL, why,
                 error);
}

GVariant *xldrv_handle_connect_domain_xml_to_native(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XmlconfDomain) domain = NULL;
    GError *why = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error) || !check_format(xldrv_args_string(args, 0), error))
        return NULL;
    domain = xmlconf_domain_parse(xldrv_args_string(args, 1), 0, &why);
    return reply(domain ? xmlconf_xlcfg_format(domain, &why) : NULL, why, error);
}
