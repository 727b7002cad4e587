/* The differential test: compares an engine with the host CPU on random code, and reports.
 *
 * Without arguments it is a test program (TAP) of a few seconds. A difference is reported with the
 * command that shows it again, cut down to the first instructions that make it.
 */
#include "config.h"

#include "hv/engine/difftest.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <Zydis/Zydis.h>

#include "hv/tap.h"

#define DEFAULT_COUNT 6000
#define MAX_REPORTS   10
#define LOOK_AHEAD    24 /* branches double the work */

struct options {
    const char *engine; /* NULL: all that are software */
    uint64_t seed, count;
    unsigned seconds, limit;
    bool verbose, coverage;
};

struct difftest {
    struct options options;
    struct dt_host *host;
    struct dt_guest *guest;
    struct dt_result result; /* the engine's, of the test at hand */
    uint64_t done, faults, different;
    uint64_t executed[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* by mnemonic, in the code made */
};

static const char *const gpr_names[HV_NR_GPR] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15",
};

/* Prints a difference if asked to, and counts it. */
struct report {
    bool print;
    unsigned count;
};

__attribute__((format(printf, 2, 3))) static void differ(struct report *r, const char *format, ...)
{
    va_list args;

    r->count++;
    if (!r->print)
        return;
    printf("#   ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

static void compare_number(struct report *r, const char *name, uint64_t host, uint64_t engine)
{
    if (host != engine)
        differ(r, "%s: host %#llx, engine %#llx", name, (unsigned long long)host,
               (unsigned long long)engine);
}

/* Flags whose value is undefined where the test stopped. */
static uint32_t undefined_flags(const struct dt_test *t)
{
    if (t->host.regs.vector == DT_VECTOR_NONE)
        return t->undefined_flags[t->nr_insns];
    for (unsigned i = 0; i < t->nr_insns; i++)
        if (t->code_address + t->offset[i] == t->host.regs.rip)
            return t->undefined_flags[i];
    return 0;
}

#define ARITH                                                                                      \
    (HV_EFLAGS_CF | HV_EFLAGS_PF | HV_EFLAGS_AF | HV_EFLAGS_ZF | HV_EFLAGS_SF | HV_EFLAGS_OF)

/* Shifts and rotations by a count of zero leave the flags alone. */
static bool may_keep_flags(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_SHL || m == ZYDIS_MNEMONIC_SHR || m == ZYDIS_MNEMONIC_SAR ||
           m == ZYDIS_MNEMONIC_ROL || m == ZYDIS_MNEMONIC_ROR || m == ZYDIS_MNEMONIC_RCL ||
           m == ZYDIS_MNEMONIC_RCR || m == ZYDIS_MNEMONIC_SHLD || m == ZYDIS_MNEMONIC_SHRD;
}

/* Which instruction is at @address; nr_insns for the end, or if none is. */
static unsigned index_of(const struct dt_test *t, uint64_t address)
{
    unsigned i = 0;

    while (i < t->nr_insns && t->code_address + t->offset[i] != address)
        i++;
    return i;
}

/* Where the direct jump or call @insn goes, its first operand being @target. */
static unsigned target_of(const struct dt_test *t, unsigned index,
                          const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *target)
{
    uint64_t address = 0;

    if (target->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        (void)ZydisCalcAbsoluteAddress(insn, target, t->code_address + t->offset[index], &address);
    return index_of(t, address);
}

/* The flags that may be read, from instruction @index on, before they are overwritten: looks
 * @depth instructions far. */
static uint32_t live_flags(const struct dt_test *t, unsigned index, unsigned depth)
{
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecodedInstruction insn;
    ZydisDecoder decoder;
    uint32_t live, written = 0;

    dt_decoder_init(&decoder, t);
    if (index >= t->nr_insns || !depth ||
        ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, t->code + t->offset[index],
                                           t->code_bytes - t->offset[index], &insn, operands)))
        return ARITH;
    if (insn.meta.category == ZYDIS_CATEGORY_UNCOND_BR || insn.meta.category == ZYDIS_CATEGORY_CALL)
        return live_flags(t, target_of(t, index, &insn, &operands[0]), depth - 1);
    live = live_flags(t, index + 1, depth - 1);
    if (insn.meta.category == ZYDIS_CATEGORY_COND_BR)
        live |= live_flags(t, target_of(t, index, &insn, &operands[0]), depth - 1);
    if (insn.cpu_flags && !may_keep_flags(insn.mnemonic))
        written = (uint32_t)(insn.cpu_flags->modified | insn.cpu_flags->set_0 |
                             insn.cpu_flags->set_1 | insn.cpu_flags->undefined);
    return (live & ~written) | (insn.cpu_flags ? insn.cpu_flags->tested & ARITH : 0);
}

/* The translator may lose flags that nothing would have looked at, had an access not faulted. */
static uint32_t lost_flags(const struct dt_test *t, const char *engine)
{
    if (t->host.regs.vector == DT_VECTOR_NONE || strcmp(engine, "bt") != 0)
        return 0;
    for (unsigned i = 0; i < t->nr_insns; i++)
        if (t->code_address + t->offset[i] == t->host.regs.rip)
            return ARITH & ~live_flags(t, i, LOOK_AHEAD);
    return 0;
}

/* Whether the test stopped at an MMX instruction: processors differ in whether the transition from
 * x87 to MMX has then been made. */
static bool stopped_at_mmx(const struct dt_test *t)
{
    const struct dt_regs *h = &t->host.regs;
    uint64_t offset = h->rip - t->code_address;
    ZydisDecoder decoder;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

    if (h->vector == DT_VECTOR_NONE || offset >= t->code_bytes)
        return false;
    dt_decoder_init(&decoder, t);
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, t->code + offset, t->code_bytes - offset,
                                           &insn, operands)))
        return false;
    for (unsigned i = 0; i < insn.operand_count; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(operands[i].reg.value) == ZYDIS_REGCLASS_MMX)
            return true;
    return false;
}

static void compare_x87(struct report *r, const uint8_t *host, const uint8_t *engine)
{
    compare_number(r, "fcw", hv_fx_get16(host, HV_FX_FCW), hv_fx_get16(engine, HV_FX_FCW));
    compare_number(r, "fsw", hv_fx_get16(host, HV_FX_FSW), hv_fx_get16(engine, HV_FX_FSW));
    compare_number(r, "tags", host[HV_FX_FTW], engine[HV_FX_FTW]);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(host + HV_FX_ST(i), engine + HV_FX_ST(i), 10) != 0)
            differ(r, "st%u: host %04x:%016llx, engine %04x:%016llx", i,
                   hv_fx_get16(host, HV_FX_ST(i) + 8),
                   (unsigned long long)hv_fx_get64(host, HV_FX_ST(i)),
                   hv_fx_get16(engine, HV_FX_ST(i) + 8),
                   (unsigned long long)hv_fx_get64(engine, HV_FX_ST(i)));
}

/* Flags of MXCSR that do not count: inexact, where an unmasked overflow or underflow was raised. It
 * then tells of the result before its exponent was bounded, which hv_native_execute does not find
 * out. */
static uint32_t ignored_mxcsr(const struct dt_regs *h)
{
    uint32_t mxcsr = hv_fx_get32(h->fx, HV_FX_MXCSR);

    if (h->vector == HV_VEC_XM && (mxcsr & ~(mxcsr >> 7) & (HV_MXCSR_OE | HV_MXCSR_UE)))
        return HV_MXCSR_PE;
    return 0;
}

static void compare_vector(struct report *r, const char *name, unsigned i, const uint8_t *host,
                           const uint8_t *engine)
{
    if (memcmp(host, engine, 16) != 0)
        differ(r, "%s%u: host %016llx%016llx, engine %016llx%016llx", name, i,
               (unsigned long long)hv_fx_get64(host, 8), (unsigned long long)hv_fx_get64(host, 0),
               (unsigned long long)hv_fx_get64(engine, 8),
               (unsigned long long)hv_fx_get64(engine, 0));
}

static void compare_vectors(struct report *r, const struct dt_regs *h, const struct dt_regs *e)
{
    const uint8_t *host = h->fx, *engine = e->fx;
    uint32_t count = ~ignored_mxcsr(h);

    compare_number(r, "mxcsr", hv_fx_get32(host, HV_FX_MXCSR) & count,
                   hv_fx_get32(engine, HV_FX_MXCSR) & count);
    for (unsigned i = 0; i < 16; i++) {
        compare_vector(r, "xmm", i, host + HV_FX_XMM(i), engine + HV_FX_XMM(i));
        compare_vector(r, "upper ymm", i, h->ymm_high + 16 * i, e->ymm_high + 16 * i);
    }
}

static void compare_memory(struct report *r, const char *name, uint64_t address,
                           const uint8_t *host, const uint8_t *engine, size_t bytes)
{
    if (memcmp(host, engine, bytes) == 0)
        return;
    for (size_t i = 0; i < bytes; i++)
        if (host[i] != engine[i]) {
            differ(r, "%s at %#llx: host %02x, engine %02x", name, (unsigned long long)address + i,
                   host[i], engine[i]);
            return;
        }
}

static unsigned compare(const struct dt_test *t, const struct dt_result *engine, const char *name,
                        bool print)
{
    struct report r = {.print = print};
    const struct dt_regs *h = &t->host.regs, *e = &engine->regs;
    uint64_t flags = ~(uint64_t)(undefined_flags(t) | lost_flags(t, name));
    uint64_t gpr_mask = t->code32 ? 0xffffffff : ~0ull;

    if (engine->failed) {
        differ(&r, "the engine gave up: %s", engine->error);
        return r.count;
    }
    if (h->vector != e->vector)
        differ(&r, "exception: host %d at %#llx, engine %d at %#llx (-1: none)",
               h->vector == DT_VECTOR_NONE ? -1 : (int)h->vector, (unsigned long long)h->rip,
               e->vector == DT_VECTOR_NONE ? -1 : (int)e->vector, (unsigned long long)e->rip);
    compare_number(&r, "rip", h->rip, e->rip);
    compare_number(&r, "error code", h->error_code, e->error_code);
    compare_number(&r, "cr2", h->cr2, e->cr2);
    compare_number(&r, "rflags", h->rflags & flags, e->rflags & flags);
    /* Leaving compatibility mode, upper halves are undefined. */
    for (unsigned i = 0; i < HV_NR_GPR; i++)
        compare_number(&r, gpr_names[i], h->gpr[i] & gpr_mask, e->gpr[i] & gpr_mask);
    if (!stopped_at_mmx(t))
        compare_x87(&r, h->fx, e->fx);
    compare_vectors(&r, h, e);
    compare_memory(&r, "data", DT_DATA, t->host.memory.data, engine->memory.data,
                   sizeof(engine->memory.data));
    compare_memory(&r, "stack", DT_STACK, t->host.memory.stack, engine->memory.stack,
                   sizeof(engine->memory.stack));
    return r.count;
}

static void print_code(const struct dt_test *t)
{
    ZydisDecoder decoder;
    ZydisFormatter formatter;

    dt_decoder_init(&decoder, t);
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned i = 0; i < t->nr_insns; i++) {
        const uint8_t *code = t->code + t->offset[i];
        uint64_t address = t->code_address + t->offset[i];
        ZydisDecodedInstruction insn;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        char text[128] = "?";

        if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, t->code_bytes - t->offset[i], &insn,
                                                operands)))
            ZydisFormatterFormatInstruction(&formatter, &insn, operands, insn.operand_count_visible,
                                            text, sizeof(text), address, NULL);
        printf("#   %llx: ", (unsigned long long)address);
        for (unsigned k = t->offset[i]; k < t->offset[i + 1]; k++)
            printf("%02x", t->code[k]);
        printf("  %s\n", text);
    }
}

static void print_start(const struct dt_test *t)
{
    for (unsigned i = 0; i < HV_NR_GPR; i++)
        printf("%s%s=%llx", i % 4 == 0 ? "#   " : " ", gpr_names[i],
               (unsigned long long)t->start.gpr[i]),
            printf("%s", i % 4 == 3 ? "\n" : "");
    printf("#   %u-bit code, rflags=%llx mxcsr=%x fcw=%x fsw=%x tags=%x\n", t->code32 ? 32u : 64u,
           (unsigned long long)t->start.rflags, hv_fx_get32(t->start.fx, HV_FX_MXCSR),
           hv_fx_get16(t->start.fx, HV_FX_FCW), hv_fx_get16(t->start.fx, HV_FX_FSW),
           t->start.fx[HV_FX_FTW]);
}

static void count_mnemonics(struct difftest *d, const struct dt_test *t)
{
    ZydisDecoder decoder;

    dt_decoder_init(&decoder, t);
    for (unsigned i = 0; i < t->nr_insns; i++) {
        ZydisDecodedInstruction insn;

        if (ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, t->code + t->offset[i],
                                                       t->code_bytes - t->offset[i], &insn)))
            d->executed[insn.mnemonic]++;
    }
}

/* Runs the batch natively. The child is gone when that fails, and so is the test. */
static int run_host(struct difftest *d, unsigned count)
{
    unsigned test;
    int ret = dt_host_run(d->host, count, &test);

    if (ret < 0) {
        printf("# the native side died or hung at seed %llu\n",
               (unsigned long long)dt_host_batch(d->host)[test].seed);
        print_code(&dt_host_batch(d->host)[test]);
    }
    return ret;
}

/* One test again, of @limit instructions; the number of differences, or a negative errno. */
static int retry(struct difftest *d, uint64_t seed, unsigned limit)
{
    struct dt_test *t = dt_host_batch(d->host);
    int ret;

    dt_generate(t, seed, limit);
    ret = run_host(d, 1);
    if (ret < 0)
        return ret;
    dt_guest_flush(d->guest);
    dt_guest_run(d->guest, t, &d->result);
    return (int)compare(t, &d->result, d->options.engine, false);
}

/* Finds the shortest beginning of the test that shows a difference, and prints that. */
static int report(struct difftest *d, uint64_t seed)
{
    unsigned limit = 0;
    int ret = 0;

    while (ret == 0 && limit < d->options.limit && limit < DT_MAX_INSNS)
        ret = retry(d, seed, ++limit);
    if (ret < 0)
        return ret;
    printf("# different: difftest --engine %s --seed %llu --count 1 --limit %u --verbose\n",
           d->options.engine, (unsigned long long)seed, limit);
    if (ret == 0)
        printf("#   not when repeated by itself\n");
    if (d->options.verbose)
        print_start(dt_host_batch(d->host));
    print_code(dt_host_batch(d->host));
    compare(dt_host_batch(d->host), &d->result, d->options.engine, true);
    return 0;
}

/* Runs and compares @count tests from @seed; those that differ are noted in @bad. */
static int run_batch(struct difftest *d, uint64_t seed, unsigned count, uint64_t *bad,
                     unsigned *nr_bad)
{
    struct dt_test *tests = dt_host_batch(d->host);
    int ret;

    for (unsigned i = 0; i < count; i++) {
        dt_generate(&tests[i], seed + i, d->options.limit);
        if (d->options.coverage)
            count_mnemonics(d, &tests[i]);
    }
    ret = run_host(d, count);
    if (ret < 0)
        return ret;
    dt_guest_flush(d->guest);
    for (unsigned i = 0; i < count; i++) {
        dt_guest_run(d->guest, &tests[i], &d->result);
        d->faults += tests[i].host.regs.vector != DT_VECTOR_NONE;
        if (compare(&tests[i], &d->result, d->options.engine, false))
            bad[(*nr_bad)++] = seed + i;
    }
    d->done += count;
    return 0;
}

static bool is_over(const struct difftest *d, const struct timespec *start)
{
    struct timespec now;

    if (d->different >= MAX_REPORTS)
        return true;
    if (!d->options.seconds)
        return d->done >= d->options.count;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - start->tv_sec >= (time_t)d->options.seconds;
}

static int run_all(struct difftest *d)
{
    struct timespec start;

    clock_gettime(CLOCK_MONOTONIC, &start);
    while (!is_over(d, &start)) {
        uint64_t seed = d->options.seed + d->done, bad[DT_BATCH];
        uint64_t left = d->options.seconds ? DT_BATCH : d->options.count - d->done;
        unsigned nr_bad = 0;
        int ret = run_batch(d, seed, left < DT_BATCH ? (unsigned)left : DT_BATCH, bad, &nr_bad);

        for (unsigned i = 0; ret == 0 && i < nr_bad && d->different < MAX_REPORTS;
             i++, d->different++)
            ret = report(d, bad[i]);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static void print_coverage(const struct difftest *d)
{
    for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
        if (d->executed[i])
            printf("# %8llu %s\n", (unsigned long long)d->executed[i],
                   ZydisMnemonicGetString((ZydisMnemonic)i));
}

static bool parse_options(struct options *o, int argc, char **argv)
{
    static const struct option names[] = {
        {"engine", required_argument, NULL, 'e'}, {"seed", required_argument, NULL, 's'},
        {"count", required_argument, NULL, 'c'},  {"seconds", required_argument, NULL, 't'},
        {"limit", required_argument, NULL, 'l'},  {"verbose", no_argument, NULL, 'v'},
        {"coverage", no_argument, NULL, 'm'},     {0},
    };
    int option;

    *o = (struct options){.seed = 1, .count = DEFAULT_COUNT, .limit = DT_MAX_INSNS};
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'e':
            o->engine = optarg;
            break;
        case 's':
            o->seed = strtoull(optarg, NULL, 0);
            break;
        case 'c':
            o->count = strtoull(optarg, NULL, 0);
            break;
        case 't':
            o->seconds = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'l':
            o->limit = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'v':
            o->verbose = true;
            break;
        case 'm':
            o->coverage = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc;
}

static void run_engine(const struct options *options, const char *engine)
{
    static struct difftest d;
    int ret;

    memset(&d, 0, sizeof(d));
    d.options = *options;
    d.options.engine = engine;
    ret = dt_host_new(&d.host); /* first, so that the child has nothing of the guest's */
    if (ret == 0)
        ret = dt_guest_new(engine, &d.guest);
    if (ret == -ENOTSUP && !options->engine) {
        TAP_OK(true, "%s # SKIP this host lacks what it needs", engine);
        dt_host_free(d.host);
        return;
    }
    if (ret == 0)
        ret = run_all(&d);
    if (d.options.coverage)
        print_coverage(&d);
    TAP_OK(ret == 0 && d.different == 0,
           "%s: %llu sequences from seed %llu as the host CPU (%llu with a fault)%s%s", engine,
           (unsigned long long)d.done, (unsigned long long)d.options.seed,
           (unsigned long long)d.faults, ret < 0 ? ": " : "", ret < 0 ? strerror(-ret) : "");
    dt_guest_free(d.guest);
    dt_host_free(d.host);
}

int main(int argc, char **argv)
{
    struct options options;

    if (!parse_options(&options, argc, argv)) {
        fprintf(stderr,
                "usage: difftest [--engine NAME] [--seed N] [--count N | --seconds N] [--limit N] "
                "[--verbose] [--coverage]\n");
        return 2;
    }
    if (options.engine) {
        run_engine(&options, options.engine);
    } else {
        run_engine(&options, "interp");
        run_engine(&options, "bt");
    }
    return tap_done();
}
