/* What a process can do behind its filter: each row in a child of its own, which does it and ends. */
#include "config.h"

#include "hv/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/tap.h"

#ifdef __SANITIZE_ADDRESS__

int main(void)
{
    TAP_OK(true, "the filter # SKIP under AddressSanitizer");
    return tap_done();
}

#else

static bool map(int protection)
{
    return mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool protect(int protection)
{
    void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p != MAP_FAILED && mprotect(p, 4096, protection) == 0;
}

static bool map_data(void)
{
    return map(PROT_READ | PROT_WRITE) && protect(PROT_READ | PROT_WRITE);
}

static bool map_code(void)
{
    return map(PROT_READ | PROT_EXEC) && protect(PROT_READ | PROT_EXEC);
}

static bool map_both(void)
{
    return map(PROT_READ | PROT_WRITE | PROT_EXEC);
}

static bool protect_both(void)
{
    return protect(PROT_READ | PROT_WRITE | PROT_EXEC);
}

static bool ask_limit(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_STACK, &limit) == 0;
}

static bool set_limit(void)
{
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};

    return setrlimit(RLIMIT_CORE, &limit) == 0;
}

static void *nothing(void *opaque)
{
    pthread_setname_np(pthread_self(), "nothing");
    return opaque;
}

static bool start_thread(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
}

static bool start_process(void)
{
    return fork() >= 0;
}

static bool run_program(void)
{
    return execl("/bin/true", "true", NULL) == 0;
}

static bool signal_itself(void)
{
    return syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0;
}

static bool signal_parent(void)
{
    pid_t parent = getppid();

    return syscall(SYS_tgkill, parent, parent, 0) == 0;
}

static bool open_is_refused(void)
{
    return open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES;
}

static bool make_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}

static bool ask_terminal(void)
{
    return !isatty(STDERR_FILENO);
}

static bool inject_input(void)
{
    char c = 'x';

    return ioctl(STDIN_FILENO, TIOCSTI, &c) == 0;
}

static const struct {
    bool (*act)(void);
    bool allowed;
    const char *what;
} rows[] = {
    {map_data, true, "maps memory for data"},
    {map_code, true, "maps memory for code"},
    {map_both, false, "does not map memory for both"},
    {protect_both, false, "does not make memory both"},
    {ask_limit, true, "asks for a limit"},
    {set_limit, false, "does not set one"},
    {start_thread, true, "starts threads"},
    {start_process, false, "does not start processes"},
    {run_program, false, "nor programs"},
    {signal_itself, true, "signals its threads"},
    {signal_parent, false, "does not signal others"},
    {open_is_refused, true, "opens nothing, and hears so"},
    {make_socket, false, "does not make sockets"},
    {ask_terminal, true, "asks whether something is a terminal"},
    {inject_input, false, "does not put words into a terminal's mouth"},
};

/* The child's exit status: 0 for done, 2 for failed, 1 from the filter; or -1. */
static int try(bool (*act)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int quiet = open("/dev/null", O_RDWR);

        dup2(quiet, STDERR_FILENO); /* the filter's message is expected */
        if (hv_drop_privileges(false, 0, 0) || hv_sandbox_enter())
            _exit(3);
        _exit(act() ? 0 : 2);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

int main(void)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        int status = try(rows[i].act);

        TAP_OK(status == (rows[i].allowed ? 0 : 1), "%s (%d)", rows[i].what, status);
    }
    return tap_done();
}

#endif
