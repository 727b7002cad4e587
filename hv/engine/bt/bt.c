/* The translator's run loop and engine operations. See bt.h. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <asm/prctl.h>
#include <cpuid.h>

#include "hv/engine/interp/mem.h"
#include "hv/machine/vcpu.h"
#include "hv/x86/xstate.h"

/* All ways back in translated code see one of the two: jumps the first, and the jump cache, which
 * has nothing at index 0, the second. The order is what emit_far_probe relies on. */
static void kick_region(struct bt_region *r)
{
    __atomic_store_n(&r->kick, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&r->jump_mask, 0, __ATOMIC_SEQ_CST);
}

/* Attention has been asked for. */
static void kick(struct hv_vcpu *v)
{
    const struct interp *x = v->engine_state;
    const struct bt *bt = x ? x->translator_state : NULL;

    if (bt && bt->region)
        kick_region(bt->region);
}

void bt_poke_others(struct bt *bt)
{
    struct hv_domain *d = bt->x->v->domain;

    for (unsigned i = 0; i < d->nr_vcpus; i++)
        if (d->vcpus[i] != bt->x->v) {
            atomic_fetch_or(&d->vcpus[i]->attention, HV_ATTN_EVENT);
            kick(d->vcpus[i]);
        }
}

/* The kick is taken back before the look at what it was for. */
static bool has_attention(struct bt *bt)
{
    struct bt_region *r = bt->region;

    if (__atomic_load_n(&r->kick, __ATOMIC_RELAXED)) {
        __atomic_exchange_n(&r->kick, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&r->jump_mask, BT_JUMP_MASK, __ATOMIC_SEQ_CST);
    }
    return atomic_load_explicit(&bt->x->v->attention, memory_order_relaxed);
}

/* ---- into translated code and back */

static void prepare(struct bt *bt, struct bt_region *r)
{
    const struct hv_cpu *cpu = &bt->x->v->cpu;

    r->fs_base = cpu->seg[HV_FS].base;
    r->gs_base = cpu->seg[HV_GS].base;
    r->tsc_offset = cpu->tsc_offset;
    r->ax_flags = interp_flags_ax(cpu->rflags);
    r->rflags = cpu->rflags & ~(uint64_t)(INTERP_ARITH | HV_EFLAGS_IF | HV_EFLAGS_AC);
    r->ac_flag = cpu->rflags & HV_EFLAGS_AC;
    r->tsc_aux = (uint32_t)cpu->tsc_aux;
    r->if_flag = cpu->rflags & HV_EFLAGS_IF;
    r->irq_window = bt->x->v->irq_window;
}

/* XRSTOR is to load all of the image. */
static void set_header(struct hv_cpu *cpu)
{
    hv_fx_put64(cpu->xsave, HV_XS_XSTATE_BV, HV_XSTATE_X87 | HV_XSTATE_SSE | HV_XSTATE_AVX);
    hv_fx_put64(cpu->xsave, HV_XS_XCOMP_BV, 0);
}

static enum bt_reason enter(struct bt *bt, struct bt_region *r, uint32_t code, enum bt_fpu fpu)
{
    struct hv_cpu *cpu = &bt->x->v->cpu;

    r->fpu = fpu;
    prepare(bt, r);
    bt_prepare_syscall(bt);
    if (fpu && bt->host_avx)
        set_header(cpu);
    (fpu ? bt->enter_fpu : bt->enter)(r, (uint64_t)(uintptr_t)(bt->code + code));
    cpu->rflags = r->rflags | r->if_flag | r->ac_flag | interp_ax_flags((uint16_t)r->ax_flags);
    bt->exits[r->reason]++;
    return (enum bt_reason)r->reason;
}

/* Whether translated code may use the guest's x87 and SSE state: nothing can trap then. */
static enum bt_fpu usable_fpu(const struct hv_cpu *cpu)
{
    const uint64_t avx = HV_XSTATE_SSE | HV_XSTATE_AVX;
    uint32_t mxcsr = hv_fx_get32(cpu->xsave, HV_FX_MXCSR);
    uint16_t fcw = hv_fx_get16(cpu->xsave, HV_FX_FCW), fsw = hv_fx_get16(cpu->xsave, HV_FX_FSW);
    bool usable = !(cpu->cr0 & (HV_CR0_TS | HV_CR0_EM)) && (cpu->cr4 & HV_CR4_OSFXSR) &&
                  (mxcsr & HV_MXCSR_MASKS) == HV_MXCSR_MASKS &&
                  !(mxcsr & ~(uint32_t)HV_MXCSR_MASK) && (fcw & HV_FCW_MASKS) == HV_FCW_MASKS &&
                  !(fsw & HV_FSW_ES);

    if (!usable)
        return BT_FPU_NONE;
    return (cpu->cr4 & HV_CR4_OSXSAVE) && (cpu->xcr0 & avx) == avx ? BT_FPU_AVX : BT_FPU_LOADED;
}

static void fallback(struct bt *bt)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    uint64_t log = map->log_head;

    bt->fallbacks++;
    interp_execute_one(bt->x);
    if (__atomic_load_n(&map->log_head, __ATOMIC_RELAXED) != log)
        bt_poke_others(bt);
}

/* Where to go on after a look into the TLB for a group failed: at the look itself, or in the
 * block's variant without groups. 0: the interpreter has to execute the instruction. */
static uint32_t serve_group(struct bt *bt, const struct bt_site *missed)
{
    struct bt_site site = *missed; /* the cache may be flushed */
    uint64_t flushes = bt->flushes;
    struct bt_block *b;

    if (bt_fill_group(bt, &site))
        return site.resume;
    bt->ungrouped++;
    b = bt_find_block(bt, site.rip, true);
    if (!b)
        return 0;
    if (flushes == bt->flushes && site.crosses)
        bt_patch_jump(bt, site.crosses, b->body);
    return b->body;
}

/* Whether all address spaces have the block's code. */
static bool is_global(struct bt *bt, const struct bt_block *b)
{
    return interp_tlb_at(bt->x, b->rip)->global &&
           (b->gfn2 == BT_NO_GFN || interp_tlb_at(bt->x, b->rip + HV_PAGE_SIZE)->global);
}

/* Whether the block at @rip is there now and in the jump cache. What may fault is left to the
 * interpreter. */
static bool provide_target(struct bt *bt, uint64_t rip)
{
    uint64_t flushes = bt->flushes;
    struct bt_block *b;

    if (bt_may_cross(rip) || interp_tlb_at(bt->x, rip)->exec != interp_tag(bt->x, rip, 1))
        return false;
    b = bt_find_block(bt, rip, false);
    if (!b || flushes != bt->flushes)
        return false;
    bt_add_jump(bt, bt_kind_now(bt), rip, (uint64_t)(uintptr_t)(bt->code + b->body),
                is_global(bt, b));
    return true;
}

/* Runs from @code until something else than the TLB or the FPU needs C. */
static enum bt_reason run_code(struct bt *bt, struct bt_region *r, uint32_t code)
{
    struct hv_cpu *cpu = &bt->x->v->cpu;
    enum bt_fpu fpu = BT_FPU_NONE;

    for (;;) {
        enum bt_reason reason = enter(bt, r, code, fpu);
        const struct bt_site *site = (const struct bt_site *)(uintptr_t)r->detail;
        const struct bt_string *string = (const struct bt_string *)(uintptr_t)r->detail;

        fpu = (enum bt_fpu)r->fpu;
        if (bt->x->stale) /* the rights have changed */
            interp_refresh(bt->x);
        switch (reason) {
        case BT_EXIT_MISS:
            cpu->rip = site->rip;
            if (!bt_fill(bt, site))
                return BT_EXIT_INTERP;
            code = site->resume;
            break;
        case BT_EXIT_GROUP:
            cpu->rip = site->rip;
            code = serve_group(bt, site);
            if (!code)
                return BT_EXIT_INTERP;
            break;
        case BT_EXIT_STRING:
            cpu->rip = string->rip;
            if (!bt_fill_string(bt, string))
                return BT_EXIT_INTERP;
            code = string->resume;
            break;
        case BT_EXIT_TARGET:
            cpu->rip = r->rip;
            if (__atomic_load_n(&r->kick, __ATOMIC_RELAXED))
                return BT_EXIT_LOOKUP;
            if (!provide_target(bt, r->target))
                return BT_EXIT_INTERP;
            code = (uint32_t)r->detail;
            break;
        case BT_EXIT_FPU:
        case BT_EXIT_AVX:
            cpu->rip = r->rip;
            fpu = usable_fpu(cpu);
            if (fpu < (reason == BT_EXIT_AVX ? BT_FPU_AVX : BT_FPU_LOADED))
                return BT_EXIT_INTERP;
            code = (uint32_t)r->detail;
            break;
        default:
            cpu->rip = r->rip;
            return reason;
        }
    }
}

/* The jump at @at goes straight to @to from now on, if that is where it leads in every address
 * space: in the same page of the guest's memory. */
static void link_jump(struct bt *bt, uint32_t at, const struct bt_block *to)
{
    const struct bt_block *from = bt_block_at(bt, at);

    if (!from->dead && to->gfn2 == BT_NO_GFN &&
        from->gpa >> HV_PAGE_SHIFT == to->gpa >> HV_PAGE_SHIFT &&
        from->generation == to->generation && from->kind == to->kind)
        bt_patch_jump(bt, at, to->rip < from->rip + from->bytes ? to->head : to->body);
}

static uint32_t find_code(struct bt *bt)
{
    uint64_t rip = bt->x->v->cpu.rip, code;
    unsigned kind = bt_kind_now(bt);
    struct bt_block *b;
    uint64_t flushes = bt->flushes;

    if (!bt->link && bt_find_jump(bt, kind, rip, &code))
        return (uint32_t)(code - (uint64_t)(uintptr_t)bt->code);
    bt->lookups++;
    b = bt_find_block(bt, rip, false);
    if (!b)
        return 0;
    bt_add_jump(bt, kind, rip, (uint64_t)(uintptr_t)(bt->code + b->body), is_global(bt, b));
    if (bt->link && flushes == bt->flushes)
        link_jump(bt, bt->link, b);
    bt->link = 0;
    return b->head;
}

/* Translated code finds its region through GS, which nothing else uses in this process. What is in
 * the register belongs to the thread, hence the variable. */
static bool set_gs(const struct bt_region *r)
{
    static __thread const struct bt_region *now;

    if (now != r) {
        if (syscall(SYS_arch_prctl, ARCH_SET_GS, r))
            return false;
        now = r;
    }
    return true;
}

/* Executes 64-bit code, or that of flat 32-bit programs, until the interpreter's loop has something
 * to look at. */
static void run_translated(struct interp *x)
{
    struct bt *bt = bt_of(x);
    struct hv_vcpu *v = x->v;
    bool tsd = v->cpu.cr4 & HV_CR4_TSD, smap = v->cpu.cr4 & HV_CR4_SMAP;

    /* Rings 1 and 2 are nobody's, but IOPL is about them. */
    if (hv_cpu_cpl(&v->cpu) == 1 || hv_cpu_cpl(&v->cpu) == 2) {
        fallback(bt);
        return;
    }
    if (!set_gs(bt->region)) {
        fallback(bt);
        return;
    }
    if (tsd != bt->tsd || smap != bt->smap) {
        bt->tsd = tsd;
        bt->smap = smap;
        bt_cache_flush(bt);
    }
    while (!x->stale && !has_attention(bt)) {
        enum bt_reason reason;
        uint32_t code;

        bt_switch_space(bt);
        bt_read_log(bt);
        code = find_code(bt);
        reason = code ? run_code(bt, bt->region, code) : BT_EXIT_INTERP;
        bt->link = reason == BT_EXIT_LINK ? (uint32_t)bt->region->detail : 0;
        if (reason == BT_EXIT_INTERP)
            fallback(bt);
    }
    bt->link = 0;
}

/* ---- life */

static bool available(void)
{
    unsigned eax, ebx = 0, ecx, edx;

    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & (1u << 8)); /* BMI2 */
}

static void vcpu_fini(struct hv_vcpu *v)
{
    struct interp *x = v->engine_state;
    struct bt *bt = x ? bt_of(x) : NULL;

    if (bt) {
        bt_space_fini(bt);
        bt_translate_fini(bt);
        bt_cache_fini(bt);
        free(bt);
    }
    interp_vcpu_fini(v);
}

static int vcpu_init(struct hv_vcpu *v)
{
    struct bt *bt;
    struct interp *x;
    int err;

    if (!available())
        return -ENOTSUP;
    err = interp_vcpu_init(v);
    if (err)
        return err;
    x = v->engine_state;
    bt = x->translator_state = calloc(1, sizeof(*bt));
    if (!bt) {
        vcpu_fini(v);
        return -ENOMEM;
    }
    bt->x = x;
    bt->log_seen = v->domain->mem.code->log_head;
    bt->host_avx = hv_xstate_supported() & HV_XSTATE_AVX;
    v->domain->mem.code->fenced = x->fenced = true;
    x->pauses = x->pauses_per_yield = 1; /* the others are translated */
    err = bt_space_init(bt);
    if (!err)
        err = bt_cache_init(bt);
    if (!err)
        err = bt_translate_init(bt);
    if (err) {
        vcpu_fini(v);
        return err;
    }
    x->translator = run_translated;
    x->page_flushed = bt_pages_flushed;
    return 0;
}

static void flush(struct hv_vcpu *v)
{
    interp_flush(v);
    bt_cache_flush(bt_of(v->engine_state));
}

const struct hv_engine_ops hv_engine_bt = {
    .name = "bt",
    .available = available,
    .vcpu_init = vcpu_init,
    .vcpu_fini = vcpu_fini,
    .run = interp_run,
    .inject = interp_inject,
    .flush = flush,
    .flush_tlb = interp_flush_tlb,
    .tlb_lookup = interp_tlb_lookup,
    .tlb_enter = interp_tlb_enter,
    .list_code = bt_list_code,
    .prepare_code = bt_prepare_code,
    .kick = kick,
    .print_stats = bt_print_stats,
};
