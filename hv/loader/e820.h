/* The memory map of a PVH domain, as Xen's toolstack lays it out: RAM from 0, ACPI tables at 0xfc000000, special
 * pages below 0xff000000, RAM again from 4 GiB.
 */
#pragma once

#include "hv/machine/memory.h"

/* Source: libxl's ACPI_INFO_PHYSICAL_ADDRESS, libxenguest's X86_HVM_END_SPECIAL_REGION and its 8 pages. */
#define HV_ACPI_START    0xfc000000u
#define HV_ACPI_BYTES    0x10000u
#define HV_SPECIAL_START 0xfeff8000u
#define HV_SPECIAL_END   0xff000000u

#define HV_E820_MAX 4

struct hv_e820_entry {
    uint64_t start, bytes;
    uint32_t type; /* XEN_HVM_MEMMAP_TYPE_*, which are the E820 types */
};

/* Describes the memory that is there now (populated from 0 up to the hole, and from 4 GiB up). Gives the number
 * of entries, sorted by address. Any thread; populating meanwhile gives the map of some moment. */
unsigned hv_e820_build(const struct hv_memory *mem, struct hv_e820_entry map[HV_E820_MAX]);
