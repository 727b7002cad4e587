/* Events: registrations and delivery.
 *
 * Events are few and clients with registrations fewer, so the registrations are one array under one lock,
 * which is held while an event is handed to the clients' queues: that keeps the order.
 */
#include "config.h"

#include "libxldrv/driver/events.h"

#include "libxldrv/driver/access.h"
#include "libxldrv/driver/procedures.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/vnc/protocol.h"

#define NO_CALLBACK (-1) /* of the older interface */
#define MAX_PER_CLIENT 4096

typedef struct {
    XldrvClient *client;
    int callback;
    int id; /* virDomainEventID */
    gboolean one_domain;
    guint8 uuid[XLDRV_UUID_BYTES];
    gboolean active; /* the client knows the callback id */
} Registration;

struct _XldrvEvents {
    XldrvAccess *access; /* immutable; NULL: all hear of everything */
    GThreadPool *judge;  /* immutable: one thread, which asks about each event and keeps their order */
    GMutex lock;
    GPtrArray *registrations; /* under lock */
    int last_callback;        /* under lock */
};

/* Event procedures, from libvirt's remote_protocol: of the older interface (0: none), of the newer one, and
 * whether that one nests the fields of the older one in a structure. The three
 * power events would have a reason of their own in between; nothing sends them. */
static const struct {
    guint legacy, callback;
    gboolean nested;
} event_procedures[] = {
    [VIR_DOMAIN_EVENT_ID_LIFECYCLE] = {107, 318, TRUE},
    [VIR_DOMAIN_EVENT_ID_REBOOT] = {169, 319, TRUE},
    [VIR_DOMAIN_EVENT_ID_RTC_CHANGE] = {170, 320, TRUE},
    [VIR_DOMAIN_EVENT_ID_WATCHDOG] = {171, 321, TRUE},
    [VIR_DOMAIN_EVENT_ID_IO_ERROR] = {172, 322, TRUE},
    [VIR_DOMAIN_EVENT_ID_GRAPHICS] = {173, 323, TRUE},
    [VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON] = {195, 324, TRUE},
    [VIR_DOMAIN_EVENT_ID_CONTROL_ERROR] = {224, 325, TRUE},
    [VIR_DOMAIN_EVENT_ID_BLOCK_JOB] = {241, 326, TRUE},
    [VIR_DOMAIN_EVENT_ID_DISK_CHANGE] = {248, 327, TRUE},
    [VIR_DOMAIN_EVENT_ID_TRAY_CHANGE] = {268, 328, TRUE},
    [VIR_DOMAIN_EVENT_ID_PMWAKEUP] = {269, 329, TRUE},
    [VIR_DOMAIN_EVENT_ID_PMSUSPEND] = {270, 330, TRUE},
    [VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE] = {276, 331, TRUE},
    [VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK] = {292, 332, TRUE},
    [VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED] = {311, 333, TRUE},
    [VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2] = {0, 339, FALSE},
    [VIR_DOMAIN_EVENT_ID_TUNABLE] = {0, 346, FALSE},
    [VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE] = {0, 348, FALSE},
    [VIR_DOMAIN_EVENT_ID_DEVICE_ADDED] = {0, 354, FALSE},
    [VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION] = {0, 359, FALSE},
    [VIR_DOMAIN_EVENT_ID_JOB_COMPLETED] = {0, 363, FALSE},
    [VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED] = {0, 367, FALSE},
    [VIR_DOMAIN_EVENT_ID_METADATA_CHANGE] = {0, 379, FALSE},
    [VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD] = {0, 385, FALSE},
    [VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE] = {0, 423, FALSE},
    [VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE] = {0, 438, FALSE},
};

static void registration_free(Registration *registration)
{
    xldrv_client_unref(registration->client);
    g_free(registration);
}

static void judge(gpointer data, gpointer user_data);

XldrvEvents *xldrv_events_new(XldrvAccess *access)
{
    XldrvEvents *events = g_new0(XldrvEvents, 1);

    events->access = access;
    if (access)
        events->judge = g_thread_pool_new(judge, events, 1, FALSE, NULL);
    g_mutex_init(&events->lock);
    events->registrations = g_ptr_array_new_with_free_func((GDestroyNotify)registration_free);
    return events;
}

void xldrv_events_free(XldrvEvents *events)
{
    if (!events)
        return;
    if (events->judge)
        g_thread_pool_free(events->judge, FALSE, TRUE);
    g_ptr_array_unref(events->registrations);
    g_mutex_clear(&events->lock);
    g_free(events);
}

/* ---- registering */

typedef struct {
    XldrvEvents *events;
    XldrvClient *client;
    int callback, id;
} Activation;

static Registration *find_locked(XldrvEvents *events, XldrvClient *client, int callback, int id)
{
    for (guint i = 0; i < events->registrations->len; i++) {
        Registration *r = events->registrations->pdata[i];
        if (r->client == client && r->callback == callback && (callback != NO_CALLBACK || r->id == id))
            return r;
    }
    return NULL;
}

static guint count_locked(XldrvEvents *events, XldrvClient *client)
{
    guint n = 0;

    for (guint i = 0; i < events->registrations->len; i++)
        n += ((Registration *)events->registrations->pdata[i])->client == client;
    return n;
}

/* The reply is on its way: from now on the client can make sense of events. */
static void activate(gpointer data)
{
    Activation *activation = data;
    Registration *r;

    g_mutex_lock(&activation->events->lock);
    r = find_locked(activation->events, activation->client, activation->callback, activation->id);
    if (r)
        r->active = TRUE;
    g_mutex_unlock(&activation->events->lock);
    xldrv_client_unref(activation->client);
    g_free(activation);
}

static void activate_after_reply(XldrvEvents *events, XldrvCall *call, int callback, int id)
{
    Activation *activation = g_new0(Activation, 1);

    activation->events = events;
    activation->client = xldrv_client_ref(xldrv_call_client(call));
    activation->callback = callback;
    activation->id = id;
    xldrv_call_after_reply(call, activate, activation);
}

static gboolean add_locked(XldrvEvents *events, XldrvClient *client, int callback, int id,
                           const guint8 *uuid, GError **error)
{
    Registration *r;

    if (count_locked(events, client) >= MAX_PER_CLIENT)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "too many event registrations");
    r = g_new0(Registration, 1);
    r->client = xldrv_client_ref(client);
    r->callback = callback;
    r->id = id;
    r->one_domain = uuid != NULL;
    if (uuid)
        memcpy(r->uuid, uuid, sizeof(r->uuid));
    g_ptr_array_add(events->registrations, r);
    return TRUE;
}

int xldrv_events_register(XldrvEvents *events, XldrvCall *call, int id, const guint8 *uuid,
                          GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&events->lock);
    int callback;

    if (id < 0 || (gsize)id >= G_N_ELEMENTS(event_procedures)) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported event ID %d", id);
        return -1;
    }
    callback = events->last_callback == G_MAXINT ? 0 : events->last_callback + 1;
    if (!add_locked(events, xldrv_call_client(call), callback, id, uuid, error))
        return -1;
    events->last_callback = callback;
    activate_after_reply(events, call, callback, id);
    return callback;
}

gboolean xldrv_events_deregister(XldrvEvents *events, XldrvClient *client, int callback, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&events->lock);
    Registration *r = callback < 0 ? NULL : find_locked(events, client, callback, 0);

    if (!r)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "domain event callback %d not registered",
                               callback);
    return g_ptr_array_remove_fast(events->registrations, r);
}

gboolean xldrv_events_register_legacy(XldrvEvents *events, XldrvCall *call, int id, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&events->lock);
    XldrvClient *client = xldrv_call_client(call);

    if (id < 0 || (gsize)id >= G_N_ELEMENTS(event_procedures) || !event_procedures[id].legacy)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported event ID %d", id);
    if (find_locked(events, client, NO_CALLBACK, id))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "domain event %d already registered", id);
    if (!add_locked(events, client, NO_CALLBACK, id, NULL, error))
        return FALSE;
    activate_after_reply(events, call, NO_CALLBACK, id);
    return TRUE;
}

gboolean xldrv_events_deregister_legacy(XldrvEvents *events, XldrvClient *client, int id, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&events->lock);
    Registration *r = find_locked(events, client, NO_CALLBACK, id);

    if (!r)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "domain event %d not registered", id);
    return g_ptr_array_remove_fast(events->registrations, r);
}

void xldrv_events_forget_client(XldrvEvents *events, XldrvClient *client)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&events->lock);

    for (guint i = events->registrations->len; i-- > 0;) {
        Registration *r = events->registrations->pdata[i];
        if (r->client == client)
            g_ptr_array_remove_index_fast(events->registrations, i);
    }
}

/* ---- sending */

static void deliver(const Registration *r, GVariant *fields)
{
    GVariant *payload = fields;

    if (r->callback == NO_CALLBACK) {
        xldrv_client_send_event(r->client, XLDRV_REMOTE_PROGRAM, event_procedures[r->id].legacy,
                                g_variant_ref(fields));
        return;
    }
    if (event_procedures[r->id].nested) {
        payload = g_variant_new("(i@*)", r->callback, fields);
    } else {
        GVariantBuilder builder;
        GVariantIter iter;
        GVariant *field;

        g_variant_builder_init(&builder, G_VARIANT_TYPE_TUPLE);
        g_variant_builder_add(&builder, "i", r->callback);
        g_variant_iter_init(&iter, fields);
        while ((field = g_variant_iter_next_value(&iter))) {
            g_variant_builder_add_value(&builder, field);
            g_variant_unref(field);
        }
        payload = g_variant_builder_end(&builder);
    }
    xldrv_client_send_event(r->client, XLDRV_REMOTE_PROGRAM, event_procedures[r->id].callback, payload);
}

static gboolean wants(const Registration *r, int id, const XldrvDomain *domain)
{
    return r->active && r->id == id &&
           (!r->one_domain || xldrv_uuid_equal(r->uuid, domain->uuid));
}

/* To those in @hearing, a set of clients; NULL: to all. */
static void deliver_to(XldrvEvents *events, int id, XldrvDomain *domain, GVariant *fields, GHashTable *hearing)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&events->lock);

    for (guint i = 0; i < events->registrations->len; i++) {
        const Registration *r = events->registrations->pdata[i];
        if (wants(r, id, domain) && (!hearing || g_hash_table_contains(hearing, r->client)))
            deliver(r, fields);
    }
}

/* ---- with access control: nobody waits for the answers but the events behind this one */

typedef struct {
    int id;
    XldrvDomain *domain;
    GVariant *fields;
} Event;

/* A set of the clients that want the event. */
static GHashTable *list_clients(XldrvEvents *events, int id, XldrvDomain *domain)
{
    GHashTable *clients = g_hash_table_new_full(NULL, NULL, (GDestroyNotify)xldrv_client_unref, NULL);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&events->lock);

    for (guint i = 0; i < events->registrations->len; i++) {
        const Registration *r = events->registrations->pdata[i];
        if (wants(r, id, domain))
            g_hash_table_add(clients, xldrv_client_ref(r->client));
    }
    return clients;
}

static void judge(gpointer data, gpointer user_data)
{
    Event *event = data;
    XldrvEvents *events = user_data;
    g_autoptr(GHashTable) clients = list_clients(events, event->id, event->domain);
    GHashTableIter iter;
    gpointer client;

    g_hash_table_iter_init(&iter, clients);
    while (g_hash_table_iter_next(&iter, &client, NULL)) {
        if (!xldrv_access_hears(events->access, client, event->domain))
            g_hash_table_iter_remove(&iter);
    }
    deliver_to(events, event->id, event->domain, event->fields, clients);
    xldrv_domain_unref(event->domain);
    g_variant_unref(event->fields);
    g_free(event);
}

/* @fields is a tuple of the event's fields; floating. */
static void emit(XldrvEvents *events, int id, XldrvDomain *domain, GVariant *fields)
{
    g_autoptr(GVariant) held = g_variant_ref_sink(fields);

    if (events->judge) {
        Event *event = g_new(Event, 1);
        *event = (Event){id, xldrv_domain_ref(domain), g_variant_ref(held)};
        g_thread_pool_push(events->judge, event, NULL);
        return;
    }
    deliver_to(events, id, domain, held, NULL);
}

void xldrv_event_lifecycle_as(XldrvEvents *events, XldrvDomain *domain, GVariant *wire, int event, int detail)
{
    emit(events, VIR_DOMAIN_EVENT_ID_LIFECYCLE, domain, g_variant_new("(@*ii)", wire, event, detail));
}

void xldrv_event_lifecycle(XldrvEvents *events, XldrvDomain *domain, int event, int detail)
{
    xldrv_event_lifecycle_as(events, domain, xldrv_domain_to_wire(domain), event, detail);
}

void xldrv_event_reboot(XldrvEvents *events, XldrvDomain *domain)
{
    emit(events, VIR_DOMAIN_EVENT_ID_REBOOT, domain,
         g_variant_new("(@*)", xldrv_domain_to_wire(domain)));
}

void xldrv_event_control_error(XldrvEvents *events, XldrvDomain *domain)
{
    emit(events, VIR_DOMAIN_EVENT_ID_CONTROL_ERROR, domain,
         g_variant_new("(@*)", xldrv_domain_to_wire(domain)));
}

void xldrv_event_metadata_change(XldrvEvents *events, XldrvDomain *domain, int type, const char *uri)
{
    emit(events, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, domain,
         g_variant_new("(@*ims)", xldrv_domain_to_wire(domain), type, uri));
}

void xldrv_event_watchdog(XldrvEvents *events, XldrvDomain *domain, int action)
{
    emit(events, VIR_DOMAIN_EVENT_ID_WATCHDOG, domain, g_variant_new("(@*i)", xldrv_domain_to_wire(domain), action));
}

void xldrv_event_graphics(XldrvEvents *events, XldrvDomain *domain, const struct xldrv_vnc_message *what)
{
    emit(events, VIR_DOMAIN_EVENT_ID_GRAPHICS, domain,
         g_variant_new("(@*i(iss)(iss)s@a(ss))", xldrv_domain_to_wire(domain), (gint32)what->value,
                       (gint32)what->local.family, what->local.node, what->local.service, (gint32)what->remote.family,
                       what->remote.node, what->remote.service, what->auth,
                       g_variant_new_array(G_VARIANT_TYPE("(ss)"), NULL, 0)));
}

void xldrv_event_balloon_change(XldrvEvents *events, XldrvDomain *domain, guint64 kib)
{
    emit(events, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, domain, g_variant_new("(@*t)", xldrv_domain_to_wire(domain), kib));
}

void xldrv_event_tunable(XldrvEvents *events, XldrvDomain *domain, GVariant *params)
{
    emit(events, VIR_DOMAIN_EVENT_ID_TUNABLE, domain, g_variant_new("(@*@a(sv))", xldrv_domain_to_wire(domain), params));
}

void xldrv_event_agent_lifecycle(XldrvEvents *events, XldrvDomain *domain, int state, int reason)
{
    emit(events, VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, domain,
         g_variant_new("(@*ii)", xldrv_domain_to_wire(domain), state, reason));
}

void xldrv_event_migration_iteration(XldrvEvents *events, XldrvDomain *domain, int iteration)
{
    emit(events, VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, domain, g_variant_new("(@*i)", xldrv_domain_to_wire(domain), iteration));
}

void xldrv_event_job_completed(XldrvEvents *events, XldrvDomain *domain, GVariant *params)
{
    emit(events, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, domain,
         g_variant_new("(@*@a(sv))", xldrv_domain_to_wire(domain), params));
}

void xldrv_event_device(XldrvEvents *events, XldrvDomain *domain, int id, const char *alias)
{
    emit(events, id, domain, g_variant_new("(@*s)", xldrv_domain_to_wire(domain), alias));
}

void xldrv_event_tray(XldrvEvents *events, XldrvDomain *domain, const char *alias, gboolean open)
{
    emit(events, VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, domain,
         g_variant_new("(@*si)", xldrv_domain_to_wire(domain), alias,
                       open ? VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN : VIR_DOMAIN_EVENT_TRAY_CHANGE_CLOSE));
}

void xldrv_event_block_job(XldrvEvents *events, XldrvDomain *domain, const char *path, const char *target, int type, int status)
{
    emit(events, VIR_DOMAIN_EVENT_ID_BLOCK_JOB, domain,
         g_variant_new("(@*sii)", xldrv_domain_to_wire(domain), path, type, status));
    emit(events, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, domain,
         g_variant_new("(@*sii)", xldrv_domain_to_wire(domain), target, type, status));
}

void xldrv_event_block_threshold(XldrvEvents *events, XldrvDomain *domain, const char *target, const char *path,
                                 guint64 threshold, guint64 excess)
{
    emit(events, VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD, domain,
         g_variant_new("(@*smstt)", xldrv_domain_to_wire(domain), target, path, threshold, excess));
}

void xldrv_event_io_error(XldrvEvents *events, XldrvDomain *domain, const char *source, const char *alias,
                          const char *reason)
{
    emit(events, VIR_DOMAIN_EVENT_ID_IO_ERROR, domain,
         g_variant_new("(@*ssi)", xldrv_domain_to_wire(domain), source, alias, VIR_DOMAIN_EVENT_IO_ERROR_PAUSE));
    emit(events, VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, domain,
         g_variant_new("(@*ssis)", xldrv_domain_to_wire(domain), source, alias, VIR_DOMAIN_EVENT_IO_ERROR_PAUSE, reason));
}
