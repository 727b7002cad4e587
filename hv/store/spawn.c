/* A store for one domain, in a process of its own. */
#include "config.h"

#include "hv/store/store.h"

#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/store/domain-nodes.h"
#include "hv/store/server.h"

/* Where the connection is in the child, above standard error; the rest is the parent's. */
#define CHILD_FD 3

static int serve(const struct hv_store_domain *domain)
{
    struct hv_loop *loop;
    struct hv_xs_server *server;
    struct hv_xs xs;

    if (hv_xs_init(&xs) < 0 || hv_xs_write_domain_nodes(&xs, domain) < 0)
        return 1;
    if (hv_loop_new(&loop) < 0 || hv_xs_server_new(loop, &xs, &server) < 0 ||
        hv_xs_server_add(server, CHILD_FD, domain->domid, true) < 0)
        return 1;
    hv_loop_run(loop);
    hv_xs_server_free(server);
    hv_loop_free(loop);
    hv_xs_fini(&xs);
    return 0;
}

static _Noreturn void child(const struct hv_store_domain *domain, int fd, pid_t parent)
{
    /* A terminal's Ctrl-C is for the guest's side; this ends when that closes the connection. */
    signal(SIGINT, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    if (fd != CHILD_FD && dup3(fd, CHILD_FD, 0) < 0)
        _exit(1);
    if (close_range(CHILD_FD + 1, ~0u, 0) < 0)
        _exit(1);
    _exit(serve(domain));
}

int hv_store_spawn(const struct hv_store_domain *domain, int *connection_fd, pid_t *pid)
{
    pid_t parent = getpid();
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return -errno;
    *pid = fork();
    if (*pid < 0) {
        int err = errno;

        close(ends[0]);
        close(ends[1]);
        return -err;
    }
    if (*pid == 0)
        child(domain, ends[1], parent);
    close(ends[1]);
    *connection_fd = ends[0];
    return 0;
}
