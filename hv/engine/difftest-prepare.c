/* Which instructions take part, and what runs before some of them.
 *
 * Left out: what leaves the sandbox (system calls, far branches), what differs from run to run or
 * between the machine and the vCPU by design (time, random numbers, CPUID, the descriptor tables),
 * and what a Linux process is not given as it is (instructions that UMIP makes the kernel emulate).
 */
#include "config.h"

#include "hv/engine/difftest-gen.h"

#include <string.h>

static const ZydisISAExt extensions[] = {
    ZYDIS_ISA_EXT_BASE,  ZYDIS_ISA_EXT_LONGMODE,  ZYDIS_ISA_EXT_X87,       ZYDIS_ISA_EXT_MMX,
    ZYDIS_ISA_EXT_SSE,   ZYDIS_ISA_EXT_SSE2,      ZYDIS_ISA_EXT_SSE3,      ZYDIS_ISA_EXT_SSSE3,
    ZYDIS_ISA_EXT_SSE4,  ZYDIS_ISA_EXT_AES,       ZYDIS_ISA_EXT_PCLMULQDQ, ZYDIS_ISA_EXT_BMI1,
    ZYDIS_ISA_EXT_BMI2,  ZYDIS_ISA_EXT_LZCNT,     ZYDIS_ISA_EXT_MOVBE,     ZYDIS_ISA_EXT_PAUSE,
    ZYDIS_ISA_EXT_CLFSH, ZYDIS_ISA_EXT_ADOX_ADCX, ZYDIS_ISA_EXT_SHA,
};

/* Of these there may be some that the host has not. */
static bool host_has_vex(ZydisISAExt extension)
{
    switch (extension) {
    case ZYDIS_ISA_EXT_AVX:
        return __builtin_cpu_supports("avx") && __builtin_cpu_supports("pclmul");
    case ZYDIS_ISA_EXT_AVX2:
    case ZYDIS_ISA_EXT_AVX2GATHER:
        return __builtin_cpu_supports("avx2");
    case ZYDIS_ISA_EXT_FMA:
        return __builtin_cpu_supports("fma");
    case ZYDIS_ISA_EXT_F16C:
        return __builtin_cpu_supports("f16c") && __builtin_cpu_supports("avx");
    case ZYDIS_ISA_EXT_AVXAES:
        return __builtin_cpu_supports("aes") && __builtin_cpu_supports("avx");
    case ZYDIS_ISA_EXT_VAES:
        return __builtin_cpu_supports("vaes");
    case ZYDIS_ISA_EXT_VPCLMULQDQ:
        return __builtin_cpu_supports("vpclmulqdq");
    case ZYDIS_ISA_EXT_GFNI:
        return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx");
    case ZYDIS_ISA_EXT_AVX_VNNI:
        return __builtin_cpu_supports("avxvnni");
    default:
        return false;
    }
}

static const ZydisMnemonic left_out[] = {
    ZYDIS_MNEMONIC_INT,
    ZYDIS_MNEMONIC_INT1,
    ZYDIS_MNEMONIC_INTO,
    ZYDIS_MNEMONIC_INT3,
    ZYDIS_MNEMONIC_SYSCALL,
    ZYDIS_MNEMONIC_SYSENTER,
    ZYDIS_MNEMONIC_SYSRET,
    ZYDIS_MNEMONIC_SYSEXIT,
    ZYDIS_MNEMONIC_SGDT,
    ZYDIS_MNEMONIC_SIDT,
    ZYDIS_MNEMONIC_SLDT,
    ZYDIS_MNEMONIC_STR,
    ZYDIS_MNEMONIC_SMSW,
    ZYDIS_MNEMONIC_VERR,
    ZYDIS_MNEMONIC_VERW,
    ZYDIS_MNEMONIC_LAR,
    ZYDIS_MNEMONIC_LSL,
    ZYDIS_MNEMONIC_CPUID,
    ZYDIS_MNEMONIC_RDTSC,
    ZYDIS_MNEMONIC_RDTSCP,
    ZYDIS_MNEMONIC_RDPMC,
    ZYDIS_MNEMONIC_IRET,
    ZYDIS_MNEMONIC_IRETD,
    ZYDIS_MNEMONIC_IRETQ,
    ZYDIS_MNEMONIC_LSS,
    ZYDIS_MNEMONIC_LFS,
    ZYDIS_MNEMONIC_LGS,
    ZYDIS_MNEMONIC_SWAPGS,
    ZYDIS_MNEMONIC_FXSAVE,
    ZYDIS_MNEMONIC_FXSAVE64,
    ZYDIS_MNEMONIC_FXRSTOR,
    ZYDIS_MNEMONIC_FXRSTOR64,
    /* store instruction pointers, which are the harness's or zero */
    ZYDIS_MNEMONIC_FNSTENV,
    ZYDIS_MNEMONIC_FNSAVE,
    /* processors disagree on whether there is a ModRM byte */
    ZYDIS_MNEMONIC_UD0,
};

/* Only where the test may fault: they most likely do. */
static const ZydisMnemonic faulting[] = {
    ZYDIS_MNEMONIC_UD1,    ZYDIS_MNEMONIC_UD2,      ZYDIS_MNEMONIC_LDMXCSR, ZYDIS_MNEMONIC_FLDCW,
    ZYDIS_MNEMONIC_FLDENV, ZYDIS_MNEMONIC_FRSTOR,   ZYDIS_MNEMONIC_IN,      ZYDIS_MNEMONIC_OUT,
    ZYDIS_MNEMONIC_INSB,   ZYDIS_MNEMONIC_INSD,     ZYDIS_MNEMONIC_INSW,    ZYDIS_MNEMONIC_OUTSB,
    ZYDIS_MNEMONIC_OUTSD,  ZYDIS_MNEMONIC_OUTSW,    ZYDIS_MNEMONIC_RSM,     ZYDIS_MNEMONIC_CLI,
    ZYDIS_MNEMONIC_STI,    ZYDIS_MNEMONIC_VLDMXCSR,
};

/* Not where the test may fault, since exceptions of SSE may be unmasked there: they add several
 * products, and of a tiny one the engine does not hear (hv/x86/native.c). */
static const ZydisMnemonic summing[] = {
    ZYDIS_MNEMONIC_DPPS,
    ZYDIS_MNEMONIC_DPPD,
    ZYDIS_MNEMONIC_VDPPS,
    ZYDIS_MNEMONIC_VDPPD,
};

static bool contains(const ZydisMnemonic *list, size_t count, ZydisMnemonic mnemonic)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == mnemonic)
            return true;
    return false;
}

static bool is_allowed(const struct dt_gen *g, const ZydisDecodedInstruction *insn)
{
    bool known = host_has_vex(insn->meta.isa_ext);

    for (size_t i = 0; i < HV_ARRAY_LEN(extensions); i++)
        known |= extensions[i] == insn->meta.isa_ext;
    if (!known || contains(left_out, HV_ARRAY_LEN(left_out), insn->mnemonic) ||
        insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return false;
    if (g->faults && contains(summing, HV_ARRAY_LEN(summing), insn->mnemonic))
        return false;
    if ((insn->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) ||
        contains(faulting, HV_ARRAY_LEN(faulting), insn->mnemonic))
        return g->faults && insn->meta.isa_ext != ZYDIS_ISA_EXT_INVALID;
    return true;
}

/* The number of a general register operand, or -1. */
static int gpr_number(const ZydisDecodedOperand *op)
{
    ZydisRegister full;

    if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return -1;
    full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op->reg.value);
    if (full < ZYDIS_REGISTER_RAX || full > ZYDIS_REGISTER_R15)
        return -1;
    return full - ZYDIS_REGISTER_RAX;
}

/* No pointer may change, and the stack pointer only as stack instructions change it. Segments stay.
 */
static bool writes_reserved(const struct dt_gen *g, const struct dt_candidate *c)
{
    for (unsigned i = 0; i < c->insn.operand_count; i++) {
        const ZydisDecodedOperand *op = &c->operands[i];
        int reg = gpr_number(op);
        bool stack = reg == HV_RSP && op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;

        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        if (reg >= 0 && !stack && (g->reserved & (1u << reg)))
            return true;
        if (ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return true;
    }
    return false;
}

static bool uses_base(const struct dt_candidate *c, int reg)
{
    return c->memory && c->memop.form == DT_FORM_TMP && c->memop.base == reg;
}

static bool has_operand_size_prefix(const struct dt_candidate *c)
{
    return c->insn.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE;
}

static void set_immediate(struct dt_candidate *c, unsigned i, uint64_t value)
{
    memcpy(c->bytes + c->insn.raw.imm[i].offset, &value, c->insn.raw.imm[i].size / 8);
}

/* Points RSI or RDI (or RBX) at the data; the segment of the source may be GS. */
static void point_register(struct dt_gen *g, struct dt_candidate *c, unsigned reg, unsigned bytes)
{
    uint64_t address = dt_pick_address(g, bytes, false);

    if (c->insn.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS && reg != HV_RDI)
        address -= DT_GS;
    dt_setup_lea(g, c, reg, address);
}

static bool prepare_string(struct dt_gen *g, struct dt_candidate *c)
{
    const uint64_t rep = ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE;

    point_register(g, c, HV_RSI, 8);
    point_register(g, c, HV_RDI, 8);
    if (dt_chance(g, 15)) { /* an overlap, which must be copied byte by byte */
        c->nr_setup--;
        DT_SETUP(c, 0x48, 0x8d, 0x7e, (uint8_t)dt_below(g, 20)); /* lea rdi, [rsi + disp8] */
    }
    if ((c->insn.attributes & rep) && g->faults && dt_chance(g, 20))
        dt_setup_mov32(c, HV_RCX, 1000 + dt_below(g, 4000));
    else if (c->insn.attributes & rep)
        dt_setup_mov32(c, HV_RCX, dt_below(g, 24));
    return true;
}

/* If a comparison faults, AMD has the flags of the one before and Intel those from the start; and
 * which of two bad operands is reported differs as well. */
static bool prepare_comparison(struct dt_gen *g, struct dt_candidate *c)
{
    bool faults = g->faults, ok;

    g->faults = false;
    ok = prepare_string(g, c);
    g->faults = faults;
    return ok;
}

/* Also the name of an SSE2 instruction. */
static bool prepare_cmpsd(struct dt_gen *g, struct dt_candidate *c)
{
    return c->insn.meta.category != ZYDIS_CATEGORY_STRINGOP || prepare_comparison(g, c);
}

static bool prepare_divide(struct dt_gen *g, struct dt_candidate *c)
{
    bool sign = c->insn.mnemonic == ZYDIS_MNEMONIC_IDIV;

    if (g->faults ? dt_chance(g, 50) : dt_chance(g, 3))
        return true; /* as it comes: most likely #DE */
    if (c->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
        int reg = gpr_number(&c->operands[0]);

        if (reg == HV_RAX || reg == HV_RDX || (g->reserved & (1u << reg)))
            return false;
        DT_SETUP(c, (uint8_t)(0x48 | reg >> 3), 0x83, (uint8_t)(0xc8 | (reg & 7)),
                 1); /* or reg, 1 */
        if (c->operands[0].reg.value >= ZYDIS_REGISTER_AH &&
            c->operands[0].reg.value <= ZYDIS_REGISTER_BH)
            return false;
    }
    if (uses_base(c, HV_RAX) || uses_base(c, HV_RDX))
        return false;
    if (c->operands[0].size == 8 && sign)
        DT_SETUP(c, 0x66, 0x98); /* cbw */
    else if (c->operands[0].size == 8)
        DT_SETUP(c, 0x0f, 0xb6, 0xc0); /* movzx eax, al */
    else if (sign && c->operands[0].size == 64)
        DT_SETUP(c, 0x48, 0x99); /* cqo */
    else if (sign && c->operands[0].size == 32)
        DT_SETUP(c, 0x99); /* cdq */
    else if (sign)
        DT_SETUP(c, 0x66, 0x99); /* cwd */
    else
        dt_setup_mov32(c, HV_RDX, 0);
    return true;
}

/* A bit offset in a register reaches far beyond a memory operand. */
static bool prepare_bit_test(struct dt_gen *g, struct dt_candidate *c)
{
    int reg = gpr_number(&c->operands[1]);

    if (!c->memory || reg < 0)
        return true;
    if ((g->reserved & (1u << reg)) || uses_base(c, reg))
        return false;
    dt_setup_mov32(c, (unsigned)reg, dt_below(g, 2048));
    if (dt_chance(g, 50))
        DT_SETUP(c, (uint8_t)(0x48 | reg >> 3), 0xf7, (uint8_t)(0xd8 | (reg & 7))); /* neg reg */
    return true;
}

/* What the count leaves undefined is more than Zydis can say, and sometimes less. */
static bool shift_flags(struct dt_candidate *c, unsigned count)
{
    unsigned bits = c->operands[0].size;
    bool is_double =
        c->insn.mnemonic == ZYDIS_MNEMONIC_SHLD || c->insn.mnemonic == ZYDIS_MNEMONIC_SHRD;
    bool rotate = c->insn.meta.category == ZYDIS_CATEGORY_ROTATE;

    count &= bits == 64 ? 63 : 31;
    if (is_double && count > bits)
        return false; /* undefined result */
    if (!rotate && count >= bits)
        c->also_undefined |= HV_EFLAGS_CF;
    if (count == 1)
        c->defined_after_all |= HV_EFLAGS_OF;
    c->keeps_flags = count == 0;
    return true;
}

static bool prepare_shift(struct dt_gen *g, struct dt_candidate *c)
{
    const ZydisDecodedOperand *count = NULL;
    unsigned value;

    for (unsigned i = 1; i < c->insn.operand_count_visible; i++)
        if (c->operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
            c->operands[i].reg.value == ZYDIS_REGISTER_CL)
            count = &c->operands[i];
    if (!count)
        return false;
    if (count->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return shift_flags(c, (unsigned)count->imm.value.u & 0xff);
    if (uses_base(c, HV_RCX))
        return false;
    value = dt_chance(g, 20) ? dt_below(g, 2) : dt_below(g, 256);
    DT_SETUP(c, 0xb1, (uint8_t)value); /* mov cl, value */
    return shift_flags(c, value);
}

static bool prepare_return(struct dt_gen *g, struct dt_candidate *c)
{
    if (has_operand_size_prefix(c))
        return false;              /* AMD and Intel differ */
    DT_SETUP(c, 0x68, 0, 0, 0, 0); /* push imm32 */
    c->return_setup = 1;
    if (c->insn.raw.imm[0].size)
        set_immediate(c, 0, 8 * dt_below(g, 8));
    return true;
}

/* Near and indirect: through a register loaded with the address of the next instruction, or through
 * the stack. */
static bool prepare_indirect(struct dt_gen *g, struct dt_candidate *c)
{
    int reg = gpr_number(&c->operands[0]);

    (void)g;
    if (has_operand_size_prefix(c))
        return false;
    if (reg >= 0) {
        if (g->reserved & (1u << reg))
            return false;
        dt_setup_mov32(c, (unsigned)reg, 0);
        c->return_setup = 1;
        return true;
    }
    if (!c->memory || c->memop.form != DT_FORM_STACK)
        return false;
    DT_SETUP(c, 0x68, 0, 0, 0, 0); /* push imm32 */
    c->return_setup = 1;
    return true;
}

static bool prepare_branch(struct dt_gen *g, struct dt_candidate *c)
{
    if (c->insn.raw.imm[0].is_relative)
        return !has_operand_size_prefix(c) && g->nr_fixups < HV_ARRAY_LEN(g->fixup);
    return prepare_indirect(g, c);
}

/* AMD heeds a repeat prefix of LOOPE and LOOPNE. */
static bool prepare_loop(struct dt_gen *g, struct dt_candidate *c)
{
    for (unsigned i = 0; i < c->insn.raw.prefix_count; i++)
        if (c->insn.raw.prefixes[i].value == 0xf2 || c->insn.raw.prefixes[i].value == 0xf3)
            return false;
    return prepare_branch(g, c);
}

static bool prepare_enter(struct dt_gen *g, struct dt_candidate *c)
{
    if (g->reserved & (1u << HV_RBP))
        return false;
    DT_SETUP(c, 0x48, 0x8d, 0x6c, 0x24, (uint8_t)(8 * dt_below(g, 8))); /* lea rbp, [rsp + disp8] */
    if (c->insn.mnemonic == ZYDIS_MNEMONIC_ENTER) {
        set_immediate(c, 0, dt_below(g, 64));
        set_immediate(c, 1, dt_chance(g, 60) ? dt_below(g, 2) : dt_below(g, 32));
    }
    return true;
}

/* The flags popped are arithmetic ones, and some that ring 3 cannot change. */
static bool prepare_popf(struct dt_gen *g, struct dt_candidate *c)
{
    uint32_t flags = (uint32_t)dt_random(g) &
                     (0x8d5 | HV_EFLAGS_DF | HV_EFLAGS_IF | HV_EFLAGS_IOPL | HV_EFLAGS_ID);

    DT_SETUP(c, 0x68, (uint8_t)flags, (uint8_t)(flags >> 8), (uint8_t)(flags >> 16),
             0); /* push flags */
    if (has_operand_size_prefix(c))
        return false;
    return true;
}

/* Which of the bytes a page fault is reported for differs between processors. */
static bool prepare_maskmov(struct dt_gen *g, struct dt_candidate *c)
{
    bool faults = g->faults;

    g->faults = false;
    point_register(g, c, HV_RDI, 16);
    g->faults = faults;
    if (c->insn.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        return false;
    return true;
}

/* Small indices: the rest of an address is chosen as for others. */
static bool prepare_gather(struct dt_gen *g, struct dt_candidate *c)
{
    unsigned index = (unsigned)ZydisRegisterGetId(c->operands[1].mem.index);
    bool wide = c->insn.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS ||
                c->insn.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
                c->insn.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD ||
                c->insn.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;

    (void)g;
    /* vpsrld or vpsrlq ymm, ymm, bits - 6 */
    DT_SETUP(c, 0xc4, (uint8_t)(index < 8 ? 0xe1 : 0xc1), (uint8_t)((index ^ 15) << 3 | 5),
             wide ? 0x73 : 0x72, (uint8_t)(0xd0 | (index & 7)), wide ? 58 : 26);
    return true;
}

static bool prepare_fcw(struct dt_gen *g, struct dt_candidate *c)
{
    (void)c;
    g->loads_fcw = true;
    return true;
}

static bool prepare_xlat(struct dt_gen *g, struct dt_candidate *c)
{
    if (g->reserved & (1u << HV_RBX))
        return false;
    point_register(g, c, HV_RBX, 1);
    return true;
}

/* Reads what it would leave undefined if the flags it saves were. */
static bool prepare_pushf(struct dt_gen *g, struct dt_candidate *c)
{
    (void)c;
    return g->undefined == 0;
}

/* Whether memory that it does not change has to be writable differs. */
static bool prepare_arpl(struct dt_gen *g, struct dt_candidate *c)
{
    (void)g;
    return !c->memory;
}

/* Whether 32-bit pushes of selectors write the upper half differs between processors. */
static bool prepare_push(struct dt_gen *g, struct dt_candidate *c)
{
    (void)g;
    return c->operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER || c->insn.operand_width != 32 ||
           ZydisRegisterGetClass(c->operands[0].reg.value) != ZYDIS_REGCLASS_SEGMENT;
}

/* PREFETCHW's opcode with a register is no instruction on AMD. */
static bool prepare_nop(struct dt_gen *g, struct dt_candidate *c)
{
    (void)g;
    return c->insn.opcode_map != ZYDIS_OPCODE_MAP_0F || c->insn.opcode != 0x0d;
}

/* With REX.B it is also XCHG of RAX and R8, and AMD takes it for that. */
static bool prepare_pause(struct dt_gen *g, struct dt_candidate *c)
{
    (void)g;
    return !c->insn.raw.rex.B;
}

static bool prepare_bswap(struct dt_gen *g, struct dt_candidate *c)
{
    (void)g;
    return c->operands[0].size != 16; /* undefined result */
}

typedef bool prepare_fn(struct dt_gen *g, struct dt_candidate *c);

static const struct {
    ZydisMnemonic mnemonic;
    prepare_fn *prepare;
} by_mnemonic[] = {
    {ZYDIS_MNEMONIC_DIV, prepare_divide},          {ZYDIS_MNEMONIC_IDIV, prepare_divide},
    {ZYDIS_MNEMONIC_BT, prepare_bit_test},         {ZYDIS_MNEMONIC_BTS, prepare_bit_test},
    {ZYDIS_MNEMONIC_BTR, prepare_bit_test},        {ZYDIS_MNEMONIC_BTC, prepare_bit_test},
    {ZYDIS_MNEMONIC_SHL, prepare_shift},           {ZYDIS_MNEMONIC_SHR, prepare_shift},
    {ZYDIS_MNEMONIC_SAR, prepare_shift},           {ZYDIS_MNEMONIC_ROL, prepare_shift},
    {ZYDIS_MNEMONIC_ROR, prepare_shift},           {ZYDIS_MNEMONIC_RCL, prepare_shift},
    {ZYDIS_MNEMONIC_RCR, prepare_shift},           {ZYDIS_MNEMONIC_SHLD, prepare_shift},
    {ZYDIS_MNEMONIC_SHRD, prepare_shift},          {ZYDIS_MNEMONIC_RET, prepare_return},
    {ZYDIS_MNEMONIC_ENTER, prepare_enter},         {ZYDIS_MNEMONIC_LEAVE, prepare_enter},
    {ZYDIS_MNEMONIC_POPF, prepare_popf},           {ZYDIS_MNEMONIC_POPFQ, prepare_popf},
    {ZYDIS_MNEMONIC_POPFD, prepare_popf},          {ZYDIS_MNEMONIC_PUSHFD, prepare_pushf},
    {ZYDIS_MNEMONIC_PUSHF, prepare_pushf},         {ZYDIS_MNEMONIC_PUSHFQ, prepare_pushf},
    {ZYDIS_MNEMONIC_LAHF, prepare_pushf},          {ZYDIS_MNEMONIC_MASKMOVQ, prepare_maskmov},
    {ZYDIS_MNEMONIC_MASKMOVDQU, prepare_maskmov},  {ZYDIS_MNEMONIC_XLAT, prepare_xlat},
    {ZYDIS_MNEMONIC_BSWAP, prepare_bswap},         {ZYDIS_MNEMONIC_PUSH, prepare_push},
    {ZYDIS_MNEMONIC_CMPSB, prepare_comparison},    {ZYDIS_MNEMONIC_CMPSW, prepare_comparison},
    {ZYDIS_MNEMONIC_CMPSQ, prepare_comparison},    {ZYDIS_MNEMONIC_SCASB, prepare_comparison},
    {ZYDIS_MNEMONIC_SCASW, prepare_comparison},    {ZYDIS_MNEMONIC_SCASD, prepare_comparison},
    {ZYDIS_MNEMONIC_SCASQ, prepare_comparison},    {ZYDIS_MNEMONIC_LOOPE, prepare_loop},
    {ZYDIS_MNEMONIC_LOOPNE, prepare_loop},         {ZYDIS_MNEMONIC_CMPSD, prepare_cmpsd},
    {ZYDIS_MNEMONIC_ARPL, prepare_arpl},           {ZYDIS_MNEMONIC_NOP, prepare_nop},
    {ZYDIS_MNEMONIC_FLDCW, prepare_fcw},           {ZYDIS_MNEMONIC_FLDENV, prepare_fcw},
    {ZYDIS_MNEMONIC_FRSTOR, prepare_fcw},          {ZYDIS_MNEMONIC_PAUSE, prepare_pause},
    {ZYDIS_MNEMONIC_VMASKMOVDQU, prepare_maskmov}, {ZYDIS_MNEMONIC_VGATHERDPS, prepare_gather},
    {ZYDIS_MNEMONIC_VGATHERDPD, prepare_gather},   {ZYDIS_MNEMONIC_VGATHERQPS, prepare_gather},
    {ZYDIS_MNEMONIC_VGATHERQPD, prepare_gather},   {ZYDIS_MNEMONIC_VPGATHERDD, prepare_gather},
    {ZYDIS_MNEMONIC_VPGATHERDQ, prepare_gather},   {ZYDIS_MNEMONIC_VPGATHERQD, prepare_gather},
    {ZYDIS_MNEMONIC_VPGATHERQQ, prepare_gather},
};

static const struct {
    ZydisInstructionCategory category;
    prepare_fn *prepare;
} by_category[] = {
    {ZYDIS_CATEGORY_STRINGOP, prepare_string}, {ZYDIS_CATEGORY_IOSTRINGOP, prepare_string},
    {ZYDIS_CATEGORY_COND_BR, prepare_branch},  {ZYDIS_CATEGORY_UNCOND_BR, prepare_branch},
    {ZYDIS_CATEGORY_CALL, prepare_branch},
};

static prepare_fn *find_prepare(const ZydisDecodedInstruction *insn)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(by_mnemonic); i++)
        if (by_mnemonic[i].mnemonic == insn->mnemonic)
            return by_mnemonic[i].prepare;
    for (size_t i = 0; i < HV_ARRAY_LEN(by_category); i++)
        if (by_category[i].category == insn->meta.category)
            return by_category[i].prepare;
    return NULL;
}

/* Operands on the stack are aligned by chance only. */
static bool is_misplaced(const struct dt_gen *g, const struct dt_candidate *c)
{
    return c->memory && dt_wants_alignment(c) && c->memop.form == DT_FORM_STACK &&
           (!g->faults || c->insn.meta.isa_ext == ZYDIS_ISA_EXT_SHA);
}

/* An unmasked exception keeps an x87 store from happening, but not from faulting on AMD. */
static bool may_not_store(const struct dt_gen *g, const struct dt_candidate *c)
{
    uint16_t fcw = hv_fx_get16(g->test->start.fx, HV_FX_FCW);

    return (c->memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
           (g->loads_fcw || (fcw & HV_FCW_MASKS) != HV_FCW_MASKS);
}

/* Long x87 operands are read and written in parts and in no particular order: which of two bad
 * pages is reported differs, and the good one may have been written. */
static bool place_memory(struct dt_gen *g, struct dt_candidate *c)
{
    bool x87 = c->insn.meta.isa_ext == ZYDIS_ISA_EXT_X87 ||
               c->insn.mnemonic == ZYDIS_MNEMONIC_FISTTP; /* filed under SSE3 */
    bool differs = x87 && (c->memory->size > 64 || may_not_store(g, c));
    bool faults = g->faults, fits;

    if (c->insn.meta.isa_ext == ZYDIS_ISA_EXT_SHA) /* AMD does not look at the alignment */
        differs = true;
    if (c->insn.mnemonic == ZYDIS_MNEMONIC_MOVSXD && c->insn.operand_width == 16)
        differs = true; /* AMD reads four bytes, Intel two */
    /* The address of one is chosen later, the other is where the stack is. */
    if (differs && faults && (c->memop.form == DT_FORM_RIP || c->memop.form == DT_FORM_STACK))
        return false;
    g->faults = faults && !differs;
    fits = dt_place_memory(g, c);
    g->faults = faults;
    return fits;
}

bool dt_prepare(struct dt_gen *g, struct dt_candidate *c)
{
    prepare_fn *prepare = find_prepare(&c->insn);

    if (!is_allowed(g, &c->insn) || writes_reserved(g, c) || is_misplaced(g, c))
        return false;
    if (c->insn.cpu_flags->tested & g->undefined)
        return false;
    if (prepare && !prepare(g, c))
        return false;
    return !c->memory || place_memory(g, c);
}
