/* polkit: CheckAuthorization of org.freedesktop.PolicyKit1.Authority; its interface is documented in polkit's manual. */
#include "config.h"

#include "libxldrv/rpc/polkit.h"

#include <gio/gio.h>

#define NAME            "org.freedesktop.PolicyKit1"
#define PATH            "/org/freedesktop/PolicyKit1/Authority"
#define INTERFACE       "org.freedesktop.PolicyKit1.Authority"
#define ALLOW_QUESTIONS 1u
#define WITHDRAW_MS     10000
/* Nobody is asked for a password meanwhile, but rules may start programs. */
#define CHECK_MS        15000

#define CONNECTION_FLAGS                                                                                               \
    (G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT | G_DBUS_CONNECTION_FLAGS_MESSAGE_BUS_CONNECTION)

/* ---- question and answer */

/* @details is an a{ss}; floating. */
static GVariant *question(const XldrvPeer *peer, const char *action, GVariant *details, guint flags,
                          const char *cancellation_id)
{
    GVariantBuilder process;

    g_variant_builder_init(&process, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&process, "{sv}", "pid", g_variant_new_uint32(peer->pid));
    g_variant_builder_add(&process, "{sv}", "start-time", g_variant_new_uint64(peer->start_time));
    g_variant_builder_add(&process, "{sv}", "uid", g_variant_new_int32(peer->uid));
    return g_variant_new("((sa{sv})s@a{ss}us)", "unix-process", &process, action, details, flags, cancellation_id);
}

static gboolean refuse(GError **error, virErrorNumber code, const char *action, const char *why)
{
    return xldrv_set_error_from(error, VIR_FROM_POLKIT, code, "%s for action '%s'", why, action);
}

static gboolean judge(GVariant *answer, const char *action, GError **error)
{
    gboolean authorized = FALSE, challenge = FALSE;
    g_autoptr(GVariant) details = NULL;
    const char *dismissed = NULL;

    g_variant_get(answer, "((bb@a{ss}))", &authorized, &challenge, &details);
    if (authorized)
        return TRUE;
    if (g_variant_lookup(details, "polkit.dismissed", "&s", &dismissed))
        return refuse(error, VIR_ERR_AUTH_CANCELLED, action, "the user dismissed the question");
    if (challenge)
        return refuse(error, VIR_ERR_AUTH_UNAVAILABLE, action, "no polkit agent is there to authenticate");
    return refuse(error, VIR_ERR_AUTH_FAILED, action, "access denied by policy: not authorized");
}

static gboolean unreachable(GError **error, const GError *why)
{
    return xldrv_set_error_from(error, VIR_FROM_POLKIT, VIR_ERR_AUTH_UNAVAILABLE,
                                "polkit cannot be asked on the system bus: %s", why->message);
}

/* Without it the authority cannot tell the process from a later one of the same number. */
static gboolean check_known(const XldrvPeer *peer, const char *action, GError **error)
{
    return (peer->known && peer->start_time != 0) ||
           refuse(error, VIR_ERR_AUTH_FAILED, action, "the client's process is not known");
}

/* ---- asking */

typedef struct {
    XldrvPeer peer;
    char *action, *cancellation_id;
    GDBusConnection *connection;
    GCancellable *cancellable;
    XldrvPolkitFn done;
    gpointer data;
} Question;

static void question_end(Question *q, const GError *error)
{
    q->done(q->data, error);
    g_clear_object(&q->connection);
    g_object_unref(q->cancellable);
    g_free(q->action);
    g_free(q->cancellation_id);
    g_free(q);
}

/* The dialog on the user's screen goes. */
static void withdraw(Question *q)
{
    g_dbus_connection_call(q->connection, NAME, PATH, INTERFACE, "CancelCheckAuthorization",
                           g_variant_new("(s)", q->cancellation_id), NULL, G_DBUS_CALL_FLAGS_NONE, WITHDRAW_MS, NULL, NULL,
                           NULL);
    g_dbus_connection_flush(q->connection, NULL, NULL, NULL);
}

static void on_answer(GObject *source, GAsyncResult *result, gpointer data)
{
    Question *q = data;
    g_autoptr(GError) why = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) answer = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &why);

    if (answer)
        judge(answer, q->action, &error);
    else
        unreachable(&error, why);
    if (g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        withdraw(q);
    question_end(q, error);
}

static void on_connected(GObject *source G_GNUC_UNUSED, GAsyncResult *result, gpointer data)
{
    Question *q = data;
    g_autoptr(GError) why = NULL;
    g_autoptr(GError) error = NULL;

    q->connection = g_dbus_connection_new_for_address_finish(result, &why);
    if (!q->connection) {
        unreachable(&error, why);
        question_end(q, error);
        return;
    }
    g_dbus_connection_call(q->connection, NAME, PATH, INTERFACE, "CheckAuthorization",
                           question(&q->peer, q->action, g_variant_new("a{ss}", NULL), ALLOW_QUESTIONS, q->cancellation_id),
                           G_VARIANT_TYPE("((bba{ss}))"), G_DBUS_CALL_FLAGS_NONE, G_MAXINT, q->cancellable, on_answer,
                           q);
}

void xldrv_polkit_authenticate(const XldrvPeer *peer, const char *action, GCancellable *cancellable, XldrvPolkitFn done,
                               gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *address = g_dbus_address_get_for_bus_sync(G_BUS_TYPE_SYSTEM, NULL, &why);

    if (!address)
        unreachable(&error, why);
    if (error || !check_known(peer, action, &error)) {
        done(data, error);
        return;
    }
    Question *q = g_new0(Question, 1);
    *q = (Question){.peer = *peer,
                    .action = g_strdup(action),
                    .cancellation_id = g_uuid_string_random(),
                    .cancellable = g_object_ref(cancellable),
                    .done = done,
                    .data = data};
    g_dbus_connection_new_for_address(address, CONNECTION_FLAGS, NULL, cancellable, on_connected, q);
}

/* ---- asking, again and again, without a dialog */

struct _XldrvPolkit {
    GMutex lock;
    GDBusConnection *connection; /* under lock; NULL: there was no question yet */
    GCancellable *cancellable;
};

XldrvPolkit *xldrv_polkit_new(void)
{
    XldrvPolkit *polkit = g_new0(XldrvPolkit, 1);

    g_mutex_init(&polkit->lock);
    polkit->cancellable = g_cancellable_new();
    return polkit;
}

void xldrv_polkit_cancel(XldrvPolkit *polkit)
{
    g_cancellable_cancel(polkit->cancellable);
}

void xldrv_polkit_free(XldrvPolkit *polkit)
{
    g_clear_object(&polkit->connection);
    g_object_unref(polkit->cancellable);
    g_mutex_clear(&polkit->lock);
    g_free(polkit);
}

/* A reference to the connection that there is, or to a new one where the bus has closed it. */
static GDBusConnection *get_connection(XldrvPolkit *polkit, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&polkit->lock);
    g_autofree char *address = NULL;

    if (polkit->connection && !g_dbus_connection_is_closed(polkit->connection))
        return g_object_ref(polkit->connection);
    g_clear_object(&polkit->connection);
    address = g_dbus_address_get_for_bus_sync(G_BUS_TYPE_SYSTEM, polkit->cancellable, error);
    if (address)
        polkit->connection =
            g_dbus_connection_new_for_address_sync(address, CONNECTION_FLAGS, NULL, polkit->cancellable, error);
    return polkit->connection ? g_object_ref(polkit->connection) : NULL;
}

gboolean xldrv_polkit_check(XldrvPolkit *polkit, const XldrvPeer *peer, const char *action, GVariant *details,
                            GError **error)
{
    g_autoptr(GVariant) held = g_variant_ref_sink(details);
    g_autoptr(GDBusConnection) connection = NULL;
    g_autoptr(GVariant) answer = NULL;
    g_autoptr(GError) why = NULL;

    if (!check_known(peer, action, error))
        return FALSE;
    connection = get_connection(polkit, &why);
    if (connection)
        answer = g_dbus_connection_call_sync(connection, NAME, PATH, INTERFACE, "CheckAuthorization",
                                             question(peer, action, held, 0, ""), G_VARIANT_TYPE("((bba{ss}))"),
                                             G_DBUS_CALL_FLAGS_NONE, CHECK_MS, polkit->cancellable, &why);
    return answer ? judge(answer, action, error) : unreachable(error, why);
}
