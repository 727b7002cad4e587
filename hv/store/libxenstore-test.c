/* domus-xenstored seen through Xen's own client library: two clients and a domain, conflicts, watches, quotas, clients
 * that misbehave, and a daemon that is stopped or killed. Facts: libxenstore's xenstore.h, docs/misc/xenstore.txt.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xenstore.h>

#include "hv/tap.h"
#include "hv/xen-abi.h"

static char root[] = "/tmp/domus-xs-XXXXXX";
static char socket_path[100], daemon_path[PATH_MAX];
static pid_t daemon_pid;

/* ---- the daemon */

/* The program beside this one's directory. */
static void find_daemon(void)
{
    ssize_t n = readlink("/proc/self/exe", daemon_path, sizeof(daemon_path) - 32);

    if (n < 0)
        abort();
    daemon_path[n] = '\0';
    *strrchr(daemon_path, '/') = '\0';
    strcat(daemon_path, "/../domus-xenstored");
}

/* Starts it in the foreground; gives false if it does not listen within 10 s. */
static bool start_daemon(void)
{
    daemon_pid = fork();
    if (daemon_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left behind when the test dies */
        execl(daemon_path, "domus-xenstored", "--root", root, (char *)NULL);
        _exit(127);
    }
    for (unsigned i = 0; i < 1000; i++) {
        struct xs_handle *h = xs_open(0);

        if (h) {
            xs_close(h);
            return true;
        }
        usleep(10000);
    }
    return false;
}

static int stop_daemon(int signal_number)
{
    int status;

    kill(daemon_pid, signal_number);
    waitpid(daemon_pid, &status, 0);
    return status;
}

static struct xs_handle *must_open(void)
{
    struct xs_handle *h = xs_open(0);

    if (!h)
        abort();
    return h;
}

/* A handle that speaks for a domain. */
static struct xs_handle *open_domain(const char *domid)
{
    struct xs_handle *h = must_open();
    char *reply = xs_control_command(h, "domain-connection", (void *)(uintptr_t)domid, (unsigned)strlen(domid) + 1);

    if (!reply)
        abort();
    free(reply);
    return h;
}

static bool write_text(struct xs_handle *h, xs_transaction_t t, const char *path, const char *value)
{
    return xs_write(h, t, path, value, (unsigned)strlen(value));
}

static bool reads(struct xs_handle *h, xs_transaction_t t, const char *path, const char *value)
{
    char *got = xs_read(h, t, path, NULL);
    bool same = got && !strcmp(got, value);

    free(got);
    return same;
}

/* The next event names that path and token. */
static bool hears(struct xs_handle *h, const char *path, const char *token)
{
    struct pollfd p = {.fd = xs_fileno(h), .events = POLLIN};
    unsigned count;
    char **event;
    bool same;

    if (poll(&p, 1, 5000) != 1 || !(event = xs_read_watch(h, &count)))
        return false;
    same = !strcmp(event[XS_WATCH_PATH], path) && !strcmp(event[XS_WATCH_TOKEN], token);
    free(event);
    return same;
}

/* ---- tests */

static void test_two_clients(void)
{
    struct xs_handle *a = must_open(), *b = must_open();
    xs_transaction_t t;

    TAP_OK(write_text(a, XBT_NULL, "/x/y", "1") && reads(b, XBT_NULL, "/x/y", "1"), "one writes, the other reads");
    t = xs_transaction_start(a);
    TAP_OK(t != XBT_NULL && write_text(a, t, "/x/y", "2") && reads(b, XBT_NULL, "/x/y", "1"),
           "a transaction is not seen from outside");
    TAP_OK(write_text(b, XBT_NULL, "/x/y", "3") && !xs_transaction_end(a, t, false) && errno == EAGAIN &&
               reads(a, XBT_NULL, "/x/y", "3"),
           "a conflict: EAGAIN, and nothing is changed");
    t = xs_transaction_start(a);
    TAP_OK(write_text(a, t, "/x/y", "4") && xs_rm(a, t, "/x/z") && xs_transaction_end(a, t, false) &&
               reads(b, XBT_NULL, "/x/y", "4"),
           "without one it is done");
    TAP_OK(xs_watch(a, "/x", "tok") && hears(a, "/x", "tok") && write_text(b, XBT_NULL, "/x/new", "") &&
               hears(a, "/x/new", "tok") && xs_unwatch(a, "/x", "tok"),
           "a watch");
    TAP_OK(xs_watch(a, "@introduceDomain", "i") && hears(a, "@introduceDomain", "i") &&
               xs_introduce_domain(b, 5, 0xfefff, 1) && hears(a, "@introduceDomain", "i") &&
               xs_is_domain_introduced(a, 5) && !xs_is_domain_introduced(a, 6),
           "a domain is introduced");
    xs_close(a);
    xs_close(b);
}

static void test_large_directory(void)
{
    struct xs_handle *h = must_open();
    char path[64];
    unsigned count = 0;
    char **names;
    bool ok = true;

    for (unsigned i = 0; i < 2000; i++) {
        snprintf(path, sizeof(path), "/large/entry-%05u", i);
        ok &= xs_mkdir(h, XBT_NULL, path);
    }
    names = xs_directory(h, XBT_NULL, "/large", &count);
    TAP_OK(ok && names && count == 2000, "2000 names in one directory (%u)", count);
    free(names);
    TAP_OK(xs_rm(h, XBT_NULL, "/large"), "and away");
    xs_close(h);
}

static void test_domain(void)
{
    static struct xs_permissions perms[] = {{.id = 0, .perms = XS_PERM_NONE}, {.id = 5, .perms = XS_PERM_READ}};
    static struct xs_permissions own = {.id = 5, .perms = XS_PERM_NONE};
    struct xs_handle *dom0 = must_open(), *dom5 = open_domain("5"), *dom6 = open_domain("6");
    char path[64];
    unsigned nodes = 0, watches = 0;

    write_text(dom0, XBT_NULL, "/local/domain/5/name", "guest");
    xs_set_permissions(dom0, XBT_NULL, "/local/domain/5/name", perms, 2);
    xs_mkdir(dom0, XBT_NULL, "/local/domain/5/data");
    xs_set_permissions(dom0, XBT_NULL, "/local/domain/5/data", &own, 1);
    TAP_OK(reads(dom5, XBT_NULL, "name", "guest") && !write_text(dom5, XBT_NULL, "name", "x") && errno == EACCES,
           "a domain reads what it may, and writes nothing else");
    TAP_OK(!reads(dom6, XBT_NULL, "/local/domain/5/name", "guest") && errno == EACCES, "another may not read it");
    TAP_OK(!xs_introduce_domain(dom5, 7, 1, 1) && errno == EACCES, "nor do what is domain 0's");
    for (; nodes < 2000; nodes++) {
        snprintf(path, sizeof(path), "data/%u/%u", nodes / 100, nodes);
        if (!write_text(dom5, XBT_NULL, path, "x"))
            break;
    }
    TAP_OK(nodes > 900 && nodes < 1000 && errno == ENOSPC, "its nodes are limited (%u)", nodes);
    while (watches < 200 && xs_watch(dom5, "data", (snprintf(path, sizeof(path), "%u", watches), path)))
        watches++;
    TAP_OK(watches == 128 && errno == E2BIG, "so are its watches (%u)", watches);
    TAP_OK(xs_release_domain(dom0, 5) && !xs_directory(dom0, XBT_NULL, "/local/domain/5/data", &nodes) &&
               errno == ENOENT,
           "released, what it owned is gone");
    TAP_OK(!reads(dom5, XBT_NULL, "name", "guest"), "and so is its connection");
    xs_close(dom0);
    xs_close(dom5);
    xs_close(dom6);
}

static int raw_connection(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        abort();
    return fd;
}

/* One that floods and never reads, one that sends garbage, one that sends half a message: others are served. */
static void test_bad_clients(void)
{
    struct { struct xsd_sockmsg h; char path[2]; } request = {{.type = XS_DIRECTORY, .len = 2}, "/"};
    int flood = raw_connection(), garbage = raw_connection(), half = raw_connection();
    struct xs_handle *h = must_open();
    size_t sent = 0;
    char byte;

    while (sent < (64u << 20)) {
        ssize_t n = send(flood, &request, 18, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            break;
        sent += (size_t)n;
    }
    TAP_OK(sent < (8u << 20), "a client that does not read is not read from (%zu bytes)", sent);
    if (send(half, &request, 7, MSG_NOSIGNAL) != 7)
        abort();
    for (unsigned i = 0; i < 100 && send(garbage, daemon_path, sizeof(daemon_path), MSG_NOSIGNAL) > 0; i++)
        ;
    TAP_OK(recv(garbage, &byte, 1, 0) <= 0, "a client that sends garbage is closed");
    TAP_OK(write_text(h, XBT_NULL, "/x/y", "5") && reads(h, XBT_NULL, "/x/y", "5"), "others are served");
    xs_close(h);
    close(flood);
    close(garbage);
    close(half);
}

static void test_second_daemon(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        fclose(stderr);
        execl(daemon_path, "domus-xenstored", "--root", root, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    TAP_OK(WIFEXITED(status) && WEXITSTATUS(status) == 1 && waitpid(daemon_pid, &status, WNOHANG) == 0,
           "a second daemon is refused, the first stays");
}

static void test_restart(void)
{
    struct xs_handle *h;
    int status = stop_daemon(SIGTERM);

    TAP_OK(WIFEXITED(status) && WEXITSTATUS(status) == 0 && access(socket_path, F_OK) < 0,
           "SIGTERM: it ends and takes its socket away");
    TAP_OK(start_daemon(), "it starts again");
    h = must_open();
    TAP_OK(reads(h, XBT_NULL, "/x/y", "5"), "the tree is there");
    xs_close(h);
}

/* A writer counts what was acknowledged, in memory that the test shares. */
static void test_kill(void)
{
    unsigned *acknowledged = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char path[64];
    struct xs_handle *h;
    bool all = true;
    pid_t writer = fork();
    int status;

    if (writer == 0) {
        h = must_open();
        for (unsigned i = 0;; i++) {
            snprintf(path, sizeof(path), "/k/%u/%u", i / 100, i);
            if (!write_text(h, XBT_NULL, path, "kept"))
                _exit(0);
            __atomic_store_n(acknowledged, i + 1, __ATOMIC_SEQ_CST);
        }
    }
    while (__atomic_load_n(acknowledged, __ATOMIC_SEQ_CST) < 500)
        usleep(1000);
    stop_daemon(SIGKILL);
    waitpid(writer, &status, 0);
    TAP_OK(start_daemon(), "killed with SIGKILL, it starts again");
    h = must_open();
    for (unsigned i = 0; i < *acknowledged && all; i++) {
        snprintf(path, sizeof(path), "/k/%u/%u", i / 100, i);
        all = reads(h, XBT_NULL, path, "kept");
    }
    TAP_OK(all, "all of %u acknowledged writes are there", *acknowledged);
    TAP_OK(!xs_is_domain_introduced(h, 5) && reads(h, XBT_NULL, "/x/y", "5"), "and all that was before");
    xs_close(h);
    munmap(acknowledged, 4096);
}

int main(void)
{
    char command[256];

    if (!mkdtemp(root))
        return 99;
    snprintf(socket_path, sizeof(socket_path), "%s/run/xenstored/socket", root);
    setenv("XENSTORED_PATH", socket_path, 1);
    signal(SIGPIPE, SIG_IGN);
    find_daemon();
    if (!TAP_OK(start_daemon(), "the daemon starts"))
        return tap_done();
    test_two_clients();
    test_large_directory();
    test_domain();
    test_bad_clients();
    test_second_daemon();
    test_restart();
    test_kill();
    stop_daemon(SIGTERM);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    if (system(command) != 0)
        printf("# %s is left over\n", root);
    return tap_done();
}
