/* Loading a PVH guest.
 *
 * Where things go: the kernel where its program headers say; the start info, with memory map and command
 * line, in the pages after it; the ramdisk at the top of low RAM; the ACPI tables at HV_ACPI_START. All of
 * the image's numbers are checked in image.c, bzimage.c and elf.c before they are used; this file only
 * places. Source of the formats: Xen docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h.
 */
#include "config.h"

#include "hv/loader/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hv/loader/acpi.h"
#include "hv/loader/e820.h"
#include "hv/loader/elf.h"
#include "hv/loader/image.h"
#include "hv/xen-abi.h"

#define MAX_CMDLINE_BYTES 4096u

/* What the start info's pages hold, in this order. */
struct start_info_pages {
    struct hvm_start_info info;
    struct hvm_modlist_entry module;
    struct hvm_memmap_table_entry memmap[HV_E820_MAX];
    char cmdline[MAX_CMDLINE_BYTES];
};

#define START_INFO_BYTES ((sizeof(struct start_info_pages) + HV_PAGE_MASK) & ~(uint64_t)HV_PAGE_MASK)

static uint64_t page_up(uint64_t gpa)
{
    return (gpa + HV_PAGE_MASK) & ~(uint64_t)HV_PAGE_MASK;
}

static uint64_t low_ram_end(const struct hv_memory *mem)
{
    struct hv_e820_entry map[HV_E820_MAX];

    hv_e820_build(mem, map);
    return map[0].start == 0 ? map[0].bytes : 0;
}

/* Adds RAM that the memory map does not call RAM: beyond what the domain was given, so the limit moves too. */
static int add_reserved_ram(struct hv_domain *d, uint64_t start, uint64_t bytes, char *error)
{
    uint64_t pages = bytes >> HV_PAGE_SHIFT;
    int err;

    pthread_mutex_lock(&d->lock);
    d->mem.max_pages += pages;
    err = hv_memory_populate(&d->mem, hv_gpa_to_gfn(hv_gpa_of(start)), pages);
    d->mem.extra_pages += err ? 0 : pages;
    pthread_mutex_unlock(&d->lock);
    if (err < 0)
        snprintf(error, HV_LOADER_ERROR_BYTES, "no memory for the domain's pages at %#" PRIx64 ": %s", start,
                 strerror(-err));
    return err;
}

/* Special pages (rings, then the tables' area). */
static int add_special_pages(struct hv_domain *d, char *error)
{
    uint64_t rings = (uint64_t)HV_SPECIAL_GFN_CONSOLE << HV_PAGE_SHIFT;
    int err = add_reserved_ram(d, rings, HV_SPECIAL_END - rings, error);

    return err < 0 ? err : add_reserved_ram(d, HV_ACPI_START, HV_ACPI_BYTES, error);
}

static int load_kernel(struct hv_domain *d, int fd, uint64_t low_end, struct hv_elf_kernel *kernel, char *error)
{
    struct hv_image image;
    int err = hv_image_init(&image, "kernel", fd, error);

    if (!err)
        err = hv_image_unpack(&image, low_end);
    if (!err)
        err = hv_elf_load(&image, &d->mem, low_end, kernel);
    hv_image_fini(&image);
    return err;
}

/* At the top of low RAM, above @floor. */
static int load_ramdisk(struct hv_domain *d, int fd, uint64_t floor, uint64_t low_end,
                        struct hvm_modlist_entry *module, char *error)
{
    struct hv_image image;
    int err = hv_image_init(&image, "ramdisk", fd, error);
    void *to;

    if (err < 0)
        return err;
    if (image.size > low_end - floor || page_up(image.size) > low_end - floor)
        return hv_image_fail(&image, -ENOMEM,
                             "does not fit: %" PRIu64 " KiB, but beside the kernel the domain has %" PRIu64
                             " KiB of low memory",
                             image.size >> 10, (low_end - floor) >> 10);
    module->paddr = low_end - page_up(image.size);
    module->size = image.size;
    to = hv_memory_at(&d->mem, hv_gpa_of(module->paddr), image.size, true);
    if (!to)
        return hv_image_fail(&image, -ENOMEM, "does not fit into the domain's memory");
    err = hv_image_read(&image, 0, to, image.size, "the ramdisk");
    hv_image_fini(&image);
    return err;
}

static int load_acpi(struct hv_domain *d, char *error)
{
    uint8_t *area = hv_memory_at(&d->mem, hv_gpa_of(HV_ACPI_START), HV_ACPI_BYTES, true);

    if (!area || hv_acpi_build(area, HV_ACPI_BYTES, HV_ACPI_START, d->nr_vcpus, d->vnuma) < 0) {
        snprintf(error, HV_LOADER_ERROR_BYTES, "no room for the ACPI tables of %u vCPUs", d->nr_vcpus);
        return -ENOMEM;
    }
    return 0;
}

static void fill_start_info(struct hv_domain *d, struct start_info_pages *pages, uint64_t gpa, const char *cmdline)
{
    struct hv_e820_entry map[HV_E820_MAX];
    unsigned count = hv_e820_build(&d->mem, map);

    pages->info = (struct hvm_start_info){
        .magic = XEN_HVM_START_MAGIC_VALUE,
        .version = 1,
        .rsdp_paddr = HV_ACPI_START,
        .memmap_paddr = gpa + offsetof(struct start_info_pages, memmap),
        .memmap_entries = count,
    };
    if (pages->module.size) {
        pages->info.nr_modules = 1;
        pages->info.modlist_paddr = gpa + offsetof(struct start_info_pages, module);
    }
    if (cmdline) {
        strcpy(pages->cmdline, cmdline); /* its length was checked */
        pages->info.cmdline_paddr = gpa + offsetof(struct start_info_pages, cmdline);
    }
    for (unsigned i = 0; i < count; i++)
        pages->memmap[i] =
            (struct hvm_memmap_table_entry){.addr = map[i].start, .size = map[i].bytes, .type = map[i].type};
}

int hv_loader_pvh(struct hv_domain *d, int kernel_fd, int ramdisk_fd, const char *cmdline, struct hv_loaded *out,
                  char error[256])
{
    uint64_t low_end = low_ram_end(&d->mem), start_info;
    struct start_info_pages pages = {0};
    struct hv_elf_kernel kernel;
    int err;

    error[0] = '\0';
    if (cmdline && strlen(cmdline) >= MAX_CMDLINE_BYTES) {
        snprintf(error, HV_LOADER_ERROR_BYTES, "the kernel command line has %zu bytes, at most %u are possible",
                 strlen(cmdline), MAX_CMDLINE_BYTES - 1);
        return -EINVAL;
    }
    if ((err = load_kernel(d, kernel_fd, low_end, &kernel, error)) < 0)
        return err;
    start_info = page_up(kernel.end);
    if (start_info > low_end || START_INFO_BYTES > low_end - start_info) {
        snprintf(error, HV_LOADER_ERROR_BYTES,
                 "too little memory: the kernel ends at %" PRIu64 " KiB of the domain's %" PRIu64 " KiB of low memory",
                 kernel.end >> 10, low_end >> 10);
        return -ENOMEM;
    }
    if (ramdisk_fd >= 0) {
        err = load_ramdisk(d, ramdisk_fd, start_info + START_INFO_BYTES, low_end, &pages.module, error);
        if (err < 0)
            return err;
    }
    if ((err = add_special_pages(d, error)) < 0 || (err = load_acpi(d, error)) < 0)
        return err;
    fill_start_info(d, &pages, start_info, cmdline);
    if ((err = hv_memory_write(&d->mem, hv_gpa_of(start_info), &pages, sizeof(pages))) < 0) {
        snprintf(error, HV_LOADER_ERROR_BYTES, "the start info does not fit into the domain's memory");
        return err;
    }
    *out = (struct hv_loaded){.entry = kernel.entry, .start_info = start_info};
    return 0;
}

/* Source: Xen docs/misc/pvh.pandoc, "x86/HVM direct boot ABI". */
void hv_loader_enter_pvh(struct hv_vcpu *v, const struct hv_loaded *loaded)
{
    static const struct hv_segment data = {.attr = 3 | HV_SEG_S | HV_SEG_P | HV_SEG_DB | HV_SEG_G,
                                           .limit = UINT32_MAX};
    struct hv_cpu *cpu = &v->cpu;

    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    cpu->gpr[HV_RBX] = loaded->start_info;
    cpu->rip = loaded->entry;
    cpu->rflags = HV_EFLAGS_FIXED;
    cpu->cr0 = HV_CR0_PE | HV_CR0_ET;
    cpu->cr3 = 0;
    cpu->cr4 = 0;
    cpu->efer = 0;
    for (unsigned i = 0; i < HV_NR_SEG; i++)
        cpu->seg[i] = data;
    cpu->seg[HV_CS].attr = 0xb | HV_SEG_S | HV_SEG_P | HV_SEG_DB | HV_SEG_G; /* code, execute and read */
    cpu->tr = (struct hv_segment){.attr = 0xb | HV_SEG_P, .limit = 0x67};    /* busy 32-bit TSS */
    cpu->ldtr = (struct hv_segment){0};
    cpu->int_shadow = false;
}
