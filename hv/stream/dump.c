/* A dump: the guest's memory and registers as an ELF core, as crash, gdb and readelf open it. The guest goes on afterwards.
 *
 *      ELF header, program headers, notes | memory, a segment for each range of RAM
 *
 * For each vCPU there is a note PRSTATUS with its registers, and after these one of the kind that QEMU has, with control
 * registers and descriptor tables, by which crash finds a kernel that lies at a random address. Ranges of RAM that are nearly one
 * (a balloon leaves many small holes) share a segment: there are not more than SEGMENTS_MAX. Zeroes, and what is no RAM, are
 * holes in the file. A guest that runs meanwhile is stopped for its registers alone; its memory is that of different moments.
 *
 * Sources: elf.h, sys/procfs.h; the QEMU note is what crash and makedumpfile read: docs of both, and of dump-guest-memory.
 */
#include "config.h"

#include "hv/stream/job.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <unistd.h>

#include "hv/hypercall/physmap.h"
#include "hv/machine/vcpu.h"
#include "hv/stream/file.h"

#define SEGMENTS_MAX  1024u
#define GAP_MIN_PAGES 256u
#define CHUNK_PAGES   1024u     /* looked at in a step */

enum stage { FREEZING, MEMORY };

struct dumping {
    enum stage stage;
    bool live;
    off_t base;
    struct segment {
        uint64_t gfn, pages;
    } segments[SEGMENTS_MAX];
    unsigned nr_segments;
    off_t memory;       /* where it begins in the file, from base on */
    unsigned segment;   /* that is being written, */
    uint64_t page;      /* from this page of it on, */
    uint64_t index;     /* which is so many pages into the file's memory */
};

static void fini(struct hv_stream *s)
{
    free(s->own);
}

/* ------------------------------------------------------------------ segments */

static bool find_segments(struct hv_stream *s, uint64_t gap)
{
    struct dumping *w = s->own;
    uint64_t gfn = 0, count;

    w->nr_segments = 0;
    for (; (count = hv_physmap_next_run(s->domain, &gfn)); gfn += count) {
        struct segment *last = w->nr_segments ? &w->segments[w->nr_segments - 1] : NULL;

        if (last && gfn - (last->gfn + last->pages) < gap)
            last->pages = gfn + count - last->gfn;
        else if (w->nr_segments < SEGMENTS_MAX)
            w->segments[w->nr_segments++] = (struct segment){gfn, count};
        else
            return false;
    }
    return true;
}

static uint64_t pages_of(const struct dumping *w)
{
    uint64_t pages = 0;

    for (unsigned i = 0; i < w->nr_segments; i++)
        pages += w->segments[i].pages;
    return pages;
}

/* ------------------------------------------------------------------ notes */

struct qemu_segment {
    uint32_t selector, limit, flags, pad;
    uint64_t base;
};

struct qemu_cpu {
    uint32_t version, size;
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8_to_r15[8], rip, rflags;
    struct qemu_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
    uint64_t cr[5], kernel_gs_base;
};
_Static_assert(sizeof(struct qemu_cpu) == 8 + 18 * 8 + 10 * 24 + 6 * 8, "QEMU's note of a CPU");

static void put_note(struct hv_encoder *e, const char *name, uint32_t type, const void *bytes, size_t count)
{
    const Elf64_Nhdr header = {.n_namesz = (Elf64_Word)strlen(name) + 1, .n_descsz = (Elf64_Word)count, .n_type = type};
    static const uint8_t zeroes[8];

    hv_encode(e, &header, sizeof(header));
    hv_encode(e, name, header.n_namesz);
    hv_encode(e, zeroes, -header.n_namesz & 3);
    hv_encode(e, bytes, count);
    hv_encode(e, zeroes, -count & 3);
}

static void put_prstatus(const struct hv_vcpu *v, struct hv_encoder *e)
{
    const struct hv_cpu *cpu = &v->cpu;
    const uint64_t *gpr = cpu->gpr;
    const struct hv_segment *seg = cpu->seg;
    /* in the order of struct user_regs_struct */
    const uint64_t regs[] = {
        gpr[HV_R15], gpr[HV_R14], gpr[HV_R13], gpr[HV_R12], gpr[HV_RBP], gpr[HV_RBX], gpr[HV_R11], gpr[HV_R10], gpr[HV_R9],
        gpr[HV_R8], gpr[HV_RAX], gpr[HV_RCX], gpr[HV_RDX], gpr[HV_RSI], gpr[HV_RDI], ~0ull, cpu->rip,
        seg[HV_CS].selector, cpu->rflags, gpr[HV_RSP], seg[HV_SS].selector, seg[HV_FS].base, seg[HV_GS].base,
        seg[HV_DS].selector, seg[HV_ES].selector, seg[HV_FS].selector, seg[HV_GS].selector,
    };
    prstatus_t status = {.pr_pid = (pid_t)v->id + 1}; /* a thread of number 0 is none */

    _Static_assert(sizeof(regs) == sizeof(status.pr_reg), "registers of a core");
    memcpy(&status.pr_reg, regs, sizeof(regs));
    put_note(e, "CORE", NT_PRSTATUS, &status, sizeof(status));
}

static struct qemu_segment segment_of(const struct hv_segment *seg)
{
    /* as in the upper half of a descriptor */
    uint32_t flags = (seg->attr & 0xffu) << 8 | (seg->attr & 0xf00u) << 12;

    return (struct qemu_segment){.selector = seg->selector, .limit = seg->limit, .flags = flags, .base = seg->base};
}

static struct qemu_segment table_of(const struct hv_table_register *table)
{
    return (struct qemu_segment){.limit = table->limit, .base = table->base};
}

static void put_qemu(const struct hv_vcpu *v, struct hv_encoder *e)
{
    const struct hv_cpu *cpu = &v->cpu;
    const uint64_t *gpr = cpu->gpr;
    struct qemu_cpu note = {
        .version = 1, .size = sizeof(note),
        .rax = gpr[HV_RAX], .rbx = gpr[HV_RBX], .rcx = gpr[HV_RCX], .rdx = gpr[HV_RDX],
        .rsi = gpr[HV_RSI], .rdi = gpr[HV_RDI], .rsp = gpr[HV_RSP], .rbp = gpr[HV_RBP],
        .rip = cpu->rip, .rflags = cpu->rflags,
        .cs = segment_of(&cpu->seg[HV_CS]), .ds = segment_of(&cpu->seg[HV_DS]), .es = segment_of(&cpu->seg[HV_ES]),
        .fs = segment_of(&cpu->seg[HV_FS]), .gs = segment_of(&cpu->seg[HV_GS]), .ss = segment_of(&cpu->seg[HV_SS]),
        .ldt = segment_of(&cpu->ldtr), .tr = segment_of(&cpu->tr), .gdt = table_of(&cpu->gdtr), .idt = table_of(&cpu->idtr),
        .cr = {cpu->cr0, 0, cpu->cr2, cpu->cr3, cpu->cr4}, .kernel_gs_base = cpu->kernel_gs_base,
    };

    memcpy(note.r8_to_r15, &gpr[HV_R8], sizeof(note.r8_to_r15));
    put_note(e, "QEMU", 0, &note, sizeof(note));
}

static void put_notes(const struct hv_domain *d, struct hv_encoder *e)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        put_prstatus(d->vcpus[i], e);
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        put_qemu(d->vcpus[i], e);
}

/* ------------------------------------------------------------------ headers */

static void put_headers(const struct dumping *w, size_t notes_bytes, struct hv_encoder *e)
{
    const Elf64_Ehdr header = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_CORE, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = sizeof(header),
        .e_ehsize = sizeof(header), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = (Elf64_Half)(w->nr_segments + 1),
    };
    const Elf64_Phdr notes = {.p_type = PT_NOTE, .p_offset = sizeof(header) + header.e_phnum * sizeof(Elf64_Phdr),
                              .p_filesz = notes_bytes, .p_memsz = notes_bytes, .p_align = 4};
    uint64_t offset = (uint64_t)w->memory;

    hv_encode(e, &header, sizeof(header));
    hv_encode(e, &notes, sizeof(notes));
    for (unsigned i = 0; i < w->nr_segments; i++) {
        uint64_t bytes = w->segments[i].pages * HV_PAGE_SIZE, address = w->segments[i].gfn << HV_PAGE_SHIFT;
        const Elf64_Phdr memory = {.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X, .p_offset = offset, .p_vaddr = 0,
                                   .p_paddr = address, .p_filesz = bytes, .p_memsz = bytes, .p_align = HV_PAGE_SIZE};

        hv_encode(e, &memory, sizeof(memory));
        offset += bytes;
    }
}

/* The guest stands still. */
static int write_headers(struct hv_stream *s)
{
    struct dumping *w = s->own;
    struct hv_encoder notes = {0}, all = {0};
    size_t bytes;
    int error;

    put_notes(s->domain, &notes);
    bytes = sizeof(Elf64_Ehdr) + (w->nr_segments + 1) * sizeof(Elf64_Phdr) + notes.used;
    w->memory = (off_t)((bytes + HV_PAGE_MASK) & ~(size_t)HV_PAGE_MASK);
    put_headers(w, notes.used, &all);
    hv_encode(&all, notes.data, notes.used);
    error = all.failed || notes.failed ? -ENOMEM : hv_stream_write_padded(s, all.data, all.used, w->base);
    hv_encoder_fini(&notes);
    hv_encoder_fini(&all);
    return error;
}

/* ------------------------------------------------------------------ memory */

static bool is_full(const struct hv_stream *s, uint64_t gfn)
{
    return hv_memory_type(&s->domain->mem, hv_gfn_of(gfn)) == HV_PAGE_RAM &&
           !hv_stream_page_is_zero(s->domain->mem.base + (gfn << HV_PAGE_SHIFT));
}

/* @count pages that lie together. */
static int write_run(struct hv_stream *s, uint64_t gfn, uint64_t index, uint64_t count)
{
    const struct dumping *w = s->own;

    s->status.transferred_bytes += count * HV_PAGE_SIZE;
    s->status.pages += count;
    return count ? hv_stream_write(s, s->domain->mem.base + (gfn << HV_PAGE_SHIFT), count * HV_PAGE_SIZE,
                                   w->base + w->memory + (off_t)(index * HV_PAGE_SIZE))
                 : 0;
}

static int write_pages(struct hv_stream *s, uint64_t gfn, uint64_t count)
{
    struct dumping *w = s->own;
    uint64_t full = 0, i;
    int error = 0;

    for (i = 0; !error && i < count; i++) {
        if (is_full(s, gfn + i)) {
            full++;
            continue;
        }
        s->status.zero_pages++;
        error = write_run(s, gfn + i - full, w->index + i - full, full);
        full = 0;
    }
    if (!error)
        error = write_run(s, gfn + i - full, w->index + i - full, full);
    w->index += count;
    w->page += count;
    s->status.remaining_bytes = (pages_of(w) - w->index) * HV_PAGE_SIZE;
    return error;
}

static void done(struct hv_stream *s)
{
    const struct dumping *w = s->own;

    /* what comes last may be a hole */
    if (ftruncate(s->fd, w->base + w->memory + (off_t)(w->index * HV_PAGE_SIZE)) < 0) {
        hv_stream_cannot_write(s, -errno);
        return;
    }
    hv_stream_done(s);
    hv_stream_thaw(s);
}

static void dump_memory(struct hv_stream *s)
{
    struct dumping *w = s->own;
    const struct segment *segment = &w->segments[w->segment];
    uint64_t left;
    int error;

    if (w->segment == w->nr_segments) {
        done(s);
        return;
    }
    left = segment->pages - w->page;
    error = write_pages(s, segment->gfn + w->page, left < CHUNK_PAGES ? left : CHUNK_PAGES);
    if (w->page == segment->pages) {
        w->segment++;
        w->page = 0;
    }
    if (error)
        hv_stream_cannot_write(s, error);
    else
        hv_stream_again(s);
}

static void begin(struct hv_stream *s)
{
    struct dumping *w = s->own;
    uint64_t gap = GAP_MIN_PAGES;
    int error;

    while (!find_segments(s, gap))
        gap *= 2;
    error = write_headers(s);
    if (error) {
        hv_stream_cannot_write(s, error);
        return;
    }
    if (w->live) {
        hv_stream_thaw(s);
        s->status.phase = DOMUS_STREAM_ACTIVE;
    }
    w->stage = MEMORY;
    s->status.passes = 1;
    hv_stream_again(s);
}

static void step(struct hv_stream *s)
{
    const struct dumping *w = s->own;

    if (w->stage == MEMORY)
        dump_memory(s);
    else if (hv_stream_stands_still(s))
        begin(s);
}

static const struct hv_stream_ops ops = {.step = step, .fini = fini};

/* One that has crashed can be dumped, and so can one with devices that cannot be saved. */
int hv_stream_dump(struct hv_domain *d, int fd, unsigned flags)
{
    struct dumping *w = calloc(1, sizeof(*w));
    int error = !w ? -ENOMEM : d->frozen ? -EBUSY : d->nr_vcpus ? 0 : -EINVAL;

    if (!error)
        error = hv_stream_file_begin(fd, &w->base);
    if (!error) {
        w->live = flags & DOMUS_DUMP_LIVE;
        error = hv_stream_begin(d, &ops, fd, w);
    }
    if (error)
        free(w);
    else
        hv_stream_freeze(d->stream);
    return error;
}
