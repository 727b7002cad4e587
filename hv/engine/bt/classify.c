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
    N(PAUSE),
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

static bool find_memory(struct bt_decoded *d)
{
    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &d->ops[i];

        if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || o->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
            continue;
        if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            continue; /* the stack, by those whose class knows */
        if ((o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM &&
             o->encoding != ZYDIS_OPERAND_ENCODING_DISP16_32_64) ||
            o->mem.type != ZYDIS_MEMOP_TYPE_MEM || d->mem)
            return false;
        d->mem = o;
        d->writes = (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    }
    return true;
}

/* Whether registers are such that the instruction can be encoded with its operand at [R10] and R11
 * the one other scratch register. */
static bool fits_scratch(const struct bt_decoded *d)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < d->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &d->ops[i];
        unsigned reg;

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        if (d->mem && is_high_byte(o->reg.value))
            return false;
        reg = bt_gpr_of(o->reg.value);
        if (bt_in_slot(reg))
            mask |= 1u << reg;
    }
    return !d->mem || mask != (1u << BT_R10 | 1u << BT_R11);
}

static bool special_register(const struct bt_decoded *d)
{
    for (unsigned i = 0; i < d->zi.operand_count_visible; i++) {
        if (d->ops[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(d->ops[i].reg.value)) {
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
static bool is_bit_string(const struct bt_decoded *d)
{
    switch (d->zi.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        return d->mem && d->ops[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
    default:
        return false;
    }
}

/* Helpers of the interpreter, for they need no memory. */
static bool is_vzero(const struct bt_decoded *d)
{
    return d->zi.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER || d->zi.mnemonic == ZYDIS_MNEMONIC_VZEROALL;
}

/* x87, MMX, SSE and AVX, if a stub of the interpreter is nothing but the instruction. */
static enum bt_class classify_vector(struct bt *bt, struct bt_decoded *d)
{
    const struct hv_native_insn *stub;

    if (hv_native_compile(bt->x->native, &d->zi, d->ops, &stub) || (stub->helper && !is_vzero(d)) ||
        stub->memory_in_rdi || stub->info.fwait)
        return BT_FALLBACK;
    if (d->mem && d->mem->size / 8 > 64)
        return BT_FALLBACK;
    if (stub->info.has_memory != (d->mem != NULL))
        return BT_FALLBACK;
    if (stub->info.aligned)
        d->align = (uint8_t)(d->mem->size / 8);
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
static bool is_plain_rep(const struct bt_decoded *d)
{
    for (unsigned i = 0; i < 2; i++)
        if (d->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (d->ops[i].mem.segment == ZYDIS_REGISTER_FS ||
             d->ops[i].mem.segment == ZYDIS_REGISTER_GS))
            return false;
    return d->zi.attributes & ZYDIS_ATTRIB_HAS_REP;
}

static enum bt_class class_of(struct bt *bt, struct bt_decoded *d)
{
    const ZydisDecodedInstruction *zi = &d->zi;
    enum bt_class class = (enum bt_class)classes[zi->mnemonic];

    if (zi->address_width != (d->code32 ? 32 : 64) ||
        (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
         zi->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX))
        return BT_FALLBACK;
    if (class == BT_NOTHING) {
        d->mem = NULL;
        return class;
    }
    if (class == BT_STRING && !is_sse_form(zi))
        return is_plain_rep(d) ? class : BT_FALLBACK;
    if (!find_memory(d) || !fits_scratch(d))
        return BT_FALLBACK;
    if (class == BT_STRING)
        return classify_vector(bt, d);
    if (class == BT_FALLBACK)
        return bt->x->insns[zi->mnemonic] && !is_sse_form(zi) ? BT_FALLBACK
                                                              : classify_vector(bt, d);
    if (!is_base(zi) && !interp_knows(bt->x, zi->mnemonic))
        return BT_FALLBACK;
    if (special_register(d))
        return BT_FALLBACK;
    if (is_bit_string(d))
        return BT_BITS;
    if (zi->mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B && d->mem)
        d->align = 16;
    return class;
}

/* Whether the forms that the emitters do not know are left out. */
static bool is_known_form(const struct bt_decoded *d)
{
    const ZydisDecodedInstruction *zi = &d->zi;
    const ZydisDecodedOperand *o = &d->ops[0];
    unsigned word = d->code32 ? 32 : 64;

    switch (d->class) {
    case BT_PUSH:
        return zi->operand_width == word &&
               (d->mem || o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE || bt_gpr_of(o->reg.value) < 16);
    case BT_POP:
        return zi->operand_width == word && !d->mem && bt_gpr_of(o->reg.value) < 16;
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

/* ---- memory accesses */

static void add_stack_ref(const struct bt_translation *t, struct bt_insn *in, unsigned base,
                          bool write)
{
    in->refs[in->nr_refs++] = (struct bt_ref){.base = (uint8_t)base,
                                              .index = 16,
                                              .align = 1,
                                              .bytes = (uint16_t)t->word,
                                              .disp = write ? -(int64_t)t->word : 0,
                                              .write = write};
}

static void add_operand_ref(struct bt_translation *t, struct bt_insn *in)
{
    const ZydisDecodedOperand *o = in->d->mem;
    struct bt_ref *ref = &in->refs[in->nr_refs++];

    *ref = (struct bt_ref){
        .base = (uint8_t)bt_gpr_of(o->mem.base),
        .index = (uint8_t)bt_gpr_of(o->mem.index),
        .scale = o->mem.scale ? (uint8_t)__builtin_ctz(o->mem.scale) : 0,
        .segment = o->mem.segment == ZYDIS_REGISTER_FS   ? HV_FS
                   : o->mem.segment == ZYDIS_REGISTER_GS ? HV_GS
                                                         : 0,
        .computed = in->class == BT_BITS,
        .write = in->d->writes,
        .align = in->d->align,
        .bytes = o->size / 8,
        .disp = o->mem.disp.value,
    };
    if (o->mem.base == ZYDIS_REGISTER_RIP) {
        ref->va = bt_next_rip(t, in) + (uint64_t)o->mem.disp.value;
        ref->absolute = true;
    } else if (ref->base == 16 && ref->index == 16) {
        ref->va = bt_wrap(t, (uint64_t)o->mem.disp.value);
        ref->absolute = true;
    }
    if (ref->absolute && ref->segment && (int64_t)ref->va == (int32_t)ref->va) {
        ref->absolute = false;
        ref->disp = (int64_t)ref->va;
    }
}

static void find_refs(struct bt_translation *t, struct bt_insn *in)
{
    in->nr_refs = 0;
    if (in->d->mem)
        add_operand_ref(t, in);
    switch (in->class) {
    case BT_PUSH:
    case BT_PUSHF:
    case BT_CALL:
        add_stack_ref(t, in, HV_RSP, true);
        break;
    case BT_POP:
    case BT_RET:
        add_stack_ref(t, in, HV_RSP, false);
        break;
    case BT_LEAVE:
        add_stack_ref(t, in, HV_RBP, false);
        break;
    default:
        break;
    }
}

void bt_describe(struct bt *bt, struct bt_decoded *d)
{
    d->mem = NULL;
    d->writes = d->vector = d->avx = false;
    d->align = 1;
    d->class = class_of(bt, d);
    if (!is_known_form(d))
        d->class = BT_FALLBACK;
}

/* Whether the class is translated in code of this kind. */
static bool has_rights(const struct bt_translation *t, enum bt_class class)
{
    switch (class) {
    case BT_CLI:
    case BT_STI:
    case BT_SWAPGS:
    case BT_SYSRET:
    case BT_STAC:
    case BT_CLAC:
        return t->kind < BT_USER;
    case BT_SYSCALL:
        return t->kind == BT_USER;
    default:
        return true;
    }
}

void bt_classify(struct bt_translation *t, struct bt_insn *in)
{
    in->class = in->d->class;
    if (in->class == BT_RDTSC && t->bt->tsd)
        in->class = BT_FALLBACK;
    if (!has_rights(t, in->class))
        in->class = BT_FALLBACK;
    find_refs(t, in);
    for (unsigned i = 0; i < in->nr_refs; i++)
        if (t->code32 && in->refs[i].segment &&
            !(t->kind == BT_USER32_GS && in->refs[i].segment == HV_GS))
            in->class = BT_FALLBACK; /* the segment has limits, or is none */
}
