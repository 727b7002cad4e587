/* From Zydis' description of an instruction to ours: its re-encoding, and what its stub has to load
 * and store. */
#include "config.h"

#include "hv/x86/native-priv.h"

#include <cpuid.h>
#include <errno.h>

/* Which extensions are of this kind, and the CPUID bit with which the host says that it has them.
 */
static const struct {
    ZydisISAExt ext;
    uint8_t leaf;
    enum { IN_EBX, IN_ECX, IN_EDX } where;
    uint8_t bit;
} extensions[] = {
    {ZYDIS_ISA_EXT_X87, 1, IN_EDX, 0},   {ZYDIS_ISA_EXT_MMX, 1, IN_EDX, 23},
    {ZYDIS_ISA_EXT_SSE, 1, IN_EDX, 25},  {ZYDIS_ISA_EXT_SSE2, 1, IN_EDX, 26},
    {ZYDIS_ISA_EXT_SSE3, 1, IN_ECX, 0},  {ZYDIS_ISA_EXT_PCLMULQDQ, 1, IN_ECX, 1},
    {ZYDIS_ISA_EXT_SSSE3, 1, IN_ECX, 9}, {ZYDIS_ISA_EXT_SSE4, 1, IN_ECX, 20},
    {ZYDIS_ISA_EXT_AES, 1, IN_ECX, 25},  {ZYDIS_ISA_EXT_SHA, 7, IN_EBX, 29},
};

static bool host_has(ZydisISAExt ext)
{
    unsigned eax, regs[3];

    for (size_t i = 0; i < HV_ARRAY_LEN(extensions); i++)
        if (extensions[i].ext == ext)
            return __get_cpuid_count(extensions[i].leaf, 0, &eax, &regs[IN_EBX], &regs[IN_ECX],
                                     &regs[IN_EDX]) &&
                   (regs[extensions[i].where] >> extensions[i].bit & 1);
    return false;
}

/* 16-byte operands of SSE instructions that need not be aligned. */
static bool may_be_unaligned(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
        return true;
    default:
        return false;
    }
}

/* Whether MXCSR matters: floating point by the SDM's exception classes 2 and 3, and the conversions
 * between XMM and MMX, which are in none. */
static bool uses_mxcsr(const ZydisDecodedInstruction *zi)
{
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
        return true;
    default:
        return zi->meta.exception_class == ZYDIS_EXCEPTION_CLASS_SSE2 ||
               zi->meta.exception_class == ZYDIS_EXCEPTION_CLASS_SSE3;
    }
}

/* Results that are tiny underflow even when they are exact, if that exception is unmasked. Others
 * cannot be tiny, or only hand on what was. */
static bool can_underflow(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_ADDPS:
    case ZYDIS_MNEMONIC_ADDPD:
    case ZYDIS_MNEMONIC_ADDSS:
    case ZYDIS_MNEMONIC_ADDSD:
    case ZYDIS_MNEMONIC_SUBPS:
    case ZYDIS_MNEMONIC_SUBPD:
    case ZYDIS_MNEMONIC_SUBSS:
    case ZYDIS_MNEMONIC_SUBSD:
    case ZYDIS_MNEMONIC_MULPS:
    case ZYDIS_MNEMONIC_MULPD:
    case ZYDIS_MNEMONIC_MULSS:
    case ZYDIS_MNEMONIC_MULSD:
    case ZYDIS_MNEMONIC_DIVPS:
    case ZYDIS_MNEMONIC_DIVPD:
    case ZYDIS_MNEMONIC_DIVSS:
    case ZYDIS_MNEMONIC_DIVSD:
    case ZYDIS_MNEMONIC_ADDSUBPS:
    case ZYDIS_MNEMONIC_ADDSUBPD:
    case ZYDIS_MNEMONIC_HADDPS:
    case ZYDIS_MNEMONIC_HADDPD:
    case ZYDIS_MNEMONIC_HSUBPS:
    case ZYDIS_MNEMONIC_HSUBPD:
    case ZYDIS_MNEMONIC_DPPS:
    case ZYDIS_MNEMONIC_DPPD:
    case ZYDIS_MNEMONIC_CVTSD2SS:
    case ZYDIS_MNEMONIC_CVTPD2PS:
        return true;
    default:
        return false;
    }
}

/* x87 and MMX instructions that do not report a pending exception; the helpers of the others look
 * too. */
static bool is_nonwaiting(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP:
        return true;
    default:
        return false;
    }
}

static void describe_access(bool *read, bool *written, const ZydisDecodedOperand *op)
{
    *read |= (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
    *written |= (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
}

/* An operand in ModRM.reg goes to RAX, one in ModRM.rm to RCX; those that the opcode implies stay.
 */
static int describe_gpr(struct hv_native_insn *insn, const ZydisDecodedOperand *op)
{
    ZydisRegister reg = op->reg.value;
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    uint8_t guest = (uint8_t)(full - ZYDIS_REGISTER_RAX);
    enum native_gpr_slot slot = (enum native_gpr_slot)guest;
    struct native_gpr *g;

    if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
        slot = NATIVE_RAX;
    else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
        slot = NATIVE_RCX;
    if (slot >= NATIVE_NR_GPR)
        return -ENOTSUP;
    g = &insn->key.gpr[slot];
    g->guest = guest;
    g->high_byte = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
    describe_access(&g->read, &g->written, op);
    return 0;
}

static void describe_xmm(struct hv_native_insn *insn, const ZydisDecodedOperand *op)
{
    uint16_t bit = (uint16_t)(1u << (op->reg.value - ZYDIS_REGISTER_XMM0));

    insn->info.sse = true;
    insn->xmm |= bit;
    if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        insn->xmm_written |= bit;
}

static int describe_register(struct hv_native_insn *insn, const ZydisDecodedOperand *op)
{
    switch (ZydisRegisterGetClass(op->reg.value)) {
    case ZYDIS_REGCLASS_XMM:
        describe_xmm(insn, op);
        return 0;
    case ZYDIS_REGCLASS_MMX:
        insn->info.mmx = true;
        return 0;
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return describe_gpr(insn, op);
    case ZYDIS_REGCLASS_FLAGS:
        insn->flags = true;
        return 0;
    case ZYDIS_REGCLASS_X87:
        insn->info.x87 = true; /* FISTTP is of the SSE3 extension */
        return 0;
    default:
        switch (op->reg.value) {
        case ZYDIS_REGISTER_MXCSR:
            insn->info.sse = true;
            return 0;
        case ZYDIS_REGISTER_X87STATUS:
        case ZYDIS_REGISTER_X87CONTROL:
        case ZYDIS_REGISTER_X87TAG:
            return 0;
        default:
            return -ENOTSUP;
        }
    }
}

static int describe_memory(struct hv_native_insn *insn, const ZydisDecodedOperand *op)
{
    unsigned bytes = op->size / 8;

    if (insn->info.has_memory || bytes > HV_NATIVE_MEMORY_MAX)
        return -ENOTSUP;
    insn->info.has_memory = true;
    insn->info.memory_bytes = bytes;
    insn->key.memory_bytes = (uint8_t)bytes;
    insn->memory_in_rdi = op->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
    describe_access(&insn->info.reads_memory, &insn->info.writes_memory, op);
    insn->info.reads_memory |=
        insn->memory_in_rdi; /* it writes some bytes only: a copy must hold the rest */
    return 0;
}

static int describe_operands(struct hv_native_insn *insn, const ZydisDecodedInstruction *zi,
                             const ZydisDecodedOperand *operands)
{
    int ret = 0;

    for (unsigned i = 0; i < zi->operand_count && ret == 0; i++) {
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            ret = describe_register(insn, &operands[i]);
        else if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            ret = describe_memory(insn, &operands[i]);
    }
    return ret;
}

static bool in_gpr(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *operands,
                   ZydisOperandEncoding field)
{
    for (unsigned i = 0; i < zi->operand_count; i++) {
        ZydisRegisterClass class;

        if (operands[i].encoding != field || operands[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        class = ZydisRegisterGetClass(operands[i].reg.value);
        return class >= ZYDIS_REGCLASS_GPR8 && class <= ZYDIS_REGCLASS_GPR64;
    }
    return false;
}

static bool has_mandatory(const ZydisDecodedInstruction *zi, uint8_t prefix)
{
    for (unsigned i = 0; i < zi->raw.prefix_count; i++)
        if (zi->raw.prefixes[i].value == prefix &&
            zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
            return true;
    return false;
}

static void put(struct native_key *key, uint8_t byte)
{
    key->code[key->code_bytes++] =
        byte; /* at most 3 prefixes, REX, 3 opcode bytes, ModRM, 1 immediate */
}

static void encode_prefixes(struct native_key *key, const ZydisDecodedInstruction *zi,
                            const ZydisDecodedOperand *operands)
{
    /* The operand size of CRC32 depends on the code segment, and the stub runs in a 64-bit one. */
    if (zi->mnemonic == ZYDIS_MNEMONIC_CRC32 ? operands[1].size == 16 : has_mandatory(zi, 0x66))
        put(key, 0x66);
    if (has_mandatory(zi, 0xf2))
        put(key, 0xf2);
    if (has_mandatory(zi, 0xf3))
        put(key, 0xf3);
}

static void encode_opcode(struct native_key *key, const ZydisDecodedInstruction *zi)
{
    if (zi->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
        put(key, 0x0f);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F38)
        put(key, 0x38);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
        put(key, 0x3a);
    put(key, zi->opcode);
}

/* The same instruction with its memory operand at [rsi], general registers in RAX and RCX, and
 * vector registers as they were. */
static void encode(struct native_key *key, const ZydisDecodedInstruction *zi,
                   const ZydisDecodedOperand *operands)
{
    bool gpr_reg = in_gpr(zi, operands, ZYDIS_OPERAND_ENCODING_MODRM_REG);
    bool gpr_rm = in_gpr(zi, operands, ZYDIS_OPERAND_ENCODING_MODRM_RM);
    bool has_modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    bool memory = has_modrm && zi->raw.modrm.mod != 3;
    unsigned reg = gpr_reg ? HV_RAX : zi->raw.modrm.reg;
    unsigned rm = memory ? HV_RSI : gpr_rm ? HV_RCX : zi->raw.modrm.rm;
    bool r = !gpr_reg && zi->raw.rex.R;
    bool b = !memory && !gpr_rm && zi->raw.rex.B;

    encode_prefixes(key, zi, operands);
    if (zi->raw.rex.W || r || b)
        put(key, (uint8_t)(0x40 | (zi->raw.rex.W != 0) << 3 | r << 2 | b));
    encode_opcode(key, zi);
    if (has_modrm)
        put(key, (uint8_t)((memory ? 0 : 0xc0) | reg << 3 | rm));
    if (zi->raw.imm[0].size)
        put(key, (uint8_t)zi->raw.imm[0].value.u);
}

static void describe_tiny(struct hv_native_insn *insn, const ZydisDecodedInstruction *zi,
                          const ZydisDecodedOperand *operands)
{
    if (!can_underflow(zi->mnemonic))
        return;
    insn->tiny_element = operands[0].element_type == ZYDIS_ELEMENT_TYPE_FLOAT32 ? 4 : 8;
    insn->tiny_count = (uint8_t)(operands[0].size / 8 / insn->tiny_element);
}

/* Fences, prefetches, MOVNTI and POPCNT are in these extensions too, but touch none of their state.
 */
static bool is_ours(const struct hv_native_insn *insn, const ZydisDecodedInstruction *zi)
{
    return insn->info.x87 || insn->info.mmx || insn->info.sse ||
           zi->mnemonic == ZYDIS_MNEMONIC_CRC32;
}

int native_describe(struct hv_native_insn *insn, const ZydisDecodedInstruction *zi,
                    const ZydisDecodedOperand *operands)
{
    int ret;

    if (zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY || !host_has(zi->meta.isa_ext))
        return -ENOTSUP;
    insn->info.x87 = zi->meta.isa_ext == ZYDIS_ISA_EXT_X87;
    insn->info.mmx = zi->mnemonic == ZYDIS_MNEMONIC_EMMS;
    insn->info.fwait = zi->mnemonic == ZYDIS_MNEMONIC_FWAIT;
    insn->mxcsr = uses_mxcsr(zi);
    insn->info.sse = insn->mxcsr; /* even without an XMM register: CVTSD2SI from memory */
    ret = describe_operands(insn, zi, operands);
    if (ret < 0 || !is_ours(insn, zi))
        return -ENOTSUP;
    insn->info.aligned =
        insn->info.sse && insn->info.memory_bytes == 16 && !may_be_unaligned(zi->mnemonic);
    insn->waits = native_uses_x87_unit(insn) && !is_nonwaiting(zi->mnemonic);
    insn->helper = native_find_helper(zi->mnemonic);
    insn->key.mnemonic_low = (uint8_t)zi->mnemonic;
    insn->key.mnemonic_high = (uint8_t)(zi->mnemonic >> 8);
    describe_tiny(insn, zi, operands);
    encode(&insn->key, zi, operands);
    return 0;
}
