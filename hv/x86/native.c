/* x87, MMX, SSE and AVX instructions by the host CPU itself.
 *
 * hv_native_compile turns a decoded instruction into a description with a key (native-describe.c):
 * its re-encoding, whose memory operand is [rsi] and whose general registers are RAX and RCX, and
 * what it reads and writes. Equal keys share one stub (native-emit.c), found through the hash table
 * here. Instructions that only move control registers have a C function instead (native-control.c).
 *
 * hv_native_execute runs a stub on a vCPU. The guest's exceptions never become the host's:
 * - SSE: stubs run with all exceptions masked and the flags clear; what is raised is then compared
 * with what the guest has unmasked, and the destination is put back if it faults.
 * - x87: an unmasked exception only becomes a fault at the next instruction that waits. So the
 * instruction runs with the guest's own control word, the state is saved, pending exception and
 * all, by FXSAVE, which does not wait, and FNINIT drops it from the host. The guest's next waiting
 * instruction finds it in the image.
 */
#include "config.h"

#include "hv/x86/native-priv.h"

#include "hv/x86/code-memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Distinct encodings are many (every pair of registers, every immediate), so a guest could make
 * ever more; real programs need some thousands of them, at about 64 bytes. */
#define CODE_BYTES (2u << 20)
#define STUB_ALIGN 16u
#define NR_BUCKETS 4096u

#define ARITHMETIC_FLAGS                                                                           \
    (HV_EFLAGS_CF | HV_EFLAGS_PF | HV_EFLAGS_AF | HV_EFLAGS_ZF | HV_EFLAGS_SF | HV_EFLAGS_OF)

/* MXCSR flags that are found before the operation: invalid, denormal, divide by zero. If one of
 * them is unmasked, the others are not looked for. */
#define FLAGS_BEFORE 0x7u

struct hv_native {
    pthread_mutex_t lock;
    uint32_t host;              /* native_host_extensions(); immutable */
    struct hv_code_memory code; /* contents under lock until handed out, then immutable */
    size_t used;                /* lock */
    struct hv_native_insn *buckets[NR_BUCKETS]; /* lock */
};

int hv_native_new(struct hv_native **out)
{
    struct hv_native *native = calloc(1, sizeof(*native));
    int ret;

    if (!native)
        return -ENOMEM;
    ret = hv_code_memory_init(&native->code, CODE_BYTES);
    if (ret < 0) {
        free(native);
        return ret;
    }
    native->host = native_host_extensions();
    pthread_mutex_init(&native->lock, NULL);
    *out = native;
    return 0;
}

/* True if there was any. */
static bool free_stubs(struct hv_native *native)
{
    bool any = false;

    for (unsigned i = 0; i < NR_BUCKETS; i++) {
        struct hv_native_insn *insn = native->buckets[i], *next;

        for (; insn; insn = next) {
            next = insn->next;
            any = true;
            free(insn);
        }
        native->buckets[i] = NULL;
    }
    native->used = 0;
    return any;
}

bool hv_native_flush(struct hv_native *native)
{
    bool any;

    pthread_mutex_lock(&native->lock);
    any = free_stubs(native);
    pthread_mutex_unlock(&native->lock);
    return any;
}

void hv_native_free(struct hv_native *native)
{
    if (!native)
        return;
    free_stubs(native);
    hv_code_memory_fini(&native->code);
    pthread_mutex_destroy(&native->lock);
    free(native);
}

static struct hv_native_insn **bucket(struct hv_native *native, const struct native_key *key)
{
    const uint8_t *bytes = (const uint8_t *)key;
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < sizeof(*key); i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return &native->buckets[hash % NR_BUCKETS];
}

static const struct hv_native_insn *find_locked(struct hv_native *native,
                                                const struct native_key *key)
{
    for (const struct hv_native_insn *insn = *bucket(native, key); insn; insn = insn->next)
        if (memcmp(&insn->key, key, sizeof(*key)) == 0)
            return insn;
    return NULL;
}

static int make_stub_locked(struct hv_native *native, struct hv_native_insn *insn)
{
    size_t length = native_emit_stub(insn, native->code.write + native->used,
                                     native->code.bytes - native->used);

    if (!length)
        return -ENOMEM;
    insn->stub = (native_stub_fn *)(uintptr_t)(native->code.exec + native->used);
    length = (length + STUB_ALIGN - 1) & ~(size_t)(STUB_ALIGN - 1);
    native->used +=
        length < native->code.bytes - native->used ? length : native->code.bytes - native->used;
    return 0;
}

static int add_locked(struct hv_native *native, const struct hv_native_insn *description,
                      const struct hv_native_insn **out)
{
    struct hv_native_insn *insn = malloc(sizeof(*insn));
    struct hv_native_insn **head = bucket(native, &description->key);
    int ret = 0;

    if (!insn)
        return -ENOMEM;
    *insn = *description;
    if (!insn->helper)
        ret = make_stub_locked(native, insn);
    if (ret < 0) {
        free(insn);
        return ret;
    }
    insn->next = *head;
    *head = insn;
    *out = insn;
    return 0;
}

int hv_native_compile(struct hv_native *native, const ZydisDecodedInstruction *zi,
                      const ZydisDecodedOperand *operands, const struct hv_native_insn **out)
{
    struct hv_native_insn description;
    int ret;

    memset(&description, 0, sizeof(description)); /* the key is compared as bytes */
    ret = native_describe(&description, native->host, zi, operands);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&native->lock);
    *out = find_locked(native, &description.key);
    if (!*out)
        ret = add_locked(native, &description, out);
    pthread_mutex_unlock(&native->lock);
    return ret;
}

const struct hv_native_info *hv_native_info(const struct hv_native_insn *insn)
{
    return &insn->info;
}

bool hv_native_x87_pending(const struct hv_native_insn *insn, const struct hv_cpu *cpu)
{
    return insn->waits && (hv_fx_get16(cpu->xsave, HV_FX_FSW) & HV_FSW_ES);
}

bool hv_native_stored(const struct hv_native_insn *insn, const struct hv_cpu *cpu)
{
    uint16_t fcw = hv_fx_get16(cpu->xsave, HV_FX_FCW), fsw = hv_fx_get16(cpu->xsave, HV_FX_FSW);

    /* An inexact result is stored, unmasked or not. */
    return !insn->waits || !(fsw & ~fcw & HV_FSW_FLAGS & ~HV_FSW_PE);
}

static int raise_fault(struct hv_fault *fault, uint8_t vector)
{
    *fault = (struct hv_fault){.vector = vector, .has_error_code = vector == HV_VEC_GP};
    return -EFAULT;
}

static void run_stub(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                     struct native_run *run)
{
    bool x87 = native_uses_x87_unit(insn);

    run->rflags = cpu->rflags & ARITHMETIC_FLAGS;
    if (x87) /* FXRSTOR faults on reserved bits, and the image may be from a saved domain */
        hv_fx_put32(cpu->xsave, HV_FX_MXCSR, hv_fx_get32(cpu->xsave, HV_FX_MXCSR) & HV_MXCSR_MASK);
    insn->stub(cpu, memory, run);
    if (x87)
        memset(cpu->xsave + HV_FX_FOP, 0,
               HV_FX_MXCSR - HV_FX_FOP); /* host addresses: FOP, FIP, FDP */
}

static void merge_flags(const struct hv_native_insn *insn, struct hv_cpu *cpu,
                        const struct native_run *run)
{
    if (insn->flags)
        cpu->rflags =
            (cpu->rflags & ~(uint64_t)ARITHMETIC_FLAGS) | (run->rflags & ARITHMETIC_FLAGS);
}

/* What an instruction that may fault afterwards can have changed. */
struct undo {
    uint8_t legacy[HV_FX_BYTES];
    uint8_t ymm_high[HV_XS_YMM_BYTES]; /* by VEX instructions */
    uint64_t gpr[NATIVE_NR_GPR];
};

static void undo_save(struct undo *undo, const struct hv_native_insn *insn,
                      const struct hv_cpu *cpu)
{
    memcpy(undo->legacy, cpu->xsave, sizeof(undo->legacy));
    if (insn->info.avx)
        memcpy(undo->ymm_high, cpu->xsave + HV_XS_YMM_HIGH(0), sizeof(undo->ymm_high));
    for (unsigned i = 0; i < NATIVE_NR_GPR; i++)
        undo->gpr[i] = cpu->gpr[insn->key.gpr[i].guest];
}

static void undo_apply(const struct undo *undo, const struct hv_native_insn *insn,
                       struct hv_cpu *cpu)
{
    memcpy(cpu->xsave, undo->legacy, sizeof(undo->legacy));
    if (insn->info.avx)
        memcpy(cpu->xsave + HV_XS_YMM_HIGH(0), undo->ymm_high, sizeof(undo->ymm_high));
    for (unsigned i = 0; i < NATIVE_NR_GPR; i++)
        if (insn->key.gpr[i].written)
            cpu->gpr[insn->key.gpr[i].guest] = undo->gpr[i];
}

static bool is_tiny(const uint8_t *element, unsigned bytes)
{
    uint64_t value, fraction, exponent;

    switch (bytes) {
    case 2:
        value = hv_fx_get16(element, 0);
        fraction = 0x3ff;
        exponent = 0x7c00;
        break;
    case 4:
        value = hv_fx_get32(element, 0);
        fraction = 0x7fffff;
        exponent = 0x7f800000;
        break;
    default:
        value = hv_fx_get64(element, 0);
        fraction = 0xfffffffffffffull;
        exponent = 0x7ffull << 52;
        break;
    }
    return (value & fraction) && !(value & exponent);
}

/* Masked, an exact tiny result raises no underflow; unmasked it does. (The precision flag beside an
 * unmasked underflow or overflow is that of the masked response, so it may be set where the
 * processor leaves it clear.) */
static bool has_tiny_result(const struct hv_native_insn *insn, const struct hv_cpu *cpu,
                            const uint8_t *memory)
{
    uint8_t result[32];

    if (!insn->tiny_element)
        return false;
    if (insn->xmm_written) {
        unsigned reg = (unsigned)__builtin_ctz(insn->xmm_written);

        memcpy(result, cpu->xsave + HV_FX_XMM(reg), 16);
        memcpy(result + 16, cpu->xsave + HV_XS_YMM_HIGH(reg), 16);
    } else {
        memcpy(result, memory, insn->info.memory_bytes);
    }
    for (unsigned i = 0; i < insn->tiny_count; i++)
        if (is_tiny(result + i * insn->tiny_element, insn->tiny_element))
            return true;
    return false;
}

/* MXCSR to run with. Flush-to-zero has no effect on results while underflow is unmasked. */
static uint32_t masked_mxcsr(uint32_t guest)
{
    uint32_t mxcsr = (guest & HV_MXCSR_MASK & ~(uint32_t)HV_MXCSR_FLAGS) | HV_MXCSR_MASKS;

    return guest & HV_MXCSR_UM ? mxcsr : mxcsr & ~HV_MXCSR_FTZ;
}

static int execute_float(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                         struct hv_fault *fault)
{
    uint32_t guest = hv_fx_get32(cpu->xsave, HV_FX_MXCSR);
    struct native_run run = {.mxcsr = masked_mxcsr(guest)};
    bool may_fault = (guest & HV_MXCSR_MASKS) != HV_MXCSR_MASKS;
    bool stores = may_fault && insn->info.writes_memory; /* VCVTPS2PH */
    uint8_t result[16] __attribute__((aligned(16))) = {0};
    uint32_t raised, unmasked;
    struct undo undo;

    if (may_fault)
        undo_save(&undo, insn, cpu);
    run_stub(insn, cpu, stores ? result : memory, &run);
    raised = run.mxcsr & HV_MXCSR_FLAGS;
    if (may_fault && !(guest & HV_MXCSR_UM) && has_tiny_result(insn, cpu, result))
        raised |= HV_MXCSR_UE;
    unmasked = raised & ~(guest >> 7);
    if (unmasked) {
        undo_apply(&undo, insn, cpu);
    } else {
        merge_flags(insn, cpu, &run);
        if (stores)
            memcpy(memory, result, insn->info.memory_bytes);
    }
    if (unmasked & FLAGS_BEFORE)
        raised &= FLAGS_BEFORE;
    hv_fx_put32(cpu->xsave, HV_FX_MXCSR, guest | raised);
    if (unmasked)
        return raise_fault(fault, cpu->cr4 & HV_CR4_OSXMMEXCPT ? HV_VEC_XM : HV_VEC_UD);
    return 0;
}

int hv_native_execute(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                      struct hv_fault *fault)
{
    struct native_run run = {.mxcsr = HV_MXCSR_INIT};

    if (hv_native_x87_pending(insn, cpu))
        return raise_fault(fault, HV_VEC_MF);
    if (insn->info.aligned && ((uintptr_t)memory & (insn->info.memory_bytes - 1)))
        return raise_fault(fault, HV_VEC_GP);
    if (insn->helper)
        return insn->helper(insn, cpu, memory, fault);
    if (insn->mxcsr)
        return execute_float(insn, cpu, memory, fault);
    run_stub(insn, cpu, memory, &run);
    merge_flags(insn, cpu, &run);
    return 0;
}
