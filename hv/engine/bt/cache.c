/* The code cache: memory for translated code, and blocks by guest address. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_BYTES_MIN  (1u << 20)
#define CODE_BYTES_MAX  (1u << 30)
#define POPULATE_BYTES  (1u << 16)
#define BYTES_PER_BLOCK 256u /* of code: few have less on average */

/* W^X: the cache is a memory file, mapped once to write and once to execute. */
static int map_code(struct bt *bt)
{
    void *rw, *rx;

    bt->code_fd = memfd_create("domus-code", MFD_CLOEXEC);
    if (bt->code_fd < 0 || ftruncate(bt->code_fd, bt->code_bytes) < 0)
        return -errno;
    rw = mmap(NULL, bt->code_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bt->code_fd, 0);
    if (rw == MAP_FAILED)
        return -errno;
    bt->code_rw = rw;
    rx = mmap(NULL, bt->code_bytes, PROT_READ | PROT_EXEC, MAP_SHARED, bt->code_fd, 0);
    if (rx == MAP_FAILED)
        return -errno;
    bt->code = rx;
    return 0;
}

/* The vCPU's share, but no less than a few blocks need; jumps in it reach 2 GiB. */
static void set_sizes(struct bt *bt)
{
    uint64_t bytes = bt->x->v->domain->code_cache_bytes & ~(uint64_t)(2 * HV_PAGE_SIZE - 1);

    if (bytes < CODE_BYTES_MIN)
        bytes = CODE_BYTES_MIN;
    bt->code_bytes = bytes > CODE_BYTES_MAX ? CODE_BYTES_MAX : (uint32_t)bytes;
    bt->max_blocks = bt->code_bytes / BYTES_PER_BLOCK;
}

int bt_cache_init(struct bt *bt)
{
    int err;

    bt->code_fd = -1;
    set_sizes(bt);
    bt->blocks = mmap(NULL, bt->max_blocks * sizeof(struct bt_block), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bt->blocks == MAP_FAILED) {
        bt->blocks = NULL;
        return -ENOMEM;
    }
    bt->hash = calloc(BT_HASH, sizeof(struct bt_block *));
    bt->pages = calloc(BT_HASH, sizeof(struct bt_block *));
    bt->pages2 = calloc(BT_HASH, sizeof(struct bt_block *));
    if (!bt->hash || !bt->pages || !bt->pages2)
        return -ENOMEM;
    err = map_code(bt);
    if (err)
        return err;
    bt_emit_entry(bt);
    bt->code_start = bt->code_used;
    bt->cold_used = bt->cold_populated = bt->code_bytes / 2;
    return 0;
}

void bt_cache_fini(struct bt *bt)
{
    if (bt->code)
        munmap(bt->code, bt->code_bytes);
    if (bt->code_rw)
        munmap(bt->code_rw, bt->code_bytes);
    if (bt->code_fd >= 0)
        close(bt->code_fd);
    if (bt->blocks)
        munmap(bt->blocks, bt->max_blocks * sizeof(struct bt_block));
    free(bt->hash);
    free(bt->pages);
    free(bt->pages2);
}

void bt_cache_flush(struct bt *bt)
{
    memset(bt->hash, 0, BT_HASH * sizeof(struct bt_block *));
    memset(bt->pages, 0, BT_HASH * sizeof(struct bt_block *));
    memset(bt->pages2, 0, BT_HASH * sizeof(struct bt_block *));
    bt->nr_blocks = 0;
    bt->code_used = bt->code_start;
    bt->cold_used = bt->code_bytes / 2;
    bt->link = 0;
    bt_clear_jumps(bt);
    bt->flushes++;
}

/* ---- blocks */

static struct bt_block **bucket_of(struct bt *bt, uint64_t gpa, uint64_t rip)
{
    uint64_t h = (gpa ^ (rip >> 12) * 0x9e3779b1u) * 0x9e3779b97f4a7c15u;

    return &bt->hash[h >> 50 & (BT_HASH - 1)];
}

static unsigned page_bucket(uint64_t gfn)
{
    return gfn & (BT_HASH - 1);
}

struct bt_block *bt_cached_block(struct bt *bt, uint64_t gpa, uint64_t rip, unsigned kind,
                                 bool ungrouped)
{
    for (struct bt_block *b = *bucket_of(bt, gpa, rip); b; b = b->hash_next)
        if (b->gpa == gpa && b->rip == rip && b->kind == kind && b->ungrouped == ungrouped &&
            !b->dead)
            return b;
    return NULL;
}

void bt_patch_jump(struct bt *bt, uint32_t at, uint32_t target)
{
    int32_t distance = (int32_t)(target - (at + 4));

    memcpy(bt->code_rw + at, &distance, 4);
}

/* Both entries of the block become jumps to its way out. */
static void kill_block(struct bt *bt, struct bt_block *b)
{
    bt->code_rw[b->head] = bt->code_rw[b->body] = 0xe9;
    bt_patch_jump(bt, b->head + 1, b->stale);
    bt_patch_jump(bt, b->body + 1, b->stale);
    b->dead = true;
    bt->invalidated++;
}

static void unlink_from(struct bt_block **p, struct bt_block *b, size_t next)
{
    while (*p && *p != b)
        p = (struct bt_block **)((char *)*p + next);
    if (*p)
        *p = *(struct bt_block **)((char *)b + next);
}

static bool is_current(const struct bt_block *b)
{
    return b->generation == __atomic_load_n(b->generation_now, __ATOMIC_SEQ_CST) &&
           b->generation2 == __atomic_load_n(b->generation2_now, __ATOMIC_SEQ_CST);
}

static void drop_block(struct bt *bt, struct bt_block *b)
{
    kill_block(bt, b);
    bt_drop_jump(bt, b);
    unlink_from(bucket_of(bt, b->gpa, b->rip), b, offsetof(struct bt_block, hash_next));
    unlink_from(&bt->pages[page_bucket(b->gpa >> HV_PAGE_SHIFT)], b,
                offsetof(struct bt_block, page_next));
    if (b->gfn2 != BT_NO_GFN)
        unlink_from(&bt->pages2[page_bucket(b->gfn2)], b, offsetof(struct bt_block, page2_next));
}

/* All at once, since they may be linked to each other. */
static void drop_blocks_of(struct bt *bt, uint64_t gfn)
{
    struct bt_block *b, *next;

    for (b = bt->pages[page_bucket(gfn)]; b; b = next) {
        next = b->page_next;
        if (b->gpa >> HV_PAGE_SHIFT == gfn && !is_current(b))
            drop_block(bt, b);
    }
    for (b = bt->pages2[page_bucket(gfn)]; b; b = next) {
        next = b->page2_next;
        if (b->gfn2 == gfn && !is_current(b))
            drop_block(bt, b);
    }
}

/* The place of dead blocks at the end is used again: what was linked to them has died with them.
 * Not while code is to be resumed. */
static void reuse_end(struct bt *bt)
{
    while (bt->nr_blocks && bt->blocks[bt->nr_blocks - 1].dead) {
        const struct bt_block *last = &bt->blocks[--bt->nr_blocks];

        bt->code_used = last->head;
        bt->cold_used = last->cold;
    }
}

void bt_drop_stale_page(struct bt *bt, uint64_t gfn)
{
    drop_blocks_of(bt, gfn);
    reuse_end(bt);
    bt->link = 0;
}

/* ---- new blocks */

static void add_to_lists(struct bt *bt, struct bt_block *b)
{
    struct bt_block **list = bucket_of(bt, b->gpa, b->rip);

    b->hash_next = *list;
    *list = b;
    list = &bt->pages[page_bucket(b->gpa >> HV_PAGE_SHIFT)];
    b->page_next = *list;
    *list = b;
    if (b->gfn2 == BT_NO_GFN)
        return;
    list = &bt->pages2[page_bucket(b->gfn2)];
    b->page2_next = *list;
    *list = b;
}

static const uint32_t *generation_at(struct bt *bt, uint64_t gfn)
{
    return &bt->x->v->domain->mem.code->generation[gfn];
}

/* Where the code is. */
struct place {
    uint64_t gpa;
    const uint8_t *bytes;
    hv_gpa gpa2; /* of the next page, if the instruction goes on there */
    const uint8_t *bytes2;
};

static bool is_full(const struct bt *bt)
{
    return bt->nr_blocks == bt->max_blocks || bt->code_used + BT_BLOCK_BYTES > bt->code_bytes / 2 ||
           bt->cold_used + BT_BLOCK_BYTES > bt->code_bytes;
}

/* Has the host's pages for [@used, @used + BT_BLOCK_BYTES) there: many at once cost a fraction of
 * what their page faults do. */
static void populate(struct bt *bt, uint32_t *populated, uint32_t used, uint32_t end)
{
    uint32_t more = end - *populated < POPULATE_BYTES ? end - *populated : POPULATE_BYTES;

    if (used + BT_BLOCK_BYTES <= *populated || !more)
        return;
    (void)madvise(bt->code_rw + *populated, more, MADV_POPULATE_WRITE);
    (void)madvise(bt->code + *populated, more, MADV_POPULATE_READ);
    *populated += more;
}

static struct bt_block *new_block(struct bt *bt, const struct place *at, uint64_t rip,
                                  unsigned kind, bool ungrouped)
{
    uint64_t gfn = at->gpa >> HV_PAGE_SHIFT;
    struct bt_block *b;

    if (is_full(bt))
        bt_cache_flush(bt);
    populate(bt, &bt->populated, bt->code_used, bt->code_bytes / 2);
    populate(bt, &bt->cold_populated, bt->cold_used, bt->code_bytes);
    b = &bt->blocks[bt->nr_blocks];
    *b = (struct bt_block){.gpa = at->gpa,
                           .rip = rip,
                           .gfn2 = at->bytes2 ? at->gpa2.v >> HV_PAGE_SHIFT : BT_NO_GFN,
                           .kind = (uint8_t)kind,
                           .ungrouped = ungrouped};
    bt_protect_own(bt, gfn);
    bt_note_code(bt, at->gpa);
    b->generation_now = b->generation2_now = generation_at(bt, gfn);
    if (at->bytes2) {
        bt_protect_own(bt, b->gfn2);
        b->generation2_now = generation_at(bt, b->gfn2);
    }
    b->generation = __atomic_load_n(b->generation_now, __ATOMIC_SEQ_CST);
    b->generation2 = __atomic_load_n(b->generation2_now, __ATOMIC_SEQ_CST);
    bt_translate(bt, b, at->bytes, at->bytes2);
    bt_protect_others(bt, gfn);
    if (at->bytes2)
        bt_protect_others(bt, b->gfn2);
    bt->nr_blocks++;
    add_to_lists(bt, b);
    return b;
}

/* The block that is there is of no use if its second page is another one now. */
static bool is_usable(const struct bt_block *b, const struct place *at)
{
    return is_current(b) && (b->gfn2 == BT_NO_GFN || b->gfn2 == at->gpa2.v >> HV_PAGE_SHIFT);
}

struct bt_block *bt_find_block(struct bt *bt, uint64_t rip, bool ungrouped)
{
    struct place at = {0};
    struct bt_block *b;

    at.gpa = interp_fetch(bt->x, rip, &at.bytes).v;
    if (!at.bytes)
        return NULL;
    if (bt_may_cross(rip) && bt_crosses(bt, at.bytes, rip)) {
        at.gpa2 = interp_fetch(bt->x, (rip | HV_PAGE_MASK) + 1, &at.bytes2);
        if (!at.bytes2)
            return NULL;
    }
    b = bt_cached_block(bt, at.gpa, rip, bt_kind_now(bt), ungrouped);
    if (b && is_usable(b, &at))
        return b;
    if (b && is_current(b))
        drop_block(bt, b);
    else if (b)
        drop_blocks_of(bt, at.gpa >> HV_PAGE_SHIFT);
    return new_block(bt, &at, rip, bt_kind_now(bt), ungrouped);
}

void bt_prepare_block(struct bt *bt, uint64_t gpa, const uint8_t *bytes, uint64_t rip, unsigned kind, bool ungrouped)
{
    const struct place at = {.gpa = gpa, .bytes = bytes};

    if (!is_full(bt) && !bt_cached_block(bt, gpa, rip, kind, ungrouped))
        new_block(bt, &at, rip, kind, ungrouped);
}

const struct bt_block *bt_block_at(const struct bt *bt, uint32_t at)
{
    uint32_t low = 0, high = bt->nr_blocks;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (bt->blocks[middle].head <= at)
            low = middle;
        else
            high = middle;
    }
    return &bt->blocks[low];
}
