/* The native side: a child process that runs tests on the host CPU.
 *
 * A host trap costs tens of microseconds on some clouds, so a test that goes through makes none: it
 * jumps to the exit page, from where its registers are stored. Only faults come as signals; the
 * handler takes the registers from the signal frame and returns into the harness.
 */
#include "config.h"

#include "hv/engine/difftest.h"

#include <asm/prctl.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "hv/x86/native.h"

#define BATCH_TIMEOUT_MS 20000

struct dt_shared {
    struct dt_test tests[DT_BATCH];
    uint32_t count;
    uint32_t current; /* which test runs, for the parent when the child dies */
};

struct dt_host {
    pid_t pid;
    int to_child, from_child;
    struct dt_shared *shared;
};

#define STRING2(x) #x
#define STRING(x)  STRING2(x)
#define CTL(off)   STRING(DT_CTL) "+" STRING(off)

/* void dt_host_enter(void): loads the registers in the control page and jumps to the test;
 * dt_host_far: by way of this, when the test is 32-bit code. dt_host_exit: where the exit page
 * sends it. dt_host_return: where the signal handler sends it. */
/* clang-format off */
__asm__(
    ".pushsection .text\n"
    ".globl dt_host_enter, dt_host_far, dt_host_exit, dt_host_return\n"
    "dt_host_enter:\n"
    "  push %rbx\n  push %rbp\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  movq %rsp, " CTL(DT_CTL_HOST_RSP) "\n"
    "  cmpl $0, " CTL(DT_CTL_HAS_XSAVE) "\n"
    "  je 1f\n"
    "  movl $7, %eax\n"
    "  xorl %edx, %edx\n"
    "  xrstor64 " CTL(DT_CTL_FX) "\n"
    "  jmp 2f\n"
    "1: fxrstor64 " CTL(DT_CTL_FX) "\n"
    "2: pushq " CTL(DT_CTL_RFLAGS) "\n"
    "  popfq\n"
    "  movq " CTL(0) ", %rax\n   movq " CTL(8) ", %rcx\n"
    "  movq " CTL(16) ", %rdx\n  movq " CTL(24) ", %rbx\n"
    "  movq " CTL(32) ", %rsp\n  movq " CTL(40) ", %rbp\n"
    "  movq " CTL(48) ", %rsi\n  movq " CTL(56) ", %rdi\n"
    "  movq " CTL(64) ", %r8\n   movq " CTL(72) ", %r9\n"
    "  movq " CTL(80) ", %r10\n  movq " CTL(88) ", %r11\n"
    "  movq " CTL(96) ", %r12\n  movq " CTL(104) ", %r13\n"
    "  movq " CTL(112) ", %r14\n movq " CTL(120) ", %r15\n"
    "  jmpq *" CTL(DT_CTL_RIP) "\n"
    "dt_host_far:\n"
    "  ljmpl *" CTL(DT_CTL_FAR) "\n"
    "dt_host_exit:\n"
    "  movq %rax, " CTL(0) "\n   movq %rcx, " CTL(8) "\n"
    "  movq %rdx, " CTL(16) "\n  movq %rbx, " CTL(24) "\n"
    "  movq %rsp, " CTL(32) "\n  movq %rbp, " CTL(40) "\n"
    "  movq %rsi, " CTL(48) "\n  movq %rdi, " CTL(56) "\n"
    "  movq %r8, " CTL(64) "\n   movq %r9, " CTL(72) "\n"
    "  movq %r10, " CTL(80) "\n  movq %r11, " CTL(88) "\n"
    "  movq %r12, " CTL(96) "\n  movq %r13, " CTL(104) "\n"
    "  movq %r14, " CTL(112) "\n movq %r15, " CTL(120) "\n"
    "  movq " CTL(DT_CTL_HOST_RSP) ", %rsp\n"
    "  pushfq\n"
    "  popq " CTL(DT_CTL_RFLAGS) "\n"
    "  cmpl $0, " CTL(DT_CTL_HAS_XSAVE) "\n"
    "  je 3f\n"
    "  movl $7, %eax\n"
    "  xorl %edx, %edx\n"
    "  xsave64 " CTL(DT_CTL_FX) "\n"
    "  jmp dt_host_return\n"
    "3: fxsave64 " CTL(DT_CTL_FX) "\n"
    "dt_host_return:\n"
    "  cld\n"
    "  fninit\n"
    "  ldmxcsr " CTL(DT_CTL_MXCSR) "\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbp\n  pop %rbx\n"
    "  ret\n"
    ".popsection\n");
/* clang-format on */

void dt_host_enter(void);
extern const char dt_host_far[], dt_host_exit[], dt_host_return[];

static uint8_t *at(uint64_t address)
{
    return (uint8_t *)(uintptr_t)address;
}

/* In the child there is one test at a time; the handler finds its result through this. */
static struct dt_regs *running;

static void take_registers(struct dt_regs *regs, const greg_t *g)
{
    static const uint8_t from[HV_NR_GPR] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
    };

    for (unsigned i = 0; i < HV_NR_GPR; i++)
        regs->gpr[i] = (uint64_t)g[from[i]];
    regs->rip = (uint64_t)g[REG_RIP];
    regs->rflags = (uint64_t)g[REG_EFL];
    regs->vector = (uint32_t)g[REG_TRAPNO];
    regs->error_code =
        regs->vector == HV_VEC_PF || regs->vector == HV_VEC_GP ? (uint32_t)g[REG_ERR] : 0;
    regs->cr2 = regs->vector == HV_VEC_PF ? (uint64_t)g[REG_CR2] : 0;
}

/* From an XSAVE image, which may leave out upper halves that are zero, if there are such. */
static void take_vectors(struct dt_regs *regs, const uint8_t *image)
{
    memcpy(regs->fx, image, HV_FX_USED_BYTES);
    if (hv_fx_get32(at(DT_CTL), DT_CTL_HAS_XSAVE) &&
        (hv_fx_get64(image, HV_XS_XSTATE_BV) & HV_XSTATE_AVX))
        memcpy(regs->ymm_high, image + HV_XS_YMM_HIGH(0), sizeof(regs->ymm_high));
}

static void handle_signal(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;

    (void)info;
    if (!running) { /* not the test's: a bug of the harness */
        static const char message[] = "# difftest: the native child faulted outside a test\n";

        (void)!write(STDERR_FILENO, message, sizeof(message) - 1);
        _exit(128 + signal);
    }
    take_registers(running, g);
    take_vectors(running, (const uint8_t *)uc->uc_mcontext.fpregs);
    running = NULL;
    g[REG_RIP] = (greg_t)(uintptr_t)dt_host_return;
    memcpy(&g[REG_RSP], at(DT_CTL + DT_CTL_HOST_RSP), 8);
    g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffll) | DT_USER_CS;
    g[REG_EFL] = HV_EFLAGS_FIXED | HV_EFLAGS_IF;
}

static bool catch_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS};
    static uint8_t stack_bytes[64 * 1024];
    stack_t stack = {.ss_sp = stack_bytes, .ss_size = sizeof(stack_bytes)};
    struct sigaction action = {.sa_sigaction = handle_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    if (sigaltstack(&stack, NULL) < 0)
        return false;
    for (size_t i = 0; i < HV_ARRAY_LEN(signals); i++)
        if (sigaction(signals[i], &action, NULL) < 0)
            return false;
    return true;
}

bool dt_host_has_code32(void)
{
    const uint32_t present = 1u << 15;
    uint32_t rights = 0;
    bool valid;

    __asm__("lar %2, %0" : "=r"(rights), "=@ccz"(valid) : "r"(DT_USER_CS32));
    return valid && (rights & present);
}

static bool map(uint64_t address, size_t pages, int prot)
{
    return mmap(at(address), pages * HV_PAGE_SIZE, prot,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at(address);
}

static bool map_sandbox(const uint8_t *data)
{
    static const uint8_t jump[] = {0xff, 0x24, 0x25}; /* jmp [disp32] */
    static const uint8_t far_jump[] = {0xea};         /* jmp selector:offset, in 32-bit code */
    const uint32_t target = DT_CTL + DT_CTL_EXIT, exit64 = DT_EXIT;
    const uint64_t exit_address = (uint64_t)(uintptr_t)dt_host_exit;
    const int rwx = PROT_READ | PROT_WRITE | PROT_EXEC;

    if (!map(DT_CODE, DT_BATCH, rwx) || !map(DT_EXIT, 1, rwx) ||
        !map(DT_CTL, 1, PROT_READ | PROT_WRITE) ||
        !map(DT_DATA, DT_DATA_PAGES, PROT_READ | PROT_WRITE) ||
        !map(DT_STACK, DT_STACK_PAGES, PROT_READ | PROT_WRITE))
        return false;
    memcpy(at(DT_EXIT), jump, sizeof(jump));
    memcpy(at(DT_EXIT) + sizeof(jump), &target, sizeof(target));
    memcpy(at(DT_EXIT32), far_jump, sizeof(far_jump));
    memcpy(at(DT_EXIT32) + sizeof(far_jump), &exit64, sizeof(exit64));
    hv_fx_put16(at(DT_EXIT32), sizeof(far_jump) + sizeof(exit64), DT_USER_CS);
    memcpy(at(DT_CTL + DT_CTL_EXIT), &exit_address, 8);
    hv_fx_put32(at(DT_CTL), DT_CTL_MXCSR, HV_MXCSR_INIT);
    if (__builtin_cpu_supports("avx")) /* the components that it is used for */
        hv_fx_put32(at(DT_CTL), DT_CTL_HAS_XSAVE, (uint32_t)hv_xstate_supported());
    memcpy(at(DT_DATA), data, DT_DATA_PAGES * HV_PAGE_SIZE);
    return mprotect(at(DT_DATA + DT_DATA_RW_PAGES * HV_PAGE_SIZE),
                    (DT_DATA_PAGES - DT_DATA_RW_PAGES) * HV_PAGE_SIZE, PROT_READ) == 0;
}

static void load_start(const struct dt_test *test)
{
    uint8_t *ctl = at(DT_CTL);

    memcpy(ctl, test->start.gpr, sizeof(test->start.gpr));
    hv_fx_put64(ctl, DT_CTL_RIP,
                test->code32 ? (uint64_t)(uintptr_t)dt_host_far : test->code_address);
    hv_fx_put32(ctl, DT_CTL_FAR, (uint32_t)test->code_address);
    hv_fx_put16(ctl, DT_CTL_FAR + 4, DT_USER_CS32);
    hv_fx_put64(ctl, DT_CTL_RFLAGS, test->start.rflags);
    memcpy(ctl + DT_CTL_FX, test->start.fx, HV_FX_BYTES);
    memset(ctl + DT_CTL_FX + HV_XS_XSTATE_BV, 0, HV_XS_HEADER_BYTES);
    hv_fx_put64(ctl, DT_CTL_FX + HV_XS_XSTATE_BV, hv_fx_get32(ctl, DT_CTL_HAS_XSAVE));
    memcpy(ctl + DT_CTL_FX + HV_XS_YMM_HIGH(0), test->start.ymm_high, sizeof(test->start.ymm_high));
    memcpy(at(test->code_address), test->code, test->code_bytes);
}

static void take_exit(struct dt_regs *regs)
{
    const uint8_t *ctl = at(DT_CTL);

    memcpy(regs->gpr, ctl, sizeof(regs->gpr));
    take_vectors(regs, ctl + DT_CTL_FX);
    regs->rip = DT_EXIT;
    regs->rflags = hv_fx_get64(ctl, DT_CTL_RFLAGS);
}

static void run_test(struct dt_test *test, const uint8_t *data, const uint8_t *stack)
{
    struct dt_result *result = &test->host;

    memcpy(at(DT_DATA), data, sizeof(result->memory.data));
    memcpy(at(DT_STACK), stack, sizeof(result->memory.stack));
    memset(&result->regs, 0, sizeof(result->regs));
    result->regs.vector = DT_VECTOR_NONE;
    load_start(test);
    running = &result->regs;
    __asm__ volatile("" ::: "memory");
    dt_host_enter();
    __asm__ volatile("" ::: "memory");
    if (result->regs.vector == DT_VECTOR_NONE)
        take_exit(&result->regs);
    running = NULL;
    memcpy(result->memory.data, at(DT_DATA), sizeof(result->memory.data));
    memcpy(result->memory.stack, at(DT_STACK), sizeof(result->memory.stack));
}

_Noreturn static void child_main(struct dt_shared *shared, int in, int out)
{
    static uint8_t data[DT_DATA_PAGES * HV_PAGE_SIZE], stack[DT_STACK_PAGES * HV_PAGE_SIZE];
    char byte;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dt_fill_memory(data, stack);
    if (!catch_signals() || !map_sandbox(data) ||
        syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)DT_GS) < 0)
        _exit(1);
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es"
                     :
                     : "r"(DT_USER_SS)); /* 32-bit code needs them */
    while (read(in, &byte, 1) == 1) {
        for (uint32_t i = 0; i < shared->count; i++) {
            shared->current = i;
            run_test(&shared->tests[i], data, stack);
        }
        if (write(out, &byte, 1) != 1)
            break;
    }
    _exit(0);
}

static int start_child(struct dt_host *host)
{
    int in[2], out[2];

    if (pipe(in) < 0)
        return -errno;
    if (pipe(out) < 0) {
        int error = errno;

        close(in[0]);
        close(in[1]);
        return -error;
    }
    host->pid = fork();
    if (host->pid == 0) {
        close(in[1]);
        close(out[0]);
        child_main(host->shared, in[0], out[1]);
    }
    close(in[0]);
    close(out[1]);
    host->to_child = in[1];
    host->from_child = out[0];
    return host->pid < 0 ? -EAGAIN : 0;
}

int dt_host_new(struct dt_host **out)
{
    struct dt_host *host = calloc(1, sizeof(*host));
    void *shared = mmap(NULL, sizeof(*host->shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ret;

    if (!host || shared == MAP_FAILED) {
        free(host);
        return -ENOMEM;
    }
    host->shared = shared;
    host->pid = host->to_child = host->from_child = -1;
    ret = start_child(host);
    if (ret < 0)
        dt_host_free(host);
    else
        *out = host;
    return ret;
}

void dt_host_free(struct dt_host *host)
{
    if (!host)
        return;
    if (host->to_child >= 0)
        close(host->to_child);
    if (host->from_child >= 0)
        close(host->from_child);
    if (host->pid > 0) {
        kill(host->pid, SIGKILL);
        waitpid(host->pid, NULL, 0);
    }
    munmap(host->shared, sizeof(*host->shared));
    free(host);
}

struct dt_test *dt_host_batch(struct dt_host *host)
{
    return host->shared->tests;
}

int dt_host_run(struct dt_host *host, unsigned count, unsigned *test)
{
    struct pollfd answer = {.fd = host->from_child, .events = POLLIN};
    char byte = 1;

    host->shared->count = count;
    *test = 0;
    if (write(host->to_child, &byte, 1) != 1)
        return -EPIPE;
    if (poll(&answer, 1, BATCH_TIMEOUT_MS) <= 0)
        byte = 0;
    else if (read(host->from_child, &byte, 1) != 1)
        byte = 0;
    *test = host->shared->current;
    return byte ? 0 : -ECHILD;
}
