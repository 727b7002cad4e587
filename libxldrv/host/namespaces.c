/* Namespaces of users, mounts and processes. All of this runs in a child of a process with threads. */
#include "config.h"

#include "libxldrv/host/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static gboolean write_text(pid_t pid, const char *name, const char *text)
{
    char path[64];
    int fd;
    gboolean ok;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Root's programs see all users as they are; another user's see that one as root. */
static gboolean map_users(pid_t pid)
{
    char map[64];

    if (geteuid() == 0)
        return write_text(pid, "uid_map", "0 0 4294967295\n") && write_text(pid, "gid_map", "0 0 4294967295\n");
    snprintf(map, sizeof(map), "0 %u 1\n", (unsigned)geteuid());
    if (!write_text(pid, "uid_map", map) || !write_text(pid, "setgroups", "deny"))
        return FALSE;
    snprintf(map, sizeof(map), "0 %u 1\n", (unsigned)getegid());
    return write_text(pid, "gid_map", map);
}

/* From outside, which is where the rights for it are: once the parent is in its namespace, of which @ready tells. */
static pid_t start_mapper(const int ready[2])
{
    pid_t parent = getpid(), pid = fork();
    char byte;

    if (pid != 0)
        return pid;
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        _exit(1);
    _exit(map_users(parent) ? 0 : errno);
}

static gboolean enter_users(void)
{
    int ready[2], status = 0;
    gboolean ok;
    pid_t mapper;

    if (pipe2(ready, O_CLOEXEC) < 0)
        return FALSE;
    mapper = start_mapper(ready);
    ok = mapper > 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) == 0 && write(ready[1], "", 1) == 1;
    close(ready[0]);
    close(ready[1]);
    if (mapper > 0 && (waitpid(mapper, &status, 0) != mapper || !ok))
        return FALSE;
    if (ok && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return TRUE;
    errno = WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EPERM;
    return FALSE;
}

static _Noreturn void end_as(pid_t pid)
{
    int status = 0;

    syscall(SYS_close_range, 3u, ~0u, 0u);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

gboolean xldrv_namespaces_enter(void)
{
    pid_t first;

    if (!enter_users())
        return FALSE;
    first = fork();
    if (first > 0)
        end_as(first);
    return first == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}
