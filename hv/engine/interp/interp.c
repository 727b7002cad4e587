/* The reference engine: its run loop and how instructions leave it. See interp.h. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/machine/vcpu.h"
#include "hv/x86/exception.h"

/* ---- leaving an instruction */

_Noreturn void interp_raise(struct interp *x, struct interp_op *op, const struct hv_fault *fault)
{
    x->fault = *fault;
    x->fault_op = op;
    longjmp(x->leave, INTERP_LEAVE_FAULT);
}

_Noreturn void interp_raise_vector(struct interp *x, struct interp_op *op, uint8_t vector)
{
    interp_raise(x, op, &(struct hv_fault){.vector = vector});
}

_Noreturn void interp_raise_code(struct interp *x, struct interp_op *op, uint8_t vector,
                                 uint32_t code)
{
    interp_raise(x, op,
                 &(struct hv_fault){.vector = vector, .has_error_code = true, .error_code = code});
}

_Noreturn void interp_stop(struct interp *x, enum hv_run reason)
{
    x->stop_reason = reason;
    x->stale = true;
    longjmp(x->leave, INTERP_LEAVE_STOP);
}

void interp_rewind(struct interp *x, struct interp_op *op)
{
    x->v->cpu.rip = (x->block_rip + op->end - op->len) & interp_rip_mask(x);
    if (x->block && op >= x->block->ops && op < x->block->ops + x->block->nr_ops)
        x->instructions -= x->block->nr_ops - (uint64_t)(op - x->block->ops);
}

_Noreturn void interp_unsupported(struct interp *x, struct interp_op *op, const char *what)
{
    if (op)
        interp_rewind(x, op);
    snprintf(x->v->error, sizeof(x->v->error), "interp: %s at RIP 0x%" PRIx64, what, x->v->cpu.rip);
    interp_stop(x, HV_RUN_UNSUPPORTED);
}

/* ---- the ends of blocks */

/* The block stops here, but nothing jumps. */
INTERP_HANDLER(interp_op_end)
{
    interp_go_chained(cpu, op, x, 0, interp_next_rip(x, op));
}

/* Stands in for an instruction that the one before it has overwritten. */
INTERP_HANDLER(interp_op_stop)
{
    (void)cpu;
    interp_rewind(x, op);
}

INTERP_HANDLER(interp_op_undefined)
{
    (void)cpu;
    interp_raise_vector(x, op, HV_VEC_UD);
}

/* More than 15 bytes. */
INTERP_HANDLER(interp_op_too_long)
{
    (void)cpu;
    interp_raise_code(x, op, HV_VEC_GP, 0);
}

/* The host code for this instruction had no room: all of it goes, with the blocks that refer to it,
 * and the instruction is decoded anew. */
INTERP_HANDLER(interp_op_no_room)
{
    (void)cpu;
    if (!hv_native_flush(x->native))
        interp_unsupported(x, op, "no memory for host code");
    interp_rewind(x, op);
    x->step_trap = false; /* it has not been executed */
    interp_cache_flush(x);
}

/* ---- the loop */

static bool has_attention(const struct hv_vcpu *v)
{
    return atomic_load_explicit(&v->attention, memory_order_relaxed);
}

static void run_blocks(struct interp *x, struct interp_block *b)
{
    struct hv_vcpu *v = x->v;

    x->block_rip = v->cpu.rip;
    do {
        x->block = b;
        x->next = NULL;
        x->instructions += b->nr_ops;
        x->blocks++;
        b->ops[0].fn(&v->cpu, b->ops, x);
        b = x->next;
    } while (b && !has_attention(v));
    if (b)
        v->cpu.rip = x->block_rip;
}

static void deliver_debug(struct interp *x, uint64_t dr6)
{
    struct hv_cpu *cpu = &x->v->cpu;

    cpu->dr6 |= dr6;
    interp_raise_vector(x, NULL, HV_VEC_DB);
}

/* Instruction breakpoints: DR7 enables one with type 0 and length 0. */
static void check_breakpoints(struct interp *x)
{
    struct hv_cpu *cpu = &x->v->cpu;
    uint64_t linear = cpu->rip + (hv_cpu_64bit(cpu) ? 0 : cpu->seg[HV_CS].base);

    for (unsigned i = 0; i < 4; i++)
        if ((cpu->dr7 & (3u << (2 * i))) && !(cpu->dr7 & (0xfull << (16 + 4 * i))) &&
            cpu->dr[i] == linear)
            deliver_debug(x, 1u << i);
}

/* One instruction alone: single step, the shadow of STI and MOV SS, breakpoints, RF. */
static void step(struct interp *x)
{
    struct hv_cpu *cpu = &x->v->cpu;

    x->step_trap = cpu->rflags & HV_EFLAGS_TF;
    x->watch_hits = 0;
    x->stale = true;
    if ((cpu->dr7 & 0xff) && !(cpu->rflags & HV_EFLAGS_RF) && !cpu->int_shadow)
        check_breakpoints(x);
    struct interp_block *b = interp_find_block(x);

    cpu->int_shadow = false;
    cpu->rflags &= ~(uint64_t)HV_EFLAGS_RF;
    run_blocks(x, b);
    if ((x->step_trap || x->watch_hits) && !cpu->int_shadow)
        deliver_debug(x, x->watch_hits | (x->step_trap ? 1u << 14 : 0));
}

void interp_execute_one(struct interp *x)
{
    uint32_t mode = x->mode;
    uint64_t jump_key = x->jump_key;
    struct interp_block *b;

    x->mode |= INTERP_MODE_ONE;
    x->jump_key |= INTERP_MODE_ONE;
    b = interp_find_block(x);
    run_blocks(x, b);
    x->link = NULL;
    x->mode = mode;
    x->jump_key = jump_key;
}

static enum hv_run loop(struct interp *x)
{
    struct hv_vcpu *v = x->v;

    for (;;) {
        if (x->stale)
            interp_refresh(x);
        if (has_attention(v))
            return HV_RUN_ATTENTION;
        if (v->irq_window && hv_vcpu_can_take_interrupt(v))
            return HV_RUN_IRQ_WINDOW;
        if (x->stepping)
            step(x);
        else if (x->translator && x->translatable)
            x->translator(x);
        else
            run_blocks(x, interp_find_block(x));
    }
}

/* The exception that the longjmp brought. */
static int take_fault(struct interp *x)
{
    struct hv_vcpu *v = x->v;

    if (x->fault_op)
        interp_rewind(x, x->fault_op);
    x->link = NULL;
    x->stale = true;
    x->faults++;
    return hv_x86_deliver(v, HV_DELIVER_EXCEPTION, &x->fault, v->cpu.rip);
}

static enum hv_run leave_reason(struct interp *x, int err)
{
    if (err == -ENOTSUP)
        return HV_RUN_UNSUPPORTED;
    x->beyond_help = false;
    return HV_RUN_TRIPLE_FAULT;
}

enum hv_run interp_run(struct hv_vcpu *v)
{
    struct interp *x = v->engine_state;
    int err;

    if (x->beyond_help)
        return leave_reason(x, -ESHUTDOWN);
    if (v->cpu.rflags & HV_EFLAGS_VM) {
        snprintf(v->error, sizeof(v->error), "interp: virtual-8086 mode");
        return HV_RUN_UNSUPPORTED;
    }
    interp_refresh(x);
    for (;;) {
        switch (_setjmp(x->leave)) {
        case 0:
            return loop(x);
        case INTERP_LEAVE_FAULT:
            interp_split_end(x);
            err = take_fault(x);
            if (err)
                return leave_reason(x, err);
            break;
        default:
            interp_split_end(x);
            return x->stop_reason;
        }
    }
}

void interp_inject(struct hv_vcpu *v, uint8_t vector)
{
    struct interp *x = v->engine_state;
    struct hv_fault what = {.vector = vector};
    int err = hv_x86_deliver(v, vector == HV_VEC_NMI ? HV_DELIVER_NMI : HV_DELIVER_INTERRUPT, &what,
                             v->cpu.rip);

    x->stale = true;
    if (err)
        x->beyond_help = true;
}

void interp_flush_tlb(struct hv_vcpu *v)
{
    interp_tlb_flush_all(v->engine_state);
}

void interp_flush(struct hv_vcpu *v)
{
    struct interp *x = v->engine_state;

    interp_cache_flush(x);
    interp_tlb_flush_all(x);
}

/* ---- life */

void interp_vcpu_fini(struct hv_vcpu *v)
{
    struct interp *x = v->engine_state;

    if (!x)
        return;
    interp_cache_fini(x);
    if (x->native)
        hv_native_free(x->native);
    if (x->code_lines)
        hv_codemap_put(&v->domain->mem);
    free(x);
    v->engine_state = NULL;
}

int interp_vcpu_init(struct hv_vcpu *v)
{
    struct interp *x = calloc(1, sizeof(*x));
    int err;

    if (!x)
        return -ENOMEM;
    v->engine_state = x;
    x->v = v;
    x->mem_base = v->domain->mem.base;
    x->pauses = x->pauses_per_yield = INTERP_PAUSES_PER_YIELD;
    err = hv_codemap_get(&v->domain->mem);
    if (!err) {
        x->code_lines = v->domain->mem.code->lines;
        err = interp_cache_init(x);
    }
    if (!err)
        err = interp_decode_init(x);
    if (!err)
        err = hv_native_new(&x->native);
    if (err) {
        interp_vcpu_fini(v);
        return err;
    }
    interp_tlb_init(x);
    return 0;
}

void interp_print_stats(struct hv_vcpu *v, int fd)
{
    const struct interp *x = v->engine_state;
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"instructions", x->instructions},
        {"blocks", x->blocks},
        {"decoded", x->decoded},
        {"tlb_misses", x->tlb_misses},
        {"tlb_flushes", x->tlb_flushes},
        {"stale_blocks", x->stale_blocks},
        {"cache_flushes", x->cache_flushes},
        {"exceptions", x->faults},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        dprintf(fd, "%s %" PRIu64 "\n", rows[i].name, rows[i].value);
}

const struct hv_engine_ops hv_engine_interp = {
    .name = "interp",
    .vcpu_init = interp_vcpu_init,
    .vcpu_fini = interp_vcpu_fini,
    .run = interp_run,
    .inject = interp_inject,
    .flush = interp_flush,
    .flush_tlb = interp_flush_tlb,
    .tlb_lookup = interp_tlb_lookup,
    .tlb_enter = interp_tlb_enter,
    .print_stats = interp_print_stats,
};
