/* CPUID and MSRs as a guest sees them. Sources: Intel SDM volumes 2 and 4, xen/arch-x86/cpuid.h. */
#include "config.h"

#include "hv/machine/cpuid.h"

#include <errno.h>
#include <cpuid.h>
#include <string.h>

#include "hv/xen-abi.h"

#include "hv/machine/fake-engine.h"
#include "hv/machine/machine.h"
#include "hv/machine/time.h"
#include "hv/tap.h"

#define NR_VCPUS 3

static struct hv_domain *d;
static struct hv_vcpu *v;

enum { EAX, EBX, ECX, EDX };

static uint32_t leaf(uint32_t number, uint32_t subleaf, unsigned reg)
{
    uint32_t out[4];

    hv_cpuid(v, number, subleaf, out);
    return out[reg];
}

/* Bits that every guest finds set, or never. */
static void test_features(void)
{
    static const struct {
        uint32_t leaf;
        unsigned reg, bit;
        bool set;
        const char *what;
    } rows[] = {
        {1, ECX, 31, true, "hypervisor"},
        {1, ECX, 21, true, "x2APIC"},
        {1, ECX, 17, true, "PCID"},
        {1, ECX, 5, false, "VMX"},
        {1, ECX, 3, false, "MONITOR"},
        {1, EDX, 9, true, "APIC"},
        {1, EDX, 28, true, "HTT"},
        {7, EBX, 7, true, "SMEP"},
        {7, EBX, 20, true, "SMAP"},
        {7, EBX, 0, true, "FSGSBASE"},
        {7, EBX, 4, false, "HLE"},
        {7, EBX, 11, false, "RTM"},
        {7, EBX, 16, false, "AVX512F"},
        {7, EBX, 30, false, "AVX512BW"},
        {7, ECX, 11, false, "AVX512_VNNI"},
        {0x80000001, ECX, 11, false, "XOP"},
        {0x80000001, ECX, 16, false, "FMA4"},
        {0xd, EAX, 5, false, "opmask state"},
        {7, ECX, 2, true, "UMIP"},
        {0x80000001, EDX, 29, true, "long mode"},
        {0x80000001, EDX, 26, true, "1 GiB pages"},
        {0x80000001, EDX, 27, true, "RDTSCP"},
        {0x80000001, ECX, 2, false, "SVM"},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        TAP_OK((leaf(rows[i].leaf, 0, rows[i].reg) >> rows[i].bit & 1) == rows[i].set, "%s is %s",
               rows[i].what, rows[i].set ? "there" : "absent");
}

static void test_osxsave(void)
{
    v->cpu.cr4 = 0;
    TAP_OK(!(leaf(1, 0, ECX) >> 27 & 1), "OSXSAVE is clear");
    v->cpu.cr4 = HV_CR4_OSXSAVE;
    TAP_OK((leaf(1, 0, ECX) >> 27 & 1) == (leaf(1, 0, ECX) >> 26 & 1), "and follows CR4");
    v->cpu.cr4 = 0;
    if (leaf(1, 0, ECX) >> 26 & 1)
        TAP_OK(leaf(0xd, 0, EBX) == 576 && leaf(0xd, 0, ECX) >= 576,
               "XSAVE area: legacy and header");
    TAP_OK((leaf(0xd, 0, EAX) >> 2 & 1) == (leaf(1, 0, ECX) >> 28 & 1), "AVX state goes with AVX");
    if (leaf(1, 0, ECX) >> 28 & 1) {
        uint64_t xcr0 = v->cpu.xcr0;

        v->cpu.xcr0 = 7;
        TAP_OK(leaf(0xd, 0, EBX) == 832 && leaf(0xd, 0, ECX) == 832 && leaf(0xd, 2, EAX) == 256 &&
                   leaf(0xd, 2, EBX) == 576,
               "where AVX state is");
        TAP_OK(leaf(0xd, 1, EBX) == (leaf(0xd, 1, EAX) & 2 ? 832 : 0),
               "and how large it is compacted");
        v->cpu.xcr0 = xcr0;
    }
}

static void test_topology(void)
{
    for (unsigned i = 0; i < NR_VCPUS; i++) {
        v = d->vcpus[i];
        TAP_OK(leaf(1, 0, EBX) >> 24 == 2 * i && leaf(0xb, 0, EDX) == 2 * i &&
                   leaf(0xb, 1, EDX) == 2 * i,
               "vCPU %u has APIC id %u in all leaves", i, 2 * i);
    }
    v = d->vcpus[0];
    TAP_OK(leaf(0xb, 0, EAX) == 1 && leaf(0xb, 0, EBX) == 1 && leaf(0xb, 0, ECX) == 0x100,
           "one thread in each core");
    TAP_OK(leaf(0xb, 1, EAX) == 3 && leaf(0xb, 1, EBX) == NR_VCPUS && leaf(0xb, 1, ECX) == 0x201,
           "cores in the package");
    TAP_OK(leaf(0xb, 2, EBX) == 0 && leaf(0xb, 2, ECX) == 2, "and no level above");
    TAP_OK((leaf(1, 0, EBX) >> 16 & 0xff) == 8, "leaf 1 leaves room for ids 0 to 7");
}

static void test_xen_leaves(void)
{
    char signature[13] = {0};
    uint32_t out[4];

    hv_cpuid(v, 0x40000000, 0, out);
    memcpy(signature, &out[EBX], 12);
    TAP_OK(strcmp(signature, "XenVMMXenVMM") == 0 && out[EAX] == 0x40000005, "signature");
    TAP_OK(leaf(0x40000001, 0, EAX) == 0x40011, "version 4.17");
    TAP_OK(leaf(0x40000002, 0, EAX) == 1 && leaf(0x40000002, 0, EBX) == 0x40000000,
           "hypercall page");
    TAP_OK(leaf(0x40000003, 0, ECX) == hv_time_tsc_khz(d) && hv_time_tsc_khz(d) > 100000,
           "TSC frequency");
    v = d->vcpus[2];
    TAP_OK((leaf(0x40000004, 0, EAX) & XEN_HVM_CPUID_VCPU_ID_PRESENT) &&
               leaf(0x40000004, 0, EBX) == 2,
           "vCPU id");
    TAP_OK(leaf(0x40000004, 0, ECX) == 7, "domain id");
    v = d->vcpus[0];
}

/* What the engines run natively is offered where the host has it, as it would work there anyway. */
static void test_native(void)
{
    static const struct {
        uint32_t leaf;
        unsigned reg, bit;
        const char *name;
    } rows[] = {
        {1, ECX, 0, "SSE3"},    {1, ECX, 1, "PCLMULQDQ"},   {1, ECX, 9, "SSSE3"},
        {1, ECX, 19, "SSE4.1"}, {1, ECX, 20, "SSE4.2"},     {1, ECX, 25, "AES"},
        {7, EBX, 29, "SHA"},    {1, ECX, 28, "AVX"},        {1, ECX, 12, "FMA"},
        {1, ECX, 29, "F16C"},   {7, EBX, 5, "AVX2"},        {7, ECX, 8, "GFNI"},
        {7, ECX, 9, "VAES"},    {7, ECX, 10, "VPCLMULQDQ"},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        uint32_t host[4] = {0};

        (void)__get_cpuid_count(rows[i].leaf, 0, &host[EAX], &host[EBX], &host[ECX], &host[EDX]);
        TAP_OK((host[rows[i].reg] >> rows[i].bit & 1) ==
                   (leaf(rows[i].leaf, 0, rows[i].reg) >> rows[i].bit & 1),
               "%s as the host has it", rows[i].name);
    }
}

static void test_any_leaf(void)
{
    static const uint32_t bases[] = {0, 0x40000000, 0x80000000, 0xc0000000, 0xfffffff0};
    uint32_t out[4];

    for (size_t b = 0; b < HV_ARRAY_LEN(bases); b++)
        for (uint32_t i = 0; i < 64; i++)
            for (uint32_t sub = 0; sub < 70; sub++)
                hv_cpuid(v, bases[b] + i, sub, out);
    hv_cpuid(v, 0xd, UINT32_MAX, out);
    TAP_OK(!out[EAX] && !out[EBX] && !out[ECX], "any leaf and sub-leaf is answered");
    TAP_OK(leaf(0x80000008, 0, EAX) == (HV_GPA_BITS | 48 << 8), "address widths");
}

/* ---------------------------------------------------------------- MSRs */

static void test_msr_values(void)
{
    static const struct {
        uint32_t msr;
        uint64_t value;
        bool ok;
        const char *what;
    } rows[] = {
        {0xc0000080, 0xd01, true, "EFER: SCE, LME, NXE (LMA is ignored)"},
        {0xc0000080, 0x1000, false, "EFER: SVME"},
        {0xc0000082, 0xffff800000000000, true, "LSTAR canonical"},
        {0xc0000082, 0x0000800000000000, false, "LSTAR not canonical"},
        {0xc0000100, 0x00007fffffffffff, true, "FS base"},
        {0xc0000101, 0x8000000000000000, false, "GS base not canonical"},
        {0xc0000103, 0x100000000, false, "TSC_AUX above 32 bits"},
        {0x277, 0x0007040600070406, true, "PAT"},
        {0x277, 0x0007040600070402, false, "PAT with a reserved type"},
        {0x2ff, 0xc06, true, "MTRR default type"},
        {0x2ff, 0x1006, false, "MTRR default type, reserved bit"},
        {0x200, 0x80000006, true, "MTRR base"},
        {0x200, 0x80000002, false, "MTRR base, reserved type"},
        {0x201, 0xff80000800, true, "MTRR mask"},
        {0x201, 0x10000000800, false, "MTRR mask above the address space"},
        {0x258, 0x0606060606060606, true, "fixed MTRR"},
        {0x258, 0x0606060606060602, false, "fixed MTRR, reserved type"},
        {0xfe, 0, false, "MTRR capabilities are read-only"},
        {0x1b, 0xfee00900, true, "APIC base"},
        {0x40000000, 0x5123, false, "hypercall page with a page index"},
        {0x40000000, 0x7ffffff000, false, "hypercall page where no RAM is"},
        {0x12345678, 0, false, "an unknown MSR"},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        TAP_OK(hv_msr_write(v, rows[i].msr, rows[i].value) == (rows[i].ok ? 0 : -EPERM),
               "WRMSR %s %s", rows[i].what, rows[i].ok ? "works" : "is #GP");
}

static void test_efer(void)
{
    v->cpu.cr0 = 0;
    TAP_OK(hv_msr_write(v, 0xc0000080, 0x500) == 0 && v->cpu.efer == 0x100,
           "LMA cannot be written");
    v->cpu.cr0 = HV_CR0_PE | HV_CR0_PG;
    v->cpu.efer = 0x500;
    TAP_OK(hv_msr_write(v, 0xc0000080, 0) == -EPERM && v->cpu.efer == 0x500,
           "LME is fixed under paging");
    TAP_OK(hv_msr_write(v, 0xc0000080, 0x901) == 0 && v->cpu.efer == 0xd01, "other bits are not");
    v->cpu.cr0 = 0;
}

static void test_storage(void)
{
    uint64_t value = 0;

    TAP_OK(hv_msr_write(v, 0x26f, 0x0101010101010101) == 0 && hv_msr_read(v, 0x26f, &value) == 0 &&
               value == 0x0101010101010101,
           "the last fixed MTRR");
    TAP_OK(hv_msr_write(v, 0x20f, 0x800) == 0 && hv_msr_read(v, 0x20f, &value) == 0 &&
               value == 0x800,
           "the last variable MTRR");
    TAP_OK(hv_msr_read(v, 0x210, &value) == -EPERM, "and none above");
    TAP_OK(hv_msr_write(v, 0xc0000101, 0x1000) == 0 && v->cpu.seg[HV_GS].base == 0x1000, "GS base");
    TAP_OK(hv_msr_read(v, 0xfe, &value) == 0 && value == 0x508, "eight variable MTRRs");
    TAP_OK(hv_msr_read(v, 0x179, &value) == 0 && value == 0, "no machine check banks");
}

static void test_tsc(void)
{
    uint64_t a = 0, b = 0;

    TAP_OK(hv_msr_read(v, 0x10, &a) == 0 && hv_msr_read(v, 0x10, &b) == 0 && b > a,
           "the TSC counts");
    TAP_OK(hv_msr_write(v, 0x10, a + (1ull << 50)) == 0 && hv_tsc_read(v) >> 50 == 1,
           "and can be set");
    TAP_OK(hv_msr_read(v, 0x3b, &b) == 0 && b, "TSC_ADJUST tells of it");
    TAP_OK(hv_msr_write(v, 0x3b, 0) == 0 && hv_tsc_read(v) < a + (1ull << 49), "and undoes it");
}

static void test_hypercall_page(void)
{
    uint8_t page[HV_PAGE_SIZE];
    uint32_t number;

    d->mem.max_pages = 16;
    TAP_OK(hv_memory_populate(&d->mem, hv_gfn_of(0), 16) == 0 &&
               hv_msr_write(v, 0x40000000, 0x5000) == 0,
           "the hypercall page is filled");
    TAP_OK(hv_memory_read(&d->mem, hv_gpa_of(0x5000), page, sizeof(page)) == 0, "and read");
    memcpy(&number, page + 29 * 32 + 1, sizeof(number));
    TAP_OK(page[29 * 32] == 0xb8 && number == 29 && page[29 * 32 + 8] == 0xc3,
           "entry 29: sched_op");
    TAP_OK(page[23 * 32] == 0x0f && page[23 * 32 + 1] == 0x0b, "entry 23: iret is ud2");
}

int main(void)
{
    struct hv_loop *loop;

    TAP_OK(hv_loop_new(&loop) == 0 && (d = fake_domain_new(loop, NR_VCPUS)), "a domain");
    if (!d)
        return tap_done();
    d->domid = 7;
    v = d->vcpus[0];
    hv_time_settle(d);
    test_features();
    test_osxsave();
    test_topology();
    test_xen_leaves();
    test_native();
    test_any_leaf();
    test_msr_values();
    test_efer();
    test_storage();
    test_tsc();
    test_hypercall_page();
    hv_domain_free(d);
    hv_loop_free(loop);
    return tap_done();
}
