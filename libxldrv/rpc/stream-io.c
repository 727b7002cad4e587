/* stream-io: polls descriptors, and runs file operations on threads. */
#include "config.h"

#include "libxldrv/rpc/stream-io.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/server.h"

/* libvirt's own daemons send no more data in one packet. */
#define CHUNK        262120
#define FILE_THREADS 4

struct _XldrvStreamIo {
    gatomicrefcount refs;
    XldrvMailbox *mailbox;
    GThreadPool *pool; /* for a regular file, else NULL */
    GMainContext *context;
    const XldrvStreamIoFns *fns; /* NULL once closed */
    gpointer user_data;
    int fd;
    gboolean want_read, want_write;

    GSource *source; /* while something is wanted of a pollable descriptor */
    gpointer watch;

    gboolean busy; /* a thread works on the file; the rest of this paragraph is its */
    gboolean job_is_write;
    guint8 *job_data;
    gssize job_size; /* IN: length; OUT: result */
};

static void update(XldrvStreamIo *io);

static void io_unref(XldrvStreamIo *io)
{
    if (!g_atomic_ref_count_dec(&io->refs))
        return;
    close(io->fd);
    xldrv_mailbox_unref(io->mailbox);
    g_main_context_unref(io->context);
    g_free(io);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvStreamIo, io_unref)

static XldrvStreamIo *io_ref(XldrvStreamIo *io)
{
    g_atomic_ref_count_inc(&io->refs);
    return io;
}

static gssize do_read(int fd, guint8 *data, gsize length)
{
    gssize n;
    do
        n = read(fd, data, length);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static gssize do_write(int fd, const guint8 *data, gsize length)
{
    gssize n;
    do
        n = write(fd, data, length);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* ---- pollable descriptors */

static void try_read(XldrvStreamIo *io)
{
    guint8 data[CHUNK];
    gssize n = do_read(io->fd, data, sizeof(data));
    if (n == -EAGAIN)
        return;
    io->want_read = FALSE;
    io->fns->read(io->user_data, data, n);
}

static void try_write(XldrvStreamIo *io)
{
    gsize length;
    const guint8 *data = io->fns->pending(io->user_data, &length);
    gssize n = do_write(io->fd, data, length);
    if (n == -EAGAIN)
        return;
    io->want_write = FALSE;
    io->fns->wrote(io->user_data, n);
}

static gboolean on_ready(int fd G_GNUC_UNUSED, GIOCondition ready, gpointer data)
{
    g_autoptr(XldrvStreamIo) io = io_ref(data);
    gboolean broken = (ready & (G_IO_HUP | G_IO_ERR | G_IO_NVAL)) != 0;

    if (io->want_write && ((ready & G_IO_OUT) || broken))
        try_write(io);
    if (io->fns && io->want_read && ((ready & G_IO_IN) || broken))
        try_read(io);
    if (io->fns)
        update(io);
    return G_SOURCE_CONTINUE;
}

/* A descriptor of which nothing is wanted is not polled at all, since poll would report its hang-up
 * for ever. */
static void update_watch(XldrvStreamIo *io)
{
    GIOCondition want = (io->want_read ? G_IO_IN : 0) | (io->want_write ? G_IO_OUT : 0);

    if (io->source) {
        g_source_destroy(io->source);
        g_clear_pointer(&io->source, g_source_unref);
    }
    if (want == 0 || !io->fns)
        return;
    io->source = g_unix_fd_source_new(io->fd, want);
    g_source_set_callback(io->source, G_SOURCE_FUNC(on_ready), io, NULL);
    g_source_attach(io->source, io->context);
}

/* ---- regular files */

/* Back on the main loop. */
static void file_done(gpointer data)
{
    g_autoptr(XldrvStreamIo) io = data;
    g_autofree guint8 *buffer = g_steal_pointer(&io->job_data);
    gssize n = io->job_size;
    gboolean was_write = io->job_is_write;

    io->busy = FALSE;
    if (!io->fns)
        return;
    if (was_write)
        io->fns->wrote(io->user_data, n);
    else
        io->fns->read(io->user_data, buffer, n);
    if (io->fns)
        update(io);
}

/* On a thread. */
static void run_file(gpointer data, gpointer user_data G_GNUC_UNUSED)
{
    XldrvStreamIo *io = data;
    io->job_size = io->job_is_write ? do_write(io->fd, io->job_data, io->job_size)
                                    : do_read(io->fd, io->job_data, io->job_size);
    xldrv_mailbox_post(io->mailbox, file_done, io);
}

static void start_file(XldrvStreamIo *io)
{
    if (io->busy || !io->fns || !(io->want_read || io->want_write))
        return;
    io->busy = TRUE;
    io->job_is_write = io->want_write;
    if (io->want_write) {
        gsize length;
        const guint8 *pending = io->fns->pending(io->user_data, &length);
        io->want_write = FALSE;
        io->job_size = MIN(length, CHUNK);
        io->job_data = g_memdup2(pending, io->job_size);
    } else {
        io->want_read = FALSE;
        io->job_size = CHUNK;
        io->job_data = g_malloc(CHUNK);
    }
    g_thread_pool_push(io->pool, io_ref(io), NULL);
}

/* ---- both */

static void update(XldrvStreamIo *io)
{
    if (io->pool)
        start_file(io);
    else
        update_watch(io);
}

static GThreadPool *file_pool(XldrvServer *server)
{
    if (!server->file_pool)
        server->file_pool = g_thread_pool_new(run_file, NULL, FILE_THREADS, FALSE, NULL);
    return server->file_pool;
}

XldrvStreamIo *xldrv_stream_io_new(XldrvServer *server, int fd, const XldrvStreamIoFns *fns,
                                   gpointer user_data)
{
    XldrvStreamIo *io = g_new0(XldrvStreamIo, 1);
    struct stat st;

    g_atomic_ref_count_init(&io->refs);
    io->mailbox = xldrv_mailbox_ref(server->mailbox);
    io->context = g_main_context_ref(server->context);
    io->fns = fns;
    io->user_data = user_data;
    io->fd = fd;
    if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
        io->pool = file_pool(server);
    else
        g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    return io;
}

void xldrv_stream_io_close(XldrvStreamIo *io)
{
    io->fns = NULL;
    update_watch(io);
    io_unref(io);
}

void xldrv_stream_io_want_read(XldrvStreamIo *io)
{
    io->want_read = TRUE;
    update(io);
}

void xldrv_stream_io_want_write(XldrvStreamIo *io)
{
    io->want_write = TRUE;
    update(io);
}
