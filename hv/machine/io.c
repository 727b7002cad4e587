/* Ports and memory-mapped registers: one table each. There are no PC devices: no PIC, PIT, RTC,
 * keyboard controller or PCI bus, and no ACPI registers (the FADT is hardware-reduced); those ports
 * read as ones.
 */
#include "config.h"

#include "hv/machine/machine.h"

#include "hv/backend/console.h"
#include "hv/domain.h"
#include "hv/machine/lapic.h"

#define APIC_PAGE          0xfee00000u
#define PORT_DEBUG_CONSOLE 0x00e9u

/* ---------------------------------------------------------------- ports */

/* Reading the debug console tells the guest that it is there. */
static uint32_t debug_console_read(struct hv_vcpu *v, unsigned offset, unsigned bytes)
{
    (void)v;
    (void)offset;
    (void)bytes;
    return PORT_DEBUG_CONSOLE;
}

static void debug_console_write(struct hv_vcpu *v, unsigned offset, unsigned bytes, uint32_t value)
{
    uint8_t byte = (uint8_t)value;

    (void)offset;
    if (bytes == 1 && v->domain->console)
        hv_console_write(v->domain, &byte, 1);
}

struct port_range {
    uint16_t first, last;
    uint32_t (*read)(struct hv_vcpu *v, unsigned offset, unsigned bytes); /* NULL: ones */
    void (*write)(struct hv_vcpu *v, unsigned offset, unsigned bytes,
                  uint32_t value); /* NULL: none */
};

static const struct port_range port_ranges[] = {
    {PORT_DEBUG_CONSOLE, PORT_DEBUG_CONSOLE, debug_console_read, debug_console_write},
};

/* The range that holds all of the access. */
static const struct port_range *find_port(uint16_t port, unsigned bytes)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(port_ranges); i++)
        if (port >= port_ranges[i].first && port <= port_ranges[i].last &&
            bytes <= (unsigned)(port_ranges[i].last - port) + 1)
            return &port_ranges[i];
    return NULL;
}

static uint32_t ones(unsigned bytes)
{
    return bytes >= 4 ? 0xffffffffu : (1u << (8 * bytes)) - 1;
}

uint32_t hv_pio_read(struct hv_vcpu *v, uint16_t port, unsigned bytes)
{
    const struct port_range *range = find_port(port, bytes);

    if (!range || !range->read)
        return ones(bytes);
    return range->read(v, port - range->first, bytes) & ones(bytes);
}

void hv_pio_write(struct hv_vcpu *v, uint16_t port, unsigned bytes, uint32_t value)
{
    const struct port_range *range = find_port(port, bytes);

    if (range && range->write)
        range->write(v, port - range->first, bytes, value & ones(bytes));
}

/* ---------------------------------------------------------------- memory-mapped registers */

/* The APIC's registers are 32 bits at multiples of 16; narrower reads give a part of them. */
static uint64_t apic_read(struct hv_vcpu *v, unsigned offset, unsigned bytes)
{
    unsigned shift = 8 * (offset & 3);

    (void)bytes;
    return hv_lapic_mmio_read(v, offset & ~3u) >> shift;
}

static void apic_write(struct hv_vcpu *v, unsigned offset, unsigned bytes, uint64_t value)
{
    if (bytes >= 4)
        hv_lapic_mmio_write(v, offset, (uint32_t)value);
}

struct mmio_region {
    uint64_t start, bytes;
    uint64_t (*read)(struct hv_vcpu *v, unsigned offset, unsigned bytes);
    void (*write)(struct hv_vcpu *v, unsigned offset, unsigned bytes, uint64_t value);
};

static const struct mmio_region mmio_regions[] = {
    {APIC_PAGE, HV_PAGE_SIZE, apic_read, apic_write},
};

static const struct mmio_region *find_mmio(hv_gpa gpa)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(mmio_regions); i++)
        if (gpa.v >= mmio_regions[i].start && gpa.v - mmio_regions[i].start < mmio_regions[i].bytes)
            return &mmio_regions[i];
    return NULL;
}

static uint64_t wide_ones(unsigned bytes)
{
    return bytes >= 8 ? UINT64_MAX : (1ull << (8 * bytes)) - 1;
}

uint64_t hv_mmio_read(struct hv_vcpu *v, hv_gpa gpa, unsigned bytes)
{
    const struct mmio_region *region = find_mmio(gpa);

    if (!region)
        return wide_ones(bytes);
    return region->read(v, (unsigned)(gpa.v - region->start), bytes) & wide_ones(bytes);
}

void hv_mmio_write(struct hv_vcpu *v, hv_gpa gpa, unsigned bytes, uint64_t value)
{
    const struct mmio_region *region = find_mmio(gpa);

    if (region)
        region->write(v, (unsigned)(gpa.v - region->start), bytes, value);
}
