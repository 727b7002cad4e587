/* The memory map of a PVH domain. */
#include "config.h"

#include "hv/loader/e820.h"

#include "hv/xen-abi.h"

/* Bytes of RAM without a gap from @start, up to @end. */
static uint64_t ram_run(const struct hv_memory *mem, uint64_t start, uint64_t end)
{
    uint64_t gpa = start;

    while (gpa < end && hv_memory_type(mem, hv_gpa_to_gfn(hv_gpa_of(gpa))) != HV_PAGE_HOLE)
        gpa += HV_PAGE_SIZE;
    return gpa - start;
}

unsigned hv_e820_build(const struct hv_memory *mem, struct hv_e820_entry map[HV_E820_MAX])
{
    uint64_t low = ram_run(mem, 0, HV_MMIO_HOLE_START);
    uint64_t high = ram_run(mem, HV_MMIO_HOLE_END, UINT64_C(1) << HV_GPA_BITS);
    unsigned n = 0;

    if (low)
        map[n++] = (struct hv_e820_entry){0, low, XEN_HVM_MEMMAP_TYPE_RAM};
    map[n++] = (struct hv_e820_entry){HV_ACPI_START, HV_ACPI_BYTES, XEN_HVM_MEMMAP_TYPE_ACPI};
    map[n++] = (struct hv_e820_entry){HV_SPECIAL_START, HV_SPECIAL_END - HV_SPECIAL_START,
                                      XEN_HVM_MEMMAP_TYPE_RESERVED};
    if (high)
        map[n++] = (struct hv_e820_entry){HV_MMIO_HOLE_END, high, XEN_HVM_MEMMAP_TYPE_RAM};
    return n;
}
