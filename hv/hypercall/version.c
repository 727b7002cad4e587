/* xen_version: what kind of Xen this is. Source: xen/version.h, xen/features.h. */
#include "config.h"

#include "hv/hypercall/families.h"

#include <stdio.h>
#include <string.h>

#include "hv/hypercall/subop.h"

#define VERSION_MAJOR 4
#define VERSION_MINOR 17

static long version(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args, (void)arg;
    return VERSION_MAJOR << 16 | VERSION_MINOR;
}

static long extraversion(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args;
    snprintf(arg, sizeof(xen_extraversion_t), "-domus");
    return 0;
}

static long compile_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_compile_info *info = arg;

    (void)c, (void)args;
    snprintf(info->compiler, sizeof(info->compiler), "gcc %s", __VERSION__);
    snprintf(info->compile_by, sizeof(info->compile_by), "domus");
    snprintf(info->compile_domain, sizeof(info->compile_domain), "localdomain");
    snprintf(info->compile_date, sizeof(info->compile_date), "domus %s", DOMUS_VERSION);
    return 0;
}

static long capabilities(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args;
    snprintf(arg, sizeof(xen_capabilities_info_t), "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ");
    return 0;
}

static long changeset(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args;
    snprintf(arg, sizeof(xen_changeset_info_t), "unavailable");
    return 0;
}

static long platform_parameters(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_platform_parameters *parameters = arg;

    (void)c, (void)args;
    parameters->virt_start = HYPERVISOR_VIRT_START; /* what a 64-bit PV guest would see */
    return 0;
}

/* What a PVH guest gets: no PIRQs, memory translated by us, upcalls through a vector. */
static long get_features(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_feature_info *info = arg;

    (void)c, (void)args;
    if (info->submap_idx >= XENFEAT_NR_SUBMAPS)
        return -XEN_EINVAL;
    info->submap = 1u << XENFEAT_writable_page_tables | 1u << XENFEAT_auto_translated_physmap |
                   1u << XENFEAT_hvm_callback_vector | 1u << XENFEAT_hvm_safe_pvclock |
                   1u << XENFEAT_memory_op_vnode_supported | 1u << XENFEAT_not_direct_mapped;
    return 0;
}

static long pagesize(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args, (void)arg;
    return HV_PAGE_SIZE;
}

static long guest_handle(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    memcpy(arg, c->domain->uuid, sizeof(xen_domain_handle_t));
    return 0;
}

/* The command line of the hypervisor, which has none. */
static long commandline(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    if (hv_caller_is_guest(c))
        snprintf(arg, sizeof(xen_commandline_t), "<denied>");
    return 0;
}

static long build_id(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    return hv_caller_is_guest(c) ? -XEN_EPERM : -XEN_ENODATA;
}

#define ALL    HV_CALLER_ALL
#define NATIVE (HV_CALLER_GUEST | HV_CALLER_CONTROL)

static const struct hv_subop ops[] = {
    [XENVER_version] = {"version", version, 0, HV_ARG_NONE, ALL},
    [XENVER_extraversion] = {"extraversion", extraversion, sizeof(xen_extraversion_t), HV_ARG_OUT, ALL},
    [XENVER_compile_info] = {"compile_info", compile_info, sizeof(struct xen_compile_info), HV_ARG_OUT,
                             ALL},
    [XENVER_capabilities] = {"capabilities", capabilities, sizeof(xen_capabilities_info_t), HV_ARG_OUT,
                             ALL},
    [XENVER_changeset] = {"changeset", changeset, sizeof(xen_changeset_info_t), HV_ARG_OUT, ALL},
    [XENVER_platform_parameters] = {"platform_parameters", platform_parameters,
                                    sizeof(struct xen_platform_parameters), HV_ARG_OUT, NATIVE},
    [XENVER_get_features] = {"get_features", get_features, sizeof(struct xen_feature_info),
                             HV_ARG_IN | HV_ARG_OUT, ALL},
    [XENVER_pagesize] = {"pagesize", pagesize, 0, HV_ARG_NONE, ALL},
    [XENVER_guest_handle] = {"guest_handle", guest_handle, sizeof(xen_domain_handle_t), HV_ARG_OUT, ALL},
    [XENVER_commandline] = {"commandline", commandline, sizeof(xen_commandline_t), HV_ARG_OUT, ALL},
    [XENVER_build_id] = {"build_id", build_id, 0, HV_ARG_NONE, ALL},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("xen_version", ops);

/* args: operation, address of its structure. */
long hv_xen_version(struct hv_caller *c, const uint64_t args[5])
{
    return hv_subop_run(&family, c, (uint32_t)args[0], args, args[1]);
}
