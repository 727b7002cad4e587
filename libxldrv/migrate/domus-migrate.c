/* domus-migrate: moves one domain from the domusd that starts it to another, as a client of both, by libvirt's public
 * interface, but for what goes through a tunnel (tunnel.c). What it is to do, and what came of it, goes by a socket: request.h. It has nothing of its own that would have to
 * be put right, so it may be killed at any time: to both daemons that is a client that is lost.
 */
#include "config.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <glib.h>

#include "libxldrv/migrate/request.h"
#include "libxldrv/migrate/tunnel.h"

#define CONNECT_SECONDS    30
#define KEEPALIVE_INTERVAL 5
#define KEEPALIVE_COUNT    5

typedef struct {
    GVariant *request; /* of that type, in normal form */
    const char *source_uri, *destination_uri, *uuid;
    guint flags;
    virConnectPtr source, destination, through; /* tunnelled: another one to the destination, for the stream */
    virDomainPtr domain;
} Migration;

/* ---- the socket */

static GVariant *read_request(void)
{
    GByteArray *bytes = g_byte_array_new();
    g_autoptr(GBytes) all = NULL;
    GVariant *request;
    guint8 some[4096];
    ssize_t n;

    while ((n = read(XLDRV_MIGRATE_FD, some, sizeof(some))) > 0 || (n < 0 && errno == EINTR))
        g_byte_array_append(bytes, some, n > 0 ? (guint)n : 0);
    all = g_byte_array_free_to_bytes(bytes);
    request = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(XLDRV_MIGRATE_REQUEST), all, FALSE));
    if (n == 0 && g_variant_is_normal_form(request))
        return request;
    g_variant_unref(request);
    return NULL;
}

static void reply(int code, int domain, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_autoptr(GVariant) whole = g_variant_ref_sink(g_variant_new(XLDRV_MIGRATE_REPLY, code, domain, valid));
    const guint8 *bytes = g_variant_get_data(whole);
    gsize left = g_variant_get_size(whole);

    while (left > 0) {
        ssize_t n = send(XLDRV_MIGRATE_FD, bytes, left, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return; /* nobody wants to know */
        bytes += n;
        left -= (gsize)n;
    }
}

/* NULL: nobody knows. */
static void reply_error(const virError *last)
{
    reply(last && last->code ? last->code : VIR_ERR_INTERNAL_ERROR, last ? last->domain : VIR_FROM_NONE,
          last && last->message ? last->message : "the migration failed");
}

/* ---- libvirt */

static void ignore(void *data G_GNUC_UNUSED, virErrorPtr what G_GNUC_UNUSED)
{
}

static gpointer run_events(gpointer unused G_GNUC_UNUSED)
{
    while (virEventRunDefaultImpl() == 0)
        continue;
    return NULL;
}

/* A destination that takes connections and says nothing would hold us for ever. */
_Noreturn static void give_up(const char *uri)
{
    g_autofree char *text = g_strdup_printf("Timed out during operation: '%s' does not answer within %d seconds", uri,
                                            CONNECT_SECONDS);

    reply(VIR_ERR_OPERATION_TIMEOUT, VIR_FROM_RPC, text);
    _exit(EXIT_FAILURE);
}

static GMutex connect_lock;
static GCond connected_changed;
static gboolean connected; /* under connect_lock */

static gpointer watch_connecting(gpointer uri)
{
    gint64 until = g_get_monotonic_time() + CONNECT_SECONDS * G_TIME_SPAN_SECOND;

    g_mutex_lock(&connect_lock);
    while (!connected) {
        if (!g_cond_wait_until(&connected_changed, &connect_lock, until))
            give_up(uri);
    }
    g_mutex_unlock(&connect_lock);
    return NULL;
}

/* The memory that is still to be sent would be sent for nothing. */
static void destination_lost(virConnectPtr destination G_GNUC_UNUSED, int reason G_GNUC_UNUSED, void *data)
{
    const Migration *m = data;

    virDomainAbortJob(m->domain);
}

static gboolean open_connections(Migration *m)
{
    GThread *watch = g_thread_new("connecting", watch_connecting, (gpointer)m->destination_uri);

    m->source = virConnectOpen(m->source_uri);
    m->domain = m->source ? virDomainLookupByUUIDString(m->source, m->uuid) : NULL;
    m->destination = m->domain ? virConnectOpen(m->destination_uri) : NULL;
    if (m->flags & VIR_MIGRATE_TUNNELLED)
        m->through = m->destination ? virConnectOpen(m->destination_uri) : NULL;
    g_mutex_lock(&connect_lock);
    connected = TRUE;
    g_cond_signal(&connected_changed);
    g_mutex_unlock(&connect_lock);
    g_thread_join(watch);
    return m->destination && (m->through || !(m->flags & VIR_MIGRATE_TUNNELLED)) &&
           virConnectSetKeepAlive(m->destination, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT) >= 0 &&
           virConnectRegisterCloseCallback(m->destination, destination_lost, m, NULL) == 0;
}

static gboolean read_params(GVariant *list, virTypedParameterPtr *params, int *n, int *room)
{
    gsize count = g_variant_n_children(list);

    for (gsize i = 0; i < count; i++) {
        g_autoptr(GVariant) value = NULL;
        const char *name;
        int failed;

        g_variant_get_child(list, i, "(&sv)", &name, &value);
        failed = g_variant_is_of_type(value, G_VARIANT_TYPE_STRING)
                     ? virTypedParamsAddString(params, n, room, name, g_variant_get_string(value, NULL))
                 : g_variant_is_of_type(value, G_VARIANT_TYPE_INT32)
                     ? virTypedParamsAddInt(params, n, room, name, g_variant_get_int32(value))
                     : virTypedParamsAddULLong(params, n, room, name, g_variant_get_uint64(value));
        if (failed)
            return FALSE;
    }
    return TRUE;
}

/* FALSE: *@why. */
static gboolean migrate(Migration *m, const virError **why)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(m->request, 3);
    MigrateTunnel t = {.domain = m->domain, .destination = m->destination, .through = m->through, .flags = m->flags, .fd = XLDRV_MIGRATE_TUNNEL_FD};
    gboolean ok = read_params(list, &t.params, &t.n, &t.room);
    virDomainPtr moved;

    if (ok && m->flags & VIR_MIGRATE_TUNNELLED) {
        *why = migrate_tunnelled(&t);
        ok = !*why;
    } else if (ok) {
        moved = virDomainMigrate3(m->domain, m->destination, t.params, (guint)t.n, m->flags);
        ok = moved != NULL;
        if (moved)
            virDomainFree(moved);
        else
            *why = virGetLastError();
    }
    virTypedParamsFree(t.params, t.n);
    return ok;
}

int main(void)
{
    Migration m = {.request = read_request()};
    const virError *why = NULL;
    gboolean ok;

    if (!m.request) {
        reply(VIR_ERR_INTERNAL_ERROR, VIR_FROM_LIBXL, "internal error: the request of a migration makes no sense");
        return EXIT_FAILURE;
    }
    g_variant_get_child(m.request, 0, "&s", &m.source_uri);
    g_variant_get_child(m.request, 1, "&s", &m.destination_uri);
    g_variant_get_child(m.request, 2, "&s", &m.uuid);
    g_variant_get_child(m.request, 4, "u", &m.flags);
    virSetErrorFunc(NULL, ignore);
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0) {
        reply_error(virGetLastError());
        return EXIT_FAILURE;
    }
    g_thread_unref(g_thread_new("events", run_events, NULL));
    ok = open_connections(&m);
    if (!ok)
        why = virGetLastError();
    if (ok && migrate(&m, &why))
        reply(VIR_ERR_OK, VIR_FROM_NONE, "");
    else
        reply_error(why);
    /* The connections end with the process: closing them would wait for a destination that may have stopped. */
    _exit(EXIT_SUCCESS);
}
