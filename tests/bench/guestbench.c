/* guestbench: fixed-work workloads for CPU, kernel and disk.
 *
 * One static binary runs both on the host (the native limit) and as a program inside a guest, so
 * that the same machine code is timed on every engine. Each workload does a fixed amount of work
 * and prints
 *
 *     BEGIN name
 *     BENCH name seconds s ops=N ns_op=X sum=0xH
 *
 * or "SKIP name reason". The sum is a checksum of the results: it must be equal on every machine,
 * so a wrong engine shows as a different sum. A workload whose result cannot be deterministic
 * prints none.
 *
 * Time is CLOCK_MONOTONIC as the machine under test sees it; BEGIN and BENCH are written
 * unbuffered, so whoever reads the console can time the interval with a clock of its own and check
 * the guest's.
 */
#include "guestbench.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>

const char *opt_disk;
int opt_disk_write;
const char *opt_busybox = "/bin/busybox";
char opt_true[512] = "/bin/gbtrue";
int ncpu;

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void say(const char *fmt, ...)
{
    char b[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(b, sizeof b, fmt, ap);
    va_end(ap);
    if (n > (int)sizeof b - 1)
        n = sizeof b - 1;
    for (int o = 0; o < n;) {
        ssize_t w = write(1, b + o, n - o);
        if (w <= 0)
            break;
        o += w;
    }
}

int skip(struct res *r, const char *why)
{
    snprintf(r->why, sizeof r->why, "%s", why);
    return 1;
}

uint64_t mix(uint64_t h, uint64_t v)
{
    h ^= v;
    h *= 0x9e3779b97f4a7c15ULL;
    return h ^ (h >> 29);
}

static uint64_t rng_state;
void rng_seed(uint64_t s)
{
    rng_state = s * 2 + 1;
}
uint64_t rng(void)
{
    uint64_t x = rng_state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    rng_state = x;
    return x * 0x2545f4914f6cdd1dULL;
}

/* Anonymous memory with a stated page size: 0 = 4 KiB pages, 1 = ask for THP. */
void *big(size_t len, int thp)
{
    size_t align = 2 * MIB;
    char *p = mmap(NULL, len + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    char *a = (char *)(((uintptr_t)p + align - 1) & ~(align - 1));
    if (a > p)
        munmap(p, a - p);
    if (a + len < p + len + align)
        munmap(a + len, p + align - a);
    madvise(a, len, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(a, 1, len);
    return a;
}

void pin(int cpu)
{
    cpu_set_t s;
    CPU_ZERO(&s);
    CPU_SET(cpu, &s);
    sched_setaffinity(0, sizeof s, &s);
}

static cpu_set_t start_mask;
void unpin(void)
{
    sched_setaffinity(0, sizeof start_mask, &start_mask);
}

#define SUM  1
#define ONCE 2 /* never repeated, even if very short */
static const struct wl {
    const char *name;
    workload_fn *fn;
    unsigned long n;
    int flags;
    const char *what;
} workloads[] = {
    {"int_sieve", w_int_sieve, 200, SUM, "sieve of 500000, byte stores and branches"},
    {"int_collatz", w_int_collatz, 1600000, SUM, "Collatz lengths, hard branches"},
    {"int_muldiv", w_int_muldiv, 4000000, SUM, "128-bit multiply and divide"},
    {"int_sha256", w_int_sha256, 2500, SUM, "SHA-256 in plain C, 16 KiB blocks"},
    {"mem_chase", w_mem_chase, 4000000, SUM, "pointer chase in 16 MiB, 4 KiB pages"},
    {"mem_chase_thp", w_mem_chase_thp, 4000000, SUM, "the same, huge pages asked for"},
    {"mem_copy", w_mem_copy, 600, SUM, "libc memcpy of 4 MiB"},
    {"mem_random", w_mem_random, 7000000, SUM, "random read-modify-write in 16 MiB"},
    {"fp_nbody", w_fp_nbody, 500000, SUM, "scalar double: add, mul, div, sqrt"},
    {"fp_x87", w_fp_x87, 4000000, SUM, "long double: add, mul, div"},
    {"fp_sse2_dot", w_fp_sse2_dot, 28000, SUM, "float dot product, 128 bit"},
    {"fp_sse2_mandel", w_fp_sse2_mandel, 64, SUM, "double Mandelbrot, 128 bit"},
    {"fp_avx2_dot", w_fp_avx2_dot, 28000, SUM, "float dot product, 256 bit"},
    {"fp_avx2_mandel", w_fp_avx2_mandel, 64, SUM, "double Mandelbrot, 256 bit"},
    {"fp_fma_dot", w_fp_fma_dot, 28000, SUM, "float dot product with FMA"},
    {"simd_sse2", w_simd_sse2, 32000, SUM, "integer SIMD, 128 bit"},
    {"simd_avx2", w_simd_avx2, 32000, SUM, "integer SIMD, 256 bit"},
    {"aes_ni", w_aes_ni, 3500, SUM, "AES-128 rounds, 16 KiB blocks"},
    {"pclmul", w_pclmul, 35000, SUM, "carry-less multiply chain"},
    {"sha_ni", w_sha_ni, 20000, SUM, "SHA-256 instructions, 16 KiB blocks"},
    {"call_fib", w_call_fib, 150, SUM, "call and return, fib(27)"},
    {"ind_interp", w_ind_interp, 50000, SUM, "bytecode loop through a jump table"},
    {"ind_call", w_ind_call, 40000000, SUM, "calls through 16 function pointers"},
    {"str_rep", w_str_rep, 4000, SUM, "rep movsb of 24 to 60000 bytes, rep stosq"},
    {"str_libc", w_str_libc, 60000, SUM, "libc strlen, strcmp, memchr"},
    {"jit_rewrite", w_jit_rewrite, 50000, SUM | ONCE, "one function rewritten and called, RWX"},
    {"jit_fresh", w_jit_fresh, 8000, SUM | ONCE, "new 420-byte functions called 20 times, RWX"},
    {"jit_mprotect", w_jit_mprotect, 5000, SUM | ONCE, "the same with mprotect RW and RX"},
    {"code_cold", w_code_cold, 10, SUM | ONCE, "4096 functions of 212 bytes, each run once"},
    {"sys_getppid", w_sys_getppid, 1800000, 0, "system call"},
    {"sys_read4k", w_sys_read4k, 100000, SUM, "read 4 KiB of /dev/zero"},
    {"sys_clock", w_sys_clock, 8000000, 0, "clock_gettime"},
    {"sys_signal", w_sys_signal, 20000, SUM, "signal to self and sigreturn"},
    {"sys_segv", w_sys_segv, 15000, SUM, "write fault, SIGSEGV handler, mprotect"},
    {"sys_pgfault", w_sys_pgfault, 60, 0, "mmap, touch 1024 pages, munmap"},
    {"proc_forkexec", w_proc_forkexec, 250, SUM, "fork, exec of a static true, wait"},
    {"ctxsw_same", w_ctxsw_same, 15000, SUM, "pipe ping-pong, two processes on one CPU"},
    {"ctxsw_cross", w_ctxsw_cross, 12000, SUM, "pipe ping-pong, two processes on two CPUs"},
    {"sh_loop", w_sh_loop, 300000, 0, "busybox sh counts to 300000"},
    {"atom_1t", w_atom_1t, 100000000, SUM, "lock xadd and cmpxchg, one thread"},
    {"atom_2t", w_atom_2t, 15000000, SUM, "lock xadd and cmpxchg, two threads, one line"},
    {"mutex_2t", w_mutex_2t, 8000000, SUM, "pthread mutex, two threads"},
    {"par_2t", w_par_2t, 1000000, SUM, "Collatz on two threads, nothing shared"},
    {"tlb_shoot", w_tlb_shoot, 20000, 0, "mprotect with the other CPU in the process"},
    {"disk_seqwrite", w_disk_seqwrite, 512, 0, "1 MiB direct writes"},
    {"disk_seqread", w_disk_seqread, 1024, 0, "1 MiB direct reads"},
    {"disk_randwrite", w_disk_randwrite, 6000, 0, "4 KiB direct writes, one in flight"},
    {"disk_randread", w_disk_randread, 6000, 0, "4 KiB direct reads, one in flight"},
    {"disk_rr_qd32", w_disk_randread_qd32, 20000, 0, "4 KiB direct reads, 32 in flight"},
};

/* A workload that took under SHORT_S is repeated and its median printed: the work is sized for a
 * slow engine, and is very short on the host.
 */
#define SHORT_S    0.1
#define SHORT_REPS 25

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int listed(const char *list, const char *name)
{
    size_t l = strlen(name);
    for (const char *p = list; p && *p;) {
        size_t k = strcspn(p, ",");
        if (k == l && !strncmp(p, name, l))
            return 1;
        if (k > 1 && p[k - 1] == '*' && !strncmp(p, name, k - 1))
            return 1;
        p += k + (p[k] == ',');
    }
    return 0;
}

static void env(void)
{
    unsigned a, b, c, d, v[12] = {0};
    char cs[64] = "?", name[49] = "";
    int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY);
    if (fd >= 0) {
        ssize_t k = read(fd, cs, sizeof cs - 1);
        cs[k > 0 ? k : 0] = 0;
        cs[strcspn(cs, "\n")] = 0;
        close(fd);
    }
    __cpuid(0x80000000, a, b, c, d);
    if (a >= 0x80000004)
        for (unsigned i = 0; i < 3; i++)
            __cpuid(0x80000002 + i, v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]);
    memcpy(name, v, 48);
    say("GBENV ncpu=%d clocksource=%s avx2=%d cpu=\"%s\"\n", ncpu, cs,
        !!__builtin_cpu_supports("avx2"), name);
}

/* Runs a very short workload again and leaves the median time in @r. False: the checksums differ.
 */
static int settle(const struct wl *w, struct res *r, unsigned long n)
{
    double all[SHORT_REPS] = {r->sec}, total = r->sec;
    int count = 1, same = 1;

    if ((w->flags & ONCE) || r->sec >= SHORT_S)
        return 1;
    while (total < 3 * SHORT_S && count < SHORT_REPS) {
        struct res again = {0};

        if (w->fn(&again, n))
            break;
        if (again.sum != r->sum) {
            say("ERROR %s sum=0x%lx then 0x%lx\n", w->name, r->sum, again.sum);
            same = 0;
        }
        total += all[count++] = again.sec;
    }
    qsort(all, count, sizeof *all, by_value);
    r->sec = all[count / 2];
    return same;
}

/* True if all went well; a workload that cannot run here is no failure. */
static int run(const struct wl *w, double scale)
{
    unsigned long n = w->n * scale < 1 ? 1 : (unsigned long)(w->n * scale);
    char sum[64] = "", rate[64] = "";
    struct res r = {0};
    int good;

    say("BEGIN %s\n", w->name);
    if (w->fn(&r, n)) {
        say("SKIP %s %s\n", w->name, r.why);
        return 1;
    }
    good = settle(w, &r, n) && r.sec > 0;
    if (w->flags & SUM)
        snprintf(sum, sizeof sum, " sum=0x%lx", r.sum);
    if (r.mb > 0)
        snprintf(rate, sizeof rate, " mb_s=%.1f", r.mb / r.sec);
    say("BENCH %s %.6f s ops=%lu ns_op=%.2f%s%s\n", w->name, r.sec, r.ops,
        r.sec * 1e9 / (r.ops ? r.ops : 1), rate, sum);
    return good;
}

#define NR_WORKLOADS (sizeof workloads / sizeof *workloads)

static void list(void)
{
    for (size_t k = 0; k < NR_WORKLOADS; k++)
        say("%-16s %s\n", workloads[k].name, workloads[k].what);
    exit(0);
}

static void usage(void)
{
    say("usage: guestbench [--list] [--only A,B*] [--skip A,B*] [--scale X]\n"
        "                  [--disk DEV [--disk-write]] [--busybox PATH]\n"
        "--disk-write overwrites the first 256 MiB of DEV.\n");
    exit(2);
}

int main(int argc, char **argv)
{
    const char *only = NULL, *omit = NULL, *scale = "1", *slash = strrchr(argv[0], '/');
    const struct {
        const char *name;
        const char **value;
    } options[] = {
        {"--only", &only},     {"--skip", &omit},           {"--scale", &scale},
        {"--disk", &opt_disk}, {"--busybox", &opt_busybox},
    };
    int good = 1;

    if (slash)
        snprintf(opt_true, sizeof opt_true, "%.*s/gbtrue", (int)(slash - argv[0]), argv[0]);
    for (int i = 1; i < argc; i++) {
        size_t k = 0;

        if (!strcmp(argv[i], "--list"))
            list();
        if (!strcmp(argv[i], "--disk-write")) {
            opt_disk_write = 1;
            continue;
        }
        while (k < sizeof options / sizeof *options && strcmp(options[k].name, argv[i]))
            k++;
        if (k == sizeof options / sizeof *options || i + 1 == argc)
            usage();
        *options[k].value = argv[++i];
    }
    sched_getaffinity(0, sizeof start_mask, &start_mask);
    ncpu = CPU_COUNT(&start_mask);
    env();
    for (size_t k = 0; k < NR_WORKLOADS; k++)
        if ((!only || listed(only, workloads[k].name)) && !listed(omit, workloads[k].name))
            good &= run(&workloads[k], atof(scale));
    say("GBDONE\n");
    return !good;
}
