/* Loader: that what a kernel file says ends up in guest memory, and that each kind of bad file is refused with
 * a message naming what is wrong. Facts: Xen docs/misc/pvh.pandoc, ACPI 6.4 chapter 5, Linux boot protocol.
 */
#include "config.h"

#include "hv/loader/loader.h"

#include <errno.h>
#include <stdio.h>

#include "hv/loader/acpi.h"
#include "hv/loader/e820.h"
#include "hv/loader/sample.h"
#include "hv/tap.h"

#define MIB (1u << 20)

static uint8_t elf[SAMPLE_MAX_BYTES], image[SAMPLE_MAX_BYTES];

static struct hv_domain *new_domain(unsigned mib)
{
    struct hv_domain *d = calloc(1, sizeof(*d));

    if (!d || pthread_mutex_init(&d->lock, NULL) || hv_memory_init(&d->mem) < 0)
        abort();
    d->nr_vcpus = 3;
    d->mem.max_pages = (uint64_t)mib * 256;
    if (hv_memory_populate(&d->mem, hv_gfn_of(0), (uint64_t)mib * 256) < 0)
        abort();
    return d;
}

static void free_domain(struct hv_domain *d)
{
    hv_memory_fini(&d->mem);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* Loads into a fresh domain; the domain stays for a look at it when @keep is given. */
static int load(const uint8_t *bytes, size_t count, unsigned mib, struct hv_loaded *out, char *error,
                struct hv_domain **keep)
{
    struct hv_domain *d = new_domain(mib);
    int fd = sample_file(bytes, count);
    int err = hv_loader_pvh(d, fd, -1, "console=hvc0", out, error);

    close(fd);
    if (keep)
        *keep = d;
    else
        free_domain(d);
    return err;
}

static bool text_is_loaded(struct hv_domain *d)
{
    uint8_t *text = hv_memory_at(&d->mem, hv_gpa_of(SAMPLE_PADDR), SAMPLE_TEXT_BYTES + SAMPLE_BSS_BYTES, false);

    for (size_t i = 0; text && i < SAMPLE_TEXT_BYTES; i++)
        if (text[i] != sample_text(i))
            return false;
    for (size_t i = 0; text && i < SAMPLE_BSS_BYTES; i++)
        if (text[SAMPLE_TEXT_BYTES + i])
            return false;
    return text;
}

static void check_loads(const char *name, const uint8_t *bytes, size_t count)
{
    struct hv_domain *d;
    struct hv_loaded out;
    char error[256];
    int err = load(bytes, count, 64, &out, error, &d);

    TAP_OK(!err && out.entry == SAMPLE_ENTRY && text_is_loaded(d), "%s is loaded (%d %s)", name, err, error);
    free_domain(d);
}

static void test_formats(void)
{
    size_t bytes = sample_elf64(elf, XEN_ELFNOTE_PHYS32_ENTRY);

    check_loads("plain ELF64", elf, bytes);
    for (size_t i = 0; i < HV_ARRAY_LEN(sample_packers); i++)
        check_loads(sample_packers[i].name, image, sample_bzimage(elf, bytes, sample_packers[i].pack, image));
    bytes = sample_elf32(elf, XEN_ELFNOTE_PHYS32_ENTRY);
    check_loads("plain ELF32", elf, bytes);
    check_loads("ELF32 in gzip", image, sample_bzimage(elf, bytes, sample_pack_gzip, image));
}

static uint8_t sum(const uint8_t *p, size_t n)
{
    uint8_t s = 0;

    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

static const uint8_t *at(struct hv_domain *d, uint64_t gpa, size_t bytes)
{
    return hv_memory_at(&d->mem, hv_gpa_of(gpa), bytes, false);
}

static uint32_t u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static uint64_t u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

static void check_table(struct hv_domain *d, uint64_t gpa, const char *signature)
{
    const uint8_t *t = at(d, gpa, 36);
    uint32_t length = t ? u32(t + 4) : 0;

    TAP_OK(t && !memcmp(t, signature, 4) && at(d, gpa, length) && sum(t, length) == 0,
           "%s: signature and checksum", signature);
}

static void test_acpi(struct hv_domain *d, uint64_t rsdp_gpa)
{
    const uint8_t *rsdp = at(d, rsdp_gpa, 36), *xsdt, *fadt, *madt;

    TAP_OK(rsdp && !memcmp(rsdp, "RSD PTR ", 8) && sum(rsdp, 20) == 0 && sum(rsdp, 36) == 0, "RSDP checksums");
    if (!rsdp)
        return;
    check_table(d, u64(rsdp + 24), "XSDT");
    xsdt = at(d, u64(rsdp + 24), 52);
    check_table(d, u64(xsdt + 36), "FACP");
    check_table(d, u64(xsdt + 44), "APIC");
    fadt = at(d, u64(xsdt + 36), 268);
    check_table(d, u64(fadt + 140), "DSDT");
    TAP_OK(u32(fadt + 112) & 1u << 20, "FADT: hardware reduced");
    madt = at(d, u64(xsdt + 44), 68);
    TAP_OK(u32(madt + 36) == 0xfee00000 && madt[44] == 0 && madt[46] == 0 && madt[47] == 0 && madt[48] == 1 &&
               madt[54] == 1 && madt[55] == 2 && madt[62] == 2 && madt[63] == 4,
           "MADT: APIC ids 0, 2, 4, enabled");
}

/* The whole chain from the start info on, with a ramdisk and RAM above 4 GiB. */
static void test_start_info(void)
{
    static const char ramdisk[] = "not really a cpio archive";
    struct hv_domain *d = new_domain(128);
    size_t bytes = sample_elf64(elf, XEN_ELFNOTE_PHYS32_ENTRY);
    int kernel_fd = sample_file(elf, bytes), ramdisk_fd = sample_file(ramdisk, sizeof(ramdisk));
    struct hv_loaded out = {0};
    struct hvm_start_info info = {0};
    struct hvm_modlist_entry module = {0};
    struct hvm_memmap_table_entry map[4] = {0};
    char error[256], cmdline[32] = "";
    int err;

    d->mem.max_pages += 16;
    err = hv_memory_populate(&d->mem, hv_gfn_of(0x100000), 16);
    if (!err)
        err = hv_loader_pvh(d, kernel_fd, ramdisk_fd, "root=/dev/xvda ro", &out, error);
    TAP_OK(!err, "kernel and ramdisk are loaded (%d %s)", err, error);
    TAP_OK(!hv_memory_read(&d->mem, hv_gpa_of(out.start_info), &info, sizeof(info)) &&
               info.magic == XEN_HVM_START_MAGIC_VALUE && info.version == 1,
           "start info: magic and version");
    TAP_OK(info.cmdline_paddr && !hv_memory_read(&d->mem, hv_gpa_of(info.cmdline_paddr), cmdline, 18) &&
               !strcmp(cmdline, "root=/dev/xvda ro"),
           "start info: command line");
    TAP_OK(info.nr_modules == 1 &&
               !hv_memory_read(&d->mem, hv_gpa_of(info.modlist_paddr), &module, sizeof(module)) &&
               module.size == sizeof(ramdisk) && module.paddr == 128 * MIB - 4096 &&
               !memcmp(at(d, module.paddr, sizeof(ramdisk)), ramdisk, sizeof(ramdisk)),
           "start info: ramdisk at the top of low RAM");
    TAP_OK(info.memmap_entries == 4 &&
               !hv_memory_read(&d->mem, hv_gpa_of(info.memmap_paddr), map, sizeof(map)) && map[0].addr == 0 &&
               map[0].size == 128 * MIB && map[0].type == XEN_HVM_MEMMAP_TYPE_RAM &&
               map[1].addr == HV_ACPI_START && map[1].type == XEN_HVM_MEMMAP_TYPE_ACPI &&
               map[2].addr == HV_SPECIAL_START && map[2].type == XEN_HVM_MEMMAP_TYPE_RESERVED &&
               map[3].addr == UINT64_C(1) << 32 && map[3].size == 65536,
           "start info: memory map");
    TAP_OK(hv_memory_type(&d->mem, hv_gfn_of(HV_SPECIAL_GFN_STORE)) == HV_PAGE_RAM &&
               hv_memory_type(&d->mem, hv_gfn_of(HV_SPECIAL_GFN_CONSOLE)) == HV_PAGE_RAM,
           "ring pages are there");
    test_acpi(d, info.rsdp_paddr);
    close(kernel_fd);
    close(ramdisk_fd);
    free_domain(d);
}

struct bad {
    const char *name;
    unsigned mib;
    int err;
    const char *message; /* part of it */
    size_t (*make)(void); /* into image, giving the size */
};

static size_t sample64(void)
{
    return sample_elf64(image, XEN_ELFNOTE_PHYS32_ENTRY);
}

static Elf64_Ehdr *header(void)
{
    return (Elf64_Ehdr *)image;
}

static Elf64_Phdr *segment(unsigned i)
{
    return (Elf64_Phdr *)(image + sizeof(Elf64_Ehdr)) + i;
}

static size_t gzipped(void)
{
    return sample_bzimage(elf, sample_elf64(elf, XEN_ELFNOTE_PHYS32_ENTRY), sample_pack_gzip, image);
}

static size_t make_text(void)
{
    memset(image, 'x', 100);
    return 100;
}

static size_t make_tiny(void)
{
    return 3;
}

static size_t make_no_note(void)
{
    return sample_elf64(image, XEN_ELFNOTE_PHYS32_ENTRY - 1);
}

static size_t make_cut_elf(void)
{
    return sample64() - 100;
}

static size_t make_cut_header(void)
{
    sample64();
    return 40;
}

static size_t make_many_headers(void)
{
    size_t bytes = sample64();

    header()->e_phnum = 0xffff;
    return bytes;
}

static size_t make_far_headers(void)
{
    size_t bytes = sample64();

    header()->e_phoff = UINT64_MAX - 8;
    return bytes;
}

static size_t make_arm(void)
{
    size_t bytes = sample64();

    header()->e_machine = EM_AARCH64;
    return bytes;
}

static size_t make_huge_segment(void)
{
    size_t bytes = sample64();

    segment(0)->p_memsz = UINT64_MAX;
    return bytes;
}

static size_t make_wrapping_segment(void)
{
    size_t bytes = sample64();

    segment(0)->p_paddr = UINT64_MAX - 4095;
    return bytes;
}

static size_t make_shrinking_segment(void)
{
    size_t bytes = sample64();

    segment(0)->p_memsz = 1;
    return bytes;
}

static size_t make_entry_outside(void)
{
    size_t bytes = sample64();

    segment(0)->p_paddr = 2 * SAMPLE_PADDR;
    return bytes;
}

static size_t make_huge_note(void)
{
    size_t bytes = sample64();

    segment(1)->p_filesz = UINT64_MAX;
    return bytes;
}

static size_t make_cut_bzimage(void)
{
    return gzipped() - 200;
}

static size_t make_damaged_bzimage(void)
{
    size_t bytes = gzipped();

    memset(image + SAMPLE_PAYLOAD_AT + 60, 0xff, 64);
    return bytes;
}

static size_t make_old_protocol(void)
{
    size_t bytes = gzipped();

    image[0x206] = 2;
    return bytes;
}

static size_t make_lzo(void)
{
    size_t bytes = gzipped();

    memcpy(image + SAMPLE_PAYLOAD_AT, "\x89LZO", 4);
    return bytes;
}

static size_t make_unknown_packing(void)
{
    size_t bytes = gzipped();

    memcpy(image + SAMPLE_PAYLOAD_AT, "\1\2\3\4", 4);
    return bytes;
}

/* 48 MiB of zeros in some 48 KiB. */
static size_t make_bomb(void)
{
    size_t bytes = 48 * MIB, count;
    uint8_t *zeros = calloc(1, bytes);

    if (!zeros)
        abort();
    count = sample_bzimage(zeros, bytes, sample_pack_gzip, image);
    free(zeros);
    return count;
}

static const struct bad bad_kernels[] = {
    {"text file", 64, -ENOTSUP, "neither a Linux bzImage nor an ELF", make_text},
    {"three bytes", 64, -ENOTSUP, "neither a Linux bzImage nor an ELF", make_tiny},
    {"no PVH note", 64, -ENOTSUP, "built without CONFIG_PVH", make_no_note},
    {"cut short in a segment", 64, -EINVAL, "truncated", make_cut_elf},
    {"cut short in the ELF header", 64, -EINVAL, "truncated", make_cut_header},
    {"65535 program headers", 64, -EINVAL, "65535 ELF program headers", make_many_headers},
    {"program headers at the end of the address space", 64, -EINVAL, "truncated", make_far_headers},
    {"another machine", 64, -ENOTSUP, "machine 183", make_arm},
    {"segment of 16 EiB", 64, -ENOMEM, "does not fit", make_huge_segment},
    {"segment that wraps", 64, -ENOMEM, "does not fit", make_wrapping_segment},
    {"segment smaller than its contents", 64, -EINVAL, "damaged", make_shrinking_segment},
    {"entry in no segment", 64, -EINVAL, "entry point", make_entry_outside},
    {"notes of 16 EiB", 64, -EINVAL, "notes", make_huge_note},
    {"bzImage cut short", 64, -EINVAL, "past the end of the file", make_cut_bzimage},
    {"bzImage damaged", 64, -EINVAL, "gzip data cannot be unpacked", make_damaged_bzimage},
    {"bzImage of an old protocol", 64, -ENOTSUP, "protocol 0x202", make_old_protocol},
    {"bzImage with LZO", 64, -ENOTSUP, "packed with lzo", make_lzo},
    {"bzImage with unknown packing", 64, -ENOTSUP, "unknown format (01 02 03 04)", make_unknown_packing},
    {"bzImage that unpacks to more than memory", 32, -ENOMEM, "more than the domain's 32 MiB", make_bomb},
    {"too little memory for the segment", 1, -ENOMEM, "does not fit", sample64},
};

static void test_bad_kernels(void)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(bad_kernels); i++) {
        const struct bad *b = &bad_kernels[i];
        struct hv_loaded out;
        char error[256];
        int err = load(image, b->make(), b->mib, &out, error, NULL);

        TAP_OK(err == b->err && strstr(error, b->message) && !strncmp(error, "kernel: ", 8), "%s: %d %s", b->name,
               err, error);
    }
}

static void test_bad_ramdisks(void)
{
    struct hv_domain *d = new_domain(4);
    size_t bytes = sample_elf64(elf, XEN_ELFNOTE_PHYS32_ENTRY);
    int kernel_fd = sample_file(elf, bytes), empty = sample_file("", 0), big = sample_file("x", 1);
    int pipes[2];
    struct hv_loaded out;
    char error[256], cmdline[5000];
    int err;

    if (ftruncate(big, 4 * MIB) < 0 || pipe(pipes) < 0)
        abort();
    err = hv_loader_pvh(d, kernel_fd, big, NULL, &out, error);
    TAP_OK(err == -ENOMEM && strstr(error, "ramdisk: does not fit: 4096 KiB"), "ramdisk too big: %s", error);
    err = hv_loader_pvh(d, kernel_fd, empty, NULL, &out, error);
    TAP_OK(err == -EINVAL && strstr(error, "ramdisk: the file is empty"), "%s", error);
    err = hv_loader_pvh(d, kernel_fd, pipes[0], NULL, &out, error);
    TAP_OK(err == -EINVAL && strstr(error, "ramdisk: not a regular file"), "%s", error);
    err = hv_loader_pvh(d, -1, -1, NULL, &out, error);
    TAP_OK(err == -EBADF && strstr(error, "kernel: "), "%s", error);
    memset(cmdline, 'a', sizeof(cmdline));
    cmdline[sizeof(cmdline) - 1] = '\0';
    err = hv_loader_pvh(d, kernel_fd, -1, cmdline, &out, error);
    TAP_OK(err == -EINVAL && strstr(error, "command line has 4999 bytes"), "%s", error);
    close(kernel_fd);
    close(empty);
    close(big);
    close(pipes[0]);
    close(pipes[1]);
    free_domain(d);
}

static void test_entry_state(void)
{
    struct hv_vcpu *v = calloc(1, sizeof(*v));
    struct hv_loaded loaded = {.entry = SAMPLE_ENTRY, .start_info = 0x5000};

    if (!v)
        abort();
    hv_loader_enter_pvh(v, &loaded);
    TAP_OK(v->cpu.rip == SAMPLE_ENTRY && v->cpu.gpr[HV_RBX] == 0x5000, "entry: RIP and RBX");
    TAP_OK((v->cpu.cr0 & (HV_CR0_PE | HV_CR0_PG)) == HV_CR0_PE && v->cpu.cr4 == 0 && v->cpu.efer == 0,
           "entry: protected mode, no paging");
    TAP_OK(v->cpu.seg[HV_CS].attr == 0xc9b && v->cpu.seg[HV_DS].attr == 0xc93 &&
               v->cpu.seg[HV_SS].limit == UINT32_MAX && v->cpu.tr.attr == 0x8b && v->cpu.tr.limit == 0x67,
           "entry: flat segments, 32-bit TSS");
    TAP_OK(v->cpu.rflags == 2, "entry: interrupts off");
    free(v);
}

/* `iasl` is in Debian's acpica-tools; without it the bytes are still covered by their checksums. */
static void test_dsdt_with_iasl(void)
{
    static uint8_t area[HV_ACPI_BYTES];
    char dir[] = "/tmp/domus-acpi-XXXXXX", command[256], path[64];
    uint64_t dsdt;
    FILE *f;
    int status;

    TAP_OK(hv_acpi_build(area, sizeof(area), 0, 64, NULL) == 0, "tables of 64 vCPUs fit");
    TAP_OK(hv_acpi_build(area, 2048, 0, 64, NULL) == -ENOSPC && hv_acpi_build(area, 100, 0, 1, NULL) == -ENOSPC,
           "too small an area is refused");
    if (system("command -v iasl >/dev/null 2>&1") != 0) {
        TAP_OK(true, "DSDT disassembles # SKIP no iasl");
        return;
    }
    if (!mkdtemp(dir) || hv_acpi_build(area, sizeof(area), 0, 64, NULL) < 0)
        abort();
    dsdt = u64(area + u64(area + u64(area + 24) + 36) + 140);
    snprintf(path, sizeof(path), "%s/dsdt.aml", dir);
    f = fopen(path, "w");
    if (!f || fwrite(area + dsdt, u32(area + dsdt + 4), 1, f) != 1 || fclose(f) != 0)
        abort();
    snprintf(command, sizeof(command),
             "iasl -d %s >/dev/null 2>&1 && grep -q 'Processor (PR3F, 0x3F' %s/dsdt.dsl && "
             "iasl -p %s/again %s/dsdt.dsl >/dev/null 2>&1",
             path, dir, dir, dir);
    status = system(command);
    TAP_OK(status == 0, "DSDT disassembles and compiles again");
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    if (system(command) != 0)
        printf("# %s is left over\n", dir);
}

static uint8_t *find_table(uint8_t *area, const char *signature)
{
    uint8_t *xsdt = area + u64(area + 24);

    for (unsigned i = 36; i + 8 <= u32(xsdt + 4); i += 8)
        if (!memcmp(area + u64(xsdt + i), signature, 4))
            return area + u64(xsdt + i);
    return NULL;
}

/* Two nodes, the second on both sides of the hole: ACPI 6.4, 5.2.16 and 5.2.17. */
static void test_numa_tables(void)
{
    static const struct hv_vnuma vnuma = {
        .nr_nodes = 2,
        .nr_vcpus = 3,
        .nr_ranges = 3,
        .vcpu_node = {0, 1, 1},
        .distance = {{10, 21}, {31, 10}},
        .range = {{0, 1u << 30, 0}, {1u << 30, 3ull << 30, 1}, {4ull << 30, 5ull << 30, 1}},
    };
    static const uint8_t slit_rows[] = {10, 21, 31, 10};
    static uint8_t area[HV_ACPI_BYTES];
    const uint8_t *srat, *slit, *memory;

    if (hv_acpi_build(area, sizeof(area), 0, 3, &vnuma) < 0)
        abort();
    srat = find_table(area, "SRAT");
    slit = find_table(area, "SLIT");
    TAP_OK(srat && slit && sum(srat, u32(srat + 4)) == 0 && sum(slit, u32(slit + 4)) == 0, "SRAT and SLIT: checksums");
    if (!srat || !slit)
        return;
    TAP_OK(u32(srat + 4) == 48 + 3 * 16 + 3 * 40 && u32(srat + 36) == 1, "SRAT: an entry for each vCPU and range");
    TAP_OK(srat[48 + 2] == 0 && srat[48 + 3] == 0 && srat[64 + 2] == 1 && srat[64 + 3] == 2 && srat[80 + 2] == 1 &&
               srat[80 + 3] == 4 && u32(srat + 84) == 1,
           "SRAT: vCPUs by their APIC ids");
    memory = srat + 48 + 3 * 16 + 2 * 40;
    TAP_OK(memory[0] == 1 && memory[1] == 40 && u32(memory + 2) == 1 && u64(memory + 8) == 4ull << 30 &&
               u64(memory + 16) == 1u << 30 && u32(memory + 28) == 1,
           "SRAT: memory above the hole");
    TAP_OK(u64(slit + 36) == 2 && !memcmp(slit + 44, slit_rows, 4), "SLIT: distances");
    TAP_OK(hv_acpi_build(area, sizeof(area), 0, 3, NULL) == 0 && !find_table(area, "SRAT") && !find_table(area, "SLIT"),
           "without nodes there are none");
}

/* The most nodes that there can be. */
static void test_many_nodes(void)
{
    static struct hv_vnuma vnuma = {.nr_nodes = 64, .nr_vcpus = 64, .nr_ranges = HV_VNUMA_RANGES_MAX};
    static uint8_t area[HV_ACPI_BYTES];

    TAP_OK(hv_acpi_build(area, sizeof(area), 0, 64, &vnuma) == 0, "tables of 64 nodes fit");
}

int main(void)
{
    test_formats();
    test_start_info();
    test_bad_kernels();
    test_bad_ramdisks();
    test_entry_state();
    test_dsdt_with_iasl();
    test_numa_tables();
    test_many_nodes();
    return tap_done();
}
