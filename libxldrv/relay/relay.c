/* relay: the links of each client. */
#include "config.h"

#include "libxldrv/relay/relay.h"

#include "libxldrv/relay/link.h"
#include "libxldrv/rpc/api-name.h"
#include "libxldrv/rpc/raw.h"
#include "libxldrv/rpc/server.h"

/* Streams that one client may have at a time through one daemon. */
#define STREAMS_MAX 64

struct _XldrvRelay {
    XldrvRelayContext context;
    GHashTable *peers; /* Peer by XldrvClient */
};

/* A client that asked for something. */
typedef struct {
    XldrvLink *links[XLDRV_N_DAEMONS]; /* NULL where there is none */
} Peer;

static void peer_free(gpointer data)
{
    Peer *peer = data;

    for (guint i = 0; i < XLDRV_N_DAEMONS; i++)
        g_clear_pointer(&peer->links[i], xldrv_link_close);
    g_free(peer);
}

static void on_lost(XldrvLink *link, gpointer data)
{
    Peer *peer = data;

    g_clear_pointer(&peer->links[xldrv_link_daemon(link)], xldrv_link_close);
}

/* ---- what the rpc layer asks */

static gboolean serves(guint32 program, guint number, gpointer data)
{
    const XldrvRelay *relay = data;

    return program == relay->context.compiled->program->program &&
           xldrv_daemon_of_procedure(number) != XLDRV_DAEMON_NONE;
}

static Peer *get_peer(XldrvRelay *relay, XldrvClient *client)
{
    Peer *peer = g_hash_table_lookup(relay->peers, client);

    if (!peer) {
        peer = g_new0(Peer, 1);
        g_hash_table_insert(relay->peers, client, peer);
    }
    return peer;
}

static XldrvLink *get_link(XldrvRelay *relay, XldrvCall *call, GError **error)
{
    const XldrvProcedure *procedure = xldrv_call_procedure(call);
    XldrvDaemon daemon = xldrv_daemon_of_procedure(procedure->number);
    Peer *peer = get_peer(relay, xldrv_call_client(call));
    g_autoptr(GError) why = NULL;

    if (xldrv_call_header(call)->type != XLDRV_TYPE_CALL) {
        xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_RPC, "%s takes no descriptors", procedure->name);
        return NULL;
    }
    if (!peer->links[daemon])
        peer->links[daemon] = xldrv_link_new(&relay->context, xldrv_call_client(call), daemon, on_lost, peer, &why);
    if (!peer->links[daemon]) {
        g_autofree char *api = xldrv_api_name(procedure->name);
        g_info("%s", why->message);
        xldrv_set_error(error, VIR_ERR_NO_SUPPORT, "%s: neither virt%sd nor libvirtd answers in '%s'", api,
                        xldrv_daemon_name(daemon), relay->context.socket_dir);
        return NULL;
    }
    if ((procedure->flags & XLDRV_PROC_STREAM) && xldrv_link_count_streams(peer->links[daemon]) >= STREAMS_MAX) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "a connection may not have more than %d streams", STREAMS_MAX);
        return NULL;
    }
    return peer->links[daemon];
}

static void take_call(XldrvCall *call, gpointer data)
{
    XldrvRelay *relay = data;
    g_autoptr(GError) error = NULL;
    XldrvLink *link = get_link(relay, call, &error);

    if (link)
        xldrv_link_call(link, call);
    else
        xldrv_call_reply_error(call, relay->context.server, error);
}

/* Packets that come after the end of their stream, which the client did not know of, are ignored. */
static gboolean take_stream(XldrvClient *client, const XldrvHeader *header, const GByteArray *payload, gpointer data)
{
    XldrvRelay *relay = data;
    XldrvDaemon daemon = xldrv_daemon_of_procedure(header->procedure);
    const Peer *peer = g_hash_table_lookup(relay->peers, client);

    if (!serves(header->program, header->procedure, relay))
        return FALSE;
    if (peer && peer->links[daemon])
        xldrv_link_stream(peer->links[daemon], header, payload);
    return TRUE;
}

static const XldrvRaw raw = {.serves = serves, .call = take_call, .stream = take_stream};

/* ---- the relay itself */

XldrvRelay *xldrv_relay_new(XldrvServer *server, const XldrvProgram *program, const char *socket_dir)
{
    XldrvRelay *relay = g_new0(XldrvRelay, 1);

    relay->context.server = server;
    relay->context.compiled = xldrv_server_find_program(server, program->program, program->version);
    relay->context.socket_dir = g_strdup(socket_dir);
    relay->peers = g_hash_table_new_full(NULL, NULL, NULL, peer_free);
    xldrv_server_set_raw(server, &raw, relay);
    return relay;
}

void xldrv_relay_free(XldrvRelay *relay)
{
    if (!relay)
        return;
    g_hash_table_unref(relay->peers);
    g_free(relay->context.socket_dir);
    g_free(relay);
}

void xldrv_relay_client_closed(XldrvRelay *relay, XldrvClient *client)
{
    g_hash_table_remove(relay->peers, client);
}
