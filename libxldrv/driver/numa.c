/* NUMA: the nodes that a guest sees, and procedures about those of the host that its memory is on: virsh numatune. */
#include "config.h"

#include "libxldrv/driver/numa.h"

#include <string.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/handlers.h"

#define IMPACT_FLAGS (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)

_Static_assert(XMLCONF_MAX_NUMA_CELLS <= DOMCTL_VNUMA_NODES_MAX, "the hypervisor has them all");

/* ---- what a guest sees */

typedef struct {
    guint64 memory_kib[XMLCONF_MAX_NUMA_CELLS];
    unsigned distances[XMLCONF_MAX_NUMA_CELLS * XMLCONF_MAX_NUMA_CELLS];
    unsigned vcpu_node[XMLCONF_MAX_VCPUS];
    struct domctl_vnuma vnuma;
} Nodes;

static void add_cell(Nodes *nodes, const GPtrArray *cells, guint index)
{
    const XmlconfNumaCell *cell = cells->pdata[index];
    g_autoptr(GByteArray) vcpus = cell->cpus ? xmlconf_cpuset_parse(cell->cpus) : NULL;

    nodes->memory_kib[index] = cell->memory_kib;
    for (guint to = 0; to < cells->len; to++)
        nodes->distances[index * cells->len + to] = xmlconf_numa_distance(cells, index, to);
    for (guint vcpu = 0; vcpus && vcpu < vcpus->len * 8 && vcpu < XMLCONF_MAX_VCPUS; vcpu++) {
        if (vcpus->data[vcpu / 8] >> vcpu % 8 & 1)
            nodes->vcpu_node[vcpu] = index;
    }
}

static int set_nodes(struct domctl *ctl, gpointer data)
{
    const Nodes *nodes = data;

    return domctl_set_vnuma(ctl, &nodes->vnuma);
}

gboolean xldrv_numa_apply(XldrvInstance *instance, const XmlconfDomainConfig *config, GError **error)
{
    const GPtrArray *cells = config->cpu.cells;
    g_autofree Nodes *nodes = NULL;

    if (!cells || !cells->len)
        return TRUE;
    nodes = g_new0(Nodes, 1);
    for (guint i = 0; i < cells->len; i++)
        add_cell(nodes, cells, i);
    nodes->vnuma = (struct domctl_vnuma){cells->len, config->max_vcpus, nodes->memory_kib, nodes->vcpu_node, nodes->distances};
    return xldrv_instance_control(instance, "make the NUMA nodes of", set_nodes, nodes, error);
}

/* ---- where its memory is */

static const struct {
    XmlconfNumaMode mode;
    int wire;
} modes[] = {
    {XMLCONF_NUMA_STRICT, VIR_DOMAIN_NUMATUNE_MEM_STRICT},
    {XMLCONF_NUMA_PREFERRED, VIR_DOMAIN_NUMATUNE_MEM_PREFERRED},
    {XMLCONF_NUMA_INTERLEAVE, VIR_DOMAIN_NUMATUNE_MEM_INTERLEAVE},
    {XMLCONF_NUMA_RESTRICTIVE, VIR_DOMAIN_NUMATUNE_MEM_RESTRICTIVE},
};

/* Nothing said is the first, as for libvirt. */
static int mode_to_wire(XmlconfNumaMode mode)
{
    gsize i = 0;

    while (i < G_N_ELEMENTS(modes) && modes[i].mode != mode)
        i++;
    return modes[i < G_N_ELEMENTS(modes) ? i : 0].wire;
}

#define N_PARAMETERS 2

GVariant *xldrv_handle_domain_get_numa_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int room = xldrv_args_i32(args, 1);
    g_autoptr(XmlconfDomain) config =
        xldrv_asked_config(args, xldrv_args_u32(args, 2) & ~(guint)VIR_TYPED_PARAM_STRING_OKAY, G_STRFUNC, error);
    const XmlconfNumatune *tune = config ? &xmlconf_domain_config(config)->numatune : NULL;
    GVariantBuilder params;

    if (!config)
        return NULL;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    if (room > 0)
        xldrv_params_add(&params, VIR_DOMAIN_NUMA_MODE, g_variant_new_int32(mode_to_wire(tune->mode)));
    if (room > 1)
        xldrv_params_add(&params, VIR_DOMAIN_NUMA_NODESET, g_variant_new_string(tune->nodeset ? tune->nodeset : ""));
    return g_variant_new("(a(sv)i)", &params, room > 0 ? MIN(room, N_PARAMETERS) : N_PARAMETERS);
}

/* Fields that are not asked for are not set; strings are borrowed from the list. */
static gboolean take_mode(XmlconfNumatune *request, GVariant *value, GError **error)
{
    gint64 wire;

    if (!xldrv_param_number(value, &wire))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '" VIR_DOMAIN_NUMA_MODE "' is not a number");
    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (modes[i].wire == wire)
            request->mode = modes[i].mode;
    }
    return request->mode || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported numatune mode: '%" G_GINT64_FORMAT "'", wire);
}

static gboolean take_nodeset(XmlconfNumatune *request, GVariant *value, GError **error)
{
    const char *text = g_variant_is_of_type(value, G_VARIANT_TYPE_STRING) ? g_variant_get_string(value, NULL) : "";
    g_autoptr(GByteArray) nodes = xmlconf_cpuset_parse(text);

    if (!nodes)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "Invalid nodeset of 'numatune': '%s'", text);
    request->nodeset = (char *)text;
    return TRUE;
}

static gboolean take(gpointer request, const char *name, GVariant *value, GError **error)
{
    if (strcmp(name, VIR_DOMAIN_NUMA_MODE) == 0)
        return take_mode(request, value, error);
    if (strcmp(name, VIR_DOMAIN_NUMA_NODESET) == 0)
        return take_nodeset(request, value, error);
    return xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
}

static gboolean change(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    XmlconfNumatune *tune = &xmlconf_domain_config(domain)->numatune;
    const XmlconfNumatune *request = data;
    g_autoptr(GError) why = NULL;

    if (request->mode)
        tune->mode = request->mode;
    if (request->nodeset) {
        g_free(tune->nodeset);
        tune->nodeset = g_strdup(request->nodeset);
    }
    return xmlconf_numatune_complete(tune, &why) || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
}

/* The hypervisor has its policy from before it ran, and what it has touched stays where it is. */
static gboolean check_live(const XldrvJob *job, const XldrvImpact *impact, GError **error)
{
    return !impact->live ||
           xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                           "cannot change the NUMA nodes of running domain '%s': the memory that it has stays where it is; "
                           "its definition can be changed", job->name);
}

GVariant *xldrv_handle_domain_set_numa_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(args, 1);
    guint flags = xldrv_args_u32(args, 2);
    XmlconfNumatune request = {0};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error) || !xldrv_params_read(list, take, &request, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set NUMA parameters", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) || !check_live(job, &impact, error) ||
        !xldrv_change(xldrv_driver_get(), job, &impact, change, &request, error))
        return NULL;
    return xldrv_reply_void();
}
