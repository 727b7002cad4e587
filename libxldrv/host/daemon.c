/* Being a daemon. */
#include "config.h"

#include "libxldrv/host/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libxldrv/host/log.h"
#include "libxldrv/rpc/rpc.h"

static long read_pid(int fd)
{
    char text[32] = "";

    return pread(fd, text, sizeof(text) - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
}

int xldrv_daemon_lock(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    char text[32];
    int n = g_snprintf(text, sizeof(text), "%d\n", (int)getpid());

    if (fd < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s': %s", path, g_strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "another domusd (process %ld) holds '%s'",
                        read_pid(fd), path);
        close(fd);
        return -1;
    }
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, n, 0) != n) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot write '%s': %s", path, g_strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- background */

/* The child says one byte when it is ready; the end without it means that it failed, and said why itself. */
static int wait_for_child(int fd, pid_t pid)
{
    char ready;
    ssize_t n;
    int status;

    do {
        n = read(fd, &ready, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1)
        return EXIT_SUCCESS;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return EXIT_FAILURE;
}

static void leave_terminal(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    setsid();
    if (fd < 0)
        return;
    dup2(fd, STDIN_FILENO);
    dup2(fd, STDOUT_FILENO);
    close(fd);
}

gboolean xldrv_daemon_fork(int *ready_fd, int *status)
{
    int ready[2];
    pid_t pid;

    *status = EXIT_FAILURE;
    if (pipe2(ready, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
        g_printerr("domusd: cannot go into the background: %s\n", g_strerror(errno));
        return FALSE;
    }
    if (pid > 0) {
        close(ready[1]);
        *status = wait_for_child(ready[0], pid);
        close(ready[0]);
        return FALSE;
    }
    close(ready[0]);
    leave_terminal();
    *ready_fd = ready[1];
    return TRUE;
}

void xldrv_daemon_ready(int ready_fd, const char *log_path)
{
    int log_fd;

    if (ready_fd < 0)
        return;
    xldrv_log_rotate(log_path);
    log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (log_fd < 0)
        g_warning("the log goes nowhere: cannot open '%s': %s", log_path, g_strerror(errno));
    dup2(log_fd < 0 ? STDOUT_FILENO : log_fd, STDERR_FILENO); /* standard output is /dev/null */
    if (log_fd >= 0)
        close(log_fd);
    if (write(ready_fd, "1", 1) != 1)
        g_warning("nobody waits to hear that the daemon is ready");
    close(ready_fd);
}

void xldrv_daemon_failed(int ready_fd)
{
    if (ready_fd >= 0)
        close(ready_fd);
}
