/* domctl and sysctl: what a toolstack does with a domain, from the control channel only.
 * Source: xen/domctl.h, xen/sysctl.h.
 */
#include "config.h"

#include "hv/hypercall/families.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hv/backend/blk/blk.h"
#include "hv/control/control.h"
#include "hv/hypercall/domctl-vcpu.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/grant.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/subop.h"
#include "hv/hypercall/vnuma.h"
#include "hv/log.h"
#include "hv/machine/time.h"
#include "hv/machine/vcpu.h"
#include "hv/stream/job.h"

#define KIB_PER_PAGE (HV_PAGE_SIZE / 1024)

/* ------------------------------------------------------------------ createdomain */

/* A PVH domain is what Xen calls an HVM domain with a local APIC and no other emulated device. */
static long check_kind(const struct xen_domctl_createdomain *op)
{
    const uint32_t flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap | XEN_DOMCTL_CDF_oos_off;

    if (!(op->flags & XEN_DOMCTL_CDF_hvm)) {
        hv_log(HV_LOG_ERROR, "control: createdomain: PV domains are not supported");
        return -XEN_EOPNOTSUPP;
    }
    if (op->flags & ~flags || op->iommu_opts || op->vmtrace_size || op->cpupool_id || op->ssidref) {
        hv_log(HV_LOG_ERROR, "control: createdomain: flags 0x%x ask for what is not supported", op->flags);
        return -XEN_EOPNOTSUPP;
    }
    if (op->arch.emulation_flags != XEN_X86_EMU_LAPIC) {
        hv_log(HV_LOG_ERROR, "control: createdomain: HVM domains (emulation flags 0x%x) are not supported",
               op->arch.emulation_flags);
        return -XEN_EOPNOTSUPP;
    }
    return 0;
}

static long check_limits(const struct xen_domctl *u)
{
    const struct xen_domctl_createdomain *op = &u->u.createdomain;
    uint32_t version = XEN_DOMCTL_GRANT_version(op->grant_opts);

    if (u->domain == 0 || u->domain >= DOMID_FIRST_RESERVED)
        return -XEN_EINVAL;
    if (op->max_vcpus == 0 || op->max_vcpus > HV_MAX_VCPUS)
        return -XEN_EINVAL;
    if (version > 2 || op->grant_opts & ~(uint32_t)XEN_DOMCTL_GRANT_version_mask)
        return -XEN_EINVAL;
    return 0;
}

static long apply_limits(struct hv_domain *d, const struct xen_domctl_createdomain *op)
{
    if (op->max_evtchn_port)
        hv_evtchn_set_max_port(d, op->max_evtchn_port);
    if (op->max_grant_frames >= 0 && hv_gnttab_set_max_frames(d, (uint32_t)op->max_grant_frames))
        return -XEN_EINVAL;
    return 0;
}

static long create(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_domctl *u = arg;
    const struct xen_domctl_createdomain *op = &u->u.createdomain;
    struct hv_control *control = c->control;
    struct hv_domain *d;
    long error;

    (void)args;
    if (control->domain)
        return -XEN_EEXIST;
    error = check_kind(op);
    if (!error)
        error = check_limits(u);
    if (!error)
        error = hv_domain_new(control->engine, control->loop, &d);
    if (error)
        return error;
    error = apply_limits(d, op);
    if (error) {
        hv_domain_free(d);
        return error;
    }
    d->domid = u->domain;
    d->kind = HV_DOMAIN_PVH;
    d->code_cache_bytes = control->code_cache_bytes / op->max_vcpus;
    d->counted = control->counted;
    memcpy(d->uuid, op->handle, sizeof(d->uuid));
    snprintf(d->name, sizeof(d->name), "%s", control->name);
    d->uring = control->uring;
    d->control = control;
    control->domain = d;
    control->max_vcpus = op->max_vcpus;
    return 0;
}

static long max_vcpus(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_domctl *u = arg;
    struct hv_domain *d = c->domain;
    long error = 0;

    (void)args;
    if (u->u.max_vcpus.max != c->control->max_vcpus)
        return -XEN_EINVAL;
    while (!error && d->nr_vcpus < u->u.max_vcpus.max)
        error = hv_vcpu_new(d, NULL);
    return error;
}

static long max_mem(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_domctl *u = arg;
    uint64_t pages = u->u.max_mem.max_memkb / KIB_PER_PAGE;

    (void)args;
    if (pages > c->domain->mem.nr_gfns) /* more than there are addresses for */
        return -XEN_EINVAL;
    pthread_mutex_lock(&c->domain->lock);
    c->domain->mem.max_pages = pages;
    pthread_mutex_unlock(&c->domain->lock);
    return 0;
}

/* ------------------------------------------------------------------ running and stopping */

/* pausedomain nests; the vCPUs themselves are paused once as long as the count is not 0. */
static long pause_domain(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    if (c->control->pause_count == UINT32_MAX)
        return -XEN_EBUSY;
    if (c->control->pause_count++ == 0)
        hv_domain_pause(c->domain);
    return 0;
}

static long start(struct hv_control *control)
{
    long error;

    if (control->started)
        return 0;
    if (!control->built)
        return -XEN_EINVAL; /* there is nothing to run */
    error = hv_stream_start(control->domain);
    if (!error)
        error = hv_vcpus_start(control->domain);
    control->started = !error;
    return error;
}

static long unpause_domain(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error;

    (void)args, (void)arg;
    if (c->control->pause_count == 0)
        return -XEN_EINVAL;
    error = start(c->control);
    if (error)
        return error;
    if (--c->control->pause_count == 0) {
        hv_blk_retry(c->domain);
        hv_domain_unpause(c->domain);
    }
    return 0;
}

/* The process ends after the reply; the domain goes with it. */
static long destroy(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    c->control->destroyed = true;
    return 0;
}

static long send_trigger(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_domctl_sendtrigger *op = &((const struct xen_domctl *)arg)->u.sendtrigger;

    (void)args;
    if (op->vcpu >= c->domain->nr_vcpus)
        return -XEN_ESRCH;
    if (op->trigger != XEN_DOMCTL_SENDTRIGGER_NMI)
        return -XEN_ENOSYS; /* there is no power button without ACPI events */
    hv_vcpu_send_nmi(c->domain->vcpus[op->vcpu]);
    return 0;
}

/* ------------------------------------------------------------------ questions */

static uint32_t domain_flags(const struct hv_control *control)
{
    const struct hv_domain *d = control->domain;
    int code = atomic_load(&d->shutdown_code);
    uint32_t flags = XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;
    bool blocked = true;

    for (unsigned i = 0; i < d->nr_vcpus; i++)
        blocked = blocked && (!hv_vcpu_is_online(d->vcpus[i]) || hv_vcpu_is_blocked(d->vcpus[i]));
    if (code >= 0)
        flags |= XEN_DOMINF_shutdown | (uint32_t)code << XEN_DOMINF_shutdownshift;
    if (control->destroyed)
        flags |= XEN_DOMINF_dying;
    if (control->pause_count || d->frozen)
        flags |= XEN_DOMINF_paused;
    else if (code < 0)
        flags |= blocked ? XEN_DOMINF_blocked : XEN_DOMINF_running;
    return flags;
}

static void describe(struct hv_control *control, struct xen_domctl_getdomaininfo *info)
{
    struct hv_domain *d = control->domain;

    memset(info, 0, sizeof(*info));
    info->domain = d->domid;
    info->flags = domain_flags(control);
    pthread_mutex_lock(&d->lock);
    info->tot_pages = hv_physmap_given_pages(d);
    info->max_pages = d->mem.max_pages;
    memcpy(info->handle, d->uuid, sizeof(info->handle));
    pthread_mutex_unlock(&d->lock);
    info->shared_info_frame = ~0ull; /* it has no frame of its own before the guest maps it */
    for (unsigned i = 0; i < d->nr_vcpus; i++) {
        info->cpu_time += hv_vcpu_cpu_time_ns(d->vcpus[i]);
        info->nr_online_vcpus += hv_vcpu_is_online(d->vcpus[i]);
    }
    info->max_vcpu_id = d->nr_vcpus ? d->nr_vcpus - 1 : XEN_INVALID_MAX_VCPU_ID;
    info->gpaddr_bits = HV_GPA_BITS;
    info->arch_config.emulation_flags = XEN_X86_EMU_LAPIC;
}

static long get_domain_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_domctl *u = arg;

    (void)args;
    describe(c->control, &u->u.getdomaininfo);
    return 0;
}

static long set_handle(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_domctl *u = arg;

    (void)args;
    pthread_mutex_lock(&c->domain->lock);
    memcpy(c->domain->uuid, u->u.setdomainhandle.handle, sizeof(c->domain->uuid));
    pthread_mutex_unlock(&c->domain->lock);
    return 0;
}

#define DOMCTL_BYTES sizeof(struct xen_domctl)
#define IN           HV_ARG_IN
#define INOUT        (HV_ARG_IN | HV_ARG_OUT)
#define CONTROL      HV_CALLER_CONTROL

_Static_assert(DOMCTL_BYTES <= HV_SUBOP_ARG_MAX, "domctl fits");
_Static_assert(sizeof(struct xen_sysctl) <= HV_SUBOP_ARG_MAX, "sysctl fits");

static const struct hv_subop domctls[] = {
    [XEN_DOMCTL_createdomain] = {"createdomain", create, DOMCTL_BYTES, INOUT, CONTROL},
    [XEN_DOMCTL_destroydomain] = {"destroydomain", destroy, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_pausedomain] = {"pausedomain", pause_domain, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_unpausedomain] = {"unpausedomain", unpause_domain, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_getdomaininfo] = {"getdomaininfo", get_domain_info, DOMCTL_BYTES, INOUT, CONTROL},
    [XEN_DOMCTL_max_mem] = {"max_mem", max_mem, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_getvcpuinfo] = {"getvcpuinfo", hv_domctl_get_vcpu_info, DOMCTL_BYTES, INOUT, CONTROL},
    [XEN_DOMCTL_max_vcpus] = {"max_vcpus", max_vcpus, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_setdomainhandle] = {"setdomainhandle", set_handle, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_sendtrigger] = {"sendtrigger", send_trigger, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_setvcpuaffinity] = {"setvcpuaffinity", hv_domctl_set_vcpu_affinity, DOMCTL_BYTES, INOUT, CONTROL},
    [XEN_DOMCTL_getvcpuaffinity] = {"getvcpuaffinity", hv_domctl_get_vcpu_affinity, DOMCTL_BYTES, INOUT, CONTROL},
    [XEN_DOMCTL_get_cpu_policy] = {"get_cpu_policy", hv_domctl_get_cpu_policy, DOMCTL_BYTES, INOUT, CONTROL},
    [XEN_DOMCTL_set_cpu_policy] = {"set_cpu_policy", hv_domctl_set_cpu_policy, DOMCTL_BYTES, IN | HV_ARG_ALWAYS,
                                   CONTROL},
    [XEN_DOMCTL_setvnumainfo] = {"setvnumainfo", hv_domctl_set_vnuma_info, DOMCTL_BYTES, IN, CONTROL},
    [XEN_DOMCTL_shadow_op] = {"shadow_op", NULL, 0, 0, 0},
    [XEN_DOMCTL_setvcpucontext] = {"setvcpucontext", NULL, 0, 0, 0},
    [XEN_DOMCTL_getvcpucontext] = {"getvcpucontext", NULL, 0, 0, 0},
    [XEN_DOMCTL_resumedomain] = {"resumedomain", NULL, 0, 0, 0},
    [XEN_DOMCTL_gethvmcontext] = {"gethvmcontext", NULL, 0, 0, 0},
    [XEN_DOMCTL_sethvmcontext] = {"sethvmcontext", NULL, 0, 0, 0},
    [XEN_DOMCTL_gethvmcontext_partial] = {"gethvmcontext_partial", NULL, 0, 0, 0},
    [XEN_DOMCTL_hypercall_init] = {"hypercall_init", NULL, 0, 0, 0}, /* by MSR: machine/msr.c */
};
static const struct hv_subop_family domctl_family = HV_SUBOP_FAMILY("domctl", domctls);

/* args: address of struct xen_domctl. */
long hv_domctl(struct hv_caller *c, const uint64_t args[5])
{
    struct xen_domctl head;

    if (hv_caller_read(c, args[0], &head, sizeof(head)))
        return -XEN_EFAULT;
    if (head.interface_version != XEN_DOMCTL_INTERFACE_VERSION)
        return -XEN_EACCES;
    if (head.cmd != XEN_DOMCTL_createdomain && (!c->domain || head.domain != c->domain->domid))
        return -XEN_ESRCH;
    return hv_subop_run(&domctl_family, c, head.cmd, args, args[0]);
}

/* ------------------------------------------------------------------ sysctl */

static long get_domain_info_list(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_sysctl_getdomaininfolist *op = &((struct xen_sysctl *)arg)->u.getdomaininfolist;
    struct xen_domctl_getdomaininfo info;

    (void)args;
    op->num_domains = 0;
    if (!c->domain || op->max_domains == 0 || op->first_domain > c->domain->domid)
        return 0;
    describe(c->control, &info);
    op->num_domains = 1;
    return hv_caller_write(c, (uint64_t)(uintptr_t)op->buffer.p, &info, sizeof(info));
}

static long physinfo(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_sysctl_physinfo *info = &((struct xen_sysctl *)arg)->u.physinfo;

    (void)args;
    memset(info, 0, sizeof(*info));
    info->threads_per_core = info->cores_per_socket = info->nr_nodes = 1;
    info->nr_cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    info->max_cpu_id = (uint32_t)sysconf(_SC_NPROCESSORS_CONF) - 1;
    info->cpu_khz = c->domain ? (uint32_t)hv_time_tsc_khz(c->domain) : 0;
    info->capabilities = XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_hap | XEN_SYSCTL_PHYSCAP_gnttab_v1 |
                         XEN_SYSCTL_PHYSCAP_gnttab_v2;
    info->total_pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
    info->free_pages = (uint64_t)sysconf(_SC_AVPHYS_PAGES);
    return 0;
}

static const struct hv_subop sysctls[] = {
    [XEN_SYSCTL_getdomaininfolist] = {"getdomaininfolist", get_domain_info_list, sizeof(struct xen_sysctl),
                                      INOUT, CONTROL},
    [XEN_SYSCTL_physinfo] = {"physinfo", physinfo, sizeof(struct xen_sysctl), INOUT, CONTROL},
};
static const struct hv_subop_family sysctl_family = HV_SUBOP_FAMILY("sysctl", sysctls);

/* args: address of struct xen_sysctl. */
long hv_sysctl(struct hv_caller *c, const uint64_t args[5])
{
    struct xen_sysctl head;

    if (hv_caller_read(c, args[0], &head, sizeof(head)))
        return -XEN_EFAULT;
    if (head.interface_version != XEN_SYSCTL_INTERFACE_VERSION)
        return -XEN_EACCES;
    return hv_subop_run(&sysctl_family, c, head.cmd, args, args[0]);
}
