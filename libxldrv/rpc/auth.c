/* auth: none, SASL (sasl.c) or polkit (polkit.c).
 *
 * Each AUTH procedure is a job that is answered at once, by a thread (SASL may read files, or ask the network), or when
 * the system's authority has answered. A client has one job at a time. */
#include "config.h"

#include "libxldrv/rpc/auth.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/rpc/polkit.h"
#include "libxldrv/rpc/sasl.h"
#include "libxldrv/rpc/server.h"

/* A client that failed as often is closed. */
#define FAILURES_MAX 5
#define THREADS      4

enum {
    AUTH_LIST = 66,
    AUTH_SASL_INIT = 67,
    AUTH_SASL_START = 68,
    AUTH_SASL_STEP = 69,
    AUTH_POLKIT = 70
};

typedef struct _Job Job;
struct _Job {
    XldrvClient *client;
    const XldrvProcedure *procedure;
    void (*run)(Job *job); /* on a thread */
    GVariant *args;
    XldrvAuthDoneFn done;
    gpointer data;
    GVariant *reply;
    GError *error;
    gboolean complete; /* the client is authenticated */
    char *user;        /* by SASL */
};

XldrvAuth xldrv_auth_required(const XldrvPeer *peer, XldrvAuth wanted)
{
    if (wanted == XLDRV_AUTH_POLKIT && peer->known && (peer->uid == 0 || peer->uid == geteuid()))
        return XLDRV_AUTH_NONE;
    return wanted;
}

/* ---- the end of a job, on the main loop */

/* What was received in clear ends with the message that is being answered: anything behind it did not come from a client
 * that keeps to the protocol. */
static gboolean begin_layer(XldrvClient *client, GError **error)
{
    if (client->read_state != XLDRV_READ_HEADER || client->n_read > 0)
        return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "a message came before its time");
    client->transport = xldrv_transport_new_sasl(client->transport, g_steal_pointer(&client->sasl));
    client->begins_layer = TRUE;
    return TRUE;
}

static void accept(Job *job)
{
    XldrvClient *client = job->client;

    if (client->sasl && xldrv_sasl_has_layer(client->sasl) && !begin_layer(client, &job->error)) {
        g_clear_pointer(&job->reply, g_variant_unref);
        return;
    }
    g_mutex_lock(&client->lock);
    client->sasl_user = g_steal_pointer(&job->user);
    g_mutex_unlock(&client->lock);
    xldrv_client_set_authenticated(client);
}

static void count_failure(XldrvClient *client, const GError *error)
{
    g_clear_pointer(&client->sasl, xldrv_sasl_free);
    g_message("%s: client %" G_GUINT64_FORMAT " is not authenticated: %s", client->server->name, client->id,
              error->message);
    if (++client->auth_failures >= FAILURES_MAX)
        xldrv_client_close(client);
}

static void finish(Job *job)
{
    XldrvClient *client = job->client;

    client->auth_busy = FALSE;
    g_clear_object(&client->auth_cancellable);
    if (client->server && job->complete)
        accept(job);
    if (client->server && job->error)
        count_failure(client, job->error);
    job->done(job->data, job->reply, job->error);
    xldrv_client_update(client);
    xldrv_client_unref(client);
    g_clear_pointer(&job->reply, g_variant_unref);
    g_clear_error(&job->error);
    g_clear_pointer(&job->args, g_variant_unref);
    g_free(job->user);
    g_free(job);
}

static void finish_letter(gpointer job)
{
    finish(job);
}

/* ---- SASL, on a thread */

void xldrv_auth_run(gpointer data, gpointer server G_GNUC_UNUSED)
{
    Job *job = data;

    job->run(job);
    xldrv_mailbox_post(job->client->mailbox, finish_letter, job);
}

static void run_sasl_init(Job *job)
{
    XldrvClient *client = job->client;
    g_autofree char *names = NULL;

    if (client->sasl)
        xldrv_set_error_from(&job->error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "SASL has begun already");
    else
        client->sasl = xldrv_sasl_new(client->needs_layer, client->min_ssf, client->tls_bits, &job->error);
    if (client->sasl && !job->error && (names = xldrv_sasl_mechanisms(client->sasl, &job->error)))
        job->reply = g_variant_ref_sink(g_variant_new("(s)", names));
}

/* The reply of START and STEP: complete, nil, data. */
static GVariant *step_reply(gboolean complete, const char *answer, guint length)
{
    GVariant *data = g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, answer ? answer : "", length, 1);
    return g_variant_ref_sink(g_variant_new("(ii@ay)", complete, answer == NULL, data));
}

static void sasl_step(Job *job, const char *mechanism, gint32 nil, GVariant *data)
{
    gsize length = 0;
    guint answer_length;
    const char *answer, *bytes = g_variant_get_fixed_array(data, &length, 1);
    XldrvSasl *sasl = job->client->sasl;

    if (!sasl) {
        xldrv_set_error_from(&job->error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "SASL has not begun");
        return;
    }
    if (!xldrv_sasl_step(sasl, mechanism, nil ? NULL : bytes ? bytes : "", nil ? 0 : length, &job->complete, &answer,
                         &answer_length, &job->error) ||
        (job->complete && !(job->user = xldrv_sasl_user(sasl, job->client->sasl_allowed, &job->error)))) {
        job->complete = FALSE;
        return;
    }
    job->reply = step_reply(job->complete, answer, answer_length);
}

static void run_sasl_start(Job *job)
{
    const char *mechanism;
    gint32 nil;
    g_autoptr(GVariant) data = NULL;

    g_variant_get(job->args, "(&si@ay)", &mechanism, &nil, &data);
    sasl_step(job, mechanism, nil, data);
}

static void run_sasl_step(Job *job)
{
    gint32 nil;
    g_autoptr(GVariant) data = NULL;

    g_variant_get(job->args, "(i@ay)", &nil, &data);
    sasl_step(job, NULL, nil, data);
}

static void begin_sasl(Job *job)
{
    XldrvServer *server = job->client->server;

    job->run = job->procedure->number == AUTH_SASL_INIT    ? run_sasl_init
               : job->procedure->number == AUTH_SASL_START ? run_sasl_start
                                                           : run_sasl_step;
    if (!server->auth_pool)
        server->auth_pool = g_thread_pool_new(xldrv_auth_run, server, THREADS, FALSE, NULL);
    g_thread_pool_push(server->auth_pool, job, NULL);
}

/* ---- polkit */

static void on_polkit(gpointer data, const GError *error)
{
    Job *job = data;

    job->complete = error == NULL;
    if (error)
        job->error = g_error_copy(error);
    else
        job->reply = g_variant_ref_sink(g_variant_new("(i)", TRUE));
    finish(job);
}

static void begin_polkit(Job *job)
{
    XldrvClient *client = job->client;
    const char *action = client->readonly ? "org.libvirt.unix.monitor" : "org.libvirt.unix.manage";

    client->auth_cancellable = g_cancellable_new();
    xldrv_polkit_authenticate(&client->peer, action, client->auth_cancellable, on_polkit, job);
}

/* ---- what there is */

static void begin_list(Job *job)
{
    XldrvClient *client = job->client;
    gint32 type = client->authenticated ? XLDRV_AUTH_NONE : client->auth;

    job->reply = g_variant_ref_sink(
        g_variant_new("(@ai)", g_variant_new_fixed_array(G_VARIANT_TYPE_INT32, &type, 1, sizeof(type))));
    finish(job);
}

static const struct {
    guint number;
    XldrvAuth auth; /* of clients that may call it; NONE: all */
    const char *name;
    void (*begin)(Job *job);
} procedures[] = {
    {AUTH_LIST, XLDRV_AUTH_NONE, NULL, begin_list},         {AUTH_SASL_INIT, XLDRV_AUTH_SASL, "SASL", begin_sasl},
    {AUTH_SASL_START, XLDRV_AUTH_SASL, "SASL", begin_sasl}, {AUTH_SASL_STEP, XLDRV_AUTH_SASL, "SASL", begin_sasl},
    {AUTH_POLKIT, XLDRV_AUTH_POLKIT, "polkit", begin_polkit},
};

void xldrv_auth_handle(XldrvClient *client, const XldrvProcedure *procedure, GVariant *args, XldrvAuthDoneFn done,
                       gpointer data)
{
    Job *job = g_new0(Job, 1);
    gsize i = 0;

    *job = (Job){.client = xldrv_client_ref(client),
                 .procedure = procedure,
                 .args = args ? g_variant_ref(args) : NULL,
                 .done = done,
                 .data = data};
    client->auth_busy = TRUE;
    while (i < G_N_ELEMENTS(procedures) - 1 && procedures[i].number != procedure->number)
        i++;
    if (procedures[i].auth == XLDRV_AUTH_NONE || (client->auth == procedures[i].auth && !client->authenticated)) {
        procedures[i].begin(job);
        return;
    }
    xldrv_set_error_from(&job->error, procedures[i].auth == XLDRV_AUTH_POLKIT ? VIR_FROM_POLKIT : VIR_FROM_RPC,
                         VIR_ERR_AUTH_FAILED, "this connection does not use %s", procedures[i].name);
    finish(job);
}
