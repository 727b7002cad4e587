/* Procedures about limits of network interfaces: virsh domiftune. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/handlers.h"

typedef enum { INBOUND, OUTBOUND, N_DIRECTIONS } Direction;

static const gsize directions[N_DIRECTIONS] = {
    [INBOUND] = G_STRUCT_OFFSET(XmlconfBandwidth, inbound),
    [OUTBOUND] = G_STRUCT_OFFSET(XmlconfBandwidth, outbound),
};

#define NO_MEMBER G_MAXSIZE
#define RATE(member) G_STRUCT_OFFSET(XmlconfRate, member)

/* In libvirt's order. */
static const struct {
    const char *name;
    Direction direction;
    gsize offset; /* in XmlconfRate */
} parameters[] = {
    {VIR_DOMAIN_BANDWIDTH_IN_AVERAGE, INBOUND, RATE(average_kib)},
    {VIR_DOMAIN_BANDWIDTH_IN_PEAK, INBOUND, RATE(peak_kib)},
    {VIR_DOMAIN_BANDWIDTH_IN_BURST, INBOUND, RATE(burst_kib)},
    {VIR_DOMAIN_BANDWIDTH_IN_FLOOR, INBOUND, NO_MEMBER},
    {VIR_DOMAIN_BANDWIDTH_OUT_AVERAGE, OUTBOUND, RATE(average_kib)},
    {VIR_DOMAIN_BANDWIDTH_OUT_PEAK, OUTBOUND, RATE(peak_kib)},
    {VIR_DOMAIN_BANDWIDTH_OUT_BURST, OUTBOUND, RATE(burst_kib)},
};

#define N_PARAMETERS ((int)G_N_ELEMENTS(parameters))

static XmlconfRate *rate_of(XmlconfBandwidth *bandwidth, Direction direction)
{
    return G_STRUCT_MEMBER_P(bandwidth, directions[direction]);
}

static guint *at(XmlconfBandwidth *bandwidth, int i)
{
    return G_STRUCT_MEMBER_P(rate_of(bandwidth, parameters[i].direction), parameters[i].offset);
}

/* ---- set */

typedef struct {
    const char *interface;
    XmlconfBandwidth wanted;
    gboolean named[N_DIRECTIONS]; /* those that are to change */
} Request;

static gboolean take(gpointer data, const char *name, GVariant *value, GError **error)
{
    Request *request = data;
    gint64 number;
    int i = 0;

    while (i < N_PARAMETERS && strcmp(parameters[i].name, name) != 0)
        i++;
    if (i == N_PARAMETERS)
        return xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
    if (!xldrv_param_number(value, &number) || number < 0 || number > G_MAXUINT32)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' is not a number up to %u", name, G_MAXUINT32);
    request->named[parameters[i].direction] = TRUE;
    if (parameters[i].offset != NO_MEMBER)
        *at(&request->wanted, i) = (guint)number;
    else if (number)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "parameter '%s': no part of a network's bandwidth can be "
                               "reserved", name);
    return TRUE;
}

static gboolean read_request(GVariant *list, Request *request, GError **error)
{
    if (!xldrv_params_read(list, take, request, error))
        return FALSE;
    /* An average of 0 is no limit, whatever else is said. */
    for (int i = 0; i < N_DIRECTIONS; i++) {
        XmlconfRate *rate = rate_of(&request->wanted, i);
        if (!rate->average_kib)
            *rate = (XmlconfRate){0};
    }
    return TRUE;
}

static gboolean change(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    Request request = *(const Request *)data;
    XmlconfInterface *interface = xldrv_find_interface(domain, request.interface, error);
    g_autoptr(GError) why = NULL;

    if (!interface)
        return FALSE;
    for (int i = 0; i < N_DIRECTIONS; i++) {
        if (request.named[i])
            *rate_of(&interface->bandwidth, i) = *rate_of(&request.wanted, i);
    }
    return xmlconf_bandwidth_check(&interface->bandwidth, &why) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
}

/* The change in a copy of @document: whether it can be made there. NULL when not. */
static XmlconfDomain *try_change(XmlconfDomain *document, const Request *request, GError **error)
{
    g_autoptr(XmlconfDomain) copy = xmlconf_domain_copy(document);

    return change(copy, request, error) ? g_steal_pointer(&copy) : NULL;
}

static gboolean apply(XldrvJob *job, XmlconfDomain *document, const Request *request, GError **error)
{
    const XmlconfInterface *interface = xldrv_find_interface(document, request->interface, error);

    return interface && xldrv_nic_set_limits(job->instance, interface, &interface->bandwidth, error);
}

static gboolean set_limits(XldrvJob *job, const XldrvImpact *impact, const Request *request, GError **error)
{
    g_autoptr(XmlconfDomain) config = impact->config ? try_change(job->config, request, error) : NULL;
    g_autoptr(XmlconfDomain) live = NULL;

    if (impact->config && !config)
        return FALSE;
    if (impact->live) {
        live = try_change(job->live, request, error);
        if (!live || !apply(job, live, request, error))
            return FALSE;
    }
    if (xldrv_change(xldrv_driver_get(), job, impact, change, request, error))
        return TRUE;
    if (live)
        apply(job, job->live, request, NULL);
    return FALSE;
}

GVariant *xldrv_handle_domain_set_interface_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(args, 2);
    Request request = {.interface = xldrv_args_string(args, 1)};
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, G_STRFUNC, error) ||
        !read_request(list, &request, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "limit interface", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) || !set_limits(job, &impact, &request, error))
        return NULL;
    return xldrv_reply_void();
}

/* ---- get */

GVariant *xldrv_handle_domain_get_interface_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int room = xldrv_args_i32(args, 2);
    g_autoptr(XmlconfDomain) config =
        xldrv_asked_config(args, xldrv_args_u32(args, 3) & ~(guint)VIR_TYPED_PARAM_STRING_OKAY, G_STRFUNC, error);
    XmlconfInterface *interface;
    GVariantBuilder list;

    interface = config ? xldrv_find_interface(config, xldrv_args_string(args, 1), error) : NULL;
    if (!interface)
        return NULL;
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(sv)"));
    for (int i = 0; i < N_PARAMETERS && i < room; i++)
        xldrv_params_add(&list, parameters[i].name,
                         g_variant_new_uint32(parameters[i].offset == NO_MEMBER ? 0 : *at(&interface->bandwidth, i)));
    return g_variant_new("(a(sv)i)", &list, room > 0 ? MIN(room, N_PARAMETERS) : N_PARAMETERS);
}
