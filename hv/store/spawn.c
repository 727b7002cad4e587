/* A store for one domain, in a process of its own. */
#include "config.h"

#include "hv/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/store/domain-nodes.h"
#include "hv/store/server.h"

/* Where the connections are in the child, above standard error; the rest is the parent's. */
#define CHILD_FD       3
#define NR_CONNECTIONS 2

static int serve(const struct hv_store_domain *domain, int (*confine)(void))
{
    struct hv_loop *loop;
    struct hv_xs_server *server;
    struct hv_xs xs;

    if (hv_xs_init(&xs) < 0 || hv_xs_write_domain_nodes(&xs, domain) < 0)
        return 1;
    if (hv_loop_new(&loop) < 0 || hv_xs_server_new(loop, &xs, &server) < 0 ||
        hv_xs_server_add(server, CHILD_FD, domain->domid, true) < 0 ||
        hv_xs_server_add(server, CHILD_FD + 1, domain->domid, false) < 0)
        return 1;
    if (confine())
        return 1;
    hv_loop_run(loop);
    hv_xs_server_free(server);
    hv_loop_free(loop);
    hv_xs_fini(&xs);
    return 0;
}

static _Noreturn void child(const struct hv_store_domain *domain, int (*confine)(void),
                            const int fds[NR_CONNECTIONS], pid_t parent)
{
    /* A terminal's Ctrl-C is for the guest's side; this ends when that closes the connection. */
    signal(SIGINT, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    /* Out of the way first: one may be where the other goes. */
    for (int i = 0; i < NR_CONNECTIONS; i++) {
        int fd = fcntl(fds[i], F_DUPFD, CHILD_FD + NR_CONNECTIONS);

        if (fd < 0 || dup2(fd, CHILD_FD + i) < 0)
            _exit(1);
    }
    if (close_range(CHILD_FD + NR_CONNECTIONS, ~0u, 0) < 0)
        _exit(1);
    _exit(serve(domain, confine));
}

static void close_pair(const int pair[2])
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

int hv_store_spawn(const struct hv_store_domain *domain, int (*confine)(void), int connection_fds[2], pid_t *pid)
{
    const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    int guest[2] = {-1, -1}, backend[2] = {-1, -1}, err = 0;
    pid_t parent = getpid();

    if (socketpair(AF_UNIX, type, 0, guest) < 0 || socketpair(AF_UNIX, type, 0, backend) < 0)
        err = -errno;
    *pid = err ? -1 : fork();
    if (!err && *pid < 0)
        err = -errno;
    if (err) {
        close_pair(guest);
        close_pair(backend);
        return err;
    }
    if (*pid == 0)
        child(domain, confine, (const int[]){guest[1], backend[1]}, parent);
    close(guest[1]);
    close(backend[1]);
    connection_fds[0] = guest[0];
    connection_fds[1] = backend[0];
    return 0;
}
