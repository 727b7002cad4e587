/* Starting, finding again and ending processes. */
#include "config.h"

#include "libxldrv/host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libxldrv/host/log.h"
#include "libxldrv/host/namespaces.h"
#include "libxldrv/rpc/rpc.h"

#define FIRST_PASSED_FD 3

/* All that the child needs, prepared before the fork: between fork and exec of a threaded process only
 * async-signal-safe functions may be called, and until exec it has our memory. */
typedef struct {
    char **argv;
    int *fds;
    guint n_fds;
    int log_fd, null_fd, pid_fd, error_fd;
    gboolean confine, may_mount;
    guint64 max_file_bytes;
    const XldrvMemoryPolicy *memory;
} Child;

/* What the child says when it cannot become the program. */
/* What a child does before it is the program that it is to be. */
typedef enum { START, PLACE_MEMORY, ENTER_NAMESPACES } Step;

typedef struct {
    int why; /* errno; 0: nothing failed */
    Step step;
} Failure;

static gboolean read_stat(const char *text, pid_t *pid, guint64 *start_time, char *state)
{
    const char *end = strrchr(text, ')'); /* the name in between may hold anything */
    long number = strtol(text, NULL, 10);

    /* State is field 3, the start time field 22. */
    if (!end || number <= 0 ||
        sscanf(end + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
               "%" G_GUINT64_FORMAT,
               state, start_time) != 2)
        return FALSE;
    *pid = number;
    return TRUE;
}

static gboolean look_up(pid_t pid, guint64 *start_time)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *text = NULL;
    char state;
    pid_t same;

    return g_file_get_contents(path, &text, NULL, NULL) &&
           read_stat(text, &same, start_time, &state) && same == pid && state != 'Z' && state != 'X';
}

guint64 xldrv_process_start_time(pid_t pid)
{
    guint64 start_time;

    return pid > 0 && look_up(pid, &start_time) ? start_time : 0;
}

static XldrvProcess *process_of(pid_t pid, guint64 start_time)
{
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    XldrvProcess *process;

    if (pidfd < 0)
        return NULL;
    process = g_new0(XldrvProcess, 1);
    process->pid = pid;
    process->start_time = start_time;
    process->pidfd = pidfd;
    return process;
}

XldrvProcess *xldrv_process_find(pid_t pid, guint64 start_time)
{
    g_autoptr(XldrvProcess) process = pid > 0 ? process_of(pid, start_time) : NULL;
    guint64 now;

    /* Looked up after the descriptor was opened, so that both speak of the same process. */
    if (!process || !look_up(pid, &now) || now != start_time)
        return NULL;
    return g_steal_pointer(&process);
}

XldrvProcess *xldrv_process_find_written(const char *pid_path)
{
    g_autofree char *text = NULL;
    guint64 start_time;
    pid_t pid;
    char state;

    if (!g_file_get_contents(pid_path, &text, NULL, NULL) ||
        !read_stat(text, &pid, &start_time, &state))
        return NULL;
    return xldrv_process_find(pid, start_time);
}

void xldrv_process_reap_written(const char *pid_path)
{
    g_autofree char *text = NULL;
    guint64 start_time;
    pid_t pid;
    char state;

    if (g_file_get_contents(pid_path, &text, NULL, NULL) && read_stat(text, &pid, &start_time, &state))
        waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOHANG);
}

/* Nothing of it outlives a crash of the host, so it need not be on its disk. */
static gboolean copy_stat(int pid_fd)
{
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
    gboolean ok = n > 0 && write(pid_fd, text, n) == n;

    if (fd >= 0)
        close(fd);
    return ok;
}

static void reset_signals(void)
{
    sigset_t none;

    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static gboolean place_descriptors(const Child *child)
{
    if (dup2(child->null_fd, 0) < 0 || dup2(child->log_fd, 1) < 0 || dup2(child->log_fd, 2) < 0)
        return FALSE;
    for (guint i = 0; i < child->n_fds; i++) {
        if (dup2(child->fds[i], FIRST_PASSED_FD + i) < 0)
            return FALSE;
    }
    return TRUE;
}

/* What reads images from anywhere must be able to open them, and needs nothing else of root. */
static gboolean give_up_privileges(gboolean may_mount)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (geteuid() == 0)
        sets[0].permitted = sets[0].effective = 1u << CAP_DAC_OVERRIDE | (may_mount ? 1u << CAP_SYS_ADMIN : 0);
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, sets) == 0;
}

static gboolean limit_files(guint64 bytes)
{
    const struct rlimit limit = {bytes, bytes};

    return bytes == 0 || setrlimit(RLIMIT_FSIZE, &limit) == 0;
}

static gboolean place_memory(const Child *child)
{
    return !child->memory || xldrv_memory_policy_apply(child->memory);
}

static gboolean take(Failure *failure, Step step, gboolean ok)
{
    failure->step = ok ? START : step;
    return ok;
}

_Noreturn static void run_child(const Child *child)
{
    Failure failure = {0, START};

    setsid();
    reset_signals();
    errno = ENOSPC; /* of a write that was short */
    /* A process that cannot be found again must not run. All descriptors below are above the range that is
     * overwritten; the error pipe closes on exec, so do all others. */
    if (take(&failure, PLACE_MEMORY, place_memory(child)) &&
        take(&failure, START, (child->pid_fd < 0 || copy_stat(child->pid_fd)) && place_descriptors(child)) &&
        take(&failure, ENTER_NAMESPACES, !child->may_mount || xldrv_namespaces_enter()) &&
        take(&failure, START, (!child->confine || give_up_privileges(child->may_mount)) && limit_files(child->max_file_bytes)))
        execv(child->argv[0], child->argv);
    failure.why = errno;
    if (write(child->error_fd, &failure, sizeof(failure)) < 0)
        _exit(126);
    _exit(127);
}

/* A duplicate that no dup2 to the passed numbers can overwrite. */
static int move_up(int fd, guint n_fds)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, FIRST_PASSED_FD + (int)n_fds + 8);
}

static void close_all(Child *child)
{
    const int fds[] = {child->log_fd, child->null_fd, child->pid_fd, child->error_fd};

    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    for (guint i = 0; i < child->n_fds; i++) {
        if (child->fds[i] >= 0)
            close(child->fds[i]);
    }
    g_free(child->fds);
}

static int open_up(const char *path, int flags, guint n_fds)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0600);
    int up = fd < 0 ? -1 : move_up(fd, n_fds);

    if (fd >= 0)
        close(fd);
    return up;
}

static gboolean prepare(const XldrvSpawn *spawn, Child *child, GError **error)
{
    const char *log_path = spawn->log_path ? spawn->log_path : "/dev/null";

    child->argv = (char **)spawn->argv;
    child->n_fds = spawn->n_fds;
    child->confine = spawn->confine;
    child->may_mount = spawn->may_mount;
    child->max_file_bytes = spawn->max_file_bytes;
    child->memory = spawn->memory;
    child->fds = g_new(int, spawn->n_fds + 1);
    for (guint i = 0; i < spawn->n_fds; i++)
        child->fds[i] = move_up(spawn->fds[i], spawn->n_fds);
    if (spawn->log_path)
        xldrv_log_rotate(spawn->log_path);
    child->null_fd = open_up("/dev/null", O_RDWR, spawn->n_fds);
    child->log_fd = open_up(log_path, O_WRONLY | O_CREAT | O_APPEND, spawn->n_fds);
    if (child->log_fd < 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s': %s", log_path,
                               g_strerror(errno));
    if (spawn->pid_path) {
        child->pid_fd = open_up(spawn->pid_path, O_WRONLY | O_CREAT | O_TRUNC, spawn->n_fds);
        if (child->pid_fd < 0)
            return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot create '%s': %s",
                                   spawn->pid_path, g_strerror(errno));
    }
    return TRUE;
}

/* The read end says what went wrong before exec, or nothing. */
static Failure read_exec_error(int fd)
{
    Failure failure = {0, START};
    ssize_t n;

    do {
        n = read(fd, &failure, sizeof(failure));
    } while (n < 0 && errno == EINTR);
    return n == sizeof(failure) ? failure : (Failure){0, START};
}

/* A process that cannot be watched must not go on. */
static XldrvProcess *watch_child(pid_t pid, guint64 start_time, const char *program, GError **error)
{
    XldrvProcess *process = process_of(pid, start_time);

    if (process)
        return process;
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot watch '%s': %s", program, g_strerror(errno));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return NULL;
}

static const char *const steps[] = {
    [START] = "",
    [PLACE_MEMORY] = " with its memory on the NUMA nodes asked for",
    [ENTER_NAMESPACES] = " in user, mount and process namespaces of its own, which this host must allow",
};

/* A copy of all that maps our memory takes longer than all that the child does. But one that goes on without exec, as namespaces
 * want it, needs that. */
static pid_t split(const Child *child)
{
    pid_t pid = child->may_mount ? fork() : vfork();

    if (pid == 0)
        run_child(child);
    return pid;
}

static XldrvProcess *fork_child(Child *child, GError **error)
{
    int report[2];
    guint64 start_time = 0;
    pid_t pid;
    Failure failure;
    sigset_t all, before;

    if (pipe2(report, O_CLOEXEC) < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make a pipe: %s", g_strerror(errno));
        return NULL;
    }
    child->error_fd = move_up(report[1], child->n_fds);
    close(report[1]);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of ours runs in the child */
    pid = split(child);
    failure = (Failure){pid < 0 ? errno : 0, START};
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(child->error_fd);
    child->error_fd = -1;
    if (pid > 0)
        failure = read_exec_error(report[0]);
    close(report[0]);
    if (failure.why) {
        if (pid > 0)
            waitpid(pid, NULL, 0);
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot start '%s'%s: %s", child->argv[0], steps[failure.step],
                        g_strerror(failure.why));
        return NULL;
    }
    look_up(pid, &start_time);
    return watch_child(pid, start_time, child->argv[0], error);
}

XldrvProcess *xldrv_process_spawn(const XldrvSpawn *spawn, GError **error)
{
    Child child = {.log_fd = -1, .null_fd = -1, .pid_fd = -1, .error_fd = -1};
    XldrvProcess *process = NULL;

    if (prepare(spawn, &child, error))
        process = fork_child(&child, error);
    close_all(&child);
    return process;
}

void xldrv_process_free(XldrvProcess *process)
{
    if (!process)
        return;
    close(process->pidfd);
    g_free(process);
}

gboolean xldrv_process_wait(const XldrvProcess *process, int timeout_ms)
{
    struct pollfd wait = {.fd = process->pidfd, .events = POLLIN};
    gint64 end = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    int left = timeout_ms, n;

    while ((n = poll(&wait, 1, left)) < 0 && errno == EINTR)
        left = MAX(0, (end - g_get_monotonic_time()) / G_TIME_SPAN_MILLISECOND);
    if (n <= 0)
        return FALSE;
    /* Fails where it is not our child, which is fine: then somebody else reaps it. */
    waitid(P_PIDFD, process->pidfd, &(siginfo_t){0}, WEXITED | WNOHANG);
    return TRUE;
}

gboolean xldrv_process_is_alive(const XldrvProcess *process)
{
    return !xldrv_process_wait(process, 0);
}

static gboolean bind_thread(pid_t thread, const GByteArray *map)
{
    guint n = map->len * 8;
    gsize size = CPU_ALLOC_SIZE(n);
    cpu_set_t *set = CPU_ALLOC(n);
    int rc;

    CPU_ZERO_S(size, set);
    for (guint i = 0; i < n; i++) {
        if (map->data[i / 8] >> i % 8 & 1)
            CPU_SET_S(i, size, set);
    }
    rc = sched_setaffinity(thread, size, set);
    CPU_FREE(set);
    return rc == 0;
}

static gboolean thread_has_prefix(pid_t process, const char *thread, const char *prefix)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%s/comm", (int)process, thread);
    g_autofree char *name = NULL;

    return g_file_get_contents(path, &name, NULL, NULL) && g_str_has_prefix(name, prefix);
}

/* The first thread must be bound; of the others some may have ended, and the kernel's own, which do I/O, stay. */
gboolean xldrv_process_bind_threads(const XldrvProcess *process, const char *but, const GByteArray *map, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)process->pid);
    g_autoptr(GDir) threads = NULL;
    const char *thread;

    if (!bind_thread(process->pid, map))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot bind process %d to its CPUs: %s",
                               (int)process->pid, g_strerror(errno));
    threads = g_dir_open(path, 0, NULL);
    while (threads && (thread = g_dir_read_name(threads))) {
        if (!thread_has_prefix(process->pid, thread, but))
            bind_thread((pid_t)g_ascii_strtoll(thread, NULL, 10), map);
    }
    return TRUE;
}

gboolean xldrv_process_allow_locking(const XldrvProcess *process, guint64 bytes, GError **error)
{
    struct rlimit limit;

    if (prlimit(process->pid, RLIMIT_MEMLOCK, NULL, &limit) == 0 && limit.rlim_cur >= bytes)
        return TRUE;
    limit.rlim_cur = limit.rlim_max = MAX(limit.rlim_max, bytes);
    return prlimit(process->pid, RLIMIT_MEMLOCK, &limit, NULL) == 0 ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                           "cannot let process %d lock %" G_GUINT64_FORMAT " KiB of memory: %s", (int)process->pid,
                           bytes / 1024, g_strerror(errno));
}

void xldrv_process_kill(const XldrvProcess *process, int signo)
{
    syscall(SYS_pidfd_send_signal, process->pidfd, signo, NULL, 0);
}

static char *own_directory(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

    return self ? g_path_get_dirname(self) : NULL;
}

char *xldrv_program_find(const char *override, const char *build_path, const char *install_dir,
                         const char *name, GError **error)
{
    g_autofree char *here = own_directory();
    g_autofree char *built = here ? g_build_filename(here, build_path, NULL) : NULL;
    g_autofree char *installed = g_build_filename(install_dir, name, NULL);
    const char *const candidates[] = {built, installed};

    if (override)
        return g_canonicalize_filename(override, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(candidates); i++) {
        if (candidates[i] && g_file_test(candidates[i], G_FILE_TEST_IS_EXECUTABLE))
            return g_canonicalize_filename(candidates[i], NULL);
    }
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot find program '%s' (looked for '%s')", name,
                    installed);
    return NULL;
}

void xldrv_process_end_written(const char *pid_path, const char *what, guint ms)
{
    g_autoptr(XldrvProcess) process = xldrv_process_find_written(pid_path);

    if (process) {
        xldrv_process_kill(process, SIGTERM);
        if (!xldrv_process_wait(process, ms)) {
            g_warning("%s, process %d, does not end by itself: killing it", what, (int)process->pid);
            xldrv_process_kill(process, SIGKILL);
            xldrv_process_wait(process, XLDRV_PROCESS_END_MS);
        }
    } else {
        xldrv_process_reap_written(pid_path);
    }
    unlink(pid_path);
}
