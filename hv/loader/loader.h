/* Loading a guest: kernel image, ramdisk, command line, ACPI tables, memory map, entry state.
 *
 * hv_loader_pvh does it all for PVH (Xen docs/misc/pvh.pandoc): unpacks a bzImage, finds the ELF note
 * XEN_ELFNOTE_PHYS32_ENTRY, copies segments, ramdisk and tables, writes hvm_start_info.
 */
#pragma once

#include "hv/domain.h"

/* Special pages at the end of the MMIO hole's reserved part, as Xen's toolstack places them; RAM pages that
 * e820 reserves. */
#define HV_SPECIAL_GFN_CONSOLE 0xfeffeu
#define HV_SPECIAL_GFN_STORE   0xfefffu

struct hv_loaded {
    uint64_t entry;      /* gpa of the 32-bit entry point */
    uint64_t start_info; /* gpa of hvm_start_info */
};

/* Needs RAM populated and vCPUs created. On failure *@error says what is wrong with which file; guest memory
 * may be half written, the domain must not be started. -EINVAL bad image, -ENOMEM does not fit, -ENOTSUP
 * a kind of image that this does not boot, or an errno of reading. */
int hv_loader_pvh(struct hv_domain *d, int kernel_fd, int ramdisk_fd, const char *cmdline,
                  struct hv_loaded *out, char error[256]) HV_MUST_CHECK;

/* Sets vCPU 0 to the PVH entry state: 32-bit flat, paging off, RBX = start_info. */
void hv_loader_enter_pvh(struct hv_vcpu *v, const struct hv_loaded *loaded);
