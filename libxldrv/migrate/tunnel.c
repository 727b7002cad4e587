/* Migration through the connection to the destination: the steps of protocol 3, and what the guest's hypervisors say to
 * each other, between our daemon's socket and a stream of libvirt's.
 *
 * The steps are libvirt's interface between its daemons. It exports them to whoever asks for them by name, but they are in no
 * public header, as is what they take here.
 * Source: the names' signatures, libvirt 9.0 src/libvirt_internal.h; unchanged since 1.1.
 */
#include "config.h"

#include "libxldrv/migrate/tunnel.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE_BYTES 65536 /* libvirt's own are at most 256 KiB */
#define NOT_NOW     (-2)  /* of virStreamRecv */

typedef struct {
    char *bytes;
    int length;
} Cookie;

typedef struct {
    char *(*begin)(virDomainPtr domain, virTypedParameterPtr params, int n, char **cookie_out, int *out_length, unsigned int flags);
    int (*prepare)(virConnectPtr connection, virStreamPtr stream, virTypedParameterPtr params, int n, const char *cookie_in,
                   int in_length, char **cookie_out, int *out_length, unsigned int flags);
    int (*perform)(virDomainPtr domain, const char *uri, virTypedParameterPtr params, int n, const char *cookie_in,
                   int in_length, char **cookie_out, int *out_length, unsigned int flags);
    virDomainPtr (*finish)(virConnectPtr connection, virTypedParameterPtr params, int n, const char *cookie_in, int in_length,
                           char **cookie_out, int *out_length, unsigned int flags, int cancelled);
    int (*confirm)(virDomainPtr domain, virTypedParameterPtr params, int n, const char *cookie_in, int in_length,
                   unsigned int flags, int cancelled);
} Steps;

static const struct {
    const char *name;
    gsize offset;
} step_names[] = {
    {"virDomainMigrateBegin3Params", G_STRUCT_OFFSET(Steps, begin)},
    {"virDomainMigratePrepareTunnel3Params", G_STRUCT_OFFSET(Steps, prepare)},
    {"virDomainMigratePerform3Params", G_STRUCT_OFFSET(Steps, perform)},
    {"virDomainMigrateFinish3Params", G_STRUCT_OFFSET(Steps, finish)},
    {"virDomainMigrateConfirm3Params", G_STRUCT_OFFSET(Steps, confirm)},
};

/* The missing one, or NULL. */
static const char *find_steps(Steps *steps)
{
    for (gsize i = 0; i < G_N_ELEMENTS(step_names); i++) {
        void *step = dlsym(RTLD_DEFAULT, step_names[i].name);

        if (!step)
            return step_names[i].name;
        *(void **)((char *)steps + step_names[i].offset) = step;
    }
    return NULL;
}

/* ---- the stream: on the thread of events, and nobody else uses its connection meanwhile (libvirt 9 may not wake the thread that
 * another one has left the socket to) */

typedef struct {
    int fd, watch;
    virStreamPtr stream;
} Pump;

/* It waits here as long as the destination takes nothing. */
static gboolean pass_on(virStreamPtr stream, const char *bytes, ssize_t n)
{
    for (ssize_t done = 0, sent; done < n; done += sent) {
        sent = virStreamSend(stream, bytes + done, (size_t)(n - done));
        if (sent <= 0)
            return FALSE;
    }
    return TRUE;
}

/* What the source sends. */
static void move_there(int watch, int fd, int events G_GNUC_UNUSED, void *data)
{
    const Pump *pump = data;
    char bytes[PIECE_BYTES];
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && pass_on(pump->stream, bytes, n))
        return;
    virEventRemoveHandle(watch);
    shutdown(fd, SHUT_RDWR);
}

/* What its receiver says to that, which is little. */
static gboolean give_back(int fd, const char *bytes, ssize_t n)
{
    for (ssize_t done = 0, sent; done < n; done += MAX(sent, 0)) {
        sent = send(fd, bytes + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return FALSE;
    }
    return TRUE;
}

static void move_back(virStreamPtr stream, int events G_GNUC_UNUSED, void *data)
{
    const Pump *pump = data;
    char bytes[PIECE_BYTES];
    int n;

    do
        n = virStreamRecv(stream, bytes, sizeof(bytes));
    while (n > 0 && give_back(pump->fd, bytes, n));
    if (n == NOT_NOW)
        return;
    virStreamEventRemoveCallback(stream);
    shutdown(pump->fd, SHUT_RDWR);
}

/* It ends with either end, or with the process. */
static gboolean start_pump(Pump *pump)
{
    pump->watch = virEventAddHandle(pump->fd, VIR_EVENT_HANDLE_READABLE, move_there, pump, NULL);
    return pump->watch >= 0 &&
           virStreamEventAddCallback(pump->stream, VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP,
                                     move_back, pump, NULL) == 0;
}

/* ---- the steps */

static void replace(Cookie *cookie, Cookie next)
{
    free(cookie->bytes);
    *cookie = next;
}

/* The destination is told what comes, and by which name it is asked for at the end. */
static gboolean describe(MigrateTunnel *t, const char *xml)
{
    static const char *const given[] = {VIR_MIGRATE_PARAM_DEST_XML, VIR_MIGRATE_PARAM_URI};
    const char *name = NULL;
    int kept = 0;

    for (int i = 0; i < t->n; i++) {
        gboolean drop = FALSE;

        for (gsize k = 0; k < G_N_ELEMENTS(given); k++)
            drop |= g_str_equal(t->params[i].field, given[k]);
        if (drop)
            virTypedParamsClear(&t->params[i], 1);
        else
            t->params[kept++] = t->params[i];
    }
    t->n = kept;
    if (virTypedParamsGetString(t->params, t->n, VIR_MIGRATE_PARAM_DEST_NAME, &name) < 0)
        return FALSE;
    return (name || virTypedParamsAddString(&t->params, &t->n, &t->room, VIR_MIGRATE_PARAM_DEST_NAME,
                                            virDomainGetName(t->domain)) == 0) &&
           virTypedParamsAddString(&t->params, &t->n, &t->room, VIR_MIGRATE_PARAM_DEST_XML, xml) == 0;
}

static gboolean prepare(const Steps *steps, MigrateTunnel *t, virStreamPtr stream, Cookie *cookie)
{
    Cookie begun = {0}, prepared = {0};
    char *xml = steps->begin(t->domain, t->params, t->n, &begun.bytes, &begun.length, t->flags);
    gboolean ok = xml && describe(t, xml) &&
                  steps->prepare(t->through, stream, t->params, t->n, begun.bytes, begun.length, &prepared.bytes,
                                 &prepared.length, t->flags) == 0;

    free(xml);
    free(begun.bytes);
    *cookie = prepared;
    return ok;
}

/* From here on both sides are told how it ends. */
static const virError *send_it(const Steps *steps, MigrateTunnel *t, Cookie *cookie)
{
    Cookie next = {0};
    int failed = steps->perform(t->domain, NULL, t->params, t->n, cookie->bytes, cookie->length, &next.bytes, &next.length,
                                t->flags);
    virErrorPtr why = failed ? virSaveLastError() : NULL;
    virDomainPtr moved;

    replace(cookie, next);
    next = (Cookie){0};
    moved = steps->finish(t->destination, t->params, t->n, cookie->bytes, cookie->length, &next.bytes, &next.length, t->flags,
                          failed != 0);
    if (!moved && !why)
        why = virSaveLastError();
    replace(cookie, next);
    if (steps->confirm(t->domain, t->params, t->n, cookie->bytes, cookie->length, t->flags, !moved) < 0 && !why)
        why = virSaveLastError();
    if (moved)
        virDomainFree(moved);
    return why;
}

const virError *migrate_tunnelled(MigrateTunnel *t)
{
    static Pump pump; /* events use it until the process has ended */
    Cookie cookie = {0};
    Steps steps = {0};
    const char *missing = find_steps(&steps);
    const virError *why = NULL;

    if (missing) {
        static char text[] = "tunnelled migration is not supported: libvirt's library here has no interface for it";
        static const virError error = {.code = VIR_ERR_OPERATION_UNSUPPORTED, .domain = VIR_FROM_LIBXL, .message = text};

        return &error;
    }
    pump = (Pump){.fd = t->fd, .stream = virStreamNew(t->through, VIR_STREAM_NONBLOCK)};
    if (pump.stream && prepare(&steps, t, pump.stream, &cookie) && start_pump(&pump))
        why = send_it(&steps, t, &cookie);
    else
        why = virSaveLastError();
    free(cookie.bytes);
    return why;
}
