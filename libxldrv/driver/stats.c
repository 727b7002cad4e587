/* Statistics: of memory, and of everything in one call. */
#include "config.h"

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/image.h"
#include "libxldrv/driver/lookup.h"
#include "libxldrv/driver/vcpus.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/host.h"

/* ---- memory */

GVariant *xldrv_handle_domain_memory_stats(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint room = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    struct domctl_info info;
    GVariantBuilder list;
    guint64 rss_kib;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    if (!instance || !xldrv_instance_get_info(instance, &info, error))
        return NULL;
    config = xldrv_domain_get_config(domain, FALSE);
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(it)"));
    if (room > 0)
        g_variant_builder_add(&list, "(it)", VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON,
                              xldrv_info_memory_kib(&info, xmlconf_domain_config(config)->memory_kib));
    if (room > 1 && xldrv_host_process_rss(xldrv_instance_process(instance)->pid, &rss_kib))
        g_variant_builder_add(&list, "(it)", VIR_DOMAIN_MEMORY_STAT_RSS, rss_kib);
    return g_variant_new("(a(it))", &list);
}

/* ---- CPU time of the whole process; by host CPU nobody counts it */

static const char *const cpu_stats[] = {VIR_DOMAIN_CPU_STATS_CPUTIME, VIR_DOMAIN_CPU_STATS_USERTIME,
                                        VIR_DOMAIN_CPU_STATS_SYSTEMTIME};

static GVariant *total_cpu_stats(XldrvDomain *domain, guint room, GError **error)
{
    g_autoptr(XldrvInstance) instance = xldrv_domain_get_instance(domain, error);
    guint n = MIN(room, G_N_ELEMENTS(cpu_stats));
    guint64 times[G_N_ELEMENTS(cpu_stats)];
    GVariantBuilder params;

    if (!instance)
        return NULL;
    if (!xldrv_host_process_times(xldrv_instance_process(instance)->pid, &times[1], &times[2])) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the CPU time of the hypervisor of '%s' cannot be read",
                        domain->name);
        return NULL;
    }
    times[0] = times[1] + times[2];
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (guint i = 0; i < n; i++)
        xldrv_params_add(&params, cpu_stats[i], g_variant_new_uint64(times[i]));
    return g_variant_new("(a(sv)i)", &params, room ? (int)n : (int)G_N_ELEMENTS(cpu_stats));
}

GVariant *xldrv_handle_domain_get_cpu_stats(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint room = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 4), VIR_TYPED_PARAM_STRING_OKAY, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain)
        return NULL;
    if (xldrv_args_i32(args, 2) == -1)
        return total_cpu_stats(domain, room, error);
    xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                    "the CPU time of a domain is not counted by host CPU, only in total");
    return NULL;
}

/* ---- bulk statistics */

typedef struct {
    XldrvDomain *domain;
    const XmlconfDomainConfig *config;
    XldrvInstance *instance;  /* NULL: does not run */
    struct domctl_info *info; /* NULL: does not run, or does not answer */
    GVariantBuilder *params;
} Subject;

static void add_state(const Subject *s)
{
    int state, reason;

    g_mutex_lock(&s->domain->lock);
    state = s->domain->state;
    reason = s->domain->reason;
    g_mutex_unlock(&s->domain->lock);
    xldrv_params_add(s->params, "state.state", g_variant_new_int32(state));
    xldrv_params_add(s->params, "state.reason", g_variant_new_int32(reason));
}

static void add_cpu(const Subject *s)
{
    guint64 user, kernel;

    if (!s->info)
        return;
    xldrv_params_add(s->params, "cpu.time", g_variant_new_uint64(s->info->cpu_time_ns));
    if (!xldrv_host_process_times(xldrv_instance_process(s->instance)->pid, &user, &kernel))
        return;
    xldrv_params_add(s->params, "cpu.user", g_variant_new_uint64(user));
    xldrv_params_add(s->params, "cpu.system", g_variant_new_uint64(kernel));
}

static void add_balloon(const Subject *s)
{
    guint64 rss_kib;

    xldrv_params_add(s->params, "balloon.current",
                     g_variant_new_uint64(s->info ? xldrv_info_memory_kib(s->info, s->config->memory_kib)
                                                  : s->config->current_memory_kib));
    xldrv_params_add(s->params, "balloon.maximum", g_variant_new_uint64(s->config->memory_kib));
    if (s->info && xldrv_host_process_rss(xldrv_instance_process(s->instance)->pid, &rss_kib))
        xldrv_params_add(s->params, "balloon.rss", g_variant_new_uint64(rss_kib));
}

static void add_one_vcpu(const Subject *s, guint vcpu)
{
    g_autofree char *state = g_strdup_printf("vcpu.%u.state", vcpu);
    g_autofree char *time = g_strdup_printf("vcpu.%u.time", vcpu);
    struct domctl_vcpu_info info;

    if (!xldrv_vcpu_info(s->instance, vcpu, &info, NULL))
        return;
    xldrv_params_add(s->params, state, g_variant_new_int32(xldrv_vcpu_state(&info)));
    xldrv_params_add(s->params, time, g_variant_new_uint64(info.cpu_time_ns));
}

static void add_vcpus(const Subject *s)
{
    xldrv_params_add(s->params, "vcpu.current",
                     g_variant_new_uint32(s->info ? s->info->online_vcpus : s->config->current_vcpus));
    xldrv_params_add(s->params, "vcpu.maximum", g_variant_new_uint32(s->config->max_vcpus));
    for (guint i = 0; s->info && i < s->info->max_vcpus; i++)
        add_one_vcpu(s, i);
}

/* One parameter of the @index-th device of a group: "block.0.rd.reqs". */
static void add_device_param(const Subject *s, const char *group, guint index, const char *name, GVariant *value)
{
    g_autofree char *full = g_strdup_printf("%s.%u.%s", group, index, name);

    xldrv_params_add(s->params, full, value);
}

static void add_number(const Subject *s, const char *group, guint index, const char *name, guint64 value)
{
    add_device_param(s, group, index, name, g_variant_new_uint64(value));
}

static void add_interface(const Subject *s, guint index, const XmlconfInterface *interface)
{
    XldrvNicStats stats;

    if (interface->target)
        add_device_param(s, "net", index, "name", g_variant_new_string(interface->target));
    if (!s->info || !xldrv_nic_stats(s->instance, interface, &stats, NULL))
        return;
    add_number(s, "net", index, "rx.bytes", stats.rx_bytes);
    add_number(s, "net", index, "rx.pkts", stats.rx_packets);
    add_number(s, "net", index, "rx.errs", stats.rx_errors);
    add_number(s, "net", index, "rx.drop", stats.rx_dropped);
    add_number(s, "net", index, "tx.bytes", stats.tx_bytes);
    add_number(s, "net", index, "tx.pkts", stats.tx_packets);
    add_number(s, "net", index, "tx.errs", stats.tx_errors);
    add_number(s, "net", index, "tx.drop", stats.tx_dropped);
}

static void add_interfaces(const Subject *s)
{
    const GPtrArray *interfaces = s->config->interfaces;
    guint n = interfaces ? interfaces->len : 0;

    xldrv_params_add(s->params, "net.count", g_variant_new_uint32(n));
    for (guint i = 0; i < n; i++)
        add_interface(s, i, interfaces->pdata[i]);
}

static void add_disk_traffic(const Subject *s, guint index, const XldrvDiskStats *stats)
{
    add_number(s, "block", index, "rd.reqs", stats->read_requests);
    add_number(s, "block", index, "rd.bytes", stats->read_bytes);
    add_number(s, "block", index, "rd.times", stats->read_ns);
    add_number(s, "block", index, "wr.reqs", stats->write_requests);
    add_number(s, "block", index, "wr.bytes", stats->write_bytes);
    add_number(s, "block", index, "wr.times", stats->write_ns);
    add_number(s, "block", index, "fl.reqs", stats->flush_requests);
    add_number(s, "block", index, "fl.times", stats->flush_ns);
    add_number(s, "block", index, "errors", stats->errors);
}

static void add_disk(const Subject *s, guint index, const XmlconfDisk *disk)
{
    XldrvDiskStats stats;
    XldrvImageInfo info;

    add_device_param(s, "block", index, "name", g_variant_new_string(disk->target));
    if (xmlconf_disk_source(disk))
        add_device_param(s, "block", index, "path", g_variant_new_string(xmlconf_disk_source(disk)));
    if (s->info && xldrv_disk_stats(s->instance, disk, &stats, NULL))
        add_disk_traffic(s, index, &stats);
    if (!xldrv_disk_measure(s->info ? s->instance : NULL, disk, &info, NULL))
        return;
    add_number(s, "block", index, "allocation", info.allocation);
    add_number(s, "block", index, "capacity", info.capacity);
    add_number(s, "block", index, "physical", info.physical);
}

static void add_disks(const Subject *s)
{
    const GPtrArray *disks = s->config->disks;
    guint n = disks ? disks->len : 0;

    xldrv_params_add(s->params, "block.count", g_variant_new_uint32(n));
    for (guint i = 0; i < n; i++)
        add_disk(s, i, disks->pdata[i]);
}

static void add_iothreads(const Subject *s)
{
    xldrv_params_add(s->params, "iothread.count", g_variant_new_uint32(0));
}

static int get_dirty_rate(struct domctl *ctl, gpointer rate)
{
    return domctl_dirty_rate(ctl, rate);
}

static void add_dirty_rate(const Subject *s)
{
    struct domus_dirty_rate rate;

    if (!s->info || !xldrv_instance_control(s->instance, "dirty rate", get_dirty_rate, &rate, NULL))
        return;
    xldrv_params_add(s->params, "dirtyrate.calc_status", g_variant_new_int32((int)rate.state));
    xldrv_params_add(s->params, "dirtyrate.calc_start_time", g_variant_new_int64((gint64)rate.start_s));
    xldrv_params_add(s->params, "dirtyrate.calc_period", g_variant_new_int32((int)rate.seconds));
    xldrv_params_add(s->params, "dirtyrate.calc_mode", g_variant_new_string("dirty-bitmap"));
    if (rate.state == DOMUS_DIRTY_RATE_MEASURED)
        xldrv_params_add(s->params, "dirtyrate.megabytes_per_second",
                         g_variant_new_int64((gint64)(rate.pages * DOMUS_DIRTY_RATE_PAGE_BYTES / rate.seconds >> 20)));
}

/* Of these groups libvirt tells what was enabled, or calculated, before, which nothing is here. */
static void add_nothing(const Subject *s G_GNUC_UNUSED)
{
}

static const struct {
    guint group;
    void (*add)(const Subject *s);
    gboolean asks; /* the running domain */
} groups[] = {
    {VIR_DOMAIN_STATS_STATE, add_state, FALSE},
    {VIR_DOMAIN_STATS_CPU_TOTAL, add_cpu, TRUE},
    {VIR_DOMAIN_STATS_BALLOON, add_balloon, TRUE},
    {VIR_DOMAIN_STATS_VCPU, add_vcpus, TRUE},
    {VIR_DOMAIN_STATS_INTERFACE, add_interfaces, TRUE},
    {VIR_DOMAIN_STATS_BLOCK, add_disks, TRUE},
    {VIR_DOMAIN_STATS_PERF, add_nothing, FALSE},
    {VIR_DOMAIN_STATS_IOTHREAD, add_iothreads, FALSE},
    {VIR_DOMAIN_STATS_MEMORY, add_nothing, FALSE},
    {VIR_DOMAIN_STATS_DIRTYRATE, add_dirty_rate, TRUE},
    {VIR_DOMAIN_STATS_VM, add_nothing, FALSE},
};

/* Asked for by name, a group of which there is nothing to tell is left out unless the client insists. */
static guint known_groups(void)
{
    guint all = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++)
        all |= groups[i].group;
    return all;
}

static gboolean asks_domain(guint wanted)
{
    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++) {
        if (groups[i].asks && wanted & groups[i].group)
            return TRUE;
    }
    return FALSE;
}

static void add_domain(GVariantBuilder *list, XldrvDomain *domain, guint wanted)
{
    g_autoptr(XmlconfDomain) config = xldrv_domain_get_config(domain, FALSE);
    g_autoptr(XldrvInstance) instance = xldrv_domain_get_instance(domain, NULL);
    struct domctl_info info;
    GVariantBuilder params;
    Subject s = {.domain = domain,
                 .config = xmlconf_domain_config(config),
                 .instance = instance,
                 .params = &params};

    if (instance && asks_domain(wanted) && xldrv_instance_get_info(instance, &info, NULL))
        s.info = &info;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++) {
        if (wanted & groups[i].group)
            groups[i].add(&s);
    }
    g_variant_builder_add(list, "(@(sayi)a(sv))", xldrv_domain_to_wire(domain), &params);
}

/* The domains that a client names; those that are gone meanwhile are left out, as libvirt does. */
static GPtrArray *named_domains(GVariant *wire)
{
    GPtrArray *domains = g_ptr_array_new_with_free_func((GDestroyNotify)xldrv_domain_unref);

    for (gsize i = 0; i < g_variant_n_children(wire); i++) {
        g_autoptr(GVariant) value = g_variant_get_child_value(wire, i);
        XldrvDomain *domain = xldrv_wire_domain(value, NULL);
        if (domain)
            g_ptr_array_add(domains, domain);
    }
    return domains;
}

GVariant *xldrv_handle_connect_get_all_domain_stats(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) wire = g_variant_get_child_value(args, 0);
    guint wanted = xldrv_args_u32(args, 1), flags = xldrv_args_u32(args, 2);
    guint enforce = VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS;
    guint filter = flags & xldrv_list_filters;
    g_autoptr(GPtrArray) domains = NULL;
    GVariantBuilder list;

    if (!xldrv_check_flags(flags,
                           xldrv_list_filters | enforce | VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING |
                               VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
                           G_STRFUNC, error))
        return NULL;
    if (flags & enforce && wanted & ~known_groups()) {
        xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "Stats types bits 0x%x are not supported",
                        wanted & ~known_groups());
        return NULL;
    }
    if (!wanted)
        wanted = known_groups();
    domains = g_variant_n_children(wire) ? named_domains(wire) : xldrv_domains_all(xldrv_driver_get()->domains);
    xldrv_access_filter(call, domains);
    g_variant_builder_init(&list, G_VARIANT_TYPE("a((sayi)a(sv))"));
    for (guint i = 0; i < domains->len; i++) {
        if (xldrv_list_filter_matches(domains->pdata[i], filter))
            add_domain(&list, domains->pdata[i], wanted);
    }
    return g_variant_new("(a((sayi)a(sv)))", &list);
}
