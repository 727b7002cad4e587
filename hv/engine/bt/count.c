/* What `domus-hv run --stats` prints. Events in translated code are counted there, which is not
 * free, so only if the domain is to be counted. */
#include "config.h"

#include "hv/engine/bt/emit.h"

#include <inttypes.h>
#include <stdio.h>

#include "hv/machine/vcpu.h"

static bool is_counted(const struct bt *bt)
{
    return bt->x->v->domain->counted;
}

static uint32_t slot_of(enum bt_counter counter)
{
    return (uint32_t)(BT_SLOT(counters) + 8 * counter);
}

void bt_emit_count(struct bt *bt, enum bt_counter counter, unsigned by, unsigned scratch)
{
    if (!is_counted(bt))
        return;
    bt_emit_load_slot(bt, scratch, slot_of(counter));
    bt_emit_lea(bt, scratch, scratch, 4, 0, (int32_t)by);
    bt_emit_store_slot(bt, scratch, slot_of(counter));
}

void bt_emit_count_destroying(struct bt *bt, enum bt_counter counter)
{
    if (!is_counted(bt))
        return;
    BT_EMIT(bt, 0x65, 0x48, 0x83, 0x04, 0x25); /* add qword gs:[counter], 1 */
    bt_emit32(bt, slot_of(counter));
    bt_emit8(bt, 1);
}

/* ---- printing */

static uint64_t tlb_misses(const struct bt *bt)
{
    return bt->exits[BT_EXIT_MISS] + bt->exits[BT_EXIT_GROUP] + bt->exits[BT_EXIT_STRING];
}

static void print_rate(int fd, const char *name, uint64_t hits, uint64_t misses)
{
    if (hits + misses)
        dprintf(fd, "%s %.3f\n", name, 100.0 * (double)hits / (double)(hits + misses));
}

static void print_counted(const struct bt *bt, int fd)
{
    const uint64_t *n = bt->region->counters;

    dprintf(fd, "executed_instructions %" PRIu64 "\n", n[BT_COUNT_INSNS]);
    dprintf(fd, "executed_blocks %" PRIu64 "\n", n[BT_COUNT_BLOCKS]);
    dprintf(fd, "tlb_hits %" PRIu64 "\n", n[BT_COUNT_TLB]);
    print_rate(fd, "tlb_hit_percent", n[BT_COUNT_TLB], tlb_misses(bt));
    dprintf(fd, "returns %" PRIu64 "\n", n[BT_COUNT_RETURN]);
    print_rate(fd, "return_hit_percent", n[BT_COUNT_RETURN] - n[BT_COUNT_RETURN_MISS],
               n[BT_COUNT_RETURN_MISS]);
}

void bt_print_stats(struct hv_vcpu *v, int fd)
{
    const struct bt *bt = bt_of(v->engine_state);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"translated_instructions", bt->translated},
        {"translated_bytes", bt->translated_bytes},
        {"translated_blocks", bt->nr_blocks},
        {"exits_lookup", bt->exits[BT_EXIT_LOOKUP]},
        {"exits_interp", bt->exits[BT_EXIT_INTERP]},
        {"exits_link", bt->exits[BT_EXIT_LINK]},
        {"exits_tlb_miss", bt->exits[BT_EXIT_MISS]},
        {"exits_group", bt->exits[BT_EXIT_GROUP]},
        {"exits_string", bt->exits[BT_EXIT_STRING]},
        {"exits_fpu", bt->exits[BT_EXIT_FPU] + bt->exits[BT_EXIT_AVX]},
        {"exits_target", bt->exits[BT_EXIT_TARGET]},
        {"block_lookups", bt->lookups},
        {"interpreted", bt->fallbacks},
        {"tlb_fills", bt->tlb_fills},
        {"ungrouped", bt->ungrouped},
        {"address_space_switches", bt->switches},
        {"tlb_flushes_of_all", bt->space_flushes},
        {"blocks_invalidated", bt->invalidated},
        {"code_cache_flushes", bt->flushes},
    };

    if (is_counted(bt))
        print_counted(bt, fd);
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        dprintf(fd, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
    interp_print_stats(v, fd);
}
