/* From Zydis' description of an instruction to ours: its re-encoding, and what its stub has to load
 * and store. */
#include "config.h"

#include "hv/x86/native-priv.h"

#include <cpuid.h>
#include <errno.h>

/* Which extensions are of this kind, and the CPUID bit with which the host says that it has them.
 * Missing on purpose: AVX-512 (EVEX is not translated), FMA4 and XOP (CPUID never offers them),
 * gathers (their faults are for the interpreter). */
static const struct {
    ZydisISAExt ext;
    uint8_t leaf, subleaf;
    enum { IN_EAX, IN_EBX, IN_ECX, IN_EDX } where;
    uint8_t bit;
} extensions[] = {
    {ZYDIS_ISA_EXT_X87, 1, 0, IN_EDX, 0},         {ZYDIS_ISA_EXT_MMX, 1, 0, IN_EDX, 23},
    {ZYDIS_ISA_EXT_SSE, 1, 0, IN_EDX, 25},        {ZYDIS_ISA_EXT_SSE2, 1, 0, IN_EDX, 26},
    {ZYDIS_ISA_EXT_SSE3, 1, 0, IN_ECX, 0},        {ZYDIS_ISA_EXT_PCLMULQDQ, 1, 0, IN_ECX, 1},
    {ZYDIS_ISA_EXT_SSSE3, 1, 0, IN_ECX, 9},       {ZYDIS_ISA_EXT_SSE4, 1, 0, IN_ECX, 20},
    {ZYDIS_ISA_EXT_AES, 1, 0, IN_ECX, 25},        {ZYDIS_ISA_EXT_SHA, 7, 0, IN_EBX, 29},
    {ZYDIS_ISA_EXT_AVX, 1, 0, IN_ECX, 28},        {ZYDIS_ISA_EXT_AVX2, 7, 0, IN_EBX, 5},
    {ZYDIS_ISA_EXT_FMA, 1, 0, IN_ECX, 12},        {ZYDIS_ISA_EXT_F16C, 1, 0, IN_ECX, 29},
    {ZYDIS_ISA_EXT_AVXAES, 1, 0, IN_ECX, 25},     {ZYDIS_ISA_EXT_VAES, 7, 0, IN_ECX, 9},
    {ZYDIS_ISA_EXT_VPCLMULQDQ, 7, 0, IN_ECX, 10}, {ZYDIS_ISA_EXT_GFNI, 7, 0, IN_ECX, 8},
    {ZYDIS_ISA_EXT_AVX_VNNI, 7, 1, IN_EAX, 4},
};

_Static_assert(HV_ARRAY_LEN(extensions) < 31, "one bit each, and one for VEX");

#define HOST_HAS_VEX (1u << 31)

uint32_t native_host_extensions(void)
{
    uint32_t set = hv_xstate_supported() & HV_XSTATE_AVX ? HOST_HAS_VEX : 0;
    unsigned regs[4];

    for (size_t i = 0; i < HV_ARRAY_LEN(extensions); i++)
        if (__get_cpuid_count(extensions[i].leaf, extensions[i].subleaf, &regs[IN_EAX],
                              &regs[IN_EBX], &regs[IN_ECX], &regs[IN_EDX]) &&
            (regs[extensions[i].where] >> extensions[i].bit & 1))
            set |= 1u << i;
    return set;
}

static bool has_extension(uint32_t set, ZydisISAExt ext)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(extensions); i++)
        if (extensions[i].ext == ext)
            return set >> i & 1;
    return false;
}

static bool is_vex(const ZydisDecodedInstruction *zi)
{
    return zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
}

static bool host_has(uint32_t set, const ZydisDecodedInstruction *zi)
{
    if (is_vex(zi) ? !(set & HOST_HAS_VEX) : zi->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    /* Of 128 bits it is filed under AVX. */
    if (zi->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ && !has_extension(set, ZYDIS_ISA_EXT_PCLMULQDQ))
        return false;
    return has_extension(set, zi->meta.isa_ext);
}

/* Those that access, and fault on, no more of memory than a mask tells: the interpreter's. */
static bool is_masked(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        return true;
    default:
        return false;
    }
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
        break;
    }
    switch (zi->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11:
        return true;
    default:
        return false;
    }
}

static bool is_scalar(const ZydisDecodedInstruction *zi)
{
    return zi->meta.exception_class == ZYDIS_EXCEPTION_CLASS_SSE3 ||
           zi->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX3;
}

/* Results that are tiny underflow even when they are exact, if that exception is unmasked. Others
 * cannot be tiny, or only hand on what was. */
static bool can_underflow(const ZydisDecodedInstruction *zi)
{
    if (zi->meta.isa_ext == ZYDIS_ISA_EXT_FMA)
        return true;
    switch (zi->mnemonic) {
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
    case ZYDIS_MNEMONIC_VADDPS:
    case ZYDIS_MNEMONIC_VADDPD:
    case ZYDIS_MNEMONIC_VADDSS:
    case ZYDIS_MNEMONIC_VADDSD:
    case ZYDIS_MNEMONIC_VSUBPS:
    case ZYDIS_MNEMONIC_VSUBPD:
    case ZYDIS_MNEMONIC_VSUBSS:
    case ZYDIS_MNEMONIC_VSUBSD:
    case ZYDIS_MNEMONIC_VMULPS:
    case ZYDIS_MNEMONIC_VMULPD:
    case ZYDIS_MNEMONIC_VMULSS:
    case ZYDIS_MNEMONIC_VMULSD:
    case ZYDIS_MNEMONIC_VDIVPS:
    case ZYDIS_MNEMONIC_VDIVPD:
    case ZYDIS_MNEMONIC_VDIVSS:
    case ZYDIS_MNEMONIC_VDIVSD:
    case ZYDIS_MNEMONIC_VADDSUBPS:
    case ZYDIS_MNEMONIC_VADDSUBPD:
    case ZYDIS_MNEMONIC_VHADDPS:
    case ZYDIS_MNEMONIC_VHADDPD:
    case ZYDIS_MNEMONIC_VHSUBPS:
    case ZYDIS_MNEMONIC_VHSUBPD:
    case ZYDIS_MNEMONIC_VDPPS:
    case ZYDIS_MNEMONIC_VDPPD:
    case ZYDIS_MNEMONIC_VCVTSD2SS:
    case ZYDIS_MNEMONIC_VCVTPD2PS:
    case ZYDIS_MNEMONIC_VCVTPS2PH:
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

static void describe_xmm(struct hv_native_insn *insn, const ZydisDecodedOperand *op, bool wide)
{
    ZydisRegister first = wide ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0;
    uint16_t bit = (uint16_t)(1u << (op->reg.value - first));

    insn->info.sse = true;
    insn->xmm |= bit;
    if (wide)
        insn->ymm |= bit;
    if (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        insn->xmm_written |= bit;
}

static int describe_register(struct hv_native_insn *insn, const ZydisDecodedOperand *op)
{
    switch (ZydisRegisterGetClass(op->reg.value)) {
    case ZYDIS_REGCLASS_XMM:
    case ZYDIS_REGCLASS_YMM:
        describe_xmm(insn, op, ZydisRegisterGetClass(op->reg.value) == ZYDIS_REGCLASS_YMM);
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

/* Whether VEX.W is the size of a general register, or of what stands for it in memory: outside
 * 64-bit mode it is ignored, and the stub runs in 64-bit mode. */
static bool w_is_gpr_size(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
    case ZYDIS_MNEMONIC_VCVTSS2SI:
    case ZYDIS_MNEMONIC_VCVTSD2SI:
    case ZYDIS_MNEMONIC_VCVTTSS2SI:
    case ZYDIS_MNEMONIC_VCVTTSD2SI:
    case ZYDIS_MNEMONIC_VPCMPESTRI:
    case ZYDIS_MNEMONIC_VPCMPESTRM:
        return true;
    default:
        return false;
    }
}

/* The three-byte prefix, whose fields Zydis gives as they are: R, X, B and vvvv inverted. Outside
 * 64-bit mode there are but eight registers, and the fields' top bits mean nothing. */
static void encode_vex_prefix(struct native_key *key, const ZydisDecodedInstruction *zi, bool r,
                              bool b)
{
    bool is_64 = zi->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    bool w = zi->raw.vex.W && (is_64 || !w_is_gpr_size(zi->mnemonic));
    unsigned vvvv = zi->raw.vex.vvvv | (is_64 ? 0 : 8);

    put(key, 0xc4);
    put(key, (uint8_t)(!r << 7 | 0x40 | !b << 5 | zi->raw.vex.m_mmmm));
    put(key, (uint8_t)(w << 7 | vvvv << 3 | zi->raw.vex.L << 2 | zi->raw.vex.pp));
    put(key, zi->opcode);
}

static uint8_t immediate(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *operands)
{
    uint8_t value = (uint8_t)zi->raw.imm[0].value.u;

    for (unsigned i = 0; i < zi->operand_count; i++)
        if (operands[i].encoding == ZYDIS_OPERAND_ENCODING_IS4 &&
            zi->machine_mode != ZYDIS_MACHINE_MODE_LONG_64)
            value &= 0x7f;
    return value;
}

/* The same instruction with its memory operand at [rsi], general registers in RAX and RCX, and
 * vector registers as they were. */
static void encode(struct native_key *key, const ZydisDecodedInstruction *zi,
                   const ZydisDecodedOperand *operands)
{
    bool is_64 = zi->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    bool extends_reg = is_vex(zi) ? is_64 && !zi->raw.vex.R : zi->raw.rex.R;
    bool extends_rm = is_vex(zi) ? is_64 && !zi->raw.vex.B : zi->raw.rex.B;
    bool gpr_reg = in_gpr(zi, operands, ZYDIS_OPERAND_ENCODING_MODRM_REG);
    bool gpr_rm = in_gpr(zi, operands, ZYDIS_OPERAND_ENCODING_MODRM_RM);
    bool has_modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    bool memory = has_modrm && zi->raw.modrm.mod != 3;
    unsigned reg = gpr_reg ? HV_RAX : zi->raw.modrm.reg;
    unsigned rm = memory ? HV_RSI : gpr_rm ? HV_RCX : zi->raw.modrm.rm;
    bool r = !gpr_reg && extends_reg;
    bool b = !memory && !gpr_rm && extends_rm;

    if (is_vex(zi)) {
        encode_vex_prefix(key, zi, r, b);
    } else {
        encode_prefixes(key, zi, operands);
        if (zi->raw.rex.W || r || b)
            put(key, (uint8_t)(0x40 | (zi->raw.rex.W != 0) << 3 | r << 2 | b));
        encode_opcode(key, zi);
    }
    if (has_modrm)
        put(key, (uint8_t)((memory ? 0 : 0xc0) | reg << 3 | rm));
    if (zi->raw.imm[0].size)
        put(key, immediate(zi, operands));
}

static uint8_t float_bytes(ZydisElementType type)
{
    switch (type) {
    case ZYDIS_ELEMENT_TYPE_FLOAT16:
        return 2;
    case ZYDIS_ELEMENT_TYPE_FLOAT32:
        return 4;
    default:
        return 8;
    }
}

static void describe_tiny(struct hv_native_insn *insn, const ZydisDecodedInstruction *zi,
                          const ZydisDecodedOperand *operands)
{
    if (!can_underflow(zi))
        return;
    insn->tiny_element = float_bytes(operands[0].element_type);
    insn->tiny_count = is_scalar(zi) ? 1 : (uint8_t)(operands[0].size / 8 / insn->tiny_element);
}

/* Moves of full size that want their operand aligned. */
static bool is_aligned(const struct hv_native_insn *insn, const ZydisDecodedInstruction *zi)
{
    if (insn->info.avx)
        return insn->info.has_memory && zi->meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX1;
    return insn->info.sse && insn->info.memory_bytes == 16 && !may_be_unaligned(zi->mnemonic);
}

/* Fences, prefetches, MOVNTI and POPCNT are in these extensions too, but touch none of their state.
 */
static bool is_ours(const struct hv_native_insn *insn, const ZydisDecodedInstruction *zi)
{
    return insn->info.x87 || insn->info.mmx || insn->info.sse || is_vex(zi) ||
           zi->mnemonic == ZYDIS_MNEMONIC_CRC32;
}

int native_describe(struct hv_native_insn *insn, uint32_t host, const ZydisDecodedInstruction *zi,
                    const ZydisDecodedOperand *operands)
{
    int ret;

    if (!host_has(host, zi) || is_masked(zi->mnemonic))
        return -ENOTSUP;
    insn->info.x87 = zi->meta.isa_ext == ZYDIS_ISA_EXT_X87;
    insn->info.mmx = zi->mnemonic == ZYDIS_MNEMONIC_EMMS;
    insn->info.fwait = zi->mnemonic == ZYDIS_MNEMONIC_FWAIT;
    insn->mxcsr = uses_mxcsr(zi);
    insn->info.sse = insn->mxcsr; /* even without an XMM register: CVTSD2SI from memory */
    ret = describe_operands(insn, zi, operands);
    if (ret < 0 || !is_ours(insn, zi))
        return -ENOTSUP;
    if (is_vex(zi)) {
        insn->info.avx = true;
        insn->info.sse = false;
    }
    insn->info.aligned = is_aligned(insn, zi);
    insn->waits = native_uses_x87_unit(insn) && !is_nonwaiting(zi->mnemonic);
    insn->helper = native_find_helper(zi->mnemonic);
    insn->key.mnemonic_low = (uint8_t)zi->mnemonic;
    insn->key.mnemonic_high = (uint8_t)(zi->mnemonic >> 8);
    describe_tiny(insn, zi, operands);
    encode(&insn->key, zi, operands);
    return 0;
}
