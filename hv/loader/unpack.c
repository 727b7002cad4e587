/* Decompression of kernel payloads: one row per format, found by its magic. Source of the list: what
 * Linux's arch/x86 lets be chosen (KERNEL_GZIP ... KERNEL_ZSTD).
 */
#include "config.h"

#include "hv/loader/unpack.h"

#include <bzlib.h>
#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define FIRST_BYTES (16u << 20)
/* What a decoder may use for its dictionary. Kernels are packed with 32 MiB (xz) or 128 MiB (zstd) at most. */
#define DECODER_MEMORY_BYTES (256u << 20)
#define ZSTD_WINDOW_LOG      27

/* Makes room for at least one more byte. 0, -ENOSPC at the cap, -ENOMEM. */
static int grow(struct hv_unpacked *out)
{
    size_t want = out->allocated ? out->allocated : FIRST_BYTES / 2;
    uint8_t *bytes;

    if (out->used < out->allocated)
        return 0;
    if (out->allocated >= out->cap)
        return -ENOSPC;
    want = want > out->cap / 2 ? out->cap : want * 2;
    bytes = realloc(out->bytes, want);
    if (!bytes)
        return -ENOMEM;
    out->bytes = bytes;
    out->allocated = want;
    return 0;
}

static size_t room(const struct hv_unpacked *out)
{
    return out->allocated - out->used;
}

/* The interfaces of zlib and bzip2 count in unsigned int. */
static unsigned clamp(size_t n)
{
    return n > UINT_MAX ? UINT_MAX : (unsigned)n;
}

static int unpack_gzip(const uint8_t *in, size_t bytes, struct hv_unpacked *out)
{
    z_stream s = {0};
    size_t consumed = 0;
    int err = 0, status;

    if (inflateInit2(&s, 16 + MAX_WBITS) != Z_OK) /* 16: with a gzip header */
        return -ENOMEM;
    do {
        unsigned given, space;

        if ((err = grow(out)) < 0)
            break;
        s.next_in = (Bytef *)(uintptr_t)(in + consumed);
        s.avail_in = given = clamp(bytes - consumed);
        s.next_out = out->bytes + out->used;
        s.avail_out = space = clamp(room(out));
        status = inflate(&s, Z_NO_FLUSH);
        consumed += given - s.avail_in;
        out->used += space - s.avail_out;
        if (status != Z_OK && status != Z_STREAM_END)
            err = status == Z_MEM_ERROR ? -ENOMEM : -EINVAL;
    } while (!err && status != Z_STREAM_END);
    inflateEnd(&s);
    return err;
}

static int unpack_bzip2(const uint8_t *in, size_t bytes, struct hv_unpacked *out)
{
    bz_stream s = {0};
    size_t consumed = 0;
    int err = 0, status;

    if (BZ2_bzDecompressInit(&s, 0, 0) != BZ_OK)
        return -ENOMEM;
    do {
        unsigned given, space;

        if ((err = grow(out)) < 0)
            break;
        s.next_in = (char *)(uintptr_t)(in + consumed);
        s.avail_in = given = clamp(bytes - consumed);
        s.next_out = (char *)(out->bytes + out->used);
        s.avail_out = space = clamp(room(out));
        status = BZ2_bzDecompress(&s);
        consumed += given - s.avail_in;
        out->used += space - s.avail_out;
        if (status != BZ_OK && status != BZ_STREAM_END)
            err = status == BZ_MEM_ERROR ? -ENOMEM : -EINVAL;
        else if (status == BZ_OK && given == s.avail_in && space == s.avail_out)
            err = -EINVAL; /* no progress: the input ended early */
    } while (!err && status != BZ_STREAM_END);
    BZ2_bzDecompressEnd(&s);
    return err;
}

static int run_lzma(lzma_stream *s, const uint8_t *in, size_t bytes, struct hv_unpacked *out)
{
    lzma_ret status;
    int err = 0;

    s->next_in = in;
    s->avail_in = bytes;
    do {
        size_t space;

        if ((err = grow(out)) < 0)
            break;
        s->next_out = out->bytes + out->used;
        s->avail_out = space = room(out);
        status = lzma_code(s, LZMA_RUN);
        out->used += space - s->avail_out;
        if (status != LZMA_OK && status != LZMA_STREAM_END)
            err = status == LZMA_MEM_ERROR || status == LZMA_MEMLIMIT_ERROR ? -ENOMEM : -EINVAL;
    } while (!err && status != LZMA_STREAM_END);
    lzma_end(s);
    return err;
}

static int unpack_xz(const uint8_t *in, size_t bytes, struct hv_unpacked *out)
{
    lzma_stream s = LZMA_STREAM_INIT;

    if (lzma_stream_decoder(&s, DECODER_MEMORY_BYTES, 0) != LZMA_OK)
        return -ENOMEM;
    return run_lzma(&s, in, bytes, out);
}

static int unpack_lzma(const uint8_t *in, size_t bytes, struct hv_unpacked *out)
{
    lzma_stream s = LZMA_STREAM_INIT;

    if (lzma_alone_decoder(&s, DECODER_MEMORY_BYTES) != LZMA_OK)
        return -ENOMEM;
    return run_lzma(&s, in, bytes, out);
}

static int unpack_zstd(const uint8_t *in, size_t bytes, struct hv_unpacked *out)
{
    ZSTD_DStream *s = ZSTD_createDStream();
    ZSTD_inBuffer src = {.src = in, .size = bytes};
    size_t hint = 1;
    int err = 0;

    if (!s)
        return -ENOMEM;
    ZSTD_DCtx_setParameter(s, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    while (!err && hint != 0) {
        ZSTD_outBuffer dst;
        size_t before = src.pos;

        if ((err = grow(out)) < 0)
            break;
        dst = (ZSTD_outBuffer){.dst = out->bytes + out->used, .size = room(out)};
        hint = ZSTD_decompressStream(s, &dst, &src);
        out->used += dst.pos;
        if (ZSTD_isError(hint) || (hint != 0 && src.pos == before && dst.pos == 0))
            err = -EINVAL;
    }
    ZSTD_freeDStream(s);
    return err;
}

#define LZ4_CHUNK_BYTES (8u << 20)

/* The legacy frame of `lz4 -l`: blocks of at most 8 MiB, each preceded by its packed size. The kernel's build
 * appends the unpacked size in 4 bytes, which looks like one more size. */
static int unpack_lz4(const uint8_t *in, size_t bytes, struct hv_unpacked *out)
{
    size_t at = 4; /* past the magic */

    if (bytes - at <= 4)
        return -EINVAL;
    while (bytes - at > 4) {
        uint32_t packed;
        uint8_t *chunk;
        int n, err = 0;

        memcpy(&packed, in + at, 4);
        at += 4;
        if (packed > bytes - at || packed > (uint32_t)LZ4_compressBound(LZ4_CHUNK_BYTES))
            return -EINVAL;
        if (!(chunk = malloc(LZ4_CHUNK_BYTES)))
            return -ENOMEM;
        n = LZ4_decompress_safe((const char *)in + at, (char *)chunk, (int)packed, LZ4_CHUNK_BYTES);
        at += packed;
        if (n < 0)
            err = -EINVAL;
        for (size_t done = 0; !err && done < (size_t)n;) {
            size_t part = (size_t)n - done;

            if ((err = grow(out)) < 0)
                break;
            part = part < room(out) ? part : room(out);
            memcpy(out->bytes + out->used, chunk + done, part);
            out->used += part;
            done += part;
        }
        free(chunk);
        if (err)
            return err;
    }
    return 0;
}

struct format {
    const char *name;
    const char *magic;
    size_t magic_bytes;
    int (*unpack)(const uint8_t *in, size_t bytes, struct hv_unpacked *out); /* NULL: not done */
};

static const struct format formats[] = {
    {"gzip", "\x1f\x8b", 2, unpack_gzip},
    {"xz", "\xfd" "7zXZ\0", 6, unpack_xz},
    {"zstd", "\x28\xb5\x2f\xfd", 4, unpack_zstd},
    {"lz4", "\x02\x21\x4c\x18", 4, unpack_lz4},
    {"lzma", "\x5d\x00\x00", 3, unpack_lzma},
    {"bzip2", "BZh", 3, unpack_bzip2},
    {"lzo", "\x89LZO", 4, NULL},
};

int hv_unpack(const uint8_t *in, size_t bytes, struct hv_unpacked *out, const char **format)
{
    *format = NULL;
    for (size_t i = 0; i < HV_ARRAY_LEN(formats); i++) {
        const struct format *f = &formats[i];

        if (bytes < f->magic_bytes || memcmp(in, f->magic, f->magic_bytes) != 0)
            continue;
        *format = f->name;
        return f->unpack ? f->unpack(in, bytes, out) : -ENOTSUP;
    }
    return -ENOTSUP;
}
