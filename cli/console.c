/* console: the terminal here, joined to the console of a domain.
 *
 * libvirt's event loop turns in the main thread until the session is over: the escape character was
 * typed, input ended, or the stream did. Each way has one buffer; a way is read only while its
 * buffer has room and written only while it has something, so a slow side holds the other up
 * instead of losing anything. */
#include "config.h"

#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* Set by a signal: the terminal must be given back before domsh goes. */
static volatile sig_atomic_t interrupted;

typedef struct {
    char data[4096];
    gsize used;
} Buffer;

typedef struct {
    virStreamPtr stream;
    int in_watch, out_watch;
    Buffer to_guest, to_terminal;
    char escape;
    gboolean input_ended; /* what is in to_guest is still to be sent */
    gboolean done;
    char *problem; /* why it ended, where that is an error */
} Console;

static void consume(Buffer *buffer, gsize n)
{
    memmove(buffer->data, buffer->data + n, buffer->used - n);
    buffer->used -= n;
}

static void end_session(Console *console, const char *problem)
{
    if (!console->problem)
        console->problem = g_strdup(problem);
    console->done = TRUE;
}

static void fail_stream(Console *console)
{
    end_session(console, virGetLastErrorMessage());
    virResetLastError();
}

static void update_events(Console *console)
{
    int stream_events = 0;

    if (console->to_terminal.used < sizeof(console->to_terminal.data))
        stream_events |= VIR_STREAM_EVENT_READABLE;
    if (console->to_guest.used)
        stream_events |= VIR_STREAM_EVENT_WRITABLE;
    virStreamEventUpdateCallback(console->stream, stream_events);
    if (console->in_watch >= 0)
        virEventUpdateHandle(console->in_watch,
                             console->to_guest.used < sizeof(console->to_guest.data)
                                 ? VIR_EVENT_HANDLE_READABLE
                                 : 0);
    virEventUpdateHandle(console->out_watch,
                         console->to_terminal.used ? VIR_EVENT_HANDLE_WRITABLE : 0);
    if (console->input_ended && !console->to_guest.used)
        console->done = TRUE;
}

static void receive(Console *console)
{
    Buffer *buffer = &console->to_terminal;
    gsize room = sizeof(buffer->data) - buffer->used;
    int n = room ? virStreamRecv(console->stream, buffer->data + buffer->used, room) : -2;

    if (n == -2)
        return; /* nothing there now */
    if (n < 0)
        fail_stream(console);
    else if (n == 0)
        console->done = TRUE;
    else
        buffer->used += (gsize)n;
}

static void send_input(Console *console)
{
    Buffer *buffer = &console->to_guest;
    int n = buffer->used ? virStreamSend(console->stream, buffer->data, buffer->used) : -2;

    if (n == -1)
        fail_stream(console);
    else if (n > 0)
        consume(buffer, (gsize)n);
}

static void on_stream(virStreamPtr stream G_GNUC_UNUSED, int events, void *opaque)
{
    Console *console = opaque;

    if (console->done)
        return;
    if (events & VIR_STREAM_EVENT_READABLE)
        receive(console);
    if (!console->done && (events & VIR_STREAM_EVENT_WRITABLE))
        send_input(console);
    if (events & (VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP))
        console->done = TRUE;
    update_events(console);
}

static void end_input(Console *console)
{
    virEventRemoveHandle(console->in_watch);
    console->in_watch = -1;
    console->input_ended = TRUE;
}

static void on_input(int watch G_GNUC_UNUSED, int fd, int events G_GNUC_UNUSED, void *opaque)
{
    Console *console = opaque;
    Buffer *buffer = &console->to_guest;
    gsize room = sizeof(buffer->data) - buffer->used;

    if (console->done || !room)
        return;
    ssize_t n = read(fd, buffer->data + buffer->used, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end_input(console);
    } else {
        char *escape = memchr(buffer->data + buffer->used, console->escape, (size_t)n);
        buffer->used = escape ? (gsize)(escape - buffer->data) : buffer->used + (gsize)n;
        if (escape)
            end_input(console);
    }
    update_events(console);
}

static void on_output(int watch G_GNUC_UNUSED, int fd, int events, void *opaque)
{
    Console *console = opaque;
    ssize_t n = console->to_terminal.used
                    ? write(fd, console->to_terminal.data, console->to_terminal.used)
                    : 0;

    if (n > 0)
        consume(&console->to_terminal, (gsize)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        end_session(console, g_strerror(errno));
    else if (events & (VIR_EVENT_HANDLE_ERROR | VIR_EVENT_HANDLE_HANGUP))
        end_session(console, "standard output was closed");
    update_events(console);
}

/* What the domain said last, before the session ended. */
static void drain(const Buffer *buffer)
{
    fwrite(buffer->data, 1, buffer->used, stdout);
    fflush(stdout);
}

static gboolean run_session(Console *console)
{
    console->in_watch =
        virEventAddHandle(STDIN_FILENO, VIR_EVENT_HANDLE_READABLE, on_input, console, NULL);
    console->out_watch = virEventAddHandle(STDOUT_FILENO, 0, on_output, console, NULL);
    gboolean ok = console->in_watch >= 0 && console->out_watch >= 0 &&
                  virStreamEventAddCallback(console->stream, VIR_STREAM_EVENT_READABLE, on_stream,
                                            console, NULL) == 0;

    while (ok && !console->done && !interrupted)
        ok = virEventRunDefaultImpl() == 0;
    if (!ok)
        fail_stream(console);
    virStreamEventRemoveCallback(console->stream);
    if (console->in_watch >= 0)
        virEventRemoveHandle(console->in_watch);
    if (console->out_watch >= 0)
        virEventRemoveHandle(console->out_watch);
    drain(&console->to_terminal);
    return console->problem == NULL;
}

/* Raw: every key goes to the guest, and what the guest prints goes out as it is. */
static gboolean make_raw(struct termios *saved)
{
    struct termios raw;

    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, saved) < 0)
        return FALSE;
    raw = *saved;
    cfmakeraw(&raw);
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0;
}

static void on_signal(int number G_GNUC_UNUSED)
{
    interrupted = 1;
}

static const struct {
    int number;
    void (*handler)(int number);
} caught_signals[] = {
    {SIGINT, on_signal},  {SIGTERM, on_signal}, {SIGHUP, on_signal},
    {SIGQUIT, on_signal}, {SIGPIPE, SIG_IGN},
};

/* No SA_RESTART: the event loop is to return. */
static void catch_signals(struct sigaction *saved)
{
    interrupted = 0;
    for (guint i = 0; i < G_N_ELEMENTS(caught_signals); i++) {
        struct sigaction action = {.sa_handler = caught_signals[i].handler};
        sigemptyset(&action.sa_mask);
        sigaction(caught_signals[i].number, &action, &saved[i]);
    }
}

static void restore_signals(const struct sigaction *saved)
{
    for (guint i = 0; i < G_N_ELEMENTS(caught_signals); i++)
        sigaction(caught_signals[i].number, &saved[i], NULL);
}

static gboolean join_terminal(virStreamPtr stream, char escape, GError **error)
{
    Console console = {.stream = stream, .in_watch = -1, .out_watch = -1, .escape = escape};
    struct sigaction actions[G_N_ELEMENTS(caught_signals)];
    struct termios saved;

    catch_signals(actions);
    gboolean raw = make_raw(&saved);
    gboolean ok = run_session(&console);
    if (raw)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
    restore_signals(actions);
    if (!ok)
        cli_fail(error, "the console session ended: %s", console.problem);
    else if (interrupted)
        ok = cli_fail(error, "interrupted by a signal");
    g_free(console.problem);
    return ok;
}

gboolean cli_console(Cli *cli, virDomainPtr domain, const char *device, guint flags, GError **error)
{
    const char *name = virDomainGetName(domain);
    virStreamPtr stream = virStreamNew(cli->conn, VIR_STREAM_NONBLOCK);
    gboolean ok;

    if (!stream)
        return cli_fail_libvirt(error, "Failed to make a stream");
    if (virDomainOpenConsole(domain, device, stream, flags) < 0) {
        ok = cli_fail_libvirt(error, "Failed to open the console of domain '%s'", name);
    } else {
        cli_print_extra(cli, "Connected to domain '%s'\nEscape character is ^%c (Ctrl + %c)\n",
                        name, cli->escape + 0x40, cli->escape + 0x40);
        fflush(stdout);
        ok = join_terminal(stream, cli->escape, error);
        virStreamAbort(stream);
        virResetLastError();
    }
    virStreamFree(stream);
    return ok;
}

gboolean cli_cmd_console(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_ANY, error);
    guint flags = 0;

    if (!domain)
        return FALSE;
    if (cli_args_flag(args, "force"))
        flags |= VIR_DOMAIN_CONSOLE_FORCE;
    if (cli_args_flag(args, "safe"))
        flags |= VIR_DOMAIN_CONSOLE_SAFE;
    if (virDomainIsActive(domain) == 0)
        return cli_fail(error, "The domain is not running");
    return cli_console(cli, domain, cli_args_string(args, "devname"), flags, error);
}
