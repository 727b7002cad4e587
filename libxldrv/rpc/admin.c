/* admin: procedures of program ADMIN, numbered and laid out as in libvirt's admin_protocol.
 *
 * All of them run on the main loop, which owns what they look at, and none can block. */
#include "config.h"

#include "libxldrv/rpc/admin.h"

#include <libvirt/libvirt-admin.h>
#include <string.h>

#include "libxldrv/rpc/client.h"
#include "libxldrv/rpc/server.h"

#define ADMIN_PROGRAM   0x06900690
#define ADMIN_VERSION   1
#define ADMIN_NAME      "admin"
#define LIBVIRT_VERSION 9000000

struct _XldrvAdmin {
    XldrvServer *own;
    XldrvAdminOptions options;
    guint timeout_s;   /* 0: never */
    gint64 busy_us;    /* when somebody was connected last */
    GSource *timer;    /* while there is a time-out */
};

static XldrvAdmin *admin_of(XldrvCall *call)
{
    return xldrv_call_client(call)->server->admin;
}

/* ---- servers */

static GVariant *nothing(void)
{
    return g_variant_new_tuple(NULL, 0);
}

static XldrvServer *find_server(XldrvCall *call, const char *name, GError **error)
{
    XldrvAdmin *admin = admin_of(call);

    if (strcmp(name, admin->own->name) == 0)
        return admin->own;
    if (strcmp(name, admin->options.server->name) == 0)
        return admin->options.server;
    xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_NO_SERVER, "no server named '%s'", name);
    return NULL;
}

static gboolean check_flags(guint flags, GError **error)
{
    return flags == 0 || xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x)", flags);
}

/* The server that argument 0 names; the last argument are flags, of which there are none. */
static XldrvServer *args_server(XldrvCall *call, GVariant *args, GError **error)
{
    const char *name;
    guint32 flags;

    g_variant_get_child(args, 0, "&s", &name);
    g_variant_get_child(args, g_variant_n_children(args) - 1, "u", &flags);
    return check_flags(flags, error) ? find_server(call, name, error) : NULL;
}

static GVariant *handle_open(XldrvCall *call, GVariant *args, GError **error)
{
    guint32 flags;

    g_variant_get(args, "(u)", &flags);
    if (!check_flags(flags, error))
        return NULL;
    xldrv_client_set_open(xldrv_call_client(call));
    return nothing();
}

static GVariant *handle_close(XldrvCall *call, GVariant *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    xldrv_client_close(xldrv_call_client(call));
    return nothing();
}

static GVariant *handle_version(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                GError **error G_GNUC_UNUSED)
{
    return g_variant_new("(t)", (guint64)LIBVIRT_VERSION);
}

static GVariant *handle_list_servers(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvAdmin *admin = admin_of(call);
    const char *names[] = {admin->options.server->name, admin->own->name};
    guint32 need, flags;

    g_variant_get(args, "(uu)", &need, &flags);
    if (!check_flags(flags, error))
        return NULL;
    return g_variant_new("(@asu)", g_variant_new_strv(names, need ? G_N_ELEMENTS(names) : 0), G_N_ELEMENTS(names));
}

static GVariant *handle_lookup_server(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvServer *server = args_server(call, args, error);

    return server ? g_variant_new("(s)", server->name) : NULL;
}

static GVariant *handle_update_tls(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvAdmin *admin = admin_of(call);
    XldrvServer *server = args_server(call, args, error);

    if (!server)
        return NULL;
    if (server != admin->options.server || !admin->options.tls) {
        xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_OPERATION_INVALID, "server '%s' does not use TLS",
                             server->name);
        return NULL;
    }
    return xldrv_tls_reload(admin->options.tls, error) ? nothing() : NULL;
}

/* ---- typed parameters: a number each */

static void add_number(GVariantBuilder *params, const char *name, guint value)
{
    g_variant_builder_add(params, "(sv)", name, g_variant_new_uint32(value));
}

typedef struct {
    const char *name;
    guint value; /* before: what it is; after: what it shall be */
} Number;

/* Changes those of @numbers that @params names. */
static gboolean take_numbers(GVariant *params, Number *numbers, gsize n, GError **error)
{
    GVariantIter iter;
    const char *name;
    GVariant *value;

    g_variant_iter_init(&iter, params);
    while (g_variant_iter_next(&iter, "(&sv)", &name, &value)) {
        g_autoptr(GVariant) keep = value;
        gsize i = 0;
        while (i < n && strcmp(numbers[i].name, name) != 0)
            i++;
        if (i == n)
            return xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_ARGUMENT_UNSUPPORTED,
                                        "parameter '%s' cannot be set", name);
        if (!g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
            return xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_INVALID_ARG,
                                        "parameter '%s' is not an unsigned number", name);
        numbers[i].value = g_variant_get_uint32(value);
    }
    return TRUE;
}

/* ---- threads */

static GVariant *handle_get_threads(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvServer *server = args_server(call, args, error);
    GVariantBuilder params;
    XldrvWorkersInfo info;

    if (!server)
        return NULL;
    xldrv_workers_get_info(server->workers, &info);
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    add_number(&params, VIR_THREADPOOL_WORKERS_MIN, info.min);
    add_number(&params, VIR_THREADPOOL_WORKERS_MAX, info.max);
    add_number(&params, VIR_THREADPOOL_WORKERS_CURRENT, info.running);
    add_number(&params, VIR_THREADPOOL_WORKERS_FREE, info.idle);
    add_number(&params, VIR_THREADPOOL_WORKERS_PRIORITY, info.prio);
    add_number(&params, VIR_THREADPOOL_JOB_QUEUE_DEPTH, info.queued);
    return g_variant_new("(a(sv))", &params);
}

static GVariant *handle_set_threads(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvServer *server = args_server(call, args, error);
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 1);
    XldrvWorkersInfo info;

    if (!server)
        return NULL;
    xldrv_workers_get_info(server->workers, &info);
    Number numbers[] = {{VIR_THREADPOOL_WORKERS_MIN, info.min},
                        {VIR_THREADPOOL_WORKERS_MAX, info.max},
                        {VIR_THREADPOOL_WORKERS_PRIORITY, info.prio}};
    if (!take_numbers(params, numbers, G_N_ELEMENTS(numbers), error))
        return NULL;
    if (numbers[1].value == 0 || numbers[0].value > numbers[1].value || MAX(numbers[1].value, numbers[2].value) > XLDRV_WORKERS_MAX) {
        xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_INVALID_ARG,
                             "%u to %u workers and %u of priority are not possible: from the first to the second, which "
                             "is not 0, and %u at most",
                             numbers[0].value, numbers[1].value, numbers[2].value, XLDRV_WORKERS_MAX);
        return NULL;
    }
    xldrv_workers_set(server->workers, numbers[0].value, numbers[1].value, numbers[2].value);
    return nothing();
}

/* ---- clients */

static XldrvClient *find_client(XldrvServer *server, guint64 id, GError **error)
{
    GHashTableIter iter;
    gpointer client;

    g_hash_table_iter_init(&iter, server->clients);
    while (g_hash_table_iter_next(&iter, &client, NULL)) {
        if (((XldrvClient *)client)->id == id)
            return client;
    }
    xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_NO_CLIENT, "no client %" G_GUINT64_FORMAT " of server '%s'", id,
                         server->name);
    return NULL;
}

/* The client that arguments 0 and 1 name. */
static XldrvClient *args_client(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvServer *server = args_server(call, args, error);
    guint64 id;

    g_variant_get_child(args, 1, "t", &id);
    return server ? find_client(server, id, error) : NULL;
}

static guint transport_of(const XldrvClient *client)
{
    if (client->uses_tls)
        return VIR_CLIENT_TRANS_TLS;
    return client->peer.known ? VIR_CLIENT_TRANS_UNIX : VIR_CLIENT_TRANS_TCP;
}

static gint by_id(gconstpointer a, gconstpointer b)
{
    const XldrvClient *one = a, *other = b;

    return one->id < other->id ? -1 : one->id > other->id;
}

static GVariant *handle_list_clients(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvServer *server = args_server(call, args, error);
    GVariantBuilder list;
    guint32 need;

    if (!server)
        return NULL;
    g_variant_get_child(args, 1, "u", &need);
    g_autoptr(GList) clients = g_list_sort(g_hash_table_get_keys(server->clients), by_id);
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(stxu)"));
    for (GList *l = need ? clients : NULL; l; l = l->next) {
        const XldrvClient *client = l->data;
        g_variant_builder_add(&list, "(stxu)", server->name, client->id, client->connected_s, transport_of(client));
    }
    return g_variant_new("(a(stxu)u)", &list, g_hash_table_size(server->clients));
}

static GVariant *handle_lookup_client(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvClient *client = args_client(call, args, error);

    return client ? g_variant_new("(stxu)", client->server->name, client->id, client->connected_s, transport_of(client))
                  : NULL;
}

static void add_text(GVariantBuilder *params, const char *name, const char *value)
{
    if (value)
        g_variant_builder_add(params, "(sv)", name, g_variant_new_string(value));
}

/* Numbers of users and groups; their names may have to be asked of a server. */
static GVariant *handle_client_info(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvClient *client = args_client(call, args, error);
    GVariantBuilder params;

    if (!client)
        return NULL;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    g_variant_builder_add(&params, "(sv)", VIR_CLIENT_INFO_READONLY,
                          g_variant_new_boolean(xldrv_client_is_readonly(client)));
    add_text(&params, VIR_CLIENT_INFO_SASL_USER_NAME, client->sasl_user);
    add_text(&params, VIR_CLIENT_INFO_SOCKET_ADDR, client->peer.address);
    add_text(&params, VIR_CLIENT_INFO_X509_DISTINGUISHED_NAME, client->x509_name);
    if (client->peer.known) {
        const struct {
            const char *name;
            int value;
        } ids[] = {{VIR_CLIENT_INFO_UNIX_USER_ID, client->peer.uid},
                   {VIR_CLIENT_INFO_UNIX_GROUP_ID, client->peer.gid},
                   {VIR_CLIENT_INFO_UNIX_PROCESS_ID, client->peer.pid}};
        for (gsize i = 0; i < G_N_ELEMENTS(ids); i++)
            g_variant_builder_add(&params, "(sv)", ids[i].name, g_variant_new_int32(ids[i].value));
    }
    return g_variant_new("(a(sv))", &params);
}

/* What it waits for is not waited for. Later, so that one may disconnect itself and learn that it worked. */
static void disconnect(gpointer client)
{
    xldrv_client_drop(client, "disconnected by the administrator");
    xldrv_client_unref(client);
}

static GVariant *handle_client_close(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvClient *client = args_client(call, args, error);

    if (!client)
        return NULL;
    xldrv_call_after_reply(call, disconnect, xldrv_client_ref(client));
    return nothing();
}

static GVariant *handle_get_limits(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvServer *server = args_server(call, args, error);
    GVariantBuilder params;

    if (!server)
        return NULL;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    add_number(&params, VIR_SERVER_CLIENTS_MAX, server->limits.max_clients);
    add_number(&params, VIR_SERVER_CLIENTS_CURRENT, g_hash_table_size(server->clients));
    add_number(&params, VIR_SERVER_CLIENTS_UNAUTH_MAX, server->limits.max_anonymous_clients);
    add_number(&params, VIR_SERVER_CLIENTS_UNAUTH_CURRENT, server->n_anonymous);
    return g_variant_new("(a(sv))", &params);
}

static GVariant *handle_set_limits(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvServer *server = args_server(call, args, error);
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 1);

    if (!server)
        return NULL;
    Number numbers[] = {{VIR_SERVER_CLIENTS_MAX, server->limits.max_clients},
                        {VIR_SERVER_CLIENTS_UNAUTH_MAX, server->limits.max_anonymous_clients}};
    if (!take_numbers(params, numbers, G_N_ELEMENTS(numbers), error))
        return NULL;
    if (numbers[1].value == 0 || numbers[1].value > numbers[0].value) {
        xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_INVALID_ARG,
                             "%u clients, of which %u are not authenticated, are not possible: the second is at least 1 "
                             "and not above the first",
                             numbers[0].value, numbers[1].value);
        return NULL;
    }
    server->limits.max_clients = numbers[0].value;
    server->limits.max_anonymous_clients = numbers[1].value;
    xldrv_server_update_accepting(server);
    return nothing();
}

/* ---- an end when nobody is there */

static gboolean on_timer(gpointer data)
{
    XldrvAdmin *admin = data;
    gint64 now_us = g_get_monotonic_time();

    if (g_hash_table_size(admin->own->clients) + g_hash_table_size(admin->options.server->clients) > 0)
        admin->busy_us = now_us;
    else if (now_us - admin->busy_us >= admin->timeout_s * G_TIME_SPAN_SECOND)
        admin->options.quit(admin->options.data);
    return G_SOURCE_CONTINUE;
}

static void stop_timer(XldrvAdmin *admin)
{
    if (admin->timer) {
        g_source_destroy(admin->timer);
        g_clear_pointer(&admin->timer, g_source_unref);
    }
}

static GVariant *handle_set_timeout(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvAdmin *admin = admin_of(call);
    guint32 timeout, flags;

    g_variant_get(args, "(uu)", &timeout, &flags);
    if (!check_flags(flags, error))
        return NULL;
    stop_timer(admin);
    admin->timeout_s = timeout;
    admin->busy_us = g_get_monotonic_time();
    if (timeout > 0) {
        admin->timer = g_timeout_source_new_seconds(1);
        g_source_set_callback(admin->timer, on_timer, admin, NULL);
        g_source_attach(admin->timer, admin->own->context);
    }
    return nothing();
}

/* ---- the log */

static const XldrvAdminLog *args_log(XldrvCall *call, GVariant *args, gsize flags_at, GError **error)
{
    const XldrvAdminLog *log = admin_of(call)->options.log;
    guint32 flags;

    g_variant_get_child(args, flags_at, "u", &flags);
    if (!check_flags(flags, error))
        return NULL;
    if (!log)
        xldrv_set_error_from(error, VIR_FROM_ADMIN, VIR_ERR_OPERATION_UNSUPPORTED, "the log cannot be changed here");
    return log;
}

static GVariant *handle_get_outputs(XldrvCall *call, GVariant *args, GError **error)
{
    const XldrvAdminLog *log = args_log(call, args, 0, error);
    g_autofree char *text = NULL;
    guint n = 0;

    if (!log)
        return NULL;
    text = log->outputs.get(&n);
    return g_variant_new("(su)", text, n);
}

static GVariant *handle_get_filters(XldrvCall *call, GVariant *args, GError **error)
{
    const XldrvAdminLog *log = args_log(call, args, 0, error);
    g_autofree char *text = NULL;
    guint n = 0;

    if (!log)
        return NULL;
    text = log->filters.get(&n);
    return g_variant_new("(msu)", n ? text : NULL, n);
}

static GVariant *handle_set_outputs(XldrvCall *call, GVariant *args, GError **error)
{
    const XldrvAdminLog *log = args_log(call, args, 1, error);
    const char *text;

    g_variant_get_child(args, 0, "m&s", &text);
    return log && log->outputs.set(text ? text : "", error) ? nothing() : NULL;
}

static GVariant *handle_set_filters(XldrvCall *call, GVariant *args, GError **error)
{
    const XldrvAdminLog *log = args_log(call, args, 1, error);
    const char *text;

    g_variant_get_child(args, 0, "m&s", &text);
    return log && log->filters.set(text ? text : "", error) ? nothing() : NULL;
}

/* ---- the program */

#define LOOP XLDRV_PROC_LOOP
static const XldrvProcedure procedures[] = {
    {1, "CONNECT_OPEN", "u", "", "", "", LOOP | XLDRV_PROC_NO_OPEN, handle_open},
    {2, "CONNECT_CLOSE", "", "", "", "", LOOP | XLDRV_PROC_NO_OPEN, handle_close},
    {3, "CONNECT_GET_LIB_VERSION", "", "t", "", "", LOOP, handle_version},
    {4, "CONNECT_LIST_SERVERS", "uu", "asu", "16384", "", LOOP, handle_list_servers},
    {5, "CONNECT_LOOKUP_SERVER", "su", "s", "", "", LOOP, handle_lookup_server},
    {6, "SERVER_GET_THREADPOOL_PARAMETERS", "su", "aT", "32", "", LOOP, handle_get_threads},
    {7, "SERVER_SET_THREADPOOL_PARAMETERS", "saTu", "", "32", "", LOOP, handle_set_threads},
    {8, "SERVER_LIST_CLIENTS", "suu", "a(stxu)u", "16384", "", LOOP, handle_list_clients},
    {9, "SERVER_LOOKUP_CLIENT", "stu", "stxu", "", "", LOOP, handle_lookup_client},
    {10, "CLIENT_GET_INFO", "stxuu", "aT", "64", "", LOOP, handle_client_info},
    {11, "CLIENT_CLOSE", "stxuu", "", "", "", LOOP, handle_client_close},
    {12, "SERVER_GET_CLIENT_LIMITS", "su", "aT", "32", "", LOOP, handle_get_limits},
    {13, "SERVER_SET_CLIENT_LIMITS", "saTu", "", "32", "", LOOP, handle_set_limits},
    {14, "CONNECT_GET_LOGGING_OUTPUTS", "u", "su", "", "", LOOP, handle_get_outputs},
    {15, "CONNECT_GET_LOGGING_FILTERS", "u", "msu", "", "", LOOP, handle_get_filters},
    {16, "CONNECT_SET_LOGGING_OUTPUTS", "msu", "", "", "", LOOP, handle_set_outputs},
    {17, "CONNECT_SET_LOGGING_FILTERS", "msu", "", "", "", LOOP, handle_set_filters},
    {18, "SERVER_UPDATE_TLS_FILES", "su", "", "", "", LOOP, handle_update_tls},
    {19, "CONNECT_SET_DAEMON_TIMEOUT", "uu", "", "", "", LOOP, handle_set_timeout},
};

static const XldrvProgram program = {ADMIN_PROGRAM, ADMIN_VERSION, procedures, G_N_ELEMENTS(procedures)};

XldrvAdmin *xldrv_admin_new(const XldrvLimits *limits, const XldrvAdminOptions *options)
{
    XldrvAdmin *admin = g_new0(XldrvAdmin, 1);

    admin->options = *options;
    admin->own = xldrv_server_new(ADMIN_NAME, limits);
    admin->own->admin = admin;
    xldrv_server_add_program(admin->own, &program);
    return admin;
}

void xldrv_admin_free(XldrvAdmin *admin)
{
    if (!admin)
        return;
    stop_timer(admin);
    xldrv_server_free(admin->own);
    g_free(admin);
}

XldrvServer *xldrv_admin_server(XldrvAdmin *admin)
{
    return admin->own;
}
