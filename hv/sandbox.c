/* Privileges and system calls of a process that runs hostile code. */
#include "config.h"

#include "hv/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <asm/prctl.h>

/* ------------------------------------------------------------------ privileges */

static int drop_user(uid_t uid, gid_t gid)
{
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return 0;
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    memset(none, 0, sizeof(none));
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
        syscall(SYS_capset, &header, none) < 0)
        return -errno;
    return 0;
}

int hv_drop_privileges(bool change_user, uid_t uid, gid_t gid)
{
    int error = change_user ? drop_user(uid, gid) : 0;

    if (!error)
        error = drop_capabilities();
    if (!error && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        error = -errno;
    return error;
}

/* ------------------------------------------------------------------ system calls */

#ifdef __SANITIZE_ADDRESS__

int hv_sandbox_enter(void)
{
    return 0;
}

#else

struct rule {
    int number;
    const char *reason;
};

#define CALL(name, reason) {SCMP_SYS(name), reason}

static const struct rule allowed[] = {
    CALL(read, "terminals, sockets, event and timer descriptors, images"),
    CALL(pread64, "images, memory statistics, saved domains"),
    CALL(pwrite64, "domains that are saved"),
    CALL(fdatasync, "domains that are saved while they run"),
    CALL(write, "terminals, logs, waking the event loop"),
    CALL(readv, "frames from a tap"),
    CALL(writev, "frames to a tap, messages of the C library"),
    CALL(lseek, "sizes of images"),
    CALL(close, "descriptors that were passed or made"),
    CALL(fstat, "what a passed descriptor is"),
    CALL(newfstatat, "the same, as the C library does it"),
    CALL(fcntl, "non-blocking descriptors"),
    CALL(dup, "descriptors passed within the process"),
    CALL(dup2, "another log in the place of one that is full"),
    CALL(io_uring_enter, "images of disks: on the one ring that was made before, which can do no more than that"),
    CALL(recvmsg, "control channel, store"),
    CALL(sendmsg, "control channel, store"),
    CALL(recvfrom, "control channel, store"),
    CALL(sendto, "control channel, store"),
    CALL(accept4, "connections to the control channel"),
    CALL(getsockopt, "what a passed socket is"),
    CALL(shutdown, "ends of connections"),
    CALL(epoll_create1, "event loop"),
    CALL(epoll_ctl, "event loop"),
    CALL(epoll_wait, "event loop"),
    CALL(epoll_pwait, "event loop"),
    CALL(poll, "whether a terminal is back; standard input and output"),
    CALL(ppoll, "the same, as the C library does it"),
    CALL(eventfd2, "waking the event loop"),
    CALL(timerfd_create, "timers of vCPUs, watchdogs and terminals"),
    CALL(timerfd_settime, "the same"),
    CALL(munmap, "the same"),
    CALL(mremap, "the heap"),
    CALL(mlock, "guest memory that is not to be paged out"),
    CALL(munlock, "the same, given back"),
    CALL(madvise, "guest memory given back, stacks of threads that ended"),
    CALL(brk, "the heap"),
    CALL(memfd_create, "pages shared with the guest"),
    CALL(ftruncate, "the same, domains that are saved"),
    CALL(futex, "locks"),
    CALL(membarrier, "code of the engine that changed, on other processors"),
    CALL(set_robust_list, "start of a thread"),
    CALL(rseq, "start of a thread"),
    CALL(sched_yield, "SCHEDOP_yield, waiting for another vCPU"),
    CALL(sched_getaffinity, "number of processors"),
    CALL(sched_setaffinity, "vCPUs bound to host CPUs"),
    CALL(getcpu, "on which processor a vCPU runs"),
    CALL(clock_gettime, "time, where it is not read without a system call"),
    CALL(clock_nanosleep, "waiting"),
    CALL(nanosleep, "waiting"),
    CALL(gettimeofday, "time"),
    CALL(getrandom, "the heap"),
    CALL(sysinfo, "memory of the host"),
    CALL(getpid, "messages"),
    CALL(gettid, "threads"),
    CALL(rt_sigaction, "abort"),
    CALL(rt_sigprocmask, "signals are the main thread's"),
    CALL(rt_sigreturn, "end of a signal handler"),
    CALL(sigaltstack, "signal handlers of an engine"),
    CALL(restart_syscall, "a call that a signal interrupted"),
    CALL(wait4, "the store's process of a domain alone"),
    CALL(exit, "end of a thread"),
    CALL(exit_group, "end"),
};

/* The C library tries these and does without. */
static const struct {
    struct rule rule;
    int error;
} refused[] = {
    {CALL(openat, "names of other threads, number of processors: no path is opened here"), EACCES},
    {CALL(open, "the same"), EACCES},
    {CALL(clone3, "its flags cannot be looked at: clone is used then"), ENOSYS},
};

/* Allowed where argument @arg, masked with @mask, is @value; several rows of a call are alternatives. */
static const struct limited {
    struct rule rule;
    unsigned arg;
    uint64_t mask, value;
} limited[] = {
    {CALL(ioctl, "whether it is a terminal"), 1, ~0ull, TCGETS},
    {CALL(ioctl, "raw mode"), 1, ~0ull, TCSETS},
    {CALL(ioctl, "the same"), 1, ~0ull, TCSETSW},
    {CALL(ioctl, "the same"), 1, ~0ull, TCSETSF},
    {CALL(ioctl, "whether a passed descriptor is a tap"), 1, ~0ull, TUNGETIFF},
    {CALL(ioctl, "a tap's header"), 1, ~0ull, TUNSETVNETHDRSZ},
    {CALL(ioctl, "what a tap leaves to the guest to finish"), 1, ~0ull, TUNSETOFFLOAD},
    {CALL(ioctl, "whether a guest listens to a tap"), 1, ~0ull, TUNSETCARRIER},
    {CALL(ioctl, "which queues of a tap it listens to"), 1, ~0ull, TUNSETQUEUE},
    {CALL(ioctl, "memory that is still elsewhere: where it is missed"), 1, ~0ull, UFFDIO_REGISTER},
    {CALL(ioctl, "the same: a page that came"), 1, ~0ull, UFFDIO_COPY},
    {CALL(ioctl, "the same: a page of zeroes"), 1, ~0ull, UFFDIO_ZEROPAGE},
    {CALL(ioctl, "the same: who waits goes on"), 1, ~0ull, UFFDIO_WAKE},
    {CALL(clone, "threads, not processes"), 0, CLONE_THREAD, CLONE_THREAD},
    {CALL(arch_prctl, "where translated code finds its state"), 0, ~0ull, ARCH_SET_GS},
    {CALL(prctl, "names of threads"), 0, ~0ull, PR_SET_NAME},
    {CALL(prctl, "timers of vCPUs"), 0, ~0ull, PR_SET_TIMERSLACK},
    /* Memory is writable or executable, never both. */
    {CALL(mmap, "guest memory, heap, stacks"), 2, PROT_EXEC, 0},
    {CALL(mmap, "code of the engine"), 2, PROT_WRITE, 0},
    {CALL(mprotect, "guest memory, heap, stacks"), 2, PROT_EXEC, 0},
    {CALL(mprotect, "code of the engine"), 2, PROT_WRITE, 0},
    {CALL(prlimit64, "size of a stack: asked, not set"), 2, ~0ull, 0},
};

static void not_allowed(int signal_number, siginfo_t *info, void *context)
{
    char text[80];
    int bytes = snprintf(text, sizeof(text), "domus-hv: error: system call %d is not allowed here\n",
                         info->si_syscall);

    (void)signal_number, (void)context;
    if (bytes > 0 && write(STDERR_FILENO, text, (size_t)bytes) < 0)
        _exit(1);
    _exit(1);
}

static int add_rules(scmp_filter_ctx filter)
{
    int error = 0;

    for (size_t i = 0; !error && i < HV_ARRAY_LEN(allowed); i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i].number, 0);
    for (size_t i = 0; !error && i < HV_ARRAY_LEN(refused); i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint16_t)refused[i].error), refused[i].rule.number, 0);
    for (size_t i = 0; !error && i < HV_ARRAY_LEN(limited); i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, limited[i].rule.number, 1,
                                 SCMP_CMP64(limited[i].arg, SCMP_CMP_MASKED_EQ, limited[i].mask, limited[i].value));
    if (!error) /* abort: its own threads only */
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                 SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    return error;
}

int hv_sandbox_enter(void)
{
    struct sigaction action = {.sa_sigaction = not_allowed, .sa_flags = SA_SIGINFO};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
    int error;

    if (!filter)
        return -ENOMEM;
    sigaction(SIGSYS, &action, NULL);
    error = add_rules(filter);
    if (!error) /* threads that exist already, too */
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (!error)
        error = seccomp_load(filter);
    seccomp_release(filter);
    return error;
}

#endif
