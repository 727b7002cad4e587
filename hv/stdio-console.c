/* Standard input and output as a console. A thread of its own: a terminal that takes nothing (Ctrl-S) blocks
 * only this.
 */
#include "config.h"

#include "hv/stdio-console.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#define QUIT_KEY 0x1d /* Ctrl-] */

struct hv_stdio {
    int fd;
    bool input_open; /* the thread's */
    bool raw;
    struct termios before;
    void (*quit)(void *opaque);
    void *opaque;
    pthread_t thread;
};

static bool write_all(int fd, const char *bytes, size_t count)
{
    while (count) {
        ssize_t done = write(fd, bytes, count);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        bytes += done;
        count -= (size_t)done;
    }
    return true;
}

/* False when the console's end is closed and all of it has been read. */
static bool carry_out(struct hv_stdio *stdio)
{
    char bytes[4096];
    ssize_t got = read(stdio->fd, bytes, sizeof(bytes));

    if (got < 0 && errno == EINTR)
        return true;
    if (got <= 0)
        return false;
    (void)write_all(STDOUT_FILENO, bytes, (size_t)got); /* nobody to tell that nobody listens */
    return true;
}

static void carry_in(struct hv_stdio *stdio)
{
    char bytes[256];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof(bytes));
    char *key;

    if (got < 0 && errno == EINTR)
        return;
    if (got <= 0) {
        stdio->input_open = false;
        return;
    }
    key = stdio->raw ? memchr(bytes, QUIT_KEY, (size_t)got) : NULL;
    if (key)
        stdio->quit(stdio->opaque);
    if (!write_all(stdio->fd, bytes, key ? (size_t)(key - bytes) : (size_t)got))
        stdio->input_open = false;
}

static void *carry(void *opaque)
{
    struct hv_stdio *stdio = opaque;

    for (;;) {
        struct pollfd fds[2] = {
            {.fd = stdio->fd, .events = POLLIN},
            {.fd = stdio->input_open ? STDIN_FILENO : -1, .events = POLLIN},
        };

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (fds[0].revents && !carry_out(stdio))
            return NULL;
        if (fds[1].revents)
            carry_in(stdio);
    }
}

static void make_raw(struct hv_stdio *stdio)
{
    struct termios raw;

    if (tcgetattr(STDIN_FILENO, &stdio->before))
        return;
    raw = stdio->before;
    cfmakeraw(&raw);
    stdio->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static void restore(struct hv_stdio *stdio)
{
    if (stdio->raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &stdio->before);
}

static int start_thread(struct hv_stdio *stdio)
{
    sigset_t all, old;
    int error;

    sigfillset(&all); /* signals are the main thread's, but for the sandbox's own */
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = -pthread_create(&stdio->thread, NULL, carry, stdio);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}

int hv_stdio_new(void (*quit)(void *opaque), void *opaque, int *console_fd, struct hv_stdio **out)
{
    struct hv_stdio *stdio = calloc(1, sizeof(*stdio));
    int ends[2], error;

    if (!stdio)
        return -ENOMEM;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        error = -errno;
        free(stdio);
        return error;
    }
    stdio->fd = ends[0];
    stdio->quit = quit;
    stdio->opaque = opaque;
    stdio->input_open = true;
    make_raw(stdio);
    error = start_thread(stdio);
    if (error) {
        restore(stdio);
        close(ends[0]);
        close(ends[1]);
        free(stdio);
        return error;
    }
    *console_fd = ends[1];
    *out = stdio;
    return 0;
}

void hv_stdio_free(struct hv_stdio *stdio)
{
    if (!stdio)
        return;
    pthread_join(stdio->thread, NULL);
    restore(stdio);
    close(stdio->fd);
    free(stdio);
}
