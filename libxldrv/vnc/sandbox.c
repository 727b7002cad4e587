/* Privileges and system calls of domus-vnc. */
#include "config.h"

#include "libxldrv/vnc/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fail(const char *what, int why)
{
    fprintf(stderr, "domus-vnc: error: cannot %s: %s\n", what, strerror(why));
    return -1;
}

static int become(const char *user)
{
    unsigned uid, gid;

    if (sscanf(user, "%u:%u", &uid, &gid) != 2)
        return fail("become that user", EINVAL);
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return fail("become another user", errno);
    return 0;
}

static int drop_privileges(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];

    memset(none, 0, sizeof(none));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_capset, &header, none) < 0)
        return fail("give up privileges", errno);
    return 0;
}

#ifdef __SANITIZE_ADDRESS__

static int filter_calls(void)
{
    return 0;
}

#else

static const struct {
    int number;
    const char *reason;
} allowed[] = {
    {SCMP_SYS(read), "clients"},
    {SCMP_SYS(write), "clients, messages"},
    {SCMP_SYS(writev), "messages of the C library"},
    {SCMP_SYS(recvfrom), "clients, hypervisor"},
    {SCMP_SYS(recvmsg), "hypervisor, control"},
    {SCMP_SYS(sendto), "clients, hypervisor"},
    {SCMP_SYS(sendmsg), "control"},
    {SCMP_SYS(accept), "clients"},
    {SCMP_SYS(accept4), "clients, control"},
    {SCMP_SYS(getpeername), "who a client is"},
    {SCMP_SYS(getsockname), "where it came to"},
    {SCMP_SYS(getsockopt), "what a descriptor is"},
    {SCMP_SYS(setsockopt), "clients without delay"},
    {SCMP_SYS(shutdown), "ends of connections"},
    {SCMP_SYS(close), "the same"},
    {SCMP_SYS(poll), "waiting"},
    {SCMP_SYS(ppoll), "the same, as the C library does it"},
    {SCMP_SYS(select), "the library's waiting"},
    {SCMP_SYS(pselect6), "the same"},
    {SCMP_SYS(pipe), "waking a client's thread"},
    {SCMP_SYS(pipe2), "the same"},
    {SCMP_SYS(fcntl), "non-blocking descriptors, seals"},
    {SCMP_SYS(fstat), "size of a surface"},
    {SCMP_SYS(newfstatat), "the same, as the C library does it"},
    {SCMP_SYS(munmap), "the heap, stacks"},
    {SCMP_SYS(mremap), "the heap"},
    {SCMP_SYS(madvise), "stacks of threads that ended"},
    {SCMP_SYS(brk), "the heap"},
    {SCMP_SYS(futex), "locks"},
    {SCMP_SYS(set_robust_list), "start of a thread"},
    {SCMP_SYS(rseq), "start of a thread"},
    {SCMP_SYS(sched_yield), "locks"},
    {SCMP_SYS(clock_gettime), "time, where it is not read without a system call"},
    {SCMP_SYS(clock_nanosleep), "waiting"},
    {SCMP_SYS(nanosleep), "waiting"},
    {SCMP_SYS(gettimeofday), "time"},
    {SCMP_SYS(getrandom), "challenges, the heap"},
    {SCMP_SYS(getpid), "challenges"},
    {SCMP_SYS(gettid), "threads"},
    {SCMP_SYS(rt_sigaction), "abort"},
    {SCMP_SYS(rt_sigprocmask), "threads, abort"},
    {SCMP_SYS(rt_sigreturn), "end of a signal handler"},
    {SCMP_SYS(restart_syscall), "a call that a signal interrupted"},
    {SCMP_SYS(exit), "end of a thread"},
    {SCMP_SYS(exit_group), "end"},
};

static int add_rules(scmp_filter_ctx filter)
{
    int error = 0;

    for (size_t i = 0; !error && i < sizeof(allowed) / sizeof(allowed[0]); i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i].number, 0);
    if (!error) /* threads, not processes */
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                 SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (!error) /* its flags cannot be looked at: clone is used then */
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (!error) /* surfaces, heap, stacks: never code */
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!error)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!error) /* abort: its own threads only */
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                 SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    return error;
}

static int filter_calls(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int error = filter ? add_rules(filter) : -ENOMEM;

    if (!error)
        error = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    return error ? fail("filter system calls", -error) : 0;
}

#endif

int vnc_sandbox_enter(const char *user)
{
    if (user && become(user) < 0)
        return -1;
    return drop_privileges() < 0 ? -1 : filter_calls();
}
