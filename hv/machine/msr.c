/* Model specific registers: one table.
 *
 * A row covers one MSR or a range. Most are a field of struct hv_cpu or struct hv_msrs with a check
 * on what may be written; the rest have functions. An MSR without a row, or a row whose vendor is
 * not the domain's, is #GP as on hardware. Sources: Intel SDM volume 4, AMD APM volume 2 appendix
 * A, xen/arch-x86/cpuid.h (hypercall page).
 */
#include "config.h"

#include "hv/machine/msr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/xen-abi.h"

#include "hv/hypercall/vcpu-xen.h"
#include "hv/log.h"
#include "hv/machine/cpuid.h"
#include "hv/machine/lapic.h"
#include "hv/machine/machine.h"
#include "hv/machine/time.h"
#include "hv/stream/codec.h"

#define MTRR_TYPE_WB  6u
#define MTRR_ENABLE   (1u << 11)
#define MTRR_CAP      (HV_MTRR_VARIABLE | 1u << 8 /* fixed ranges */ | 1u << 10 /* write combining */)
#define GPA_BITS_MASK ((1ull << HV_GPA_BITS) - 1)

#define EFER_WRITABLE (HV_EFER_SCE | HV_EFER_LME | HV_EFER_NXE)

/* What IA32_ARCH_CAPABILITIES says the processor is not prone to. The guest's page protection is
 * the engine's work, not the host's page tables, and the guest has no VERW or L1D flush that would
 * reach the host's buffers, so it has nothing to gain from working around these: RDCL, L1D flush at
 * VM entry, MDS, page size change machine check, TAA, and the MMIO stale data family. */
#define ARCH_CAPABILITIES                                                                          \
    (1ull << 0 | 1ull << 3 | 1ull << 5 | 1ull << 6 | 1ull << 8 | 1ull << 13 | 1ull << 14 |         \
     1ull << 15)

/* Patch level 1: no host's, so no guest believes in a microcode fix that it could check. */
#define MICROCODE_REVISION (1ull << 32)

enum vendor_mask { ANY = 0, INTEL = 1, AMD = 2 };

struct msr_row;
typedef int msr_read_fn(struct hv_vcpu *v, uint32_t msr, uint64_t *value);
typedef int msr_write_fn(struct hv_vcpu *v, uint32_t msr, uint64_t value);
typedef bool msr_check_fn(uint64_t value);

enum where { NOWHERE, IN_CPU, IN_MSRS };

struct msr_row {
    uint32_t first, last;
    enum vendor_mask vendor;
    msr_read_fn *read;   /* NULL: the field, or @constant */
    msr_write_fn *write; /* NULL: the field; without one, #GP, or ignored if @ignore_writes */
    enum where where;
    size_t offset;       /* of the uint64_t field; of the first one in a range */
    msr_check_fn *check; /* of a value for the field; NULL: any */
    uint64_t constant;
    bool ignore_writes;
};

/* ---------------------------------------------------------------- what may be written */

static bool canonical(uint64_t value)
{
    return (uint64_t)((int64_t)(value << 16) >> 16) == value;
}

static bool low32(uint64_t value)
{
    return !(value >> 32);
}

static bool each_byte(uint64_t value, uint32_t allowed_types)
{
    for (unsigned i = 0; i < 8; i++, value >>= 8)
        if ((value & 0xff) > 7 || !(allowed_types >> (value & 0xff) & 1))
            return false;
    return true;
}

#define TYPES_MTRR 0x73u /* UC, WC, WT, WP, WB */
#define TYPES_PAT  0xf3u /* and UC- */

static bool pat_types(uint64_t value)
{
    return each_byte(value, TYPES_PAT);
}

static bool mtrr_fixed(uint64_t value)
{
    return each_byte(value, TYPES_MTRR);
}

static bool mtrr_base(uint64_t value)
{
    return !(value & ~GPA_BITS_MASK) && !(value & 0xf00) && (value & 0xff) < 8 &&
           (TYPES_MTRR >> (value & 0xff) & 1);
}

static bool mtrr_mask(uint64_t value)
{
    return !(value & ~GPA_BITS_MASK) && !(value & 0x7ff);
}

static bool mtrr_def_type(uint64_t value)
{
    return !(value & ~0xcffull) && (value & 0xff) < 8 && (TYPES_MTRR >> (value & 0xff) & 1);
}

static bool zero(uint64_t value)
{
    return !value;
}

/* ---------------------------------------------------------------- rows with functions */

static int write_efer(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    uint64_t old = v->cpu.efer;

    (void)msr;
    if (value & ~(uint64_t)(EFER_WRITABLE | HV_EFER_LMA))
        return -EPERM;
    if (((value ^ old) & HV_EFER_LME) && (v->cpu.cr0 & HV_CR0_PG))
        return -EPERM;
    v->cpu.efer = (value & EFER_WRITABLE) | (old & HV_EFER_LMA); /* LMA follows CR0.PG */
    return 0;
}

static int read_fs_base(struct hv_vcpu *v, uint32_t msr, uint64_t *value)
{
    *value = v->cpu.seg[msr == 0xc0000100 ? HV_FS : HV_GS].base;
    return 0;
}

static int write_fs_base(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    if (!canonical(value))
        return -EPERM;
    v->cpu.seg[msr == 0xc0000100 ? HV_FS : HV_GS].base = value;
    return 0;
}

static int read_tsc(struct hv_vcpu *v, uint32_t msr, uint64_t *value)
{
    (void)msr;
    *value = hv_tsc_read(v);
    return 0;
}

/* Moves the vCPU's TSC; what is computed from it (pvclock, the deadline timer) moves along. */
static void move_tsc(struct hv_vcpu *v, uint64_t by)
{
    v->cpu.tsc_offset += by;
    v->msrs->tsc_adjust += by;
    hv_time_fill_vcpu(v, &hv_vcpu_info(v)->time);
    hv_lapic_tsc_moved(v);
}

static int write_tsc(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    (void)msr;
    move_tsc(v, value - hv_tsc_read(v));
    return 0;
}

static int write_tsc_adjust(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    (void)msr;
    move_tsc(v, value - v->msrs->tsc_adjust);
    return 0;
}

/* The variable ranges are pairs of base and mask. */
static int write_mtrr_variable(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    if (!(msr & 1 ? mtrr_mask(value) : mtrr_base(value)))
        return -EPERM;
    v->msrs->mtrr_variable[msr - 0x200] = value;
    return 0;
}

static int read_microcode(struct hv_vcpu *v, uint32_t msr, uint64_t *value)
{
    (void)msr;
    *value =
        hv_cpuid_vendor(v->domain) == HV_VENDOR_AMD ? MICROCODE_REVISION >> 32 : MICROCODE_REVISION;
    return 0;
}

static void fill_hypercall_page(const struct hv_domain *d, uint8_t page[HV_PAGE_SIZE])
{
    bool amd = hv_cpuid_vendor(d) == HV_VENDOR_AMD;

    memset(page, 0xcc, HV_PAGE_SIZE); /* int3 */
    for (uint32_t i = 0; i < HV_PAGE_SIZE / 32; i++) {
        uint8_t *p = page + 32 * i;

        if (i == __HYPERVISOR_iret) {
            memcpy(p, "\x0f\x0b", 2); /* ud2 */
            continue;
        }
        *p = 0xb8; /* mov $i,%eax */
        memcpy(p + 1, &i, sizeof(i));
        memcpy(p + 5, amd ? "\x0f\x01\xd9" : "\x0f\x01\xc1", 3); /* vmmcall or vmcall */
        p[8] = 0xc3;                                             /* ret */
    }
}

/* The low 12 bits are the page index, of which there is one: 0. */
static int write_hypercall_page(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    uint8_t page[HV_PAGE_SIZE];

    (void)msr;
    if (value & HV_PAGE_MASK)
        return -EPERM;
    fill_hypercall_page(v->domain, page);
    if (hv_memory_write(&v->domain->mem, hv_gpa_of(value), page, sizeof(page)))
        return -EPERM;
    hv_domain_flush(v->domain); /* old code of that page may be cached */
    return 0;
}

/* ---------------------------------------------------------------- the table */

#define CPU(field)  .where = IN_CPU, .offset = offsetof(struct hv_vcpu, cpu.field)
#define MSRS(field) .where = IN_MSRS, .offset = offsetof(struct hv_msrs, field)
#define ONE(msr)    .first = (msr), .last = (msr)
#define LAPIC       .read = hv_lapic_msr_read, .write = hv_lapic_msr_write

static const struct msr_row rows[] = {
    {ONE(0x00000010), .read = read_tsc, .write = write_tsc},
    {ONE(0x00000017), .vendor = INTEL}, /* PLATFORM_ID */
    {ONE(0x0000001b), LAPIC},           /* APIC_BASE */
    {ONE(0x0000003a), .vendor = INTEL,
     .constant = 1}, /* FEATURE_CONTROL: locked, nothing enabled */
    {ONE(0x0000003b), MSRS(tsc_adjust), .write = write_tsc_adjust},
    {ONE(0x00000079), .vendor = INTEL, .ignore_writes = true}, /* BIOS_UPDT_TRIG */
    {ONE(0x0000008b), .read = read_microcode, .ignore_writes = true},
    {ONE(0x000000ce), .vendor = INTEL}, /* PLATFORM_INFO */
    {ONE(0x000000fe), .constant = MTRR_CAP},
    {ONE(0x0000010a), .vendor = INTEL, .constant = ARCH_CAPABILITIES},
    {ONE(0x00000140), .vendor = INTEL, .check = zero, .ignore_writes = true}, /* MISC_FEATURES */
    {ONE(0x00000174), CPU(sysenter_cs), .check = low32},
    {ONE(0x00000175), CPU(sysenter_esp), .check = canonical},
    {ONE(0x00000176), CPU(sysenter_eip), .check = canonical},
    {ONE(0x00000179)}, /* MCG_CAP: no banks */
    {ONE(0x0000017a), MSRS(mcg_status), .check = zero},
    {ONE(0x000001d9), .check = zero,
     .ignore_writes = true}, /* DEBUGCTL: no branch traps or records */
    {ONE(0x000001a0), .vendor = INTEL, CPU(misc_enable)},
    {.first = 0x00000200, .last = 0x0000020f, MSRS(mtrr_variable), .write = write_mtrr_variable},
    {ONE(0x00000250), MSRS(mtrr_fixed[0]), .check = mtrr_fixed},
    {.first = 0x00000258, .last = 0x00000259, MSRS(mtrr_fixed[1]), .check = mtrr_fixed},
    {.first = 0x00000268, .last = 0x0000026f, MSRS(mtrr_fixed[3]), .check = mtrr_fixed},
    {ONE(0x00000277), CPU(pat), .check = pat_types},
    {ONE(0x000002ff), MSRS(mtrr_def_type), .check = mtrr_def_type},
    {ONE(0x000006e0), LAPIC}, /* TSC_DEADLINE */
    {.first = 0x00000800, .last = 0x000008ff, LAPIC},
    {ONE(0x40000000), .write = write_hypercall_page},
    {ONE(0xc0000080), CPU(efer), .write = write_efer},
    {ONE(0xc0000081), CPU(star)},
    {ONE(0xc0000082), CPU(lstar), .check = canonical},
    {ONE(0xc0000083), CPU(cstar), .check = canonical},
    {ONE(0xc0000084), CPU(sfmask), .check = low32},
    {.first = 0xc0000100, .last = 0xc0000101, .read = read_fs_base, .write = write_fs_base},
    {ONE(0xc0000102), CPU(kernel_gs_base), .check = canonical},
    {ONE(0xc0000103), CPU(tsc_aux), .check = low32},
    {ONE(0xc0010010), .vendor = AMD, MSRS(amd_syscfg)},
    {ONE(0xc0010015), .vendor = AMD, MSRS(amd_hwcr)},
    {ONE(0xc001001a), .vendor = AMD, .ignore_writes = true}, /* TOP_MEM */
    {ONE(0xc001001d), .vendor = AMD, .ignore_writes = true}, /* TOP_MEM2 */
    {ONE(0xc001001f), .vendor = AMD, .ignore_writes = true}, /* NB_CFG */
    {ONE(0xc0010020), .vendor = AMD, .ignore_writes = true}, /* PATCH_LOADER */
    {ONE(0xc0010055), .vendor = AMD, .ignore_writes = true}, /* INT_PENDING */
    {ONE(0xc0010058), .vendor = AMD, .ignore_writes = true}, /* MMIO_CONF_BASE */
    {ONE(0xc0010114), .vendor = AMD, .constant = 1u << 4,
     .ignore_writes = true}, /* VM_CR: no SVM */
    {.first = 0xc0010140, .last = 0xc0010141, .vendor = AMD, .ignore_writes = true}, /* OSVW */
    {.first = 0xc0011020,
     .last = 0xc0011022,
     .vendor = AMD,
     .ignore_writes = true}, /* LS, IC, DC_CFG */
    {ONE(0xc0011029), .vendor = AMD, MSRS(amd_de_cfg)},
    {ONE(0xc001102a), .vendor = AMD, .ignore_writes = true}, /* BU_CFG2 */
};

static bool vendor_fits(const struct hv_vcpu *v, enum vendor_mask vendor)
{
    bool amd = hv_cpuid_vendor(v->domain) == HV_VENDOR_AMD;

    return vendor == ANY || (vendor == AMD) == amd;
}

static const struct msr_row *find_row(const struct hv_vcpu *v, uint32_t msr)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        if (msr >= rows[i].first && msr <= rows[i].last)
            return vendor_fits(v, rows[i].vendor) ? &rows[i] : NULL;
    return NULL;
}

static uint64_t *field_of(struct hv_vcpu *v, const struct msr_row *row, uint32_t msr)
{
    char *base = row->where == IN_CPU ? (char *)v : (char *)v->msrs;

    if (row->where == NOWHERE)
        return NULL;
    return (uint64_t *)(void *)(base + row->offset) + (msr - row->first);
}

int hv_msr_read(struct hv_vcpu *v, uint32_t msr, uint64_t *value)
{
    const struct msr_row *row = find_row(v, msr);
    const uint64_t *field;

    if (!row) {
        hv_log_guest(v->domain, HV_LOG_DEBUG, "v%u: rdmsr %#x: no such MSR", v->id, msr);
        return -EPERM;
    }
    if (row->read)
        return row->read(v, msr, value);
    field = field_of(v, row, msr);
    *value = field ? *field : row->constant;
    return 0;
}

static int write_row(struct hv_vcpu *v, const struct msr_row *row, uint32_t msr, uint64_t value)
{
    uint64_t *field = field_of(v, row, msr);

    if (row->write)
        return row->write(v, msr, value);
    if (row->check && !row->check(value))
        return -EPERM;
    if (field)
        *field = value;
    return field || row->ignore_writes ? 0 : -EPERM;
}

int hv_msr_write(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    const struct msr_row *row = find_row(v, msr);
    int rc = row ? write_row(v, row, msr, value) : -EPERM;

    if (rc)
        hv_log_guest(v->domain, HV_LOG_DEBUG, "v%u: wrmsr %#x: %#llx refused", v->id, msr,
                     (unsigned long long)value);
    return rc;
}

/* ---------------------------------------------------------------- storage */

int hv_msrs_new(struct hv_vcpu *v)
{
    v->msrs = calloc(1, sizeof(*v->msrs));
    return v->msrs ? 0 : -ENOMEM;
}

void hv_msrs_free(struct hv_vcpu *v)
{
    free(v->msrs);
    v->msrs = NULL;
}

void hv_msrs_reset(struct hv_vcpu *v)
{
    memset(v->msrs, 0, sizeof(*v->msrs));
    v->msrs->mtrr_def_type = MTRR_ENABLE | MTRR_TYPE_WB;
}

/* ---------------------------------------------------------------- streams */

static const struct hv_field state_fields[] = {
    HV_FIELD(1, struct hv_msrs, mtrr_def_type), HV_FIELD(2, struct hv_msrs, mtrr_fixed),
    HV_FIELD(3, struct hv_msrs, mtrr_variable), HV_FIELD(4, struct hv_msrs, mcg_status),
    HV_FIELD(5, struct hv_msrs, tsc_adjust),    HV_FIELD(6, struct hv_msrs, amd_syscfg),
    HV_FIELD(7, struct hv_msrs, amd_hwcr),      HV_FIELD(8, struct hv_msrs, amd_de_cfg),
};

void hv_msrs_encode(const struct hv_vcpu *v, struct hv_encoder *e)
{
    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), v->msrs);
}

/* What WRMSR would have refused. */
static uint32_t find_bad_msr(struct hv_vcpu *v)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        const struct msr_row *row = &rows[i];

        for (uint32_t msr = row->first; row->where != NOWHERE && row->check && msr <= row->last; msr++)
            if (!row->check(*field_of(v, row, msr)))
                return msr;
    }
    for (uint32_t i = 0; i < 2 * HV_MTRR_VARIABLE; i++)
        if (!(i & 1 ? mtrr_mask(v->msrs->mtrr_variable[i]) : mtrr_base(v->msrs->mtrr_variable[i])))
            return 0x200 + i;
    return 0;
}

int hv_msrs_decode(struct hv_vcpu *v, struct hv_decoder *d)
{
    int error = hv_decode_fields(d, state_fields, HV_ARRAY_LEN(state_fields), v->msrs);
    uint32_t bad = error ? 0 : find_bad_msr(v);

    return bad ? hv_decode_fail(d, "MSR 0x%x has a value that it cannot have", bad) : error;
}
