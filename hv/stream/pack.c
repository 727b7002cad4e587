/* Pages made smaller. The lowest level of zstd: a higher one would be slower than most networks are. */
#include "config.h"

#include "hv/stream/pack.h"

#include <stdlib.h>
#include <zstd.h>

#define LEVEL      1
#define ROOM_BYTES ((size_t)HV_STREAM_PAGES_MAX * HV_PAGE_SIZE)

struct hv_packer {
    ZSTD_CCtx *packing;
    ZSTD_DCtx *unpacking;
    uint8_t room[ROOM_BYTES];
};

struct hv_packer *hv_packer_new(bool to_send)
{
    struct hv_packer *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    if (to_send)
        p->packing = ZSTD_createCCtx();
    else
        p->unpacking = ZSTD_createDCtx();
    if (p->packing || p->unpacking)
        return p;
    free(p);
    return NULL;
}

void hv_packer_free(struct hv_packer *p)
{
    if (!p)
        return;
    ZSTD_freeCCtx(p->packing);
    ZSTD_freeDCtx(p->unpacking);
    free(p);
}

const void *hv_packer_pack(struct hv_packer *p, const void *from, size_t bytes, size_t *packed_bytes)
{
    /* With room for a little less than what there is, it fails where it would gain nothing. */
    size_t most = bytes - bytes / 16, n = bytes ? ZSTD_compressCCtx(p->packing, p->room, most, from, bytes, LEVEL) : 0;

    if (!bytes || ZSTD_isError(n))
        return NULL;
    *packed_bytes = n;
    return p->room;
}

const uint8_t *hv_packer_unpack(struct hv_packer *p, const void *packed, size_t packed_bytes, size_t bytes)
{
    size_t n = bytes <= ROOM_BYTES ? ZSTD_decompressDCtx(p->unpacking, p->room, bytes, packed, packed_bytes) : 0;

    return bytes && n == bytes ? p->room : NULL;
}
