/* The kernel's own work: system calls, signals, faults, processes, context switches. */
#include "guestbench.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int w_sys_getppid(struct res *r, unsigned long n)
{
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        syscall(SYS_getppid);
    r->sec = now() - t;
    r->ops = n;
    return 0;
}

int w_sys_read4k(struct res *r, unsigned long n)
{
    static char b[4096];
    int fd = open("/dev/zero", O_RDONLY);
    if (fd < 0)
        return skip(r, "no /dev/zero");
    uint64_t sum = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        sum += read(fd, b, sizeof b);
    r->sec = now() - t;
    r->ops = n;
    r->sum = sum;
    close(fd);
    return 0;
}

int w_sys_clock(struct res *r, unsigned long n)
{
    struct timespec a;
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        clock_gettime(CLOCK_MONOTONIC, &a);
    r->sec = now() - t;
    r->ops = n;
    return 0;
}

static volatile sig_atomic_t sigs;
static void on_usr1(int s)
{
    (void)s;
    sigs++;
}

int w_sys_signal(struct res *r, unsigned long n)
{
    struct sigaction sa_ = {.sa_handler = on_usr1};
    sigaction(SIGUSR1, &sa_, NULL);
    sigs = 0;
    pid_t me = getpid();
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        kill(me, SIGUSR1);
    r->sec = now() - t;
    r->ops = n;
    r->sum = sigs;
    return 0;
}

static char *segv_page;
static void on_segv(int s, siginfo_t *si, void *c)
{
    (void)s;
    (void)si;
    (void)c;
    mprotect(segv_page, 4096, PROT_READ | PROT_WRITE);
    sigs++;
}

int w_sys_segv(struct res *r, unsigned long n)
{
    struct sigaction sa_ = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO}, old;
    segv_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGSEGV, &sa_, &old);
    sigs = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        *(volatile char *)segv_page = i;
        mprotect(segv_page, 4096, PROT_READ);
    }
    r->sec = now() - t;
    sigaction(SIGSEGV, &old, NULL);
    munmap(segv_page, 4096);
    r->ops = n;
    r->sum = sigs;
    return 0;
}

int w_sys_pgfault(struct res *r, unsigned long n)
{
    size_t len = 4 * MIB;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return skip(r, "no memory");
        madvise(p, len, MADV_NOHUGEPAGE);
        for (size_t o = 0; o < len; o += 4096)
            p[o] = 1;
        munmap(p, len);
    }
    r->sec = now() - t;
    r->ops = n * (len / 4096);
    return 0;
}

int w_proc_forkexec(struct res *r, unsigned long n)
{
    char *av[] = {opt_true, NULL}, *ev[] = {NULL};
    if (access(opt_true, X_OK))
        return skip(r, "no gbtrue");
    uint64_t ok = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        int st;
        pid_t p = fork();
        if (p == 0) {
            execve(opt_true, av, ev);
            _exit(99);
        }
        if (p < 0 || waitpid(p, &st, 0) != p)
            return skip(r, "fork failed");
        ok += st == 0;
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = ok;
    return 0;
}

static int pingpong(struct res *r, unsigned long n, int c0, int c1)
{
    int a[2], b[2];
    char ch = 'x';
    if (pipe(a) || pipe(b))
        return skip(r, "pipe failed");
    pin(c0);
    pid_t p = fork();
    if (p == 0) {
        pin(c1);
        close(a[1]);
        close(b[0]);
        while (read(a[0], &ch, 1) == 1)
            if (write(b[1], &ch, 1) != 1)
                break;
        _exit(0);
    }
    close(a[0]);
    close(b[1]);
    for (int i = 0; i < 10; i++)
        if (write(a[1], &ch, 1) != 1 || read(b[0], &ch, 1) != 1)
            break;
    uint64_t ok = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        ok += write(a[1], &ch, 1) == 1 && read(b[0], &ch, 1) == 1;
    r->sec = now() - t;
    close(a[1]);
    close(b[0]);
    waitpid(p, NULL, 0);
    unpin();
    r->ops = n * 2;
    r->sum = ok;
    return 0;
}

int w_ctxsw_same(struct res *r, unsigned long n)
{
    return pingpong(r, n, 0, 0);
}
int w_ctxsw_cross(struct res *r, unsigned long n)
{
    return ncpu > 1 ? pingpong(r, n, 0, 1) : skip(r, "one CPU");
}

int w_sh_loop(struct res *r, unsigned long n)
{
    char s[128];
    int st;
    if (access(opt_busybox, X_OK))
        return skip(r, "no busybox");
    snprintf(s, sizeof s, "i=0; while [ $i -lt %lu ]; do i=$((i+1)); done", n);
    double t = now();
    pid_t p = fork();
    if (p == 0) {
        execl(opt_busybox, "busybox", "sh", "-c", s, (char *)NULL);
        _exit(99);
    }
    if (p < 0 || waitpid(p, &st, 0) != p || st)
        return skip(r, "shell failed");
    r->sec = now() - t;
    r->ops = n;
    return 0;
}
