/* domctl: the features that a guest sees. Source: xen/domctl.h, xen/arch-x86/xen.h.
 *
 * Of Xen's operations the part that is about features: leaves that carry feature bits can be read, and bits of them
 * taken away before the domain runs. MSRs have no policy of their own. */
#include "config.h"

#include "hv/hypercall/domctl-vcpu.h"

#include <string.h>

#include "hv/control/control.h"
#include "hv/machine/cpuid-mask.h"

#define LEAVES_MAX 64u /* one may be told more than once */

static uint64_t leaf_at(const struct xen_domctl_cpu_policy *op, unsigned i)
{
    return (uint64_t)(uintptr_t)op->leaves.p + i * sizeof(xen_cpuid_leaf_t);
}

long hv_domctl_get_cpu_policy(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_domctl_cpu_policy *op = &((struct xen_domctl *)arg)->u.cpu_policy;
    struct hv_cpuid_features features[HV_CPUID_FEATURE_LEAVES];
    long error = 0;

    (void)args;
    if (c->domain->nr_vcpus == 0)
        return -XEN_EINVAL;
    if (op->nr_leaves < HV_CPUID_FEATURE_LEAVES)
        return -XEN_ENOBUFS;
    hv_cpuid_get_features(c->domain, features);
    for (unsigned i = 0; i < HV_CPUID_FEATURE_LEAVES && !error; i++) {
        const xen_cpuid_leaf_t leaf = {features[i].leaf,    features[i].subleaf, features[i].regs[0],
                                       features[i].regs[1], features[i].regs[2], features[i].regs[3]};

        error = hv_caller_write(c, leaf_at(op, i), &leaf, sizeof(leaf));
    }
    op->nr_leaves = HV_CPUID_FEATURE_LEAVES;
    op->nr_msrs = 0;
    return error;
}

static long read_leaves(struct hv_caller *c, const struct xen_domctl_cpu_policy *op,
                        struct hv_cpuid_features features[static LEAVES_MAX])
{
    for (unsigned i = 0; i < op->nr_leaves; i++) {
        xen_cpuid_leaf_t leaf;

        if (hv_caller_read(c, leaf_at(op, i), &leaf, sizeof(leaf)))
            return -XEN_EFAULT;
        features[i] = (struct hv_cpuid_features){
            leaf.leaf, leaf.subleaf == XEN_CPUID_NO_SUBLEAF ? 0 : leaf.subleaf, {leaf.a, leaf.b, leaf.c, leaf.d}};
    }
    return 0;
}

long hv_domctl_set_cpu_policy(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_domctl_cpu_policy *op = &((struct xen_domctl *)arg)->u.cpu_policy;
    struct hv_cpuid_features features[LEAVES_MAX];
    unsigned bad;
    long error;

    (void)args;
    if (c->control->started)
        return -XEN_EBUSY;
    if (c->domain->nr_vcpus == 0 || op->nr_leaves > LEAVES_MAX || op->nr_msrs)
        return -XEN_EINVAL;
    error = read_leaves(c, op, features);
    if (!error && hv_cpuid_set_features(c->domain, features, op->nr_leaves, &bad)) {
        op->err_leaf = features[bad].leaf;
        op->err_subleaf = features[bad].subleaf;
        error = -XEN_EINVAL;
    }
    return error;
}
