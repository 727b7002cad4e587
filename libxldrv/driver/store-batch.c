/* Many requests to the store at once: all are sent before the first reply is waited for. The store answers in order. */
#include "config.h"

#include "libxldrv/driver/store-batch.h"

#include <errno.h> /* before xs_wire.h, which has names of errors where there are errors */
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/xen-abi.h"

#define TRIES      100 /* of a transaction */
#define TIMEOUT_MS 15000
#define READ_BYTES 65536

struct _XldrvStoreBatch {
    int fd;
    guint32 transaction;
    GByteArray *out; /* requests, of which so much was sent */
    gsize sent;
    guint n_requests;
    GByteArray *in; /* what came and is not a whole reply yet */
    guint64 n_events;
};

XldrvStoreBatch *xldrv_store_batch_new(int fd)
{
    XldrvStoreBatch *batch = g_new0(XldrvStoreBatch, 1);

    batch->fd = fd;
    batch->out = g_byte_array_new();
    batch->in = g_byte_array_new();
    return batch;
}

void xldrv_store_batch_free(XldrvStoreBatch *batch)
{
    if (!batch)
        return;
    close(batch->fd);
    g_byte_array_unref(batch->out);
    g_byte_array_unref(batch->in);
    g_free(batch);
}

/* ---- requests */

static void add(XldrvStoreBatch *batch, enum xsd_sockmsg_type type, const char *path, const void *more, gsize bytes)
{
    gsize path_bytes = strlen(path) + 1;
    const struct xsd_sockmsg head = {
        .type = type,
        .req_id = batch->n_requests++,
        .tx_id = batch->transaction,
        .len = (guint32)(path_bytes + bytes),
    };

    g_byte_array_append(batch->out, (const guint8 *)&head, sizeof(head));
    g_byte_array_append(batch->out, (const guint8 *)path, (guint)path_bytes);
    if (bytes)
        g_byte_array_append(batch->out, more, (guint)bytes);
}

void xldrv_store_batch_write(XldrvStoreBatch *batch, const char *path, const void *value, gsize bytes)
{
    add(batch, XS_WRITE, path, value, bytes);
}

void xldrv_store_batch_remove(XldrvStoreBatch *batch, const char *path)
{
    add(batch, XS_RM, path, NULL, 0);
}

void xldrv_store_batch_read(XldrvStoreBatch *batch, const char *path)
{
    add(batch, XS_READ, path, NULL, 0);
}

void xldrv_store_batch_get_permissions(XldrvStoreBatch *batch, const char *path)
{
    add(batch, XS_GET_PERMS, path, NULL, 0);
}

void xldrv_store_batch_directory(XldrvStoreBatch *batch, const char *path)
{
    add(batch, XS_DIRECTORY, path, NULL, 0);
}

void xldrv_store_batch_watch(XldrvStoreBatch *batch, const char *path)
{
    add(batch, XS_WATCH, path, "t", sizeof("t"));
}

guint64 xldrv_store_batch_events(const XldrvStoreBatch *batch)
{
    return batch->n_events;
}

/* A letter and a domain's number: docs/misc/xenstore.txt of Xen. */
void xldrv_store_batch_set_permissions(XldrvStoreBatch *batch, const char *path, const struct xs_permissions *list, guint n)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint i = 0; i < n; i++) {
        g_string_append_printf(text, "%c%u", "nrwb"[list[i].perms & (XS_PERM_READ | XS_PERM_WRITE)], list[i].id);
        g_string_append_c(text, '\0');
    }
    add(batch, XS_SET_PERMS, path, text->str, text->len);
}

/* ---- replies */

static gboolean broken(int why)
{
    errno = why;
    return FALSE;
}

static int error_of(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(xsd_errors); i++) {
        if (strcmp(name, xsd_errors[i].errstring) == 0)
            return xsd_errors[i].errnum;
    }
    return EINVAL;
}

typedef struct {
    XldrvStoreReply fn;
    gpointer data;
    guint n_replies;
    int error; /* of the first that has one */
} Run;

static void take_reply(Run *run, const struct xsd_sockmsg *head, const guint8 *payload)
{
    g_autofree char *text = g_malloc(head->len + 1);
    int error;

    memcpy(text, payload, head->len);
    text[head->len] = '\0';
    error = head->type == XS_ERROR ? error_of(text) : 0;
    if (error && !run->error)
        run->error = error;
    if (run->fn)
        run->fn(run->n_replies, error, text, head->len, run->data);
    run->n_replies++;
}

/* All whole replies that have come. */
static gboolean take_replies(XldrvStoreBatch *batch, Run *run)
{
    gsize at = 0;

    while (batch->in->len - at >= sizeof(struct xsd_sockmsg)) {
        struct xsd_sockmsg head;

        memcpy(&head, batch->in->data + at, sizeof(head));
        if (head.len > XENSTORE_PAYLOAD_MAX || (head.type != XS_WATCH_EVENT && head.req_id != run->n_replies))
            return broken(EPIPE);
        if (batch->in->len - at - sizeof(head) < head.len)
            break;
        if (head.type == XS_WATCH_EVENT)
            batch->n_events++;
        else
            take_reply(run, &head, batch->in->data + at + sizeof(head));
        at += sizeof(head) + head.len;
    }
    g_byte_array_remove_range(batch->in, 0, (guint)at);
    return TRUE;
}

static gboolean send_some(XldrvStoreBatch *batch)
{
    ssize_t n = send(batch->fd, batch->out->data + batch->sent, batch->out->len - batch->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0)
        batch->sent += (gsize)n;
    return n > 0 || errno == EAGAIN || errno == EINTR || broken(EPIPE);
}

static gboolean receive_some(XldrvStoreBatch *batch, Run *run)
{
    guint old = batch->in->len;
    ssize_t n;

    g_byte_array_set_size(batch->in, old + READ_BYTES);
    n = recv(batch->fd, batch->in->data + old, READ_BYTES, MSG_DONTWAIT);
    g_byte_array_set_size(batch->in, old + (n > 0 ? (guint)n : 0));
    if (n > 0)
        return take_replies(batch, run);
    return (n < 0 && (errno == EAGAIN || errno == EINTR)) || broken(EPIPE);
}

/* One step: what the socket is ready for. */
static gboolean step(XldrvStoreBatch *batch, Run *run)
{
    gboolean all_sent = batch->sent == batch->out->len;
    struct pollfd wait = {.fd = batch->fd, .events = POLLIN | (all_sent ? 0 : POLLOUT)};
    int ready = poll(&wait, 1, TIMEOUT_MS);

    if (ready < 0)
        return errno == EINTR || broken(EPIPE);
    if (!ready)
        return broken(EPIPE);
    if (wait.revents & POLLOUT && !send_some(batch))
        return FALSE;
    return !(wait.revents & (POLLIN | POLLHUP | POLLERR)) || receive_some(batch, run);
}

gboolean xldrv_store_batch_run(XldrvStoreBatch *batch, XldrvStoreReply fn, gpointer data)
{
    Run run = {.fn = fn, .data = data};
    gboolean ok = send_some(batch);

    while (ok && run.n_replies < batch->n_requests)
        ok = step(batch, &run);
    g_byte_array_set_size(batch->out, 0);
    batch->sent = 0;
    batch->n_requests = 0;
    if (!ok)
        return FALSE;
    errno = run.error;
    return fn || !run.error;
}

/* ---- transactions */

static void take_number(guint number G_GNUC_UNUSED, int error, const char *payload, gsize bytes G_GNUC_UNUSED, gpointer data)
{
    guint64 value = 0;

    if (!error && g_ascii_string_to_unsigned(payload, 10, 1, G_MAXUINT32, &value, NULL))
        *(guint32 *)data = (guint32)value;
}

static gboolean begin(XldrvStoreBatch *batch)
{
    batch->transaction = 0;
    add(batch, XS_TRANSACTION_START, "", NULL, 0);
    return xldrv_store_batch_run(batch, take_number, &batch->transaction) && (batch->transaction || broken(EINVAL));
}

/* With errno as it was when it is given up. */
static gboolean end(XldrvStoreBatch *batch, gboolean commit)
{
    int why = errno;
    gboolean ok;

    add(batch, XS_TRANSACTION_END, commit ? "T" : "F", NULL, 0);
    ok = xldrv_store_batch_run(batch, NULL, NULL);
    batch->transaction = 0;
    return commit ? ok : broken(why);
}

gboolean xldrv_store_batch_transaction(XldrvStoreBatch *batch, XldrvStoreFill fill, gconstpointer data)
{
    for (int i = 0; i < TRIES; i++) {
        if (!begin(batch))
            return FALSE;
        fill(batch, data);
        if (!xldrv_store_batch_run(batch, NULL, NULL))
            return errno == EPIPE ? FALSE : end(batch, FALSE);
        if (end(batch, TRUE))
            return TRUE;
        if (errno != EAGAIN)
            return FALSE;
    }
    return FALSE; /* errno is EAGAIN */
}
