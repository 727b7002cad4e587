/* ELF kernels with a PVH entry point. Private to the loader. */
#pragma once

#include "hv/loader/image.h"
#include "hv/machine/memory.h"

struct hv_elf_kernel {
    uint64_t entry; /* PHYS32_ENTRY: gpa of the 32-bit entry point */
    uint64_t end;   /* gpa after the last loaded byte */
};

/* Copies the PT_LOAD segments of @image to guest memory below @low_end (gpa of the end of low RAM). -EINVAL,
 * -ENOMEM (does not fit), -ENOTSUP (not an x86 ELF kernel with the note). */
int hv_elf_load(struct hv_image *image, struct hv_memory *mem, uint64_t low_end, struct hv_elf_kernel *out) HV_MUST_CHECK;
