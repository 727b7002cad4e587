/* server: programs, clients and their time.
 *
 * A server listens (listen.c) and has clients (client.c), each a state machine on the main loop
 * that reads whole messages. dispatch.c checks a message against the row of its procedure and hands
 * calls to workers (workers.c); what workers and other threads have to say to a client goes through
 * the mailbox, in order. So a client's state needs no lock, and no client, however it behaves, can
 * hold up the loop: sockets and streams never block, and everything that a client can make us keep
 * is bounded:
 *
 *   calls unanswered       max_client_requests, then it is not read (client-io.c)
 *   one message            32 MiB; 320 KiB before authentication
 *   messages of all        message_bytes, then whoever sends a long one is closed
 *   stream data            1 MiB, then it is not read; 64 streams
 *   events not read        16 MiB, then it is closed (client.c)
 *   half a message         stall_timeout, then it is closed
 *   no authentication      auth_timeout, then it is closed; at most max_anonymous_clients */
#include "config.h"

#include "libxldrv/rpc/server.h"

#include <signal.h>

#include "libxldrv/rpc/client.h"
#include "libxldrv/rpc/dispatch.h"
#include "libxldrv/rpc/error.h"
#include "libxldrv/rpc/raw.h"

const XldrvLimits xldrv_default_limits = {
    .max_clients = 5000,
    .max_anonymous_clients = 20,
    .max_queued_clients = 1000,
    .max_client_requests = 5,
    .min_workers = 5,
    .max_workers = 20,
    .prio_workers = 5,
    .keepalive_interval = 5,
    .keepalive_count = 5,
    .auth_timeout = 30,
    .stall_timeout = 60,
    .message_bytes = 256 * 1024 * 1024,
};

/* ---- programs */

static XldrvCodec *compile(const char *name, const char *signature, const char **limits)
{
    g_autoptr(GError) error = NULL;
    XldrvCodec *codec = xldrv_codec_new(signature, limits, &error);
    if (!codec)
        g_error("%s: %s", name, error->message); /* our own table */
    return codec;
}

static void compiled_free(XldrvCompiled *compiled)
{
    for (guint i = 0; i < compiled->program->n_procedures; i++) {
        xldrv_codec_free(compiled->args[i]);
        xldrv_codec_free(compiled->ret[i]);
    }
    g_free(compiled->args);
    g_free(compiled->ret);
    g_free(compiled);
}

void xldrv_server_add_program(XldrvServer *server, const XldrvProgram *program)
{
    XldrvCompiled *compiled = g_new0(XldrvCompiled, 1);
    compiled->program = program;
    compiled->args = g_new0(XldrvCodec *, program->n_procedures);
    compiled->ret = g_new0(XldrvCodec *, program->n_procedures);
    for (guint i = 0; i < program->n_procedures; i++) {
        const XldrvProcedure *procedure = &program->procedures[i];
        const char *limits = procedure->limits;
        g_assert(procedure->number == i + 1);
        compiled->args[i] = compile(procedure->name, procedure->args, &limits);
        compiled->ret[i] = compile(procedure->name, procedure->ret, &limits);
        g_assert(*limits == '\0');
    }
    g_ptr_array_add(server->programs, compiled);
}

const XldrvProcedure *xldrv_compiled_procedure(const XldrvCompiled *compiled, gint64 number)
{
    if (number < 1 || number > compiled->program->n_procedures)
        return NULL;
    const XldrvProcedure *procedure = &compiled->program->procedures[number - 1];
    return procedure->flags & XLDRV_PROC_EVENT ? NULL : procedure;
}

const XldrvCompiled *xldrv_server_find_program(XldrvServer *server, guint32 program,
                                               guint32 version)
{
    for (guint i = 0; i < server->programs->len; i++) {
        const XldrvCompiled *compiled = g_ptr_array_index(server->programs, i);
        if (compiled->program->program == program && compiled->program->version == version)
            return compiled;
    }
    return NULL;
}

/* ---- clients */

void xldrv_server_number_clients(XldrvServer *server, guint64 first)
{
    server->last_client_id = first - 1;
}

static gboolean on_tick(gpointer data)
{
    XldrvServer *server = data;
    gint64 now_us = g_get_monotonic_time();
    g_autoptr(GList) clients = g_hash_table_get_keys(server->clients);

    /* One that is dropped here drops itself alone, so the others of the list stay. */
    for (GList *l = clients; l; l = l->next)
        xldrv_client_tick(l->data, now_us);
    xldrv_server_update_accepting(server);
    xldrv_server_update_tick(server);
    return G_SOURCE_CONTINUE;
}

void xldrv_server_update_tick(XldrvServer *server)
{
    gboolean wanted = g_hash_table_size(server->clients) > 0 || !server->accepting;

    if (wanted && !server->tick) {
        server->tick = g_timeout_source_new_seconds(1);
        g_source_set_callback(server->tick, on_tick, server, NULL);
        g_source_attach(server->tick, server->context);
    } else if (!wanted && server->tick) {
        g_source_destroy(server->tick);
        g_clear_pointer(&server->tick, g_source_unref);
    }
}

void xldrv_server_add_client(XldrvServer *server, int fd, const XldrvListen *how)
{
    XldrvClient *client = xldrv_client_new(server, fd, how);
    if (!client->authenticated)
        server->n_anonymous++;
    g_hash_table_add(server->clients, client);
    xldrv_server_update_tick(server);
}

void xldrv_server_client_authenticated(XldrvServer *server)
{
    server->n_anonymous--;
    xldrv_server_update_accepting(server);
}

void xldrv_server_client_gone(XldrvServer *server, XldrvClient *client, gboolean authenticated)
{
    if (!authenticated)
        server->n_anonymous--;
    if (server->client_closed)
        server->client_closed(client, server->client_closed_data);
    g_hash_table_remove(server->clients, client);
    xldrv_server_update_accepting(server);
    xldrv_server_update_tick(server);
}

void xldrv_server_set_client_closed(XldrvServer *server, XldrvClientClosedFn fn, gpointer user_data)
{
    server->client_closed = fn;
    server->client_closed_data = user_data;
}

void xldrv_server_set_raw(XldrvServer *server, const XldrvRaw *raw, gpointer user_data)
{
    server->raw = raw;
    server->raw_data = user_data;
}

void xldrv_server_set_access(XldrvServer *server, XldrvAccessFn fn)
{
    server->access = fn;
}

void xldrv_server_set_error_code(XldrvServer *server, XldrvErrorCodeFn fn)
{
    server->error_code = fn;
}

/* ---- the server itself */

XldrvServer *xldrv_server_new(const char *name, const XldrvLimits *limits)
{
    XldrvServer *server = g_new0(XldrvServer, 1);
    const char *no_limits = "";

    /* A pipe behind a stream may have lost its reader: that is an error of that write, not of the
     * process. */
    signal(SIGPIPE, SIG_IGN);
    server->name = g_strdup(name);
    server->limits = *limits;
    server->context = g_main_context_ref_thread_default();
    server->mailbox = xldrv_mailbox_new(server->context);
    server->workers = xldrv_workers_new(limits->min_workers, limits->max_workers,
                                        limits->prio_workers, xldrv_call_run, server);
    server->programs = g_ptr_array_new_with_free_func((GDestroyNotify)compiled_free);
    server->error_codec = compile("error", XLDRV_ERROR_SIGNATURE, &no_limits);
    server->listeners = g_ptr_array_new_with_free_func(xldrv_listener_free);
    server->clients = g_hash_table_new_full(NULL, NULL, (GDestroyNotify)xldrv_client_unref, NULL);
    server->accepting = TRUE;
    return server;
}

static void drop_clients(XldrvServer *server)
{
    g_autoptr(GList) clients = g_hash_table_get_keys(server->clients);
    for (GList *l = clients; l; l = l->next)
        xldrv_client_drop(l->data, "the server ends");
}

void xldrv_server_free(XldrvServer *server)
{
    if (!server)
        return;
    g_ptr_array_set_size(server->listeners, 0);
    drop_clients(server);
    /* From here on nobody but our threads posts letters of calls and files, so the mailbox closes
     * after them. */
    xldrv_workers_free(server->workers, xldrv_call_drop);
    if (server->file_pool)
        g_thread_pool_free(server->file_pool, FALSE, TRUE);
    if (server->auth_pool)
        g_thread_pool_free(server->auth_pool, FALSE, TRUE);
    xldrv_mailbox_close(server->mailbox);
    xldrv_mailbox_unref(server->mailbox);

    g_ptr_array_unref(server->listeners);
    g_hash_table_unref(server->clients);
    g_ptr_array_unref(server->programs);
    xldrv_codec_free(server->error_codec);
    g_main_context_unref(server->context);
    g_free(server->name);
    g_free(server);
}
