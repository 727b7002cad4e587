/* domus-xenstored: the store of one host.
 *
 * Clients reach it at DIR/run/xenstored/socket in Xen's wire protocol, so Xen's own tools and libxenstore work on
 * it. The toolstack makes the connections of the domains (XS_CONTROL "domain-connection") and hands them over. The
 * store itself is core.h and the files named there; here are options, the socket and the process.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hv/log.h"
#include "hv/store/journal.h"
#include "hv/store/server.h"

struct options {
    const char *root;
    char *socket, *state, *pid_file;
    bool daemon;
};

struct option_row {
    const char *name;
    int letter;
    const char *argument;
    const char *help;
};

static const struct option_row option_rows[] = {
    {"root", 'r', "DIR", "put every path below DIR"},
    {"socket", 's', "PATH", "listen at PATH (default: DIR/run/xenstored/socket)"},
    {"state", 'S', "FILE", "keep the tree in FILE (default: DIR/run/xenstored/state)"},
    {"pid-file", 'p', "FILE", "write the process number to FILE"},
    {"daemon", 'd', NULL, "go to the background once the socket is there"},
    {"version", 'V', NULL, "print the version"},
    {"help", 'h', NULL, "print this"},
};

static void print_usage(void)
{
    printf("Usage: domus-xenstored [OPTION]...\nServes the store of this host to Xen's tools and guests.\n\n");
    for (size_t i = 0; i < HV_ARRAY_LEN(option_rows); i++) {
        const struct option_row *row = &option_rows[i];
        char name[32];

        snprintf(name, sizeof(name), "%s%s%s", row->name, row->argument ? " " : "", row->argument ? row->argument : "");
        printf("  -%c, --%-16s %s\n", row->letter, name, row->help);
    }
}

static char *must_copy(const char *text)
{
    char *copy = strdup(text);

    if (!copy) {
        fprintf(stderr, "domus-xenstored: out of memory\n");
        exit(1);
    }
    return copy;
}

static char *below(const char *root, const char *path)
{
    char *full;

    if (asprintf(&full, "%s%s", root, path) < 0) {
        fprintf(stderr, "domus-xenstored: out of memory\n");
        exit(1);
    }
    return full;
}

/* Fills @o, or exits. */
static void parse_options(int argc, char **argv, struct options *o)
{
    struct option longopts[HV_ARRAY_LEN(option_rows) + 1] = {0};
    char letters[HV_ARRAY_LEN(option_rows) * 2 + 1], *l = letters;
    int c;

    for (size_t i = 0; i < HV_ARRAY_LEN(option_rows); i++) {
        const struct option_row *row = &option_rows[i];

        longopts[i] = (struct option){row->name, row->argument ? required_argument : no_argument, NULL, row->letter};
        *l++ = (char)row->letter;
        if (row->argument)
            *l++ = ':';
    }
    *l = '\0';
    *o = (struct options){.root = ""};
    while ((c = getopt_long(argc, argv, letters, longopts, NULL)) != -1) {
        switch (c) {
        case 'r': o->root = optarg; break;
        case 's': o->socket = must_copy(optarg); break;
        case 'S': o->state = must_copy(optarg); break;
        case 'p': o->pid_file = must_copy(optarg); break;
        case 'd': o->daemon = true; break;
        case 'V': printf("domus-xenstored %s\n", DOMUS_VERSION); exit(0);
        case 'h': print_usage(); exit(0);
        default: fprintf(stderr, "Try 'domus-xenstored --help'.\n"); exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "domus-xenstored: unexpected argument '%s'\n", argv[optind]);
        exit(2);
    }
    if (!o->socket)
        o->socket = below(o->root, "/run/xenstored/socket");
    if (!o->state)
        o->state = below(o->root, "/run/xenstored/state");
}

/* Makes the directories above @path. 0 or negative errno. */
static int make_parents(const char *path)
{
    char *copy = strdup(path);
    int err = copy ? 0 : -ENOMEM;

    for (char *slash = copy ? strchr(copy + 1, '/') : NULL; slash && !err; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
            err = -errno;
        *slash = '/';
    }
    free(copy);
    return err;
}

/* Only one process may serve a socket; the lock goes with the process. Gives the descriptor to keep. */
static int take_lock(const char *socket_path)
{
    char *path;
    int fd, err = 0;

    if (asprintf(&path, "%s.lock", socket_path) < 0)
        return -ENOMEM;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        err = -errno;
    else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        err = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
    if (err && fd >= 0)
        close(fd);
    free(path);
    return err ? err : fd;
}

/* With the lock held, a socket that is there is a dead one's. */
static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int fd, rc;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(path);
    mask = umask(0177);
    rc = bind(fd, (struct sockaddr *)&address, sizeof(address));
    umask(mask);
    if (rc < 0 || listen(fd, SOMAXCONN) < 0) {
        int err = -errno;

        close(fd);
        return err;
    }
    return fd;
}

static int write_pid_file(const char *path)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return -errno;
    fprintf(f, "%d\n", (int)getpid());
    return fclose(f) == 0 ? 0 : -errno;
}

/* Tells the service manager, if one asked to be told (systemd's protocol). */
static void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = path ? strlen(path) : 0;
    int fd;

    if (length == 0 || length >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
        hv_log(HV_LOG_WARNING, "store: the service manager cannot be told: %s", strerror(errno));
    close(fd);
}

/* The parent waits for a byte on the pipe, then exits; the child goes on. Gives the child's end. */
static int go_to_background(void)
{
    int ends[2];
    pid_t pid;
    char byte;

    if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        return -errno;
    if (pid > 0) {
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
    }
    close(ends[0]);
    setsid();
    return ends[1];
}

/* The parent may go. Messages still go where standard error went. */
static void background_ready(int fd)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        close(null);
    }
    if (write(fd, "", 1) < 0)
        hv_log(HV_LOG_WARNING, "store: the starting process cannot be told: %s", strerror(errno));
    close(fd);
    if (chdir("/") < 0)
        hv_log(HV_LOG_WARNING, "store: cannot change to the root directory: %s", strerror(errno));
}

static void on_signal(void *opaque, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    hv_loop_quit(opaque);
}

static int watch_signals(struct hv_loop *loop)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 && hv_loop_add_fd(loop, fd, EPOLLIN, on_signal, loop) ? 0 : -ENOMEM;
}

/* One descriptor per domain and client. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int failed(const char *path, const char *what, int err)
{
    fprintf(stderr, "domus-xenstored: %s: %s: %s\n", path, what, strerror(-err));
    return err;
}

static int open_store(const struct options *o, struct hv_xs *xs)
{
    int err = make_parents(o->state);

    if (!err)
        err = hv_xs_init_empty(xs);
    if (err)
        return failed(o->state, "cannot be prepared", err);
    err = hv_xs_journal_open(xs, o->state);
    if (err == -EINVAL)
        failed(o->state, "is not a store's state file", err);
    else if (err)
        failed(o->state, "cannot be read", err);
    if (!err && (err = hv_xs_add_roots(xs)) < 0)
        failed(o->state, "cannot be written", err);
    if (err) {
        hv_xs_journal_close(xs);
        hv_xs_fini(xs);
    }
    return err;
}

static int serve(const struct options *o, struct hv_xs *xs, int ready_fd)
{
    struct hv_loop *loop = NULL;
    struct hv_xs_server *server = NULL;
    int fd = -1, err = hv_loop_new(&loop);

    if (!err)
        err = watch_signals(loop);
    if (!err)
        err = hv_xs_server_new(loop, xs, &server);
    if (!err && (fd = listen_at(o->socket)) < 0)
        err = failed(o->socket, "cannot listen", fd);
    if (!err)
        err = hv_xs_server_listen(server, fd);
    if (!err && o->pid_file && (err = write_pid_file(o->pid_file)) < 0)
        failed(o->pid_file, "cannot be written", err);
    if (!err) {
        notify_ready();
        if (ready_fd >= 0)
            background_ready(ready_fd);
        hv_loop_run(loop);
        unlink(o->socket);
        if (o->pid_file)
            unlink(o->pid_file);
    }
    hv_xs_server_free(server);
    hv_loop_free(loop);
    return err;
}

/* Relative names would change their meaning when a daemon changes its directory. */
static void make_absolute(char **path)
{
    char *cwd, *full;

    if (!*path || **path == '/')
        return;
    cwd = getcwd(NULL, 0);
    if (!cwd || asprintf(&full, "%s/%s", cwd, *path) < 0) {
        fprintf(stderr, "domus-xenstored: %s: %s\n", *path, strerror(errno));
        exit(1);
    }
    free(cwd);
    free(*path);
    *path = full;
}

static int run(const struct options *o)
{
    struct hv_xs xs;
    int lock_fd, ready_fd = -1, err;

    if (o->daemon && (ready_fd = go_to_background()) < 0)
        return failed("--daemon", "cannot start", ready_fd);
    if ((err = make_parents(o->socket)) < 0)
        return failed(o->socket, "its directory cannot be made", err);
    if ((lock_fd = take_lock(o->socket)) < 0)
        return failed(o->socket, lock_fd == -EADDRINUSE ? "another domus-xenstored serves it" : "cannot be locked",
                      lock_fd);
    err = open_store(o, &xs);
    if (!err) {
        err = serve(o, &xs, ready_fd);
        hv_xs_journal_close(&xs);
        hv_xs_fini(&xs);
    }
    close(lock_fd);
    return err;
}

int main(int argc, char **argv)
{
    struct options o;
    int err;

    parse_options(argc, argv, &o);
    make_absolute(&o.socket);
    make_absolute(&o.state);
    make_absolute(&o.pid_file);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    err = run(&o);
    free(o.socket);
    free(o.state);
    free(o.pid_file);
    return err ? 1 : 0;
}
