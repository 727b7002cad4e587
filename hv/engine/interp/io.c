/* IN, OUT, INS, OUTS with the permission rules of IOPL and the TSS bitmap. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include "hv/machine/machine.h"
#include "hv/x86/linear.h"

/* SDM volume 1, chapter 19.5. All bits of the ports must be 0; the map has a byte of ones after it.
 */
static bool bitmap_allows(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, uint16_t port,
                          unsigned bytes)
{
    uint16_t map, bits;
    struct hv_fault fault;

    if (!(cpu->tr.attr & HV_SEG_P) || !(HV_SEG_TYPE(cpu->tr.attr) & 8u) || cpu->tr.limit < 103)
        return false;
    if (hv_x86_read_linear(x->v, cpu->tr.base + 102, &map, 2, HV_ACCESS_IMPLICIT, &fault))
        interp_raise(x, op, &fault);
    if ((uint32_t)map + port / 8 + 1 > cpu->tr.limit)
        return false;
    if (hv_x86_read_linear(x->v, cpu->tr.base + map + port / 8, &bits, 2, HV_ACCESS_IMPLICIT,
                           &fault))
        interp_raise(x, op, &fault);
    return !(bits >> (port & 7) & ((1u << bytes) - 1));
}

static void check_port(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, uint16_t port,
                       unsigned bytes)
{
    if ((cpu->cr0 & HV_CR0_PE) && hv_cpu_cpl(cpu) > ((cpu->rflags >> 12) & 3) &&
        !bitmap_allows(cpu, op, x, port, bytes))
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

static uint16_t port_of(struct hv_cpu *cpu, struct interp_op *op)
{
    return op->flags & INTERP_OP_SRC_IMM ? (uint8_t)op->imm : (uint16_t)cpu->gpr[HV_RDX];
}

static INTERP_HANDLER(in)
{
    uint16_t port = port_of(cpu, op);

    check_port(cpu, op, x, port, op->size);
    interp_set(cpu, HV_RAX * 8, op->size, hv_pio_read(x->v, port, op->size));
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(out)
{
    uint16_t port = port_of(cpu, op);

    check_port(cpu, op, x, port, op->size);
    hv_pio_write(x->v, port, op->size, (uint32_t)interp_get(cpu, HV_RAX * 8, op->size));
    interp_end_system(cpu, op, x);
}

/* OUT's immediate is its first operand, IN's its last. */
static void pick_port(struct interp_decoding *d, const struct interp_insn *insn)
{
    struct interp_op *op = d->op;
    unsigned port = insn->extra, data = 1 - port;

    op->size = (uint8_t)(d->operands[data].size / 8);
    op->flags &= (uint8_t)~INTERP_OP_SRC_IMM;
    if (d->operands[port].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        op->flags |= INTERP_OP_SRC_IMM;
    op->fn = insn->fn[0];
}

/* ---- strings: one element each time round the loop, so that devices see every access */

static void advance(struct hv_cpu *cpu, struct interp_op *op, unsigned r)
{
    uint64_t delta = cpu->rflags & HV_EFLAGS_DF ? -(uint64_t)op->extra : op->extra;

    interp_set(cpu, r * 8, op->address_bytes, interp_get(cpu, r * 8, op->address_bytes) + delta);
}

static void ins_one(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint64_t offset = interp_get(cpu, HV_RDI * 8, op->address_bytes);
    uint64_t va = interp_linear(cpu, op, x, HV_ES, offset, op->extra, true);

    interp_check_write(x, op, va, op->extra); /* before the device's state changes */
    interp_write(x, op, va, op->extra, hv_pio_read(x->v, (uint16_t)cpu->gpr[HV_RDX], op->extra));
    advance(cpu, op, HV_RDI);
}

static void outs_one(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint64_t offset = interp_get(cpu, HV_RSI * 8, op->address_bytes);
    uint64_t va = interp_linear(cpu, op, x, op->seg, offset, op->extra, false);

    hv_pio_write(x->v, (uint16_t)cpu->gpr[HV_RDX], op->extra,
                 (uint32_t)interp_read(x, op, va, op->extra));
    advance(cpu, op, HV_RSI);
}

INTERP_INLINE void port_string(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                               void (*one)(struct hv_cpu *, struct interp_op *, struct interp *))
{
    bool repeats = op->flags & (INTERP_OP_REP | INTERP_OP_REPNE);
    uint64_t count = repeats ? interp_get(cpu, HV_RCX * 8, op->address_bytes) : 1;

    check_port(cpu, op, x, (uint16_t)cpu->gpr[HV_RDX], op->extra);
    if (count) {
        one(cpu, op, x);
        count--;
        if (repeats)
            interp_set(cpu, HV_RCX * 8, op->address_bytes, count);
    }
    interp_end_system(cpu, op, x);
    if (count) /* again from the start, with a look at what wants attention */
        cpu->rip = (cpu->rip - op->len) & interp_rip_mask(x);
}

static INTERP_HANDLER(ins)
{
    port_string(cpu, op, x, ins_one);
}

static INTERP_HANDLER(outs)
{
    port_string(cpu, op, x, outs_one);
}

static void pick_port_string(struct interp_decoding *d, const struct interp_insn *insn)
{
    interp_set_string_segment(d);
    d->op->fn = insn->fn[0];
}

#define ENDS .flags = INTERP_ENDS
#define STRING(name, function, bytes)                                                              \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, pick_port_string, .fn = {function}, .extra = bytes, ENDS            \
    }

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_IN, pick_port, .fn = {in}, .extra = 1, ENDS},
    {ZYDIS_MNEMONIC_OUT, pick_port, .fn = {out}, .extra = 0, ENDS},
    STRING(INSB, ins, 1),
    STRING(INSW, ins, 2),
    STRING(INSD, ins, 4),
    STRING(OUTSB, outs, 1),
    STRING(OUTSW, outs, 2),
    STRING(OUTSD, outs, 4),
};

const struct interp_insn_table interp_io_insns = {insns, HV_ARRAY_LEN(insns)};
