/* Block requests: what a guest wrote becomes an offset, a number of bytes and a list of host memory, or is refused.
 *
 * request->guest is a copy that the guest cannot change any more; the segments of an indirect request are copied from
 * the guest's pages here, once each.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "hv/backend/blk/device.h"

#define SECTORS_PER_PAGE  (HV_PAGE_SIZE / HV_BLK_SECTOR)
#define SEGMENTS_PER_PAGE (HV_PAGE_SIZE / sizeof(struct blkif_request_segment))

/* ------------------------------------------------------------------ segments */

static int map_segment(struct hv_blk_request *r, const struct blkif_request_segment *from)
{
    struct hv_blk_device *blk = r->queue->blk;
    struct hv_blk_segment *seg = &r->segs[r->nr_segs];
    bool write = r->kind == BLKIF_OP_READ; /* memory is written to */
    int error = 0;

    if (from->first_sect > from->last_sect || from->last_sect >= SECTORS_PER_PAGE)
        return -EINVAL;
    seg->offset = (uint16_t)(from->first_sect * HV_BLK_SECTOR);
    seg->bytes = (uint16_t)((from->last_sect - from->first_sect + 1) * HV_BLK_SECTOR);
    if (seg->offset % blk->sector_bytes || seg->bytes % blk->sector_bytes)
        return -EINVAL;
    seg->lasting =
        blk->persistent && hv_blk_persist_map(blk->xenbus.domain, &blk->persist, from->gref, write, &seg->map);
    if (!seg->lasting)
        error = hv_grant_map_locked(blk->xenbus.domain, from->gref, write, &seg->map);
    if (error)
        return error;
    r->nr_segs++;
    r->bytes += seg->bytes;
    return 0;
}

/* What lies together in memory goes together. */
static void add_iov(struct hv_blk_request *r, const struct hv_blk_segment *seg)
{
    struct iovec *last = r->nr_iov ? &r->iov[r->nr_iov - 1] : NULL;
    uint8_t *start = seg->map.page + seg->offset;

    if (last && (uint8_t *)last->iov_base + last->iov_len == start)
        last->iov_len += seg->bytes;
    else
        r->iov[r->nr_iov++] = (struct iovec){start, seg->bytes};
}

static int map_direct(struct hv_blk_request *r, unsigned count)
{
    int error = 0;

    if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST)
        return -EINVAL;
    for (unsigned i = 0; !error && i < count; i++)
        error = map_segment(r, &r->guest.seg[i]);
    return error;
}

/* The segments of one indirect page. */
static int map_listed(struct hv_blk_request *r, uint32_t gref, unsigned count)
{
    struct hv_domain *d = r->queue->blk->xenbus.domain;
    struct hv_grant_map list;
    int error = hv_grant_map_locked(d, gref, false, &list);

    for (unsigned i = 0; !error && i < count; i++) {
        struct blkif_request_segment copy;

        memcpy(&copy, list.page + i * sizeof(copy), sizeof(copy));
        error = map_segment(r, &copy);
    }
    hv_grant_unmap_locked(d, &list);
    return error;
}

static int map_indirect(struct hv_blk_request *r, const struct blkif_request_indirect *from)
{
    unsigned left = from->nr_segments;
    int error = 0;

    if (left == 0 || left > HV_BLK_SEGMENTS_MAX)
        return -EINVAL;
    for (unsigned page = 0; !error && left; page++) {
        unsigned count = left < SEGMENTS_PER_PAGE ? left : (unsigned)SEGMENTS_PER_PAGE;

        error = map_listed(r, from->indirect_grefs[page], count);
        left -= count;
    }
    return error;
}

_Static_assert(HV_BLK_SEGMENTS_MAX <= SEGMENTS_PER_PAGE * BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST, "indirect pages");

/* ------------------------------------------------------------------ places on the disk */

/* @sector counts 512 bytes. */
static int set_place(struct hv_blk_request *r, uint64_t sector, uint64_t bytes)
{
    const struct hv_blk_device *blk = r->queue->blk;
    uint64_t sectors = blk->size_bytes / HV_BLK_SECTOR;

    if (sector > sectors || bytes / HV_BLK_SECTOR > sectors - sector)
        return -EINVAL;
    r->offset = sector * HV_BLK_SECTOR;
    r->bytes = bytes;
    return r->offset % blk->sector_bytes || bytes % blk->sector_bytes ? -EINVAL : 0;
}

static int prepare_transfer(struct hv_blk_request *r)
{
    struct hv_domain *d = r->queue->blk->xenbus.domain;
    struct blkif_request_indirect indirect;
    uint64_t sector = r->guest.sector_number;
    int error;

    if (r->kind == BLKIF_OP_WRITE && r->queue->blk->read_only)
        return -EROFS;
    hv_grant_lock(d);
    if (r->guest.operation == BLKIF_OP_INDIRECT) {
        memcpy(&indirect, &r->guest, sizeof(indirect));
        sector = indirect.sector_number;
        error = map_indirect(r, &indirect);
    } else {
        error = map_direct(r, r->guest.nr_segments);
    }
    hv_grant_unlock(d);
    if (!error)
        error = set_place(r, sector, r->bytes);
    for (unsigned i = 0; !error && i < r->nr_segs; i++)
        add_iov(r, &r->segs[i]);
    return error;
}

static int prepare_discard(struct hv_blk_request *r)
{
    const struct hv_blk_device *blk = r->queue->blk;
    struct blkif_request_discard discard;

    memcpy(&discard, &r->guest, sizeof(discard));
    if (!(blk->flags & DOMUS_VBD_DISCARD) || discard.flag & BLKIF_DISCARD_SECURE)
        return -EOPNOTSUPP;
    if (blk->read_only)
        return -EROFS;
    if (!discard.nr_sectors || discard.nr_sectors > blk->size_bytes / HV_BLK_SECTOR)
        return -EINVAL;
    return set_place(r, discard.sector_number, discard.nr_sectors * HV_BLK_SECTOR);
}

/* A flush may come with data: then all written before it is safe first, and then the data. */
static int prepare_flush(struct hv_blk_request *r)
{
    r->kind = BLKIF_OP_FLUSH_DISKCACHE;
    if (!r->guest.nr_segments)
        return 0;
    r->kind = BLKIF_OP_WRITE;
    r->flush = true;
    return prepare_transfer(r);
}

static int prepare(struct hv_blk_request *r)
{
    struct blkif_request_indirect indirect;

    r->kind = r->guest.operation;
    switch (r->guest.operation) {
    case BLKIF_OP_READ:
    case BLKIF_OP_WRITE:
        return r->guest.nr_segments ? prepare_transfer(r) : -EINVAL;
    case BLKIF_OP_INDIRECT:
        memcpy(&indirect, &r->guest, sizeof(indirect));
        r->kind = indirect.indirect_op;
        return r->kind == BLKIF_OP_READ || r->kind == BLKIF_OP_WRITE ? prepare_transfer(r) : -EINVAL;
    case BLKIF_OP_WRITE_BARRIER:
        r->barrier = true;
        return prepare_flush(r);
    case BLKIF_OP_FLUSH_DISKCACHE:
        return prepare_flush(r);
    case BLKIF_OP_DISCARD:
        return prepare_discard(r);
    default:
        return -EOPNOTSUPP;
    }
}

int hv_blk_request_prepare(struct hv_blk_request *r)
{
    int error;

    r->barrier = r->flush = false;
    r->offset = r->bytes = r->done_bytes = 0;
    r->nr_segs = r->nr_iov = r->first_iov = 0;
    error = prepare(r);
    r->stage = r->flush ? HV_BLK_BEFORE : HV_BLK_MAIN;
    if (error)
        hv_blk_request_release(r);
    return error;
}

void hv_blk_request_release(struct hv_blk_request *r)
{
    struct hv_domain *d = r->queue->blk->xenbus.domain;

    for (unsigned i = 0; r->kind == BLKIF_OP_READ && i < r->nr_segs; i++)
        hv_grant_written(d, &r->segs[i].map, r->segs[i].offset, r->segs[i].bytes);
    hv_grant_lock(d);
    for (unsigned i = 0; i < r->nr_segs; i++)
        if (!r->segs[i].lasting)
            hv_grant_unmap_locked(d, &r->segs[i].map);
    hv_grant_unlock(d);
    r->nr_segs = 0;
}
