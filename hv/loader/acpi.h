/* The ACPI tables of a PVH domain: RSDP, XSDT, FADT (hardware-reduced), MADT, DSDT, and where it has NUMA nodes SRAT
 * and SLIT. Private to the loader. */
#pragma once

#include "hv/machine/vnuma.h"

/* Builds the tables for @nr_vcpus (at most 127) in @area of @bytes, which the guest sees at @base. The RSDP is at its
 * start. @vnuma may be NULL. 0, or -ENOSPC. */
int hv_acpi_build(uint8_t *area, size_t bytes, uint64_t base, unsigned nr_vcpus, const struct hv_vnuma *vnuma) HV_MUST_CHECK;

/* APIC id of a vCPU: even numbers, as Xen gives them. */
static inline uint32_t hv_acpi_apic_id(unsigned vcpu)
{
    return 2 * vcpu;
}
