/* Small but complete kernels for the loader's test and fuzzer: ELF files with the PVH note, packed into a
 * bzImage in any format.
 */
#pragma once

#include <bzlib.h>
#include <elf.h>
#include <lz4hc.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "hv/xen-abi.h"

#define SAMPLE_PADDR       0x100000u
#define SAMPLE_ENTRY       (SAMPLE_PADDR + 0x40)
#define SAMPLE_TEXT_BYTES  8192u
#define SAMPLE_BSS_BYTES   20000u
#define SAMPLE_TEXT_OFFSET 0x400u
#define SAMPLE_NOTE_OFFSET 0x200u
#define SAMPLE_ELF_BYTES   (SAMPLE_TEXT_OFFSET + SAMPLE_TEXT_BYTES)
#define SAMPLE_MAX_BYTES   65536u

/* What the text segment holds at @i: compressible, but not all the same. */
static inline uint8_t sample_text(size_t i)
{
    return (uint8_t)(i >> 4 ^ i * 7 % 13);
}

static inline size_t sample_note(uint8_t *out, uint32_t type)
{
    Elf64_Nhdr other = {.n_namesz = 6, .n_descsz = 3, .n_type = 1};
    Elf64_Nhdr h = {.n_namesz = 4, .n_descsz = 4, .n_type = type};
    uint32_t entry = SAMPLE_ENTRY;
    size_t n = 0;

    /* One note before it, with padding to skip. */
    memcpy(out, &other, sizeof(other));
    memcpy(out + 12, "Linux\0\0\0abc\0", 12);
    n = 24;
    memcpy(out + n, &h, sizeof(h));
    memcpy(out + n + 12, "Xen", 4);
    memcpy(out + n + 16, &entry, 4);
    return n + 20;
}

static inline size_t sample_body(uint8_t *out, uint32_t note_type)
{
    for (size_t i = 0; i < SAMPLE_TEXT_BYTES; i++)
        out[SAMPLE_TEXT_OFFSET + i] = sample_text(i);
    return sample_note(out + SAMPLE_NOTE_OFFSET, note_type);
}

static inline size_t sample_elf64(uint8_t *out, uint32_t note_type)
{
    Elf64_Ehdr *h = (Elf64_Ehdr *)out;
    Elf64_Phdr *p = (Elf64_Phdr *)(out + sizeof(*h));
    size_t note;

    memset(out, 0, SAMPLE_ELF_BYTES);
    note = sample_body(out, note_type);
    memcpy(h->e_ident, ELFMAG, SELFMAG);
    h->e_ident[EI_CLASS] = ELFCLASS64;
    h->e_ident[EI_DATA] = ELFDATA2LSB;
    h->e_type = ET_EXEC;
    h->e_machine = EM_X86_64;
    h->e_phoff = sizeof(*h);
    h->e_phentsize = sizeof(*p);
    h->e_phnum = 2;
    p[0] = (Elf64_Phdr){.p_type = PT_LOAD, .p_offset = SAMPLE_TEXT_OFFSET, .p_paddr = SAMPLE_PADDR,
                        .p_filesz = SAMPLE_TEXT_BYTES, .p_memsz = SAMPLE_TEXT_BYTES + SAMPLE_BSS_BYTES};
    p[1] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = SAMPLE_NOTE_OFFSET, .p_filesz = note, .p_memsz = note};
    return SAMPLE_ELF_BYTES;
}

static inline size_t sample_elf32(uint8_t *out, uint32_t note_type)
{
    Elf32_Ehdr *h = (Elf32_Ehdr *)out;
    Elf32_Phdr *p = (Elf32_Phdr *)(out + sizeof(*h));
    size_t note;

    memset(out, 0, SAMPLE_ELF_BYTES);
    note = sample_body(out, note_type);
    memcpy(h->e_ident, ELFMAG, SELFMAG);
    h->e_ident[EI_CLASS] = ELFCLASS32;
    h->e_ident[EI_DATA] = ELFDATA2LSB;
    h->e_type = ET_EXEC;
    h->e_machine = EM_386;
    h->e_phoff = sizeof(*h);
    h->e_phentsize = sizeof(*p);
    h->e_phnum = 2;
    p[0] = (Elf32_Phdr){.p_type = PT_LOAD, .p_offset = SAMPLE_TEXT_OFFSET, .p_paddr = SAMPLE_PADDR,
                        .p_filesz = SAMPLE_TEXT_BYTES, .p_memsz = SAMPLE_TEXT_BYTES + SAMPLE_BSS_BYTES};
    p[1] = (Elf32_Phdr){.p_type = PT_NOTE, .p_offset = SAMPLE_NOTE_OFFSET, .p_filesz = (Elf32_Word)note,
                        .p_memsz = (Elf32_Word)note};
    return SAMPLE_ELF_BYTES;
}

/* Packers: give the packed size, 0 on failure. */
typedef size_t sample_pack_fn(const uint8_t *in, size_t bytes, uint8_t *out, size_t room);

static inline size_t sample_pack_none(const uint8_t *in, size_t bytes, uint8_t *out, size_t room)
{
    (void)room;
    memcpy(out, in, bytes);
    return bytes;
}

static inline size_t sample_pack_gzip(const uint8_t *in, size_t bytes, uint8_t *out, size_t room)
{
    z_stream s = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)bytes, .next_out = out,
                  .avail_out = (uInt)room};
    int status;

    if (deflateInit2(&s, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    status = deflate(&s, Z_FINISH);
    deflateEnd(&s);
    return status == Z_STREAM_END ? s.total_out : 0;
}

static inline size_t sample_pack_bzip2(const uint8_t *in, size_t bytes, uint8_t *out, size_t room)
{
    unsigned used = (unsigned)room;

    if (BZ2_bzBuffToBuffCompress((char *)out, &used, (char *)(uintptr_t)in, (unsigned)bytes, 9, 0, 0) != BZ_OK)
        return 0;
    return used;
}

static inline size_t sample_pack_xz(const uint8_t *in, size_t bytes, uint8_t *out, size_t room)
{
    size_t used = 0;

    if (lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, in, bytes, out, &used, room) != LZMA_OK)
        return 0;
    return used;
}

static inline size_t sample_pack_lzma(const uint8_t *in, size_t bytes, uint8_t *out, size_t room)
{
    lzma_stream s = LZMA_STREAM_INIT;
    lzma_options_lzma options;
    lzma_ret status;

    if (lzma_lzma_preset(&options, 1) || lzma_alone_encoder(&s, &options) != LZMA_OK)
        return 0;
    s.next_in = in;
    s.avail_in = bytes;
    s.next_out = out;
    s.avail_out = room;
    status = lzma_code(&s, LZMA_FINISH);
    lzma_end(&s);
    return status == LZMA_STREAM_END ? room - s.avail_out : 0;
}

static inline size_t sample_pack_zstd(const uint8_t *in, size_t bytes, uint8_t *out, size_t room)
{
    size_t used = ZSTD_compress(out, room, in, bytes, 3);

    return ZSTD_isError(used) ? 0 : used;
}

/* As `lz4 -l`, in two blocks. */
static inline size_t sample_pack_lz4(const uint8_t *in, size_t bytes, uint8_t *out, size_t room)
{
    size_t half = bytes / 2, used = 4;

    memcpy(out, "\x02\x21\x4c\x18", 4);
    for (unsigned i = 0; i < 2; i++) {
        int part = (int)(i ? bytes - half : half);
        int n = LZ4_compress_HC((const char *)in + (i ? half : 0), (char *)out + used + 4, part,
                                (int)(room - used - 4), 9);
        uint32_t size = (uint32_t)n;

        if (n <= 0)
            return 0;
        memcpy(out + used, &size, 4);
        used += 4 + size;
    }
    return used;
}

struct sample_packer {
    const char *name;
    sample_pack_fn *pack;
};

static const struct sample_packer sample_packers[] = {
    {"gzip", sample_pack_gzip}, {"xz", sample_pack_xz},   {"zstd", sample_pack_zstd},
    {"lz4", sample_pack_lz4},   {"lzma", sample_pack_lzma}, {"bzip2", sample_pack_bzip2},
};

#define SAMPLE_PAYLOAD_AT 1024u

/* A bzImage around the ELF file @elf; the build of Linux appends the unpacked size to the payload. */
static inline size_t sample_bzimage(const uint8_t *elf, size_t bytes, sample_pack_fn *pack, uint8_t *out)
{
    size_t packed = pack(elf, bytes, out + SAMPLE_PAYLOAD_AT, SAMPLE_MAX_BYTES - SAMPLE_PAYLOAD_AT - 4);
    uint32_t offset = SAMPLE_PAYLOAD_AT - 2 * 512, length = (uint32_t)packed + 4, size = (uint32_t)bytes;

    memset(out, 0, SAMPLE_PAYLOAD_AT);
    if (!packed)
        return 0;
    out[0x1f1] = 1; /* setup_sects */
    memcpy(out + 0x1fe, "\x55\xaa", 2);
    memcpy(out + 0x202, "HdrS\x0f\x02", 6);
    memcpy(out + 0x248, &offset, 4);
    memcpy(out + 0x24c, &length, 4);
    memcpy(out + SAMPLE_PAYLOAD_AT + packed, &size, 4);
    return SAMPLE_PAYLOAD_AT + packed + 4;
}

/* A file with these contents; -1 on failure. */
static inline int sample_file(const void *bytes, size_t count)
{
    int fd = memfd_create("sample", MFD_CLOEXEC);

    if (fd >= 0 && write(fd, bytes, count) != (ssize_t)count) {
        close(fd);
        return -1;
    }
    return fd;
}
