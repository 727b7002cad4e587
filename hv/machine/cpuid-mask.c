/* Features kept from a guest: bits that are cleared in what its policy (cpuid.c) answers.
 * Source: Intel SDM volume 2 "CPUID", AMD APM volume 3 appendix E. */
#include "config.h"

#include "hv/machine/cpuid-mask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/machine/machine.h"

#define ALL     0xffffffffu
#define OSXSAVE (1u << 27) /* in ECX of leaf 1, */
#define APIC_ON (1u << 9)  /* in EDX of leaf 1 and AMD's copy of it: states of the vCPU, which are told and never masked */

/* Registers whose bits are features. */
static const struct hv_cpuid_features words[HV_CPUID_FEATURE_LEAVES] = {
    {0x00000001, 0, {0, 0, ALL, ALL}},
    {0x00000006, 0, {ALL, 0, 0, 0}},
    {0x00000007, 0, {0, ALL, ALL, ALL}},
    {0x00000007, 1, {ALL, ALL, 0, ALL}},
    {0x0000000d, 1, {ALL, 0, 0, 0}},
    {0x80000001, 0, {0, 0, ALL, ALL}},
    {0x80000007, 0, {0, 0, 0, ALL}},
    {0x80000008, 0, {0, ALL, 0, 0}},
};

struct hv_cpuid_mask {
    uint32_t clear[HV_CPUID_FEATURE_LEAVES][4];
};

int hv_cpuid_mask_init(struct hv_domain *d)
{
    d->cpuid_mask = calloc(1, sizeof(*d->cpuid_mask));
    return d->cpuid_mask ? 0 : -ENOMEM;
}

void hv_cpuid_mask_fini(struct hv_domain *d)
{
    free(d->cpuid_mask);
    d->cpuid_mask = NULL;
}

/* Only where a leaf has more than one does the sub-leaf matter. */
static bool names(const struct hv_cpuid_features *word, uint32_t leaf, uint32_t subleaf)
{
    return word->leaf == leaf && (word->subleaf == subleaf || (leaf != 7 && leaf != 0xd));
}

void hv_cpuid_mask(const struct hv_domain *d, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    for (unsigned i = 0; d->cpuid_mask && i < HV_CPUID_FEATURE_LEAVES; i++)
        for (unsigned r = 0; names(&words[i], leaf, subleaf) && r < 4; r++)
            out[r] &= ~d->cpuid_mask->clear[i][r];
}

static void features_of(struct hv_domain *d, unsigned i, struct hv_cpuid_features *out)
{
    *out = words[i];
    hv_cpuid(d->vcpus[0], words[i].leaf, words[i].subleaf, out->regs);
    for (unsigned r = 0; r < 4; r++)
        out->regs[r] &= words[i].regs[r];
}

void hv_cpuid_get_features(struct hv_domain *d, struct hv_cpuid_features out[HV_CPUID_FEATURE_LEAVES])
{
    for (unsigned i = 0; i < HV_CPUID_FEATURE_LEAVES; i++)
        features_of(d, i, &out[i]);
}

static uint32_t states(uint32_t leaf, unsigned reg)
{
    if (reg == 2)
        return leaf == 1 ? OSXSAVE : 0;
    return reg == 3 && (leaf == 1 || leaf == 0x80000001u) ? APIC_ON : 0;
}

/* What to clear so that only @wanted is left; -EINVAL if it is more than there is. */
static int clear_for(struct hv_domain *d, const struct hv_cpuid_features *wanted, struct hv_cpuid_mask *mask)
{
    unsigned i = 0;
    struct hv_cpuid_features there;

    while (i < HV_CPUID_FEATURE_LEAVES && !names(&words[i], wanted->leaf, wanted->subleaf))
        i++;
    if (i == HV_CPUID_FEATURE_LEAVES)
        return -EINVAL;
    features_of(d, i, &there);
    for (unsigned r = 0; r < 4; r++) {
        uint32_t bits = words[i].regs[r] & ~states(words[i].leaf, r), asked = wanted->regs[r] & bits;
        uint32_t all = (there.regs[r] & bits) | d->cpuid_mask->clear[i][r];

        if (asked & ~all)
            return -EINVAL;
        mask->clear[i][r] = all & ~asked;
    }
    return 0;
}

int hv_cpuid_set_features(struct hv_domain *d, const struct hv_cpuid_features *features, unsigned count, unsigned *bad)
{
    struct hv_cpuid_mask mask = *d->cpuid_mask;

    for (*bad = 0; *bad < count; (*bad)++)
        if (clear_for(d, &features[*bad], &mask))
            return -EINVAL;
    *d->cpuid_mask = mask;
    return 0;
}
