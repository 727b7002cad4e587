/* What handlers have in common. */
#include "config.h"

#include "libxldrv/driver/wire.h"

#include <stdlib.h>
#include <string.h>

#include "libxldrv/driver/driver.h"

GVariant *xldrv_reply_void(void)
{
    return g_variant_new_tuple(NULL, 0);
}

GVariant *xldrv_reply_int(int value)
{
    return g_variant_new("(i)", value);
}

GVariant *xldrv_reply_string(const char *value)
{
    return g_variant_new("(s)", value);
}

static GVariant *make_wire(const XldrvDomain *domain)
{
    return g_variant_new("(s@ayi)", domain->name,
                         g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, domain->uuid,
                                                   XLDRV_UUID_BYTES, 1),
                         domain->id);
}

GVariant *xldrv_domain_to_wire(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return make_wire(domain);
}

GVariant *xldrv_domain_listed(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    if (!domain->listed)
        domain->listed = g_variant_ref_sink(make_wire(domain));
    return g_variant_ref(domain->listed);
}

GVariant *xldrv_reply_domain(XldrvDomain *domain)
{
    GVariant *value = xldrv_domain_to_wire(domain);

    return g_variant_new_tuple(&value, 1);
}

XldrvDomain *xldrv_wire_domain(GVariant *value, GError **error)
{
    g_autoptr(GVariant) bytes = g_variant_get_child_value(value, 1);
    char text[XLDRV_UUID_CHARS + 1];
    const char *name;
    const guint8 *uuid;
    XldrvDomain *domain;
    gsize n;

    g_variant_get_child(value, 0, "&s", &name);
    uuid = g_variant_get_fixed_array(bytes, &n, 1);
    domain = n == XLDRV_UUID_BYTES ? xldrv_domains_find_uuid(xldrv_driver_get()->domains, uuid) : NULL;
    if (domain)
        return domain;
    xldrv_uuid_format(uuid, text);
    xldrv_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching uuid '%s' (%s)", text, name);
    return NULL;
}

XldrvDomain *xldrv_args_domain(GVariant *args, GError **error)
{
    g_autoptr(GVariant) value = g_variant_get_child_value(args, 0);
    g_autoptr(GVariant) nested =
        g_variant_is_of_type(value, G_VARIANT_TYPE("(s(sayi))")) ? g_variant_get_child_value(value, 1) : NULL;

    return xldrv_wire_domain(nested ? nested : value, error);
}

guint32 xldrv_args_u32(GVariant *args, guint index)
{
    guint32 value;

    g_variant_get_child(args, index, "u", &value);
    return value;
}

guint64 xldrv_args_u64(GVariant *args, guint index)
{
    guint64 value;

    g_variant_get_child(args, index, "t", &value);
    return value;
}

gint32 xldrv_args_i32(GVariant *args, guint index)
{
    gint32 value;

    g_variant_get_child(args, index, "i", &value);
    return value;
}

const char *xldrv_args_string(GVariant *args, guint index)
{
    const char *value;

    g_variant_get_child(args, index, "&s", &value);
    return value;
}

const char *xldrv_args_optional_string(GVariant *args, guint index)
{
    const char *value;

    g_variant_get_child(args, index, "m&s", &value);
    return value;
}

gboolean xldrv_check_flags(guint flags, guint supported, const char *function, GError **error)
{
    if (!(flags & ~supported))
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) in function %s",
                           flags & ~supported, function);
}

gboolean xldrv_check_exclusive(guint flags, guint both, const char *names, GError **error)
{
    if ((flags & both) != both)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "flags %s are mutually exclusive", names);
}

void xldrv_params_add(GVariantBuilder *params, const char *name, GVariant *value)
{
    g_variant_builder_add(params, "(sv)", name, value);
}

gboolean xldrv_set_xml_error(GError **error, GError *xml_error)
{
    static const virErrorNumber codes[] = {
        [XMLCONF_ERROR_XML] = VIR_ERR_XML_ERROR,
        [XMLCONF_ERROR_SYNTAX] = VIR_ERR_XML_DETAIL,
        [XMLCONF_ERROR_SCHEMA] = VIR_ERR_XML_INVALID_SCHEMA,
        [XMLCONF_ERROR_UNSUPPORTED] = VIR_ERR_CONFIG_UNSUPPORTED,
        [XMLCONF_ERROR_OS_TYPE] = VIR_ERR_OS_TYPE,
        [XMLCONF_ERROR_NO_DEVICE] = VIR_ERR_DEVICE_MISSING,
        [XMLCONF_ERROR_INTERNAL] = VIR_ERR_INTERNAL_ERROR,
    };
    g_autoptr(GError) why = xml_error;
    gboolean known = why->domain == XMLCONF_ERROR && (gsize)why->code < G_N_ELEMENTS(codes);

    return xldrv_set_error(error, known ? codes[why->code] : VIR_ERR_INTERNAL_ERROR, "%s",
                           why->message);
}

static gboolean check_emulator(const char *asked, GError **error)
{
    const char *ours = xldrv_driver_get()->hypervisor;
    g_autofree char *real = asked ? realpath(asked, NULL) : NULL;
    g_autofree char *ours_real = realpath(ours, NULL);

    if (!asked || strcmp(asked, ours) == 0 || (real && g_strcmp0(real, ours_real) == 0))
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "emulator '%s' is not available here: it is '%s'",
                           asked, ours);
}

XmlconfDomain *xldrv_parse_xml(const char *xml, gboolean validate, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(XmlconfDomain) domain = xmlconf_domain_parse(xml, validate ? XMLCONF_VALIDATE : 0, &why);

    if (!domain) {
        xldrv_set_xml_error(error, g_steal_pointer(&why));
        return NULL;
    }
    return check_emulator(xmlconf_domain_config(domain)->emulator, error) ? g_steal_pointer(&domain) : NULL;
}

gboolean xldrv_impact(XldrvDomain *domain, guint flags, XldrvImpact *impact, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    gboolean active = domain->instance != NULL;

    impact->live = flags & VIR_DOMAIN_AFFECT_LIVE;
    impact->config = flags & VIR_DOMAIN_AFFECT_CONFIG;
    if (!impact->live && !impact->config) {
        impact->live = active;
        impact->config = !active;
    }
    if (impact->live && !active)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    if (impact->config && !domain->config)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "transient domains do not have any persistent config");
    return TRUE;
}

gboolean xldrv_params_read(GVariant *list, XldrvTakeParamFn take, gpointer request, GError **error)
{
    GVariantIter iter;
    const char *name;
    GVariant *value;

    g_variant_iter_init(&iter, list);
    while (g_variant_iter_next(&iter, "(&sv)", &name, &value)) {
        g_autoptr(GVariant) held = value;
        if (!take(request, name, held, error))
            return FALSE;
    }
    return TRUE;
}

gboolean xldrv_param_number(GVariant *value, gint64 *number)
{
    switch (g_variant_classify(value)) {
    case G_VARIANT_CLASS_INT32:
        *number = g_variant_get_int32(value);
        return TRUE;
    case G_VARIANT_CLASS_UINT32:
        *number = g_variant_get_uint32(value);
        return TRUE;
    case G_VARIANT_CLASS_INT64:
        *number = g_variant_get_int64(value);
        return TRUE;
    case G_VARIANT_CLASS_UINT64:
        *number = (gint64)MIN(g_variant_get_uint64(value), G_MAXINT64);
        return TRUE;
    default:
        return FALSE;
    }
}

XmlconfDomain *xldrv_asked_config(GVariant *args, guint flags, const char *function, GError **error)
{
    const guint both = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;
    g_autoptr(XldrvDomain) domain = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, both, function, error) ||
        !xldrv_check_exclusive(flags, both, "live and config", error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain || !xldrv_impact(domain, flags, &impact, error))
        return NULL;
    return xldrv_domain_get_config(domain, impact.config);
}
