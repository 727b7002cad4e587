/* Procedures about scheduling. vCPUs are threads of the host's own scheduler; what limits them are control groups. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/tune.h"
#include "libxldrv/driver/wire.h"

#define SCHEDULER_NAME "posix"
#define IMPACT_FLAGS   (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)
#define DEFAULT_PERIOD 100000
#define NO_QUOTA       (-1)

typedef enum { SHARES, PERIOD, QUOTA } Kind;

#define TUNE(member) G_STRUCT_OFFSET(XmlconfCputune, member)

static const struct {
    const char *name;
    Kind kind;
    gsize offset; /* in XmlconfCputune */
    guint64 min, max;
    const char *tunable; /* its name in events */
} parameters[] = {
    {VIR_DOMAIN_SCHEDULER_CPU_SHARES, SHARES, TUNE(shares), 2, 262144, VIR_DOMAIN_TUNABLE_CPU_CPU_SHARES},
    {VIR_DOMAIN_SCHEDULER_VCPU_PERIOD, PERIOD, TUNE(vcpu.period), 1000, 1000000, VIR_DOMAIN_TUNABLE_CPU_VCPU_PERIOD},
    {VIR_DOMAIN_SCHEDULER_VCPU_QUOTA, QUOTA, TUNE(vcpu.quota), 1000, 17592186044415, VIR_DOMAIN_TUNABLE_CPU_VCPU_QUOTA},
    {VIR_DOMAIN_SCHEDULER_EMULATOR_PERIOD, PERIOD, TUNE(emulator.period), 1000, 1000000,
     VIR_DOMAIN_TUNABLE_CPU_EMULATOR_PERIOD},
    {VIR_DOMAIN_SCHEDULER_EMULATOR_QUOTA, QUOTA, TUNE(emulator.quota), 1000, 17592186044415,
     VIR_DOMAIN_TUNABLE_CPU_EMULATOR_QUOTA},
    {VIR_DOMAIN_SCHEDULER_GLOBAL_PERIOD, PERIOD, TUNE(global.period), 1000, 1000000,
     VIR_DOMAIN_TUNABLE_CPU_GLOBAL_PERIOD},
    {VIR_DOMAIN_SCHEDULER_GLOBAL_QUOTA, QUOTA, TUNE(global.quota), 1000, 17592186044415,
     VIR_DOMAIN_TUNABLE_CPU_GLOBAL_QUOTA},
};

static guint64 *unsigned_of(const XmlconfCputune *tune, gsize i)
{
    return (guint64 *)((char *)tune + parameters[i].offset);
}

static gint64 *signed_of(const XmlconfCputune *tune, gsize i)
{
    return (gint64 *)((char *)tune + parameters[i].offset);
}

/* ---- telling */

/* What Linux gives to a thread of nice 0, and by how much each step changes it (sched(7)). */
#define DEFAULT_SHARES 1024
#define STEP           1.25

static guint64 shares_of_process(int pid)
{
    double shares = DEFAULT_SHARES;
    int nice;

    errno = 0;
    nice = getpriority(PRIO_PROCESS, pid);
    if (errno)
        return DEFAULT_SHARES;
    for (; nice > 0; nice--)
        shares /= STEP;
    for (; nice < 0; nice++)
        shares *= STEP;
    return MAX((guint64)(shares + 0.5), 2);
}

static GVariant *value_of(const XmlconfCputune *tune, gsize i, guint64 shares)
{
    switch (parameters[i].kind) {
    case SHARES:
        return g_variant_new_uint64(*unsigned_of(tune, i) ? *unsigned_of(tune, i) : shares);
    case PERIOD:
        return g_variant_new_uint64(*unsigned_of(tune, i) ? *unsigned_of(tune, i) : DEFAULT_PERIOD);
    default:
        return g_variant_new_int64(*signed_of(tune, i) ? *signed_of(tune, i) : NO_QUOTA);
    }
}

static GVariant *reply_parameters(XldrvDomain *domain, gboolean live, int room)
{
    g_autoptr(XldrvInstance) instance = live ? xldrv_domain_get_instance(domain, NULL) : NULL;
    g_autoptr(XmlconfDomain) config = xldrv_domain_get_config(domain, !live);
    guint64 shares = instance ? shares_of_process(xldrv_instance_process(instance)->pid) : DEFAULT_SHARES;
    GVariantBuilder params;

    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (gsize i = 0; i < G_N_ELEMENTS(parameters) && (int)i < room; i++)
        xldrv_params_add(&params, parameters[i].name,
                         value_of(&xmlconf_domain_config(config)->cputune, i, shares));
    return g_variant_new("(a(sv))", &params);
}

GVariant *xldrv_handle_domain_get_scheduler_type(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                 GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? g_variant_new("(si)", SCHEDULER_NAME, (int)G_N_ELEMENTS(parameters)) : NULL;
}

GVariant *xldrv_handle_domain_get_scheduler_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                       GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? reply_parameters(domain, TRUE, xldrv_args_i32(args, 1)) : NULL;
}

GVariant *xldrv_handle_domain_get_scheduler_parameters_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                             GError **error)
{
    const guint known = IMPACT_FLAGS | VIR_TYPED_PARAM_STRING_OKAY;
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, known, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, "live and config",
                               error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain || !xldrv_impact(domain, flags, &impact, error))
        return NULL;
    return reply_parameters(domain, impact.live, xldrv_args_i32(args, 1));
}

/* ---- setting */

typedef struct {
    XmlconfCputune tune; /* the numbers alone */
    gboolean given[G_N_ELEMENTS(parameters)];
} Request;

static gsize find_parameter(const char *name)
{
    gsize i = 0;

    while (i < G_N_ELEMENTS(parameters) && strcmp(parameters[i].name, name) != 0)
        i++;
    return i;
}

static gboolean read_parameter(Request *request, const char *name, GVariant *value, GError **error)
{
    gsize i = find_parameter(name);
    gint64 number;

    if (i == G_N_ELEMENTS(parameters))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported", name);
    if (!xldrv_param_number(value, &number))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' is not a number", name);
    if (parameters[i].kind == QUOTA && number < 0)
        number = NO_QUOTA;
    else if (number < 0 || (guint64)number < parameters[i].min || (guint64)number > parameters[i].max)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "value of '%s' is out of range [%" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT "]", name,
                               parameters[i].min, parameters[i].max);
    *signed_of(&request->tune, i) = number;
    request->given[i] = TRUE;
    return TRUE;
}

static gboolean read_request(GVariant *args, Request *request, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(args, 1);

    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        g_autoptr(GVariant) value = NULL;
        g_autofree char *name = NULL;

        g_variant_get_child(list, i, "(sv)", &name, &value);
        if (!read_parameter(request, name, value, error))
            return FALSE;
    }
    return TRUE;
}

static void merge(XmlconfCputune *tune, const Request *request)
{
    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (request->given[i])
            *signed_of(tune, i) = *signed_of(&request->tune, i);
    }
}

static gboolean change_tune(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    merge(&xmlconf_domain_config(domain)->cputune, data);
    return TRUE;
}

static void tell_clients(XldrvJob *job, const Request *request)
{
    GVariantBuilder params;

    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (request->given[i])
            xldrv_params_add(&params, parameters[i].tunable, value_of(&request->tune, i, DEFAULT_SHARES));
    }
    xldrv_event_tunable(xldrv_driver_get()->events, job, g_variant_builder_end(&params));
}

/* What it was, with a value for all that it is now: limits that are lifted must be said to be. */
static XmlconfCputune before(const XmlconfCputune *was, const Request *request)
{
    XmlconfCputune tune = *was;

    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (request->given[i] && !*signed_of(&tune, i))
            *signed_of(&tune, i) = parameters[i].kind == QUOTA    ? NO_QUOTA
                                   : parameters[i].kind == PERIOD ? DEFAULT_PERIOD
                                                                  : DEFAULT_SHARES;
    }
    return tune;
}

static gboolean set_parameters(XldrvJob *job, const XldrvImpact *impact, const Request *request, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    XmlconfCputune was = {0}, tune;

    if (impact->live) {
        was = before(&xmlconf_domain_config(job->live)->cputune, request);
        tune = was;
        merge(&tune, request);
    }
    if ((!impact->live || xldrv_tune(driver, job, job->instance, &tune, error)) &&
        xldrv_change(driver, job, impact, change_tune, request, error)) {
        if (impact->live)
            tell_clients(job, request);
        return TRUE;
    }
    if (impact->live)
        xldrv_tune(driver, job, job->instance, &was, NULL);
    return FALSE;
}

static GVariant *set_call(GVariant *args, guint flags, GError **error)
{
    Request request = {0};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!read_request(args, &request, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set scheduler parameters", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) || !set_parameters(job, &impact, &request, error))
        return NULL;
    return xldrv_reply_void();
}

GVariant *xldrv_handle_domain_set_scheduler_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return set_call(args, 0, error);
}

GVariant *xldrv_handle_domain_set_scheduler_parameters_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                             GError **error)
{
    guint flags = xldrv_args_u32(args, 2);

    return xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error) ? set_call(args, flags, error) : NULL;
}
