/* Makes a test from a seed: start state, then instruction after instruction.
 *
 * Flags that an instruction leaves undefined (Intel SDM, by way of Zydis) are followed through the
 * code: no instruction may read them, and the comparison leaves them out.
 */
#include "config.h"

#include "hv/engine/difftest-gen.h"

#include <string.h>

#define ARITHMETIC   0x8d5u
#define MAX_CHOSEN   12
#define JUMP_BYTES   5
#define LOOP_PERCENT 5

/* Values at which arithmetic turns: as integers, as floats, as halves of doubles. */
static const uint64_t special[] = {
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x7fffffffffffffff,
    0x8000000000000000,
    0xffffffffffffffff,
    0xfffffffffffffffe,
    0x3f800000,
    0xbf800000,
    0x7f800000,
    0xff800000,
    0x7fc00000,
    0x7fa00000,
    0x00000001,
    0x007fffff,
    0x4f000000,
    0x3f8000003f800000,
    0x7f7fffff00800000,
    0x3ff0000000000000,
    0xbff0000000000000,
    0x7ff0000000000000,
    0xfff0000000000000,
    0x7ff8000000000000,
    0x7ff4000000000000,
    0x000fffffffffffff,
    0x0010000000000000,
    0x7fefffffffffffff,
    0x43e0000000000000,
    0x41dfffffffc00000,
    0x3fe0000000000000,
    0x4024000000000000,
    0x3c00000000000000,
    0x0101010101010101,
};

static uint64_t random_value(struct dt_gen *g)
{
    switch (dt_below(g, 4)) {
    case 0:
        return dt_random(g);
    case 1:
        return dt_random(g) >> dt_below(g, 64);
    case 2: /* a double or two floats of moderate size */
        return (dt_random(g) & 0x801fffffe01fffff) | 0x3f0000003e800000;
    default:
        return special[dt_below(g, HV_ARRAY_LEN(special))];
    }
}

void dt_fill_memory(uint8_t data[DT_DATA_PAGES * HV_PAGE_SIZE],
                    uint8_t stack[DT_STACK_PAGES * HV_PAGE_SIZE])
{
    struct dt_gen g = {.rng = 0};

    for (unsigned i = 0; i < DT_DATA_PAGES * HV_PAGE_SIZE; i += 8)
        hv_fx_put64(data, i, random_value(&g));
    for (unsigned i = 0; i < DT_STACK_PAGES * HV_PAGE_SIZE; i += 8)
        hv_fx_put64(stack, i, random_value(&g));
}

static void start_x87(struct dt_gen *g, uint8_t *fx)
{
    uint16_t fcw = (uint16_t)((dt_below(g, 4) << 10) | HV_FCW_MASKS |
                              (dt_chance(g, 70) ? 0x300 : dt_below(g, 4) << 8));
    unsigned top = dt_below(g, 8);

    if (g->faults && dt_chance(g, 20))
        fcw &= (uint16_t)~dt_below(g, 64);
    hv_fx_put_control(fx, fcw,
                      (uint16_t)(top << 11 | (dt_below(g, 16) & 7) << 8 |
                                 (dt_chance(g, 10) ? dt_below(g, 64) : 0)));
    fx[HV_FX_FTW] = dt_chance(g, 40) ? 0 : (uint8_t)dt_random(g);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t fraction = random_value(g);
        unsigned exponent = dt_chance(g, 80) ? 0x3fff - 40 + dt_below(g, 80)
                                             : (unsigned[]){0, 1, 0x7fff, 0x7ffe}[dt_below(g, 4)];

        if (dt_chance(g, 92))
            fraction |= 1ull << 63;
        hv_fx_put64(fx, HV_FX_ST(i), fraction);
        hv_fx_put16(fx, HV_FX_ST(i) + 8, (uint16_t)(exponent | (dt_below(g, 2) << 15)));
    }
}

static void start_sse(struct dt_gen *g, uint8_t *fx)
{
    uint32_t mxcsr = HV_MXCSR_INIT;

    if (dt_chance(g, 20))
        mxcsr |= dt_below(g, 64) | dt_below(g, 4) << 13;
    if (dt_chance(g, 8))
        mxcsr |= dt_chance(g, 50) ? HV_MXCSR_FTZ : 0x40 /* DAZ */;
    if (g->faults && dt_chance(g, 20))
        mxcsr &= ~(dt_below(g, 64) << 7);
    hv_fx_put32(fx, HV_FX_MXCSR, mxcsr);
    hv_fx_put32(fx, HV_FX_MXCSR_MASK, HV_MXCSR_MASK);
    for (unsigned i = 0; i < 32; i++)
        hv_fx_put64(fx, HV_FX_XMM(0) + 8 * i, random_value(g));
}

static void start_avx(struct dt_gen *g, uint8_t ymm_high[HV_XS_YMM_BYTES])
{
    bool in_use = dt_chance(g, 80);

    for (unsigned i = 0; i < HV_XS_YMM_BYTES && __builtin_cpu_supports("avx"); i += 8)
        hv_fx_put64(ymm_high, i, in_use ? random_value(g) : 0);
}

/* In 32-bit code there is one pointer, for want of registers. */
static void choose_reserved_32(struct dt_gen *g)
{
    static const uint8_t choice[] = {HV_RBP, HV_RBX, HV_RDX};
    unsigned first = dt_below(g, sizeof(choice));

    g->pointer[0] = g->pointer[1] = choice[first];
    g->index = choice[(first + 1 + dt_below(g, 2)) % sizeof(choice)];
}

static void choose_reserved_64(struct dt_gen *g)
{
    static const uint8_t choice[] = {HV_RBP, HV_R8,  HV_R9,  HV_R10, HV_R11,
                                     HV_R12, HV_R13, HV_R14, HV_R15};
    unsigned first = dt_below(g, sizeof(choice)), step = 1 + dt_below(g, 4);

    g->pointer[0] = choice[first];
    g->pointer[1] = choice[(first + step) % sizeof(choice)];
    g->index = choice[(first + 2 * step) % sizeof(choice)];
}

static void choose_reserved(struct dt_gen *g)
{
    if (g->test->code32)
        choose_reserved_32(g);
    else
        choose_reserved_64(g);
    g->reserved =
        (uint16_t)(1u << HV_RSP | 1u << g->pointer[0] | 1u << g->pointer[1] | 1u << g->index);
}

static uint64_t pointer_value(struct dt_gen *g)
{
    unsigned page = 1;

    if (!g->grouped)
        return DT_DATA + dt_below(g, DT_DATA_RW_PAGES * HV_PAGE_SIZE);
    if (g->faults)
        page = dt_below(g, DT_DATA_PAGES + 1);
    return DT_DATA + page * HV_PAGE_SIZE + dt_below(g, 128) - 64;
}

static void start_state(struct dt_gen *g)
{
    struct dt_regs *start = &g->test->start;

    memset(start, 0, sizeof(*start));
    choose_reserved(g);
    for (unsigned i = 0; i < HV_NR_GPR; i++)
        start->gpr[i] = random_value(g);
    for (unsigned i = 0; i < 2; i++)
        start->gpr[g->pointer[i]] = pointer_value(g);
    start->gpr[g->index] = (uint64_t)(int64_t)((int)dt_below(g, 512) - 256);
    start->gpr[HV_RSP] =
        DT_STACK + HV_PAGE_SIZE + (dt_below(g, 64) - 32) * (dt_chance(g, 80) ? 8 : 1);
    if (g->faults && dt_chance(g, 15)) /* at one of its ends */
        start->gpr[HV_RSP] += (dt_chance(g, 50) ? HV_PAGE_SIZE : -(uint64_t)HV_PAGE_SIZE);
    for (unsigned i = 0; i < 8 && g->test->code32; i++)
        start->gpr[i] &= 0xffffffff;
    start->rflags = HV_EFLAGS_FIXED | HV_EFLAGS_IF | (dt_random(g) & ARITHMETIC);
    if (dt_chance(g, 10))
        start->rflags |= HV_EFLAGS_DF;
    start_x87(g, start->fx);
    start_sse(g, start->fx);
    start_avx(g, start->ymm_high);
}

/* Flags after an instruction. While a branch may skip it, what was undefined stays so. */
static void follow_flags(struct dt_gen *g, const ZydisDecodedInstruction *insn,
                         const ZydisDecodedOperand *operands, uint32_t also_undefined,
                         uint32_t defined_after_all)
{
    const ZydisAccessedFlags *flags = insn->cpu_flags;
    uint32_t undefined = ((uint32_t)flags->undefined & ~defined_after_all) | also_undefined;
    uint32_t written = (uint32_t)(flags->modified | flags->set_0 | flags->set_1);

    for (unsigned i = 0; i < insn->operand_count; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            operands[i].reg.value == ZYDIS_REGISTER_RFLAGS &&
            (operands[i].actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
            written = 0;
    if (insn->attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)) /* perhaps no times */
        written = 0;
    if (g->nr_fixups == 0)
        g->undefined &= ~written;
    g->undefined = (g->undefined | undefined) & ARITHMETIC;
}

static void append_bytes(struct dt_gen *g, const uint8_t *bytes, unsigned count)
{
    struct dt_test *t = g->test;

    t->offset[t->nr_insns] = (uint16_t)t->code_bytes;
    t->undefined_flags[t->nr_insns] = g->undefined;
    t->nr_insns++;
    memcpy(t->code + t->code_bytes, bytes, count);
    t->code_bytes += count;
}

void dt_append_insn(struct dt_gen *g, const uint8_t *bytes, unsigned count)
{
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

    append_bytes(g, bytes, count);
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&g->decoder, bytes, count, &insn, operands)))
        follow_flags(g, &insn, operands, 0, 0);
}

static void append_setup(struct dt_gen *g, const struct dt_candidate *c)
{
    for (unsigned i = 0; i < c->nr_setup; i++)
        dt_append_insn(g, c->setup[i].bytes, c->setup[i].length);
}

/* The setup that holds a code address ends with it, as 32 bits. */
static void fix_return(struct dt_gen *g, const struct dt_candidate *c, unsigned first)
{
    struct dt_test *t = g->test;
    unsigned end = t->offset[first + c->return_setup - 1u] + c->setup[c->return_setup - 1].length;
    uint32_t target = (uint32_t)(t->code_address + t->code_bytes);

    memcpy(t->code + end - 4, &target, 4);
}

static void add_fixup(struct dt_gen *g, const struct dt_candidate *c)
{
    const struct dt_test *t = g->test;
    unsigned bytes = c->insn.raw.imm[0].size / 8;

    g->fixup[g->nr_fixups++] = (struct dt_fixup){
        .at = (uint16_t)(t->code_bytes - c->insn.length + c->insn.raw.imm[0].offset),
        .bytes = (uint8_t)bytes,
        .left = (uint8_t)(dt_below(g, 2) + 1),
    };
}

static void resolve(struct dt_gen *g, unsigned i)
{
    const struct dt_fixup f = g->fixup[i];
    int32_t distance = (int32_t)g->test->code_bytes - f.at - f.bytes;

    memcpy(g->test->code + f.at, &distance, f.bytes);
    g->fixup[i] = g->fixup[--g->nr_fixups];
}

/* After each candidate (@all: at the end) branches that have skipped enough find their targets.
 * Short ones reach no further than 127 bytes, and the next candidate with its setup takes up to
 * 105. */
static void resolve_branches(struct dt_gen *g, bool all)
{
    for (unsigned i = g->nr_fixups; i-- > 0;) {
        struct dt_fixup *f = &g->fixup[i];

        if (all || f->left == 0 || g->test->code_bytes - f->at > 20)
            resolve(g, i);
        else
            f->left--;
    }
}

static void append_candidate(struct dt_gen *g, struct dt_candidate *c)
{
    unsigned first = g->test->nr_insns;

    append_setup(g, c);
    dt_fix_rip(g, c, g->test->code_address + g->test->code_bytes);
    append_bytes(g, c->bytes, c->insn.length);
    if (!c->keeps_flags)
        follow_flags(g, &c->insn, c->operands, c->also_undefined, c->defined_after_all);
    if (c->return_setup)
        fix_return(g, c, first);
    resolve_branches(g, false);
    if (c->insn.raw.imm[0].is_relative)
        add_fixup(g, c);
}

static void append_exit(struct dt_gen *g)
{
    struct dt_test *t = g->test;
    uint64_t target = t->code32 ? DT_EXIT32 : DT_EXIT;
    uint32_t distance = (uint32_t)(target - (t->code_address + t->code_bytes + JUMP_BYTES));
    uint8_t jump[JUMP_BYTES] = {0xe9}; /* jmp rel32 */

    memcpy(jump + 1, &distance, 4);
    append_bytes(g, jump, sizeof(jump));
    t->offset[t->nr_insns] = (uint16_t)t->code_bytes;
    t->undefined_flags[t->nr_insns] = g->undefined;
}

static bool has_room(const struct dt_test *t)
{
    return t->code_bytes + (DT_SETUP_INSNS + 1) * ZYDIS_MAX_INSTRUCTION_LENGTH + JUMP_BYTES <=
               DT_CODE_BYTES &&
           t->nr_insns + DT_SETUP_INSNS + 2 <= DT_MAX_INSNS;
}

void dt_decoder_init(void *decoder, const struct dt_test *test)
{
    if (test->code32)
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

void dt_generate(struct dt_test *test, uint64_t seed, unsigned limit)
{
    struct dt_gen g = {.test = test, .rng = seed * 0xd1342543de82ef95 + 1};
    struct dt_candidate c;
    unsigned chosen;

    test->seed = seed;
    test->code_bytes = test->nr_insns = 0;
    test->code_address = DT_CODE + (seed % DT_BATCH) * HV_PAGE_SIZE;
    g.faults = dt_chance(&g, 8);
    g.grouped = dt_chance(&g, 35);
    g.indexed = dt_chance(&g, 30);
    test->code32 = dt_chance(&g, 25) && dt_host_has_code32();
    dt_decoder_init(&g.decoder, test);
    start_state(&g);
    chosen = 1 + dt_below(&g, MAX_CHOSEN);
    if (chosen > limit)
        chosen = limit;
    while (chosen > 0 && has_room(test)) {
        if (dt_chance(&g, LOOP_PERCENT) && dt_append_loop(&g)) {
            chosen--;
            continue;
        }
        if (!dt_make_candidate(&g, &c) || !dt_prepare(&g, &c))
            continue;
        append_candidate(&g, &c);
        chosen--;
    }
    resolve_branches(&g, true);
    append_exit(&g);
}
