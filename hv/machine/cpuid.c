/* The CPUID policy of a domain.
 *
 * One table: for each leaf which of the host's bits the guest may see, which bits are set whatever
 * the host has (the engines do paging, segmentation and system registers themselves, so those
 * features do not depend on the host), and a function for what depends on domain or vCPU. What the
 * table does not name reads as zero. The host is asked once, when the domain is made: CPUID is slow
 * on a host that is itself a virtual machine, and a domain keeps its policy when it moves. Sources:
 * Intel SDM volume 2 "CPUID", AMD APM volume 3 appendix E, xen/arch-x86/cpuid.h.
 */
#include "config.h"

#include "hv/machine/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/xen-abi.h"

#include "hv/machine/cpuid-mask.h"
#include "hv/machine/machine.h"
#include "hv/machine/time.h"
#include "hv/x86/native.h"
#include "hv/x86/xstate.h"

#define BIT(n) (1u << (n))
#define ALL    0xffffffffu

enum { EAX, EBX, ECX, EDX };

/* Leaves with sub-leaves of the host keep this many. */
#define MAX_SUBLEAVES 20

#define LEAF_MAX_INTEL    0x1fu
#define LEAF_MAX_AMD      0x0du
#define LEAF_MAX_EXTENDED 0x80000008u
#define XEN_LEAF_BASE     0x40000000u
#define XEN_VERSION_4_17  ((4u << 16) | 17)
#define HYPERCALL_MSR     0x40000000u

/* Leaf 1. */
#define L1C_HOST                                                                                   \
    (BIT(0) /* SSE3 */ | BIT(1) /* PCLMULQDQ */ | BIT(9) /* SSSE3 */ | BIT(13) /* CMPXCHG16B */ |  \
     BIT(19) /* SSE4.1 */ | BIT(20) /* SSE4.2 */ | BIT(22) /* MOVBE */ | BIT(23) /* POPCNT */ |    \
     BIT(25) /* AES */ | BIT(26) /* XSAVE */ | BIT(30) /* RDRAND */ | L1C_AVX)
#define L1C_AVX (BIT(12) /* FMA */ | BIT(28) /* AVX */ | BIT(29) /* F16C */)
#define L1C_FORCED                                                                                 \
    (BIT(17) /* PCID */ | BIT(21) /* x2APIC */ | BIT(24) /* TSC deadline */ |                      \
     BIT(31) /* hypervisor */)
#define L1C_OSXSAVE BIT(27)
#define L1D_HOST                                                                                   \
    (BIT(0) /* FPU */ | BIT(4) /* TSC */ | BIT(8) /* CX8 */ | BIT(15) /* CMOV */ |                 \
     BIT(19) /* CLFLUSH */ | BIT(23) /* MMX */ | BIT(24) /* FXSR */ | BIT(25) /* SSE */ |          \
     BIT(26) /* SSE2 */ | BIT(27) /* self snoop */)
#define L1D_FORCED                                                                                 \
    (BIT(2) /* DE */ | BIT(3) /* PSE */ | BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ | \
     BIT(9) /* APIC */ | BIT(11) /* SEP */ | BIT(12) /* MTRR */ | BIT(13) /* PGE */ |              \
     BIT(14) /* MCA */ | BIT(16) /* PAT */ | BIT(17) /* PSE-36 */)
#define L1D_HTT BIT(28)

/* Leaf 7. No AVX-512: the engines do not do EVEX. */
#define L7B_HOST                                                                                   \
    (BIT(3) /* BMI1 */ | BIT(6) /* FDP only on exception */ | BIT(8) /* BMI2 */ |                  \
     BIT(13) /* FCS, FDS zero */ | BIT(18) /* RDSEED */ | BIT(19) /* ADX */ |                      \
     BIT(23) /* CLFLUSHOPT */ | BIT(24) /* CLWB */ | BIT(29) /* SHA */ | L7B_AVX)
#define L7B_AVX  BIT(5) /* AVX2 */
#define L7C_HOST (BIT(8) /* GFNI */ | L7C_AVX)
#define L7C_AVX  (BIT(9) /* VAES */ | BIT(10) /* VPCLMULQDQ */)
#define L7B_FORCED                                                                                 \
    (BIT(0) /* FSGSBASE */ | BIT(1) /* TSC_ADJUST */ | BIT(7) /* SMEP */ |                         \
     BIT(9) /* fast REP MOVSB */ | BIT(10) /* INVPCID */ | BIT(20) /* SMAP */)
#define L7C_FORCED            BIT(2) /* UMIP */
#define L7D_FORCED            BIT(4) /* fast short REP MOV */
#define L7D_ARCH_CAPABILITIES BIT(29)
#define L71A_AVX              BIT(4) /* AVX-VNNI, in sub-leaf 1 */

/* Leaf 0xd, sub-leaf 1. */
#define LD1A_HOST   (BIT(0) /* XSAVEOPT */ | LD1A_XSAVEC)
#define LD1A_XSAVEC BIT(1)

/* Leaf 0x80000001. */
#define E1C_HOST   (BIT(5) /* LZCNT */ | BIT(8) /* PREFETCHW */)
#define E1C_FORCED BIT(0) /* LAHF in 64-bit mode */
#define E1D_FORCED                                                                                 \
    (BIT(11) /* SYSCALL */ | BIT(20) /* NX */ | BIT(26) /* 1 GiB pages */ | BIT(27) /* RDTSCP */ | \
     BIT(29) /* long mode */)
#define E1D_AMD_COPY 0x0183f3ffu /* bits that AMD repeats from leaf 1 */
#define E1D_AMD_HOST BIT(22)     /* MMX extensions, which are part of SSE */

#define L6A_ARAT      BIT(2) /* the APIC timer never stops */
#define E7D_INVARIANT BIT(8)

/* Not prone to branch type confusion (RETBleed), for the reason that ARCH_CAPABILITIES gives in
 * msr.c. Linux asks this bit of every vendor. */
#define E8B_FORCED BIT(29)

typedef void adjust_fn(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4]);

struct leaf {
    uint32_t leaf;
    unsigned subleaves; /* of the host that are kept; 1 when the leaf has none */
    uint32_t host[4];
    uint32_t forced[4]; /* sub-leaf 0 */
    adjust_fn *adjust;
};

static adjust_fn vendor_leaf, feature_leaf, cache_leaf, features7_leaf, topology_leaf, xstate_leaf,
    extended_max_leaf, extended_feature_leaf, power_leaf, address_leaf, frequency_leaf,
    xen_max_leaf, xen_version_leaf, xen_msr_leaf, xen_time_leaf, xen_hvm_leaf;

/* clang-format off */
static const struct leaf leaves[] = {
    {0x00000000, 1, {0, ALL, ALL, ALL}, {0}, vendor_leaf},
    {0x00000001, 1, {ALL, 0xff00, L1C_HOST, L1D_HOST}, {0, 0, L1C_FORCED, L1D_FORCED}, feature_leaf},
    {0x00000002, 1, {ALL, ALL, ALL, ALL}, {0}, NULL},
    {0x00000004, 5, {0x3ff, ALL, ALL, 0x7}, {0}, cache_leaf},
    {0x00000006, 1, {0}, {L6A_ARAT, 0, 0, 0}, NULL},
    {0x00000007, 2, {L71A_AVX, L7B_HOST, L7C_HOST, 0}, {0, L7B_FORCED, L7C_FORCED, L7D_FORCED},
     features7_leaf},
    {0x0000000b, 1, {0}, {0}, topology_leaf},
    {0x0000000d, MAX_SUBLEAVES, {ALL, ALL, ALL, 0}, {0}, xstate_leaf},
    {0x00000016, 1, {0}, {0}, frequency_leaf},
    {0x0000001f, 1, {0}, {0}, topology_leaf},
    {XEN_LEAF_BASE + 0, 1, {0}, {0, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX,
                                 XEN_CPUID_SIGNATURE_EDX}, xen_max_leaf},
    {XEN_LEAF_BASE + 1, 1, {0}, {0}, xen_version_leaf},
    {XEN_LEAF_BASE + 2, 1, {0}, {0}, xen_msr_leaf},
    {XEN_LEAF_BASE + 3, 1, {0}, {0}, xen_time_leaf},
    {XEN_LEAF_BASE + 4, 1, {0}, {0}, xen_hvm_leaf},
    {0x80000000, 1, {0, ALL, ALL, ALL}, {0}, extended_max_leaf},
    {0x80000001, 1, {ALL, ALL, E1C_HOST, E1D_AMD_HOST}, {0, 0, E1C_FORCED, E1D_FORCED},
     extended_feature_leaf},
    {0x80000002, 1, {ALL, ALL, ALL, ALL}, {0}, NULL},
    {0x80000003, 1, {ALL, ALL, ALL, ALL}, {0}, NULL},
    {0x80000004, 1, {ALL, ALL, ALL, ALL}, {0}, NULL},
    {0x80000005, 1, {ALL, ALL, ALL, ALL}, {0}, NULL},
    {0x80000006, 1, {ALL, ALL, ALL, ALL}, {0}, NULL},
    {0x80000007, 1, {0}, {0}, power_leaf},
    {0x80000008, 1, {0}, {0, E8B_FORCED, 0, 0}, address_leaf},
};
/* clang-format on */

/* What is offered only with AVX state. */
static const struct {
    uint32_t leaf, subleaf, reg, bits;
} avx_features[] = {
    {1, 0, ECX, L1C_AVX},
    {7, 0, EBX, L7B_AVX},
    {7, 0, ECX, L7C_AVX},
    {7, 1, EAX, L71A_AVX},
};

struct hv_cpuid_policy {
    enum hv_cpu_vendor vendor;
    uint64_t xstate; /* components that XCR0 may have */
    uint32_t values[HV_ARRAY_LEN(leaves)][MAX_SUBLEAVES][4];
};

/* ---------------------------------------------------------------- making the policy */

static enum hv_cpu_vendor vendor_of(const uint32_t leaf0[4])
{
    static const struct {
        char name[13];
        enum hv_cpu_vendor vendor;
    } vendors[] = {{"GenuineIntel", HV_VENDOR_INTEL},
                   {"AuthenticAMD", HV_VENDOR_AMD},
                   {"HygonGenuine", HV_VENDOR_AMD}};
    uint32_t name[3] = {leaf0[EBX], leaf0[EDX], leaf0[ECX]};

    for (size_t i = 0; i < HV_ARRAY_LEN(vendors); i++)
        if (memcmp(name, vendors[i].name, sizeof(name)) == 0)
            return vendors[i].vendor;
    return HV_VENDOR_OTHER;
}

static bool host_has(uint32_t leaf, uint32_t max, uint32_t extended_max)
{
    if (leaf >= 0x80000000u)
        return leaf <= extended_max;
    return leaf <= max;
}

static void fill_leaf(const struct leaf *leaf, bool on_host, uint32_t values[MAX_SUBLEAVES][4])
{
    for (uint32_t i = 0; i < leaf->subleaves; i++) {
        uint32_t r[4] = {0};

        if (on_host)
            __cpuid_count(leaf->leaf, i, r[EAX], r[EBX], r[ECX], r[EDX]);
        for (unsigned n = 0; n < 4; n++)
            values[i][n] = (r[n] & leaf->host[n]) | (i ? 0 : leaf->forced[n]);
    }
}

static const struct leaf *find_leaf(uint32_t leaf)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(leaves); i++)
        if (leaves[i].leaf == leaf)
            return &leaves[i];
    return NULL;
}

static void hide_avx(struct hv_cpuid_policy *policy)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(avx_features); i++)
        policy->values[find_leaf(avx_features[i].leaf) - leaves][avx_features[i].subleaf]
                      [avx_features[i].reg] &= ~avx_features[i].bits;
}

int hv_cpuid_init(struct hv_domain *d)
{
    struct hv_cpuid_policy *policy = calloc(1, sizeof(*policy));
    uint32_t max, extended_max, b, c, e;

    if (!policy)
        return -ENOMEM;
    __cpuid(0, max, b, c, e);
    __cpuid(0x80000000, extended_max, b, c, e);
    for (size_t i = 0; i < HV_ARRAY_LEN(leaves); i++)
        fill_leaf(&leaves[i], host_has(leaves[i].leaf, max, extended_max), policy->values[i]);
    policy->vendor = vendor_of(policy->values[0][0]);
    policy->xstate = hv_xstate_supported();
    if (!(policy->xstate & HV_XSTATE_AVX))
        hide_avx(policy);
    d->cpuid = policy;
    return 0;
}

void hv_cpuid_fini(struct hv_domain *d)
{
    free(d->cpuid);
    d->cpuid = NULL;
}

enum hv_cpu_vendor hv_cpuid_vendor(const struct hv_domain *d)
{
    return d->cpuid->vendor;
}

/* ---------------------------------------------------------------- answering */

static uint32_t max_leaf(const struct hv_vcpu *v)
{
    return hv_cpuid_vendor(v->domain) == HV_VENDOR_AMD ? LEAF_MAX_AMD : LEAF_MAX_INTEL;
}

static bool offered(const struct hv_vcpu *v, const struct leaf *leaf)
{
    return leaf && (leaf->leaf >= XEN_LEAF_BASE || leaf->leaf <= max_leaf(v));
}

void hv_cpuid(struct hv_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct leaf *entry = find_leaf(leaf);

    memset(out, 0, 4 * sizeof(out[0]));
    if (!offered(v, entry))
        return;
    if (entry->subleaves == 1)
        memcpy(out, v->domain->cpuid->values[entry - leaves][0], 4 * sizeof(out[0]));
    else if (subleaf < entry->subleaves)
        memcpy(out, v->domain->cpuid->values[entry - leaves][subleaf], 4 * sizeof(out[0]));
    if (entry->adjust)
        entry->adjust(v, subleaf, out);
    hv_cpuid_mask(v->domain, leaf, subleaf, out);
}

/* How many bits number @count things. */
static unsigned bits_for(unsigned count)
{
    unsigned bits = 0;

    while ((1u << bits) < count)
        bits++;
    return bits;
}

/* Bits of the APIC id within the package: the core and one bit of thread, always 0. */
static unsigned package_shift(const struct hv_vcpu *v)
{
    return bits_for(v->domain->nr_vcpus) + 1;
}

static void vendor_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)subleaf;
    out[EAX] = max_leaf(v);
}

static void feature_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    unsigned ids = 1u << package_shift(v);

    (void)subleaf;
    if (v->domain->nr_vcpus > 1) {
        out[EBX] |= (ids > 255 ? 255 : ids) << 16;
        out[EDX] |= L1D_HTT;
    }
    out[EBX] |= (hv_apic_id(v->id) & 0xff) << 24;
    if ((out[ECX] & BIT(26)) && (v->cpu.cr4 & HV_CR4_OSXSAVE))
        out[ECX] |= L1C_OSXSAVE;
}

/* Who shares a cache: level 3 and up all vCPUs, the others one core with its two ids. */
static void cache_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    unsigned level = (out[EAX] >> 5) & 7;
    unsigned cores = 1u << bits_for(v->domain->nr_vcpus);
    unsigned sharing = level >= 3 ? 2 * cores : 2;

    (void)subleaf;
    if (!(out[EAX] & 0x1f))
        return;
    out[EAX] |= (sharing - 1) << 14 | (cores - 1) << 26;
}

static void features7_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    if (subleaf) {
        out[EBX] = out[ECX] = out[EDX] = 0;
        return;
    }
    out[EAX] = 1; /* the last sub-leaf */
    if (hv_cpuid_vendor(v->domain) == HV_VENDOR_INTEL)
        out[EDX] |= L7D_ARCH_CAPABILITIES;
}

static void topology_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    enum { TYPE_THREAD = 1, TYPE_CORE = 2 };

    if (subleaf == 0) {
        out[EAX] = 1;
        out[EBX] = 1;
        out[ECX] = TYPE_THREAD << 8;
    } else if (subleaf == 1) {
        out[EAX] = package_shift(v);
        out[EBX] = v->domain->nr_vcpus;
        out[ECX] = TYPE_CORE << 8;
    }
    out[ECX] |= subleaf & 0xff;
    out[EDX] = hv_apic_id(v->id);
}

static void xstate_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    uint64_t supported = v->domain->cpuid->xstate;

    switch (subleaf) {
    case 0:
        out[EAX] = (uint32_t)supported;
        out[EBX] = hv_xstate_bytes(v->cpu.xcr0);
        out[ECX] = hv_xstate_bytes(supported);
        out[EDX] = (uint32_t)(supported >> 32);
        break;
    case 1:
        out[EAX] &= LD1A_HOST;
        /* In the compacted format; without a hole, this is no smaller. */
        out[EBX] = out[EAX] & LD1A_XSAVEC ? hv_xstate_bytes(v->cpu.xcr0) : 0;
        out[ECX] = out[EDX] = 0;
        break;
    default:
        if (subleaf > 63 || !(supported >> subleaf & 1))
            memset(out, 0, 4 * sizeof(out[0]));
        else
            out[ECX] &= BIT(1); /* user state; aligned in the compacted format or not */
        break;
    }
}

static void extended_max_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)subleaf;
    (void)v;
    out[EAX] = LEAF_MAX_EXTENDED;
}

static void extended_feature_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    uint32_t leaf1[4];

    (void)subleaf;
    if (hv_cpuid_vendor(v->domain) != HV_VENDOR_AMD) {
        out[EAX] = out[EBX] = 0;
        out[EDX] &= ~E1D_AMD_HOST;
        return;
    }
    hv_cpuid(v, 1, 0, leaf1);
    out[EDX] |= leaf1[EDX] & E1D_AMD_COPY;
    if (v->domain->nr_vcpus > 1)
        out[ECX] |= BIT(1); /* the ids of leaf 1 number cores, not threads */
}

static void power_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)subleaf;
    if (hv_time_tsc_is_stable(v->domain))
        out[EDX] |= E7D_INVARIANT;
}

static void address_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)subleaf;
    out[EAX] = HV_GPA_BITS | 48u << 8;
    if (hv_cpuid_vendor(v->domain) == HV_VENDOR_AMD)
        out[ECX] = package_shift(v) << 12 | (v->domain->nr_vcpus - 1);
}

/* In MHz. There is no timer that a kernel could measure the TSC with, so it is told. Linux heeds
 * this leaf on Intel only: on AMD its log has "Fast TSC calibration failed", as in Xen's own PVH
 * guests, and it then takes the frequency from Xen's time page. */
static void frequency_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)subleaf;
    out[EAX] = out[EBX] = (uint32_t)(hv_time_tsc_khz(v->domain) + 500) / 1000;
    out[ECX] = 100; /* a bus clock as they all have */
}

static void xen_max_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)v;
    (void)subleaf;
    out[EAX] = XEN_LEAF_BASE + XEN_CPUID_MAX_NUM_LEAVES;
}

static void xen_version_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)v;
    (void)subleaf;
    out[EAX] = XEN_VERSION_4_17;
}

static void xen_msr_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    (void)v;
    (void)subleaf;
    out[EAX] = 1; /* hypercall page */
    out[EBX] = HYPERCALL_MSR;
}

static void xen_time_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    struct hv_domain *d = v->domain;
    uint32_t mul;
    int8_t shift;

    switch (subleaf) {
    case 0:
        out[EAX] = (hv_time_tsc_is_stable(d) ? BIT(1) : 0) | BIT(2); /* reliable; RDTSCP */
        out[ECX] = (uint32_t)hv_time_tsc_khz(d);
        break;
    case 1:
        hv_time_scale(d, &mul, &shift);
        out[EAX] = (uint32_t)v->cpu.tsc_offset;
        out[EBX] = (uint32_t)(v->cpu.tsc_offset >> 32);
        out[ECX] = mul;
        out[EDX] = (uint32_t)(int32_t)shift;
        break;
    case 2:
        out[EAX] = (uint32_t)hv_time_tsc_khz(d);
        break;
    default:
        break;
    }
}

static void xen_hvm_leaf(struct hv_vcpu *v, uint32_t subleaf, uint32_t out[4])
{
    if (subleaf)
        return;
    out[EAX] = XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT |
               XEN_HVM_CPUID_EXT_DEST_ID | XEN_HVM_CPUID_UPCALL_VECTOR;
    out[EBX] = v->id;
    out[ECX] = v->domain->domid;
}
