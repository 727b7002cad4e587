/* The table of instructions. What is not in it is the interpreter's. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include "hv/x86/native-priv.h"

#define N(name)        [ZYDIS_MNEMONIC_##name] = BT_NATIVE
#define C(name, class) [ZYDIS_MNEMONIC_##name] = BT_##class

static const uint8_t classes[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    N(ADD),
    N(OR),
    N(ADC),
    N(SBB),
    N(AND),
    N(SUB),
    N(XOR),
    N(CMP),
    N(TEST),
    N(MOV),
    N(MOVZX),
    N(MOVSX),
    N(MOVSXD),
    N(LEA),
    N(INC),
    N(DEC),
    N(NEG),
    N(NOT),
    N(SHL),
    N(SHR),
    N(SAR),
    N(ROL),
    N(ROR),
    N(RCL),
    N(RCR),
    N(SHLD),
    N(SHRD),
    N(IMUL),
    N(MUL),
    N(BT),
    N(BTS),
    N(BTR),
    N(BTC),
    N(BSF),
    N(BSR),
    N(TZCNT),
    N(LZCNT),
    N(POPCNT),
    N(XCHG),
    N(XADD),
    N(CMPXCHG),
    N(CMPXCHG8B),
    N(CMPXCHG16B),
    N(BSWAP),
    N(CBW),
    N(CWDE),
    N(CDQE),
    N(CWD),
    N(CDQ),
    N(CQO),
    N(MOVBE),
    N(CMC),
    N(CLC),
    N(STC),
    N(LAHF),
    N(SAHF),
    N(MFENCE),
    N(LFENCE),
    N(SFENCE),
    C(PAUSE, PAUSE),
    N(CRC32),
    N(MOVNTI),
    N(ANDN),
    N(BEXTR),
    N(BLSI),
    N(BLSMSK),
    N(BLSR),
    N(BZHI),
    N(MULX),
    N(PDEP),
    N(PEXT),
    N(RORX),
    N(SARX),
    N(SHLX),
    N(SHRX),
    N(ADCX),
    N(ADOX),
    N(SETO),
    N(SETNO),
    N(SETB),
    N(SETNB),
    N(SETZ),
    N(SETNZ),
    N(SETBE),
    N(SETNBE),
    N(SETS),
    N(SETNS),
    N(SETP),
    N(SETNP),
    N(SETL),
    N(SETNL),
    N(SETLE),
    N(SETNLE),
    N(CMOVO),
    N(CMOVNO),
    N(CMOVB),
    N(CMOVNB),
    N(CMOVZ),
    N(CMOVNZ),
    N(CMOVBE),
    N(CMOVNBE),
    N(CMOVS),
    N(CMOVNS),
    N(CMOVP),
    N(CMOVNP),
    N(CMOVL),
    N(CMOVNL),
    N(CMOVLE),
    N(CMOVNLE),
    C(NOP, NOTHING),
    C(ENDBR64, NOTHING),
    C(PREFETCHNTA, NOTHING),
    C(PREFETCHT0, NOTHING),
    C(PREFETCHT1, NOTHING),
    C(PREFETCHT2, NOTHING),
    C(PREFETCHW, NOTHING),
    C(PREFETCH, NOTHING),
    C(MOVSB, STRING),
    C(MOVSW, STRING),
    C(MOVSD, STRING),
    C(MOVSQ, STRING),
    C(STOSB, STRING),
    C(STOSW, STRING),
    C(STOSD, STRING),
    C(STOSQ, STRING),
    C(PUSHFQ, PUSHF),
    C(CLI, CLI),
    C(STI, STI),
    C(SWAPGS, SWAPGS),
    C(PUSH, PUSH),
    C(POP, POP),
    C(CALL, CALL),
    C(RET, RET),
    C(JMP, JMP),
    C(LEAVE, LEAVE),
    C(JRCXZ, JRCXZ),
    C(DIV, DIV),
    C(IDIV, IDIV),
    C(RDTSC, RDTSC),
    C(RDTSCP, RDTSC),
    C(SYSCALL, SYSCALL),
    C(SYSRET, SYSRET),
    C(STAC, STAC),
    C(CLAC, CLAC),
    C(JO, JCC),
    C(JNO, JCC),
    C(JB, JCC),
    C(JNB, JCC),
    C(JZ, JCC),
    C(JNZ, JCC),
    C(JBE, JCC),
    C(JNBE, JCC),
    C(JS, JCC),
    C(JNS, JCC),
    C(JP, JCC),
    C(JNP, JCC),
    C(JL, JCC),
    C(JNL, JCC),
    C(JLE, JCC),
    C(JNLE, JCC),
};

static bool is_base(const ZydisDecodedInstruction *zi)
{
    return zi->meta.isa_ext == ZYDIS_ISA_EXT_BASE || zi->meta.isa_ext == ZYDIS_ISA_EXT_LONGMODE;
}

static bool is_high_byte(ZydisRegister reg)
{
    return reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
}

static bool find_memory(struct bt_source *s)
{
    for (unsigned i = 0; i < s->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &s->ops[i];

        if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || o->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            continue;
        if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            continue; /* the stack, by those whose class knows */
        if ((o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM &&
             o->encoding != ZYDIS_OPERAND_ENCODING_DISP16_32_64) ||
            o->mem.type != ZYDIS_MEMOP_TYPE_MEM || s->mem)
            return false;
        s->mem = o;
    }
    return true;
}

/* Whether registers are such that the instruction can be encoded with its operand at [R10] and R11
 * the one other scratch register. */
static bool fits_scratch(const struct bt_source *s)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < s->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &s->ops[i];
        unsigned reg;

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        if (s->mem && is_high_byte(o->reg.value))
            return false;
        reg = bt_gpr_of(o->reg.value);
        if (bt_in_slot(reg))
            mask |= 1u << reg;
    }
    return !s->mem || mask != (1u << BT_R10 | 1u << BT_R11);
}

static bool special_register(const struct bt_source *s)
{
    for (unsigned i = 0; i < s->zi.operand_count_visible; i++) {
        if (s->ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(s->ops[i].reg.value)) {
        case ZYDIS_REGCLASS_SEGMENT:
        case ZYDIS_REGCLASS_CONTROL:
        case ZYDIS_REGCLASS_DEBUG:
            return true;
        default:
            break;
        }
    }
    return false;
}

/* BT and its kin with a register as bit number reach beyond the operand. */
static bool is_bit_string(const struct bt_source *s)
{
    switch (s->zi.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        return s->mem && s->ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
    default:
        return false;
    }
}

/* Helpers of the interpreter, for they need no memory. */
static bool is_vzero(const struct bt_source *s)
{
    return s->zi.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER || s->zi.mnemonic == ZYDIS_MNEMONIC_VZEROALL;
}

/* x87, MMX, SSE and AVX, if a stub of the interpreter is nothing but the instruction. */
static enum bt_class classify_vector(struct bt *bt, const struct bt_source *s,
                                     struct bt_decoded *d)
{
    const struct hv_native_insn *stub;

    if (hv_native_compile(bt->x->native, &s->zi, s->ops, &stub) || (stub->helper && !is_vzero(s)) ||
        stub->memory_in_rdi || stub->info.fwait)
        return BT_FALLBACK;
    if (s->mem && s->mem->size / 8 > 64)
        return BT_FALLBACK;
    if (stub->info.has_memory != (s->mem != NULL))
        return BT_FALLBACK;
    if (stub->info.aligned)
        d->align = (uint8_t)(s->mem->size / 8);
    d->vector = true;
    d->avx = stub->info.avx;
    return BT_NATIVE;
}

/* Mnemonics that are also the names of string instructions. */
static bool is_sse_form(const ZydisDecodedInstruction *zi)
{
    return (zi->mnemonic == ZYDIS_MNEMONIC_MOVSD || zi->mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
           zi->meta.isa_ext == ZYDIS_ISA_EXT_SSE2;
}

/* A repeated string instruction without a segment of its own. */
static bool is_plain_rep(const struct bt_source *s)
{
    for (unsigned i = 0; i < 2; i++)
        if (s->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (s->ops[i].mem.segment == ZYDIS_REGISTER_FS ||
             s->ops[i].mem.segment == ZYDIS_REGISTER_GS))
            return false;
    return s->zi.attributes & ZYDIS_ATTRIB_HAS_REP;
}

/* Whether 32-bit code means something else by it than 64-bit code, which is all that is emitted: 82, which is 80; the upper
 * half of the registers, which is not there to be cleared, or to be named by the highest bit of a fourth operand; and CS,
 * which can be read only. */
static bool differs_in_64(const struct bt_source *s)
{
    const ZydisDecodedInstruction *zi = &s->zi;

    if ((zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && zi->opcode == 0x82) || is_vzero(s) ||
        zi->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS)
        return true;
    for (unsigned i = 0; i < zi->operand_count_visible; i++)
        if (s->ops[i].encoding == ZYDIS_OPERAND_ENCODING_IS4)
            return true;
    return false;
}

static enum bt_class class_of(struct bt *bt, struct bt_source *s, struct bt_decoded *d)
{
    const ZydisDecodedInstruction *zi = &s->zi;
    enum bt_class class = (enum bt_class)classes[zi->mnemonic];

    if (zi->address_width != (d->code32 ? 32 : 64) ||
        (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
         zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX) ||
        (d->code32 && differs_in_64(s)))
        return BT_FALLBACK;
    if (class == BT_NOTHING) {
        s->mem = NULL;
        return class;
    }
    if (class == BT_STRING && !is_sse_form(zi))
        return is_plain_rep(s) ? class : BT_FALLBACK;
    if (!find_memory(s) || !fits_scratch(s))
        return BT_FALLBACK;
    if (class == BT_STRING)
        return classify_vector(bt, s, d);
    if (class == BT_FALLBACK)
        return bt->x->insns[zi->mnemonic] && !is_sse_form(zi) ? BT_FALLBACK
                                                              : classify_vector(bt, s, d);
    if (!is_base(zi) && !interp_knows(bt->x, zi->mnemonic))
        return BT_FALLBACK;
    if (special_register(s))
        return BT_FALLBACK;
    if (is_bit_string(s))
        return BT_BITS;
    if (zi->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B && s->mem)
        d->align = 16;
    return class;
}

/* Whether the forms that the emitters do not know are left out. */
static bool is_known_form(const struct bt_source *s, enum bt_class class, bool code32)
{
    const ZydisDecodedInstruction *zi = &s->zi;
    const ZydisDecodedOperand *o = &s->ops[0];
    unsigned word = code32 ? 32 : 64;

    switch (class) {
    case BT_PUSH:
        return zi->operand_width == word &&
               (s->mem || o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE || bt_gpr_of(o->reg.value) < 16);
    case BT_POP:
        return zi->operand_width == word && !s->mem && bt_gpr_of(o->reg.value) < 16;
    case BT_CALL:
    case BT_RET:
    case BT_JMP:
        return zi->operand_width == word && zi->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
    case BT_JCC:
    case BT_JRCXZ:
    case BT_LEAVE:
        return zi->operand_width == word;
    case BT_DIV:
    case BT_IDIV:
        return o->size == 32 || o->size == 64;
    case BT_SYSRET:
        return zi->operand_width == 64;
    case BT_NATIVE: /* LEA of 16 bits near RIP is a curiosity */
        return zi->mnemonic != ZYDIS_MNEMONIC_LEA || zi->operand_width != 16;
    default:
        return true;
    }
}

enum bt_class bt_class_of(struct bt *bt, struct bt_source *s, struct bt_decoded *d)
{
    enum bt_class class;

    s->mem = NULL;
    d->align = 1;
    class = class_of(bt, s, d);
    return is_known_form(s, class, d->code32) ? class : BT_FALLBACK;
}
