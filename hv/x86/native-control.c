/* x87 and SSE instructions that only move control registers between the image and memory: in C,
 * since a stub would have to load the whole x87 unit for them (and LDMXCSR would fault on reserved
 * bits). Also VZEROALL and VZEROUPPER, which name no register. Source: Intel SDM volume 1, 8.1.10
 * and figures 8-9 to 8-12; volume 2.
 */
#include "config.h"

#include "hv/x86/native-priv.h"

#include <errno.h>

/* The registers in the image are by stack position, tags and marks are by physical register. */
static unsigned physical(const uint8_t *image, unsigned position)
{
    return (HV_FSW_TOP(hv_fx_get16(image, HV_FX_FSW)) + position) & 7;
}

/* Registers are by stack position: a new TOP moves them in the image. */
static void rotate_stack(uint8_t *image, unsigned old_top)
{
    uint8_t old[128];
    unsigned new_top = physical(image, 0);

    memcpy(old, image + HV_FX_ST(0), sizeof(old));
    for (unsigned i = 0; i < 8; i++)
        memcpy(image + HV_FX_ST(i), old + 16 * ((new_top - old_top + i) & 7), 16);
}

/* FNINIT: control registers only; what the physical registers hold stays. */
static void reset_unit(uint8_t *image)
{
    unsigned old_top = physical(image, 0);

    memset(image, 0, HV_FX_MXCSR);
    hv_fx_put16(image, HV_FX_FCW, HV_FCW_INIT);
    rotate_stack(image, old_top);
}

static int do_ldmxcsr(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                      struct hv_fault *fault)
{
    uint32_t value = hv_fx_get32(memory, 0);

    (void)insn;
    if (value & ~(uint32_t)HV_MXCSR_MASK) {
        *fault = (struct hv_fault){.vector = HV_VEC_GP, .has_error_code = true};
        return -EFAULT;
    }
    hv_fx_put32(cpu->xsave, HV_FX_MXCSR, value);
    return 0;
}

static int do_stmxcsr(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                      struct hv_fault *fault)
{
    (void)insn;
    (void)fault;
    hv_fx_put32(memory, 0, hv_fx_get32(cpu->xsave, HV_FX_MXCSR));
    return 0;
}

static int do_fldcw(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                    struct hv_fault *fault)
{
    (void)insn;
    (void)fault;
    hv_fx_put_control(cpu->xsave, hv_fx_get16(memory, 0), hv_fx_get16(cpu->xsave, HV_FX_FSW));
    return 0;
}

static int do_fnstcw(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct hv_fault *fault)
{
    (void)insn;
    (void)fault;
    hv_fx_put16(memory, 0, hv_fx_get16(cpu->xsave, HV_FX_FCW));
    return 0;
}

/* To memory, or to AX. */
static int do_fnstsw(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct hv_fault *fault)
{
    uint16_t fsw = hv_fx_get16(cpu->xsave, HV_FX_FSW);

    (void)fault;
    if (insn->info.has_memory)
        hv_fx_put16(memory, 0, fsw);
    else
        cpu->gpr[HV_RAX] = (cpu->gpr[HV_RAX] & ~0xffffull) | fsw;
    return 0;
}

static int do_fninit(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct hv_fault *fault)
{
    (void)insn;
    (void)memory;
    (void)fault;
    reset_unit(cpu->xsave);
    return 0;
}

static int do_fnclex(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct hv_fault *fault)
{
    uint16_t fsw = hv_fx_get16(cpu->xsave, HV_FX_FSW);

    (void)insn;
    (void)memory;
    (void)fault;
    hv_fx_put16(cpu->xsave, HV_FX_FSW,
                fsw & (uint16_t) ~(HV_FSW_B | HV_FSW_ES | HV_FSW_SF | HV_FSW_FLAGS));
    return 0;
}

/* WAIT and the no-operations of old coprocessors: the check for pending exceptions has been made.
 */
static int do_nothing(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                      struct hv_fault *fault)
{
    (void)insn;
    (void)cpu;
    (void)memory;
    (void)fault;
    return 0;
}

/* Outside 64-bit mode registers 8 to 15 are left alone. */
static int do_vzeroupper(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                         struct hv_fault *fault)
{
    (void)insn;
    (void)memory;
    (void)fault;
    memset(cpu->xsave + HV_XS_YMM_HIGH(0), 0, hv_cpu_64bit(cpu) ? 256 : 128);
    return 0;
}

static int do_vzeroall(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                       struct hv_fault *fault)
{
    memset(cpu->xsave + HV_FX_XMM(0), 0, hv_cpu_64bit(cpu) ? 256 : 128);
    return do_vzeroupper(insn, cpu, memory, fault);
}

/* The two-bit tag of a register in use: 0 valid, 1 zero, 2 special (infinity, NaN, denormal,
 * unnormal). */
static unsigned full_tag(const uint8_t *st)
{
    unsigned exponent = hv_fx_get16(st, 8) & 0x7fff;
    uint64_t fraction = hv_fx_get64(st, 0);

    if (exponent == 0)
        return fraction == 0 ? 1 : 2;
    return exponent == 0x7fff || !(fraction >> 63) ? 2 : 0;
}

static uint16_t full_tag_word(const uint8_t *image)
{
    unsigned word = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned reg = physical(image, i);
        bool used = image[HV_FX_FTW] >> reg & 1;

        word |= (used ? full_tag(image + HV_FX_ST(i)) : 3) << (2 * reg);
    }
    return (uint16_t)word;
}

static uint8_t abridged_tag_word(uint16_t word)
{
    uint8_t abridged = 0;

    for (unsigned i = 0; i < 8; i++)
        if ((word >> (2 * i) & 3) != 3)
            abridged |= (uint8_t)(1u << i);
    return abridged;
}

/* Environments are 7 fields, of 2 bytes (14 in all) or of 4 (28 in all, upper halves ones):
 * control, status, tag, instruction pointer and selector, operand pointer and selector. The opcode
 * goes with the first selector in the long form only. Environments are those of protected mode. */
static unsigned env_bytes(const struct hv_native_insn *insn)
{
    return insn->info.memory_bytes == 14 || insn->info.memory_bytes == 94 ? 14 : 28;
}

static void store_env_14(const uint8_t *image, uint8_t *env)
{
    hv_fx_put16(env, 0, hv_fx_get16(image, HV_FX_FCW));
    hv_fx_put16(env, 2, hv_fx_get16(image, HV_FX_FSW));
    hv_fx_put16(env, 4, full_tag_word(image));
    hv_fx_put16(env, 6, hv_fx_get16(image, HV_FX_FIP));
    hv_fx_put16(env, 8, 0);
    hv_fx_put16(env, 10, hv_fx_get16(image, HV_FX_FDP));
    hv_fx_put16(env, 12, 0);
}

static void store_env_28(const uint8_t *image, uint8_t *env)
{
    const uint32_t ones = 0xffff0000u;

    hv_fx_put32(env, 0, ones | hv_fx_get16(image, HV_FX_FCW));
    hv_fx_put32(env, 4, ones | hv_fx_get16(image, HV_FX_FSW));
    hv_fx_put32(env, 8, ones | full_tag_word(image));
    hv_fx_put32(env, 12, hv_fx_get32(image, HV_FX_FIP));
    hv_fx_put32(env, 16, (uint32_t)hv_fx_get16(image, HV_FX_FOP) << 16);
    hv_fx_put32(env, 20, hv_fx_get32(image, HV_FX_FDP));
    hv_fx_put32(env, 24, ones);
}

static void store_env(const struct hv_native_insn *insn, const uint8_t *image, uint8_t *env)
{
    if (env_bytes(insn) == 14)
        store_env_14(image, env);
    else
        store_env_28(image, env);
}

static void load_env(const struct hv_native_insn *insn, uint8_t *image, const uint8_t *env)
{
    bool wide = env_bytes(insn) == 28;
    unsigned step = wide ? 4 : 2;

    hv_fx_put_control(image, hv_fx_get16(env, 0), hv_fx_get16(env, step));
    image[HV_FX_FTW] = abridged_tag_word(hv_fx_get16(env, 2 * step));
    hv_fx_put64(image, HV_FX_FIP, wide ? hv_fx_get32(env, 12) : hv_fx_get16(env, 6));
    hv_fx_put64(image, HV_FX_FDP, wide ? hv_fx_get32(env, 20) : hv_fx_get16(env, 10));
    hv_fx_put16(image, HV_FX_FOP, wide ? hv_fx_get16(env, 18) & 0x7ff : 0);
}

static int do_fnstenv(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                      struct hv_fault *fault)
{
    uint16_t fcw = hv_fx_get16(cpu->xsave, HV_FX_FCW);

    (void)fault;
    store_env(insn, cpu->xsave, memory);
    hv_fx_put_control(cpu->xsave, fcw | HV_FCW_MASKS, hv_fx_get16(cpu->xsave, HV_FX_FSW));
    return 0;
}

static int do_fldenv(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct hv_fault *fault)
{
    unsigned old_top = physical(cpu->xsave, 0);

    (void)fault;
    load_env(insn, cpu->xsave, memory);
    rotate_stack(cpu->xsave, old_top);
    return 0;
}

static int do_fnsave(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct hv_fault *fault)
{
    uint8_t *regs = (uint8_t *)memory + env_bytes(insn);

    (void)fault;
    store_env(insn, cpu->xsave, memory);
    for (unsigned i = 0; i < 8; i++)
        memcpy(regs + 10 * i, cpu->xsave + HV_FX_ST(i), 10);
    reset_unit(cpu->xsave);
    return 0;
}

static int do_frstor(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct hv_fault *fault)
{
    const uint8_t *regs = (const uint8_t *)memory + env_bytes(insn);

    (void)fault;
    load_env(insn, cpu->xsave, memory);
    for (unsigned i = 0; i < 8; i++)
        memcpy(cpu->xsave + HV_FX_ST(i), regs + 10 * i, 10);
    return 0;
}

static const struct {
    ZydisMnemonic mnemonic;
    native_helper_fn *helper;
} helpers[] = {
    {ZYDIS_MNEMONIC_LDMXCSR, do_ldmxcsr},       {ZYDIS_MNEMONIC_STMXCSR, do_stmxcsr},
    {ZYDIS_MNEMONIC_FLDCW, do_fldcw},           {ZYDIS_MNEMONIC_FNSTCW, do_fnstcw},
    {ZYDIS_MNEMONIC_FNSTSW, do_fnstsw},         {ZYDIS_MNEMONIC_FNINIT, do_fninit},
    {ZYDIS_MNEMONIC_FNCLEX, do_fnclex},         {ZYDIS_MNEMONIC_FWAIT, do_nothing},
    {ZYDIS_MNEMONIC_FENI8087_NOP, do_nothing},  {ZYDIS_MNEMONIC_FDISI8087_NOP, do_nothing},
    {ZYDIS_MNEMONIC_FSETPM287_NOP, do_nothing}, {ZYDIS_MNEMONIC_FNSTENV, do_fnstenv},
    {ZYDIS_MNEMONIC_FLDENV, do_fldenv},         {ZYDIS_MNEMONIC_FNSAVE, do_fnsave},
    {ZYDIS_MNEMONIC_FRSTOR, do_frstor},         {ZYDIS_MNEMONIC_VLDMXCSR, do_ldmxcsr},
    {ZYDIS_MNEMONIC_VSTMXCSR, do_stmxcsr},      {ZYDIS_MNEMONIC_VZEROUPPER, do_vzeroupper},
    {ZYDIS_MNEMONIC_VZEROALL, do_vzeroall},
};

native_helper_fn *native_find_helper(ZydisMnemonic mnemonic)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(helpers); i++)
        if (helpers[i].mnemonic == mnemonic)
            return helpers[i].helper;
    return NULL;
}
