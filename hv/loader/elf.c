/* ELF32 and ELF64 kernels: program headers, the note that gives the PVH entry, segments to guest memory.
 * Source: System V ABI "Program Loading"; Xen public/elfnote.h for the note.
 */
#include "config.h"

#include "hv/loader/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "hv/xen-abi.h"

/* Linux has 5 program headers, NetBSD and FreeBSD fewer than 12. */
#define MAX_PROGRAM_HEADERS 64
#define MAX_NOTE_BYTES      65536

/* A program header of either class. */
struct segment {
    uint32_t type;
    uint64_t offset, paddr, file_bytes, mem_bytes;
};

struct elf {
    struct hv_image *image;
    unsigned nr_segments;
    struct segment segments[MAX_PROGRAM_HEADERS];
};

static void segment_from_64(struct segment *s, const uint8_t *raw)
{
    Elf64_Phdr p;

    memcpy(&p, raw, sizeof(p));
    *s = (struct segment){p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz};
}

static void segment_from_32(struct segment *s, const uint8_t *raw)
{
    Elf32_Phdr p;

    memcpy(&p, raw, sizeof(p));
    *s = (struct segment){p.p_type, p.p_offset, p.p_paddr, p.p_filesz, p.p_memsz};
}

static int read_program_headers(struct elf *elf, bool is64, uint64_t offset, unsigned count, unsigned entry_bytes)
{
    unsigned want = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    uint8_t raw[MAX_PROGRAM_HEADERS * sizeof(Elf64_Phdr)];
    int err;

    if (entry_bytes != want)
        return hv_image_fail(elf->image, -EINVAL, "damaged: ELF program headers of %u bytes each, not %u",
                             entry_bytes, want);
    if (count == 0 || count > MAX_PROGRAM_HEADERS)
        return hv_image_fail(elf->image, -EINVAL, "damaged: %u ELF program headers (1 to %u are supported)", count,
                             MAX_PROGRAM_HEADERS);
    err = hv_image_read(elf->image, offset, raw, (uint64_t)count * want, "the ELF program header table");
    if (err < 0)
        return err;
    for (unsigned i = 0; i < count; i++)
        (is64 ? segment_from_64 : segment_from_32)(&elf->segments[i], raw + (size_t)i * want);
    elf->nr_segments = count;
    return 0;
}

static int parse_header(struct elf *elf)
{
    unsigned char ident[EI_NIDENT];
    int err;

    if (elf->image->size < EI_NIDENT)
        return hv_image_fail(elf->image, -ENOTSUP, "neither a Linux bzImage nor an ELF file (%" PRIu64 " bytes)",
                             elf->image->size);
    if ((err = hv_image_read(elf->image, 0, ident, sizeof(ident), "the ELF identification")) < 0)
        return err;
    if (memcmp(ident, ELFMAG, SELFMAG) != 0)
        return hv_image_fail(elf->image, -ENOTSUP, "neither a Linux bzImage nor an ELF file");
    if (ident[EI_DATA] != ELFDATA2LSB)
        return hv_image_fail(elf->image, -ENOTSUP, "the ELF file is not little-endian");
    if (ident[EI_CLASS] == ELFCLASS64) {
        Elf64_Ehdr h;

        if ((err = hv_image_read(elf->image, 0, &h, sizeof(h), "the ELF header")) < 0)
            return err;
        if (h.e_machine != EM_X86_64)
            return hv_image_fail(elf->image, -ENOTSUP, "the ELF file is for machine %u, not x86-64", h.e_machine);
        return read_program_headers(elf, true, h.e_phoff, h.e_phnum, h.e_phentsize);
    }
    if (ident[EI_CLASS] == ELFCLASS32) {
        Elf32_Ehdr h;

        if ((err = hv_image_read(elf->image, 0, &h, sizeof(h), "the ELF header")) < 0)
            return err;
        if (h.e_machine != EM_386)
            return hv_image_fail(elf->image, -ENOTSUP, "the ELF file is for machine %u, not x86", h.e_machine);
        return read_program_headers(elf, false, h.e_phoff, h.e_phnum, h.e_phentsize);
    }
    return hv_image_fail(elf->image, -ENOTSUP, "unknown ELF class %u", ident[EI_CLASS]);
}

/* Size of a part of a note, padded to 4 bytes; saturates, which is then more than there is. */
static uint32_t padded(uint32_t bytes)
{
    return bytes > UINT32_MAX - 3 ? UINT32_MAX : (bytes + 3) & ~3u;
}

/* Looks for the note in the contents of one PT_NOTE segment. */
static bool find_note(const uint8_t *at, size_t left, uint64_t *entry)
{
    while (left >= sizeof(Elf32_Nhdr)) {
        Elf32_Nhdr h; /* the same in both classes */
        const uint8_t *name, *desc;

        memcpy(&h, at, sizeof(h));
        at += sizeof(h);
        left -= sizeof(h);
        if (padded(h.n_namesz) > left || h.n_descsz > left - padded(h.n_namesz))
            return false;
        name = at;
        desc = at + padded(h.n_namesz);
        if (h.n_type == XEN_ELFNOTE_PHYS32_ENTRY && h.n_namesz == 4 && memcmp(name, "Xen", 4) == 0 &&
            (h.n_descsz == 4 || h.n_descsz == 8)) {
            *entry = 0;
            memcpy(entry, desc, h.n_descsz);
            return true;
        }
        left -= padded(h.n_namesz);
        if (padded(h.n_descsz) > left)
            return false;
        at = desc + padded(h.n_descsz);
        left -= padded(h.n_descsz);
    }
    return false;
}

static int find_entry(struct elf *elf, uint64_t *entry)
{
    static const char built_without[] = "no XEN_ELFNOTE_PHYS32_ENTRY note: not a PVH kernel (a Linux kernel built "
                                        "without CONFIG_PVH)";
    uint8_t notes[MAX_NOTE_BYTES];

    for (unsigned i = 0; i < elf->nr_segments; i++) {
        const struct segment *s = &elf->segments[i];
        int err;

        if (s->type != PT_NOTE)
            continue;
        if (s->file_bytes > sizeof(notes))
            return hv_image_fail(elf->image, -EINVAL, "damaged: ELF notes of %" PRIu64 " bytes", s->file_bytes);
        if ((err = hv_image_read(elf->image, s->offset, notes, s->file_bytes, "the ELF notes")) < 0)
            return err;
        if (find_note(notes, s->file_bytes, entry))
            return 0;
    }
    return hv_image_fail(elf->image, -ENOTSUP, "%s", built_without);
}

static int load_segment(struct elf *elf, const struct segment *s, struct hv_memory *mem, uint64_t low_end)
{
    uint8_t *to;
    int err;

    if (s->file_bytes > s->mem_bytes)
        return hv_image_fail(elf->image, -EINVAL,
                             "damaged: a segment has %" PRIu64 " bytes in the file but %" PRIu64 " in memory",
                             s->file_bytes, s->mem_bytes);
    if (s->paddr > low_end || s->mem_bytes > low_end - s->paddr)
        return hv_image_fail(elf->image, -ENOMEM,
                             "does not fit: a segment of %" PRIu64 " KiB goes to %#" PRIx64
                             ", the domain has %" PRIu64 " MiB of low memory",
                             s->mem_bytes >> 10, s->paddr, low_end >> 20);
    to = hv_memory_at(mem, hv_gpa_of(s->paddr), s->mem_bytes, true);
    if (!to)
        return hv_image_fail(elf->image, -ENOMEM, "a segment at %#" PRIx64 " is not in the domain's memory", s->paddr);
    if ((err = hv_image_read(elf->image, s->offset, to, s->file_bytes, "an ELF segment")) < 0)
        return err;
    memset(to + s->file_bytes, 0, s->mem_bytes - s->file_bytes);
    return 0;
}

int hv_elf_load(struct hv_image *image, struct hv_memory *mem, uint64_t low_end, struct hv_elf_kernel *out)
{
    struct elf elf = {.image = image};
    uint64_t room = low_end; /* for all segments together: they do not overlap in a sane file */
    bool entry_loaded = false;
    int err;

    *out = (struct hv_elf_kernel){0};
    if ((err = parse_header(&elf)) < 0)
        return err;
    if ((err = find_entry(&elf, &out->entry)) < 0)
        return err;
    for (unsigned i = 0; i < elf.nr_segments; i++) {
        const struct segment *s = &elf.segments[i];

        if (s->type != PT_LOAD || s->mem_bytes == 0)
            continue;
        if ((err = load_segment(&elf, s, mem, low_end)) < 0)
            return err;
        if (s->mem_bytes > room)
            return hv_image_fail(image, -EINVAL, "damaged: its segments overlap");
        room -= s->mem_bytes;
        if (out->end < s->paddr + s->mem_bytes)
            out->end = s->paddr + s->mem_bytes;
        entry_loaded |= out->entry >= s->paddr && out->entry - s->paddr < s->mem_bytes;
    }
    if (!entry_loaded)
        return hv_image_fail(image, -EINVAL, "damaged: the PVH entry point %#" PRIx64 " is in no segment", out->entry);
    return 0;
}
