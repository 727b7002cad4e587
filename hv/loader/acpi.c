/* ACPI tables of a PVH domain.
 *
 * A PVH domain has processors with local APICs and nothing else that ACPI would describe: no I/O APIC, no
 * RTC, no power button, no sleep registers. The FADT says so with the hardware-reduced flag.
 * Source: ACPI 6.4 chapter 5 "ACPI Software Programming Model".
 */
#include "config.h"

#include "hv/loader/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hv/loader/aml.h"

#define PACKED          __attribute__((packed))
#define LAPIC_ADDRESS   0xfee00000u
#define TABLE_ALIGNMENT 64u

struct rsdp {
    char signature[8];
    uint8_t checksum; /* of the first 20 bytes */
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} PACKED;

struct table_header {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} PACKED;

#define MAX_TABLES 4u /* FADT, MADT, SRAT, SLIT; the DSDT is the FADT's */

struct xsdt {
    struct table_header header;
    uint64_t tables[MAX_TABLES];
} PACKED;

/* Revision 5; only the fields that a hardware-reduced system sets have names of their own. */
struct fadt {
    struct table_header header;
    uint32_t facs;
    uint32_t dsdt;
    uint8_t reserved1[109 - 44];
    uint16_t boot_arch;
    uint8_t reserved2;
    uint32_t flags;
    uint8_t reserved3[131 - 116];
    uint8_t minor_version;
    uint64_t x_facs;
    uint64_t x_dsdt;
    uint8_t reserved4[268 - 148];
} PACKED;

_Static_assert(sizeof(struct rsdp) == 36, "RSDP");
_Static_assert(sizeof(struct table_header) == 36, "ACPI table header");
_Static_assert(offsetof(struct fadt, boot_arch) == 109, "FADT");
_Static_assert(offsetof(struct fadt, x_dsdt) == 140, "FADT");
_Static_assert(sizeof(struct fadt) == 268, "FADT revision 5");

#define FADT_BOOT_NO_VGA      (1u << 2)
#define FADT_BOOT_NO_CMOS_RTC (1u << 5)
#define FADT_WBINVD           (1u << 0)
#define FADT_HW_REDUCED       (1u << 20)

struct madt {
    struct table_header header;
    uint32_t lapic_address;
    uint32_t flags; /* bit 0: there are 8259s too. Not here. */
} PACKED;

struct madt_lapic {
    uint8_t type; /* 0 */
    uint8_t length;
    uint8_t processor_id;
    uint8_t apic_id;
    uint32_t flags; /* bit 0: enabled */
} PACKED;

struct srat {
    struct table_header header;
    uint32_t table_revision; /* 1 */
    uint64_t reserved;
} PACKED;

struct srat_lapic {
    uint8_t type; /* 0 */
    uint8_t length;
    uint8_t node;
    uint8_t apic_id;
    uint32_t flags; /* bit 0: enabled */
    uint8_t sapic_eid;
    uint8_t node_high[3];
    uint32_t clock_domain;
} PACKED;

struct srat_memory {
    uint8_t type; /* 1 */
    uint8_t length;
    uint32_t node;
    uint16_t reserved1;
    uint64_t base, bytes;
    uint32_t reserved2;
    uint32_t flags; /* bit 0: enabled */
    uint64_t reserved3;
} PACKED;

/* A row of distances for each node follows, a byte each. */
struct slit {
    struct table_header header;
    uint64_t localities;
} PACKED;

_Static_assert(sizeof(struct srat_lapic) == 16 && sizeof(struct srat_memory) == 40, "SRAT");

/* The area being filled, and the tables in it that the XSDT has. */
struct area {
    uint8_t *bytes;
    size_t used, size;
    uint64_t base;
    uint64_t tables[MAX_TABLES];
    unsigned nr_tables;
};

static uint8_t checksum(const void *bytes, size_t count)
{
    const uint8_t *p = bytes;
    uint8_t sum = 0;

    while (count--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

/* Takes @bytes from the area; NULL when it is full. */
static void *take(struct area *a, size_t bytes, uint64_t *address)
{
    size_t start = (a->used + TABLE_ALIGNMENT - 1) & ~(size_t)(TABLE_ALIGNMENT - 1);

    if (start > a->size || bytes > a->size - start)
        return NULL;
    a->used = start + bytes;
    *address = a->base + start;
    return memset(a->bytes + start, 0, bytes);
}

static void finish_table(void *table, const char *signature, uint8_t revision, size_t bytes)
{
    struct table_header *h = table;

    memcpy(h->signature, signature, 4);
    h->length = (uint32_t)bytes;
    h->revision = revision;
    memcpy(h->oem_id, "Xen\0\0", 6);
    memcpy(h->oem_table_id, "HVM\0\0\0\0", 8);
    h->oem_revision = 0;
    memcpy(h->creator_id, "HVML", 4);
    h->creator_revision = 0;
    h->checksum = 0;
    h->checksum = checksum(table, bytes);
}

/* Takes a table that the XSDT is to have. */
static void *take_table(struct area *a, size_t bytes)
{
    uint64_t address;
    void *table = take(a, bytes, &address);

    if (table)
        a->tables[a->nr_tables++] = address;
    return table;
}

static struct madt_lapic lapic_entry(unsigned vcpu)
{
    return (struct madt_lapic){
        .length = sizeof(struct madt_lapic),
        .processor_id = (uint8_t)vcpu,
        .apic_id = (uint8_t)hv_acpi_apic_id(vcpu),
        .flags = 1,
    };
}

static int build_madt(struct area *a, unsigned nr_vcpus)
{
    size_t bytes = sizeof(struct madt) + nr_vcpus * sizeof(struct madt_lapic);
    struct madt *madt = take_table(a, bytes);
    struct madt_lapic *entries;

    if (!madt)
        return -ENOSPC;
    madt->lapic_address = LAPIC_ADDRESS;
    entries = (struct madt_lapic *)(madt + 1);
    for (unsigned i = 0; i < nr_vcpus; i++)
        entries[i] = lapic_entry(i);
    finish_table(madt, "APIC", 4, bytes);
    return 0;
}

/* Also of vCPUs that are not there yet: the guest sorts them in when they come. */
static int build_srat(struct area *a, const struct hv_vnuma *vnuma)
{
    size_t bytes = sizeof(struct srat) + vnuma->nr_vcpus * sizeof(struct srat_lapic) +
                   vnuma->nr_ranges * sizeof(struct srat_memory);
    struct srat *srat = take_table(a, bytes);
    struct srat_lapic *lapics;
    struct srat_memory *ranges;

    if (!srat)
        return -ENOSPC;
    srat->table_revision = 1;
    lapics = (struct srat_lapic *)(srat + 1);
    for (unsigned i = 0; i < vnuma->nr_vcpus; i++)
        lapics[i] = (struct srat_lapic){.length = sizeof(*lapics), .node = vnuma->vcpu_node[i],
                                        .apic_id = (uint8_t)hv_acpi_apic_id(i), .flags = 1};
    ranges = (struct srat_memory *)(lapics + vnuma->nr_vcpus);
    for (unsigned i = 0; i < vnuma->nr_ranges; i++) {
        const struct hv_vnuma_range *range = &vnuma->range[i];

        ranges[i] = (struct srat_memory){.type = 1, .length = sizeof(*ranges), .node = range->node, .base = range->start,
                                         .bytes = range->end - range->start, .flags = 1};
    }
    finish_table(srat, "SRAT", 3, bytes);
    return 0;
}

static int build_slit(struct area *a, const struct hv_vnuma *vnuma)
{
    unsigned n = vnuma->nr_nodes;
    size_t bytes = sizeof(struct slit) + (size_t)n * n;
    struct slit *slit = take_table(a, bytes);
    uint8_t *rows;

    if (!slit)
        return -ENOSPC;
    slit->localities = n;
    rows = (uint8_t *)(slit + 1);
    for (unsigned i = 0; i < n; i++)
        memcpy(rows + (size_t)i * n, vnuma->distance[i], n);
    finish_table(slit, "SLIT", 1, bytes);
    return 0;
}

static int build_numa(struct area *a, const struct hv_vnuma *vnuma)
{
    int err = vnuma ? build_srat(a, vnuma) : 0;

    return err || !vnuma ? err : build_slit(a, vnuma);
}

static void emit_processor(struct hv_aml *aml, unsigned vcpu)
{
    struct madt_lapic mat = lapic_entry(vcpu);
    char name[8];
    size_t mark;

    snprintf(name, sizeof(name), "PR%02X", vcpu & 0xff);
    mark = hv_aml_processor(aml, name, (uint8_t)vcpu);
    hv_aml_name_buffer(aml, "_MAT", &mat, sizeof(mat));
    hv_aml_end(aml, mark);
}

/* The DSDT comes last, so that it may use what is left of the area. */
static int build_dsdt(struct area *a, unsigned nr_vcpus, uint64_t *address)
{
    struct table_header *dsdt = take(a, sizeof(*dsdt), address);
    struct hv_aml aml;
    size_t mark;

    if (!dsdt)
        return -ENOSPC;
    aml = (struct hv_aml){.bytes = (uint8_t *)dsdt, .used = sizeof(*dsdt)};
    aml.size = a->size - (size_t)((uint8_t *)dsdt - a->bytes);
    mark = hv_aml_scope_sb(&aml);
    for (unsigned i = 0; i < nr_vcpus; i++)
        emit_processor(&aml, i);
    hv_aml_end(&aml, mark);
    if (aml.overflow)
        return -ENOSPC;
    a->used += aml.used - sizeof(*dsdt);
    finish_table(dsdt, "DSDT", 2, aml.used);
    return 0;
}

static void fill_rsdp(struct rsdp *rsdp, uint64_t xsdt)
{
    *rsdp = (struct rsdp){.revision = 2, .length = sizeof(*rsdp), .xsdt = xsdt};
    memcpy(rsdp->signature, "RSD PTR ", 8);
    memcpy(rsdp->oem_id, "Xen\0\0", 6);
    rsdp->checksum = checksum(rsdp, 20);
    rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

static void fill_fadt(struct fadt *fadt, uint64_t dsdt)
{
    fadt->dsdt = (uint32_t)dsdt;
    fadt->x_dsdt = dsdt;
    fadt->boot_arch = FADT_BOOT_NO_VGA | FADT_BOOT_NO_CMOS_RTC;
    fadt->flags = FADT_WBINVD | FADT_HW_REDUCED;
    fadt->minor_version = 1;
    finish_table(fadt, "FACP", 5, sizeof(*fadt));
}

int hv_acpi_build(uint8_t *area, size_t bytes, uint64_t base, unsigned nr_vcpus, const struct hv_vnuma *vnuma)
{
    struct area a = {.bytes = area, .size = bytes, .base = base};
    uint64_t rsdp_at, xsdt_at, dsdt_at;
    struct rsdp *rsdp = take(&a, sizeof(*rsdp), &rsdp_at);
    struct xsdt *xsdt = take(&a, sizeof(*xsdt), &xsdt_at);
    struct fadt *fadt = take_table(&a, sizeof(*fadt));

    if (!rsdp || !xsdt || !fadt)
        return -ENOSPC;
    if (build_madt(&a, nr_vcpus) < 0 || build_numa(&a, vnuma) < 0 || build_dsdt(&a, nr_vcpus, &dsdt_at) < 0)
        return -ENOSPC;
    fill_fadt(fadt, dsdt_at);
    memcpy(xsdt->tables, a.tables, sizeof(a.tables));
    finish_table(xsdt, "XSDT", 1, sizeof(struct table_header) + a.nr_tables * sizeof(a.tables[0]));
    fill_rsdp(rsdp, xsdt_at);
    return 0;
}
