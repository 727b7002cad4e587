/* The cache of decoded blocks: by guest physical address and mode, with a jump cache by linear
 * address in front. Memory is one arena; when it is full everything is dropped.
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NO_GFN     (~0ull)
#define MARK_BYTES 128 /* code is marked in the code map by so much at a time */

int interp_cache_init(struct interp *x)
{
    void *arena = mmap(NULL, INTERP_CACHE_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (arena == MAP_FAILED)
        return -ENOMEM;
    x->arena = arena;
    x->jumps = calloc(INTERP_JUMPS, sizeof(*x->jumps));
    x->hash = calloc(INTERP_HASH, sizeof(struct interp_block *));
    return x->jumps && x->hash ? 0 : -ENOMEM;
}

void interp_cache_fini(struct interp *x)
{
    if (x->arena)
        munmap(x->arena, INTERP_CACHE_BYTES);
    free(x->jumps);
    free(x->hash);
}

void interp_cache_flush(struct interp *x)
{
    memset(x->hash, 0, INTERP_HASH * sizeof(struct interp_block *));
    memset(x->jumps, 0, INTERP_JUMPS * sizeof(*x->jumps));
    /* What was used once is given back, so that a burst does not stay resident. */
    (void)madvise(x->arena, INTERP_CACHE_BYTES, MADV_DONTNEED);
    x->arena_used = 0;
    x->link = NULL;
    x->block = NULL;
    x->cache_flushes++;
}

static struct interp_block **bucket_of(struct interp *x, uint64_t gpa, uint32_t mode)
{
    return &x->hash[(gpa ^ (gpa >> 13) ^ mode * 0x9e5u) & (INTERP_HASH - 1)];
}

static bool is_current(const struct interp_block *b)
{
    return b->generation == __atomic_load_n(b->generation_now, __ATOMIC_RELAXED) &&
           b->generation2 == __atomic_load_n(b->generation2_now, __ATOMIC_RELAXED);
}

/* Finds a block, dropping stale ones on the way. */
static struct interp_block *find_in_hash(struct interp *x, uint64_t gpa)
{
    struct interp_block **p = bucket_of(x, gpa, x->mode);

    while (*p) {
        struct interp_block *b = *p;

        if (!is_current(b)) {
            *p = b->hash_next;
            continue;
        }
        if (b->gpa == gpa && b->mode == x->mode)
            return b;
        p = &b->hash_next;
    }
    return NULL;
}

static const uint32_t *generation_at(struct interp *x, uint64_t gfn)
{
    return &x->v->domain->mem.code->generation[gfn];
}

static void set_generations(struct interp *x, struct interp_block *b, uint64_t gfn2)
{
    b->gfn2 = gfn2;
    b->generation_now = generation_at(x, b->gpa >> HV_PAGE_SHIFT);
    b->generation2_now = gfn2 == NO_GFN ? b->generation_now : generation_at(x, gfn2);
    b->generation = __atomic_load_n(b->generation_now, __ATOMIC_ACQUIRE);
    b->generation2 = __atomic_load_n(b->generation2_now, __ATOMIC_ACQUIRE);
}

static void end_block(struct interp_block *b, unsigned offset)
{
    b->ops[b->nr_ops] = (struct interp_op){.fn = interp_op_end, .end = (uint16_t)offset};
}

/* Decodes from @bytes, @room of which are in the page. Leaves nr_ops at 0 if the first instruction
 * crosses. */
static void decode_block(struct interp *x, struct interp_block *b, const uint8_t *bytes,
                         unsigned room)
{
    unsigned limit = x->mode & INTERP_MODE_ONE ? 1 : INTERP_BLOCK_OPS;
    unsigned offset = 0, marked = 0, flags = 0;

    while (b->nr_ops < limit) {
        struct interp_op *op = &b->ops[b->nr_ops];
        unsigned length;

        if (marked < room && offset + 15 > marked) { /* before it is read */
            unsigned more = room - marked < MARK_BYTES ? room - marked : MARK_BYTES;

            hv_codemap_mark(x->v->domain->mem.code, hv_gpa_of(b->gpa + marked), more);
            marked += more;
        }
        op->end = (uint16_t)offset;
        length = interp_decode(x, bytes + offset, room - offset, op, &flags);
        if (!length)
            break;
        offset += length;
        b->nr_ops++;
        if (flags & INTERP_ENDS)
            break;
    }
    if (b->nr_ops && !(flags & INTERP_ENDS))
        end_block(b, offset);
}

/* An instruction that continues in the next page: a block of its own. */
static void decode_crossing(struct interp *x, struct interp_block *b, uint64_t linear,
                            const uint8_t *bytes, unsigned room)
{
    uint8_t both[32];
    const uint8_t *rest;
    uint64_t next = linear + room;
    unsigned flags, length;
    hv_gpa gpa2;

    if ((x->mode & INTERP_MODE_SIZE) != INTERP_MODE_64)
        next &= 0xffffffff;
    gpa2 = interp_fetch(x, next, &rest);
    if (!rest)
        interp_unsupported(x, NULL, "instruction fetch outside of memory");
    set_generations(x, b, gpa2.v >> HV_PAGE_SHIFT);
    hv_codemap_mark(x->v->domain->mem.code, hv_gpa_of(b->gpa), room);
    hv_codemap_mark(x->v->domain->mem.code, gpa2, 15);
    memcpy(both, bytes, room);
    memcpy(both + room, rest, 16);
    b->ops[0].end = 0;
    length = interp_decode(x, both, 15, &b->ops[0], &flags);
    if (!length) /* longer than any instruction may be */
        interp_raise_code(x, NULL, HV_VEC_GP, 0);
    b->nr_ops = 1;
    if (!(flags & INTERP_ENDS))
        end_block(b, length);
}

static struct interp_block *new_block(struct interp *x, uint64_t linear, uint64_t gpa,
                                      const uint8_t *bytes)
{
    size_t most = sizeof(struct interp_block) + (INTERP_BLOCK_OPS + 1) * sizeof(struct interp_op);
    unsigned room = HV_PAGE_SIZE - (unsigned)(gpa & HV_PAGE_MASK);
    struct interp_block *b, **bucket;

    if (x->arena_used + most > INTERP_CACHE_BYTES)
        interp_cache_flush(x);
    b = (struct interp_block *)(x->arena + x->arena_used);
    memset(b, 0, sizeof(*b));
    b->gpa = gpa;
    b->mode = x->mode;
    set_generations(x, b, NO_GFN);
    decode_block(x, b, bytes, room);
    if (b->nr_ops == 0)
        decode_crossing(x, b, linear, bytes, room);
    x->arena_used += sizeof(*b) + (b->nr_ops + 1) * sizeof(struct interp_op);
    x->arena_used = (x->arena_used + 15) & ~(size_t)15;
    x->decoded += b->nr_ops;
    bucket = bucket_of(x, gpa, b->mode);
    b->hash_next = *bucket;
    *bucket = b;
    return b;
}

/* Does the second page of a crossing instruction still follow in the linear address space? */
static bool second_page_matches(struct interp *x, const struct interp_block *b, uint64_t linear)
{
    const uint8_t *host;
    uint64_t next = (linear & ~(uint64_t)HV_PAGE_MASK) + HV_PAGE_SIZE;

    if (b->gfn2 == NO_GFN)
        return true;
    if ((x->mode & INTERP_MODE_SIZE) != INTERP_MODE_64)
        next &= 0xffffffff;
    return interp_fetch(x, next, &host).v >> HV_PAGE_SHIFT == b->gfn2;
}

static struct interp_block *find_by_linear(struct interp *x, uint64_t linear)
{
    const uint8_t *bytes;
    hv_gpa gpa = interp_fetch(x, linear, &bytes);
    struct interp_block *b;

    if (!bytes)
        interp_unsupported(x, NULL, "instruction fetch outside of memory");
    b = find_in_hash(x, gpa.v);
    if (b && second_page_matches(x, b, linear))
        return b;
    return new_block(x, linear, gpa.v, bytes);
}

/* RIP to linear address; outside 64-bit mode the segment's limit is checked. */
static uint64_t code_linear(struct interp *x)
{
    const struct hv_cpu *cpu = &x->v->cpu;

    if ((x->mode & INTERP_MODE_SIZE) == INTERP_MODE_64)
        return cpu->rip;
    if (cpu->rip > cpu->seg[HV_CS].limit)
        interp_raise_code(x, NULL, HV_VEC_GP, 0);
    return (cpu->rip + cpu->seg[HV_CS].base) & 0xffffffff;
}

/* A branch notes its target if that is in the same page, whose mapping the branch itself vouches
 * for. */
static void set_link(struct interp *x, struct interp_block *b)
{
    struct interp_block *from = x->block;

    if (x->link && from && from->gfn2 == NO_GFN && b->gfn2 == NO_GFN &&
        from->gpa >> HV_PAGE_SHIFT == b->gpa >> HV_PAGE_SHIFT && from->mode == b->mode &&
        (b->mode & INTERP_MODE_FLAT) && !(b->mode & INTERP_MODE_ONE) &&
        x->block_rip >> HV_PAGE_SHIFT == x->v->cpu.rip >> HV_PAGE_SHIFT)
        *x->link = b;
    x->link = NULL;
}

struct interp_block *interp_find_block(struct interp *x)
{
    uint64_t linear = code_linear(x);
    struct interp_jump *j = &x->jumps[(linear ^ (linear >> 12)) & (INTERP_JUMPS - 1)];
    struct interp_block *b = j->block;

    if (INTERP_UNLIKELY(!b || j->rip != linear || j->key != x->jump_key || !is_current(b))) {
        b = find_by_linear(x, linear);
        *j = (struct interp_jump){.rip = linear, .key = x->jump_key, .block = b};
    }
    set_link(x, b);
    return b;
}
