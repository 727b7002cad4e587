/* Memory operands through the software TLB. */
#include "config.h"

#include "hv/engine/bt/translate.h"

struct bt_stub *bt_add_stub(struct bt_translation *t, uint32_t from)
{
    struct bt_stub *s = &t->stubs[t->nr_stubs];

    hv_assert(t->nr_stubs < BT_MAX_STUBS);
    t->nr_stubs++;
    *s = (struct bt_stub){.from = from};
    return s;
}

void bt_emit_load_guest(struct bt_translation *t, unsigned guest, unsigned host)
{
    if (host == BT_R11)
        t->r11_group = BT_NO_GROUP;
    bt_emit_load_slot(t->bt, host, bt_guest_slot(guest));
}

void bt_emit_store_guest(struct bt_translation *t, unsigned guest, unsigned host)
{
    bt_emit_store_slot(t->bt, host, bt_guest_slot(guest));
}

bool bt_in_slot(unsigned reg)
{
    return reg == BT_R10 || reg == BT_R11;
}

/* ---- where things are in the region */

static uint32_t table_of(const struct bt_site *site, size_t field)
{
    return (uint32_t)(BT_SLOT(tlb) + site->kind * sizeof(struct bt_tlb) + field);
}

static uint32_t tags_of(const struct bt_site *site)
{
    return table_of(site,
                    site->write ? offsetof(struct bt_tlb, write) : offsetof(struct bt_tlb, read));
}

static uint32_t hosts_of(const struct bt_site *site)
{
    return table_of(site, offsetof(struct bt_tlb, host));
}

static uint32_t addends_of(const struct bt_site *site)
{
    return table_of(site, offsetof(struct bt_tlb, addend));
}

static uint32_t segment_slot(unsigned segment)
{
    return segment == HV_FS ? BT_SLOT(fs_base) : BT_SLOT(gs_base);
}

static uint32_t group_slot(unsigned group)
{
    return (uint32_t)(BT_SLOT(addend) + 8 * group);
}

/* ---- addresses */

/* R10 = [base + index * scale + disp] of the guest, without segment. R11 is used only if both are
 * in slots. */
static void emit_offset(struct bt_translation *t, unsigned base, unsigned index, unsigned scale,
                        int64_t disp)
{
    unsigned b = base, i = index;

    hv_assert(disp == (int32_t)disp);
    if (t->code32) {
        bt_emit_lea32(t->bt, BT_R10, base, index == 16 ? 4 : index, scale, (int32_t)disp);
        return;
    }
    if (bt_in_slot(base)) {
        bt_emit_load_guest(t, base, BT_R10);
        b = BT_R10;
    }
    if (bt_in_slot(index)) {
        i = index == base ? b : bt_in_slot(base) ? BT_R11 : BT_R10;
        if (index != base)
            bt_emit_load_guest(t, index, i);
    }
    if (i == 16 && disp == 0 && b != 16) {
        if (b != BT_R10)
            bt_emit_mov(t->bt, BT_R10, b);
        return;
    }
    bt_emit_lea(t->bt, BT_R10, b, i == 16 ? 4 : i, scale, (int32_t)disp);
}

void bt_emit_address(struct bt_translation *t, const struct bt_ref *ref)
{
    if (ref->absolute)
        bt_emit_mov_imm(t->bt, BT_R10, ref->va);
    else
        emit_offset(t, ref->base, ref->index, ref->scale, ref->disp);
    if (ref->segment) {
        bt_emit_load_slot(t->bt, BT_R11, segment_slot(ref->segment));
        if (t->code32)
            bt_emit_lea32(t->bt, BT_R10, BT_R10, BT_R11, 0, 0);
        else
            bt_emit_lea(t->bt, BT_R10, BT_R10, BT_R11, 0, 0);
    }
}

/* ---- the TLB */

static void add_miss(struct bt_translation *t, uint32_t from, const struct bt_site *site,
                     bool group, bool rcx_saved)
{
    struct bt_stub *s = bt_add_stub(t, from);

    s->kind = group ? BT_STUB_GROUP : BT_STUB_MISS;
    s->rcx_saved = rcx_saved;
    s->site = *site;
    s->rip = site->rip;
}

/* R10: linear address; becomes the offset in the page if the tag fits, R11 the index. */
static void emit_lookup_destroying(struct bt_translation *t, const struct bt_site *site, bool group)
{
    struct bt *bt = t->bt;

    bt_emit_pext(bt, BT_R11, BT_R10, BT_SLOT(tlb_mask));
    bt_emit_alu_table(bt, BT_ADD, BT_R10, BT_R11, tags_of(site));
    if (site->align > 1) {
        BT_EMIT(bt, 0x41, 0xf6, 0xc2, (uint8_t)(site->align - 1)); /* test r10b, align - 1 */
        add_miss(t, bt_emit_jcc_open(bt, 5), site, group, false);  /* jnz */
    }
    bt_emit_cmp_imm(bt, BT_R10, HV_PAGE_SIZE - site->bytes);
    add_miss(t, bt_emit_jcc_open(bt, 7), site, group, false); /* ja */
    bt_emit_count_destroying(bt, BT_COUNT_TLB);
}

/* The same with instructions that leave flags alone: RCX is parked in its slot for JRCXZ. */
static void emit_lookup_neutral(struct bt_translation *t, const struct bt_site *site, bool group)
{
    struct bt *bt = t->bt;
    uint32_t hit;

    bt_emit_pext(bt, BT_R11, BT_R10, BT_SLOT(tlb_mask));
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_load_table(bt, HV_RCX, BT_R11, tags_of(site));
    bt_emit_lea(bt, BT_R10, BT_R10, HV_RCX, 0, 0);
    if (site->align == site->bytes) { /* aligned, so in one page */
        bt_emit_pext(bt, HV_RCX, BT_R10,
                     (uint32_t)(BT_SLOT(align_mask) + 8u * (unsigned)__builtin_ctz(site->align)));
    } else {
        if (site->align > 1) { /* both conditions at once: shift the one out of the other's way */
            bt_emit_pext(
                bt, HV_RCX, BT_R10,
                (uint32_t)(BT_SLOT(align_mask) + 8u * (unsigned)__builtin_ctz(site->align)));
            hit = bt_emit_jrcxz_open(bt);
            add_miss(t, bt_emit_jmp_open(bt), site, group, true);
            bt_close8(bt, hit);
        }
        bt_emit_lea(bt, HV_RCX, BT_R10, 4, 0, site->bytes - 1);
        bt_emit_pext(bt, HV_RCX, HV_RCX, BT_SLOT(page_mask));
    }
    hit = bt_emit_jrcxz_open(bt);
    add_miss(t, bt_emit_jmp_open(bt), site, group, true);
    bt_close8(bt, hit);
    bt_emit_count(bt, BT_COUNT_TLB, 1, HV_RCX);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
}

/* ---- groups */

/* R11 = what is to be added to the members' addresses, but for the segment that they name. */
static void emit_group_addend(struct bt_translation *t, const struct bt_group *g,
                              const struct bt_site *site, unsigned number)
{
    struct bt *bt = t->bt;

    bt_emit_load_table(bt, BT_R11, BT_R11, addends_of(site));
    if (g->segment) {
        bt_emit_load_slot(bt, BT_R10, segment_slot(g->segment));
        bt_emit_lea(bt, BT_R11, BT_R11, BT_R10, 0, 0);
    }
    bt_emit_store_slot(bt, BT_R11, group_slot(number));
    t->r11_group = number;
}

static uint32_t limit_slot(unsigned group)
{
    return (uint32_t)(BT_SLOT(limit) + 8 * group);
}

/* R10 = offset in the page, which becomes how far the register may go. */
static void emit_limit(struct bt_translation *t, const struct bt_group *g, unsigned number)
{
    struct bt *bt = t->bt;
    int64_t room = g->stride > 0 ? HV_PAGE_SIZE - (g->hi - g->lo) : 0;
    unsigned index = g->index == 16 ? 4 : g->index;

    BT_EMIT(bt, 0x49, 0xf7, 0xda); /* neg r10 */
    if (g->base != 16)
        bt_emit_lea(bt, BT_R10, BT_R10, g->base, 0, (int32_t)room);
    if (g->index != 16)
        bt_emit_lea(bt, BT_R10, BT_R10, index, g->scale, g->base == 16 ? (int32_t)room : 0);
    bt_emit_store_slot(bt, BT_R10, limit_slot(number));
}

static void emit_group_check(struct bt_translation *t, unsigned number)
{
    const struct bt_group *g = &t->groups[number];
    int64_t disp = g->lo - g->base_offset - g->index_offset * (1 << g->scale);
    const struct bt_site site = {
        .rip = bt_rip_of(t, &t->insns[g->at]),
        .resume = t->bt->code_used,
        .bytes = (uint16_t)(g->hi - g->lo),
        .write = g->write,
        .align = g->align,
        .kind = (uint8_t)t->tlb_kind,
    };

    t->r11_group = BT_NO_GROUP;
    emit_offset(t, g->base, g->index, g->scale, disp);
    if (g->segment) {
        bt_emit_load_slot(t->bt, BT_R11, segment_slot(g->segment));
        bt_emit_lea(t->bt, BT_R10, BT_R10, BT_R11, 0, 0);
    }
    if (g->neutral)
        emit_lookup_neutral(t, &site, true);
    else
        emit_lookup_destroying(t, &site, true);
    if (g->loops && g->stride)
        emit_limit(t, g, number);
    emit_group_addend(t, g, &site, number);
}

bool bt_emit_group_checks(struct bt_translation *t, unsigned insn)
{
    bool any = false;

    for (unsigned i = 0; i < t->nr_groups; i++)
        if (t->groups[i].wanted && !t->groups[i].loops && t->groups[i].at == insn) {
            emit_group_check(t, i);
            any = true;
        }
    return any;
}

/* ---- groups of a loop */

/* The register to be compared: the base itself or, with an index, their sum in R10. */
static unsigned emit_moving(struct bt_translation *t, const struct bt_group *g)
{
    if (g->index == 16 && g->base != 16)
        return g->base;
    emit_offset(t, g->base, g->index, g->scale, 0);
    return BT_R10;
}

void bt_emit_loop_groups(struct bt_translation *t)
{
    for (unsigned i = 0; i < t->nr_groups; i++)
        if (t->groups[i].wanted && t->groups[i].loops)
            emit_group_check(t, i);
}

void bt_emit_loop_checks(struct bt_translation *t, uint32_t recheck)
{
    for (unsigned i = 0; i < t->nr_groups; i++) {
        const struct bt_group *g = &t->groups[i];

        if (!g->wanted || !g->loops || g->stride == 0)
            continue;
        bt_emit_alu_slot(t->bt, BT_CMP, emit_moving(t, g), limit_slot(i));
        bt_patch_jump(t->bt, bt_emit_jcc_open(t->bt, g->stride > 0 ? 7 : 2), recheck); /* ja, jb */
    }
}

void bt_emit_load_addend(struct bt_translation *t, unsigned group)
{
    bt_emit_load_slot(t->bt, BT_R11, group_slot(group));
    t->r11_group = group;
}

static struct bt_place place_of_member(struct bt_translation *t, const struct bt_ref *ref)
{
    if (t->r11_group != ref->group)
        bt_emit_load_addend(t, ref->group);
    if (ref->index != 16 || t->code32) {
        emit_offset(t, ref->base, ref->index, ref->scale, ref->disp);
        return (struct bt_place){.base = BT_R10, .index = BT_R11};
    }
    if (ref->base == 16)
        return (struct bt_place){.base = BT_R11, .index = 4, .disp = (int32_t)ref->disp};
    if (bt_in_slot(ref->base)) {
        bt_emit_load_guest(t, ref->base, BT_R10);
        return (struct bt_place){.base = BT_R10, .index = BT_R11, .disp = (int32_t)ref->disp};
    }
    return (struct bt_place){.base = ref->base, .index = BT_R11, .disp = (int32_t)ref->disp};
}

/* ---- single accesses */

/* Compares the tag of a constant page, whose place is constant too. */
static void emit_constant_destroying(struct bt_translation *t, const struct bt_site *site,
                                     uint32_t tag, uint64_t page)
{
    struct bt *bt = t->bt;

    if (-page == (uint64_t)(int32_t)-page) {
        bt_emit_cmp_slot_imm(bt, true, tag, (int32_t)-page);
    } else {
        bt_emit_mov_imm(bt, BT_R10, -page);
        bt_emit_alu_slot(bt, BT_CMP, BT_R10, tag);
    }
    add_miss(t, bt_emit_jcc_open(bt, 5), site, false, false); /* jnz */
    bt_emit_count_destroying(bt, BT_COUNT_TLB);
}

static void emit_constant_neutral(struct bt_translation *t, const struct bt_site *site,
                                  uint32_t tag, uint64_t page)
{
    struct bt *bt = t->bt;
    uint32_t hit;

    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_load_slot(bt, HV_RCX, tag);
    bt_emit_mov_imm(bt, BT_R10, page);
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R10, 0, 0);
    hit = bt_emit_jrcxz_open(bt);
    add_miss(t, bt_emit_jmp_open(bt), site, false, true);
    bt_close8(bt, hit);
    bt_emit_count(bt, BT_COUNT_TLB, 1, HV_RCX);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
}

static struct bt_place emit_constant_access(struct bt_translation *t, const struct bt_insn *in,
                                            const struct bt_ref *ref, struct bt_site *site)
{
    uint32_t index = (uint32_t)(ref->va >> HV_PAGE_SHIFT) & (BT_TLB_ENTRIES - 1);
    uint64_t page = ref->va & ~(uint64_t)HV_PAGE_MASK;

    site->constant = ref->va;
    t->r11_group = BT_NO_GROUP;
    if (in->flags_dead)
        emit_constant_destroying(t, site, tags_of(site) + 8 * index, page);
    else
        emit_constant_neutral(t, site, tags_of(site) + 8 * index, page);
    bt_emit_load_slot(t->bt, BT_R11, hosts_of(site) + 8 * index);
    return (struct bt_place){.base = BT_R11, .index = 4, .disp = (int32_t)(ref->va & HV_PAGE_MASK)};
}

static bool is_good_constant(const struct bt_ref *ref)
{
    return ref->absolute && !ref->segment && ref->va &&
           (ref->va & HV_PAGE_MASK) + ref->bytes <= HV_PAGE_SIZE && !(ref->va & (ref->align - 1u));
}

struct bt_place bt_emit_access(struct bt_translation *t, const struct bt_insn *in,
                               const struct bt_ref *ref)
{
    struct bt_site site = {
        .rip = bt_rip_of(t, in),
        .resume = t->bt->code_used,
        .bytes = ref->bytes,
        .write = ref->write,
        .align = ref->align,
        .kind = (uint8_t)t->tlb_kind,
    };

    if (ref->group != BT_NO_GROUP)
        return place_of_member(t, ref);
    if (is_good_constant(ref))
        return emit_constant_access(t, in, ref, &site);
    t->r11_group = BT_NO_GROUP;
    bt_emit_address(t, ref);
    if (in->flags_dead)
        emit_lookup_destroying(t, &site, false);
    else
        emit_lookup_neutral(t, &site, false);
    if (!t->code32 && ref->index == 16 && ref->base != 16 && !bt_in_slot(ref->base) &&
        !ref->segment && !ref->absolute) {
        bt_emit_load_table(t->bt, BT_R11, BT_R11, addends_of(&site));
        return (struct bt_place){.base = ref->base, .index = BT_R11, .disp = (int32_t)ref->disp};
    }
    bt_emit_load_table(t->bt, BT_R11, BT_R11, hosts_of(&site));
    return (struct bt_place){.base = BT_R10, .index = BT_R11};
}

struct bt_place bt_emit_access_free11(struct bt_translation *t, const struct bt_insn *in,
                                      const struct bt_ref *ref)
{
    struct bt_place p = bt_emit_access(t, in, ref);
    unsigned base = p.base;

    if (p.base == BT_R11 || p.index == BT_R11) {
        bt_emit_lea(t->bt, BT_R10, base, p.index == BT_R11 ? BT_R11 : 4, 0, p.disp);
        p = (struct bt_place){.base = BT_R10, .index = 4};
    }
    t->r11_group = BT_NO_GROUP;
    return p;
}

struct bt_place bt_emit_access_at_r10(struct bt_translation *t, const struct bt_insn *in,
                                      const struct bt_ref *ref, uint32_t resume)
{
    const struct bt_site site = {
        .rip = bt_rip_of(t, in),
        .resume = resume,
        .bytes = ref->bytes,
        .write = ref->write,
        .align = ref->align,
        .kind = (uint8_t)t->tlb_kind,
    };

    if (in->flags_dead)
        emit_lookup_destroying(t, &site, false);
    else
        emit_lookup_neutral(t, &site, false);
    bt_emit_load_table(t->bt, BT_R11, BT_R11, hosts_of(&site));
    bt_emit_lea(t->bt, BT_R10, BT_R10, BT_R11, 0, 0);
    t->r11_group = BT_NO_GROUP;
    return (struct bt_place){.base = BT_R10, .index = 4};
}
