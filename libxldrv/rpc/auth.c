/* auth: none for root, the owner and readers; others are told that polkit is needed and not to be
 * had. */
#include "config.h"

#include "libxldrv/rpc/auth.h"

#include <unistd.h>

#include "libxldrv/rpc/server.h"

enum {
    AUTH_LIST = 66,
    AUTH_SASL_INIT = 67,
    AUTH_SASL_START = 68,
    AUTH_SASL_STEP = 69,
    AUTH_POLKIT = 70
};

XldrvAuth xldrv_auth_required(const XldrvPeer *peer, XldrvAuth wanted)
{
    if (wanted == XLDRV_AUTH_POLKIT && peer->known && (peer->uid == 0 || peer->uid == geteuid()))
        return XLDRV_AUTH_NONE;
    return wanted;
}

static GVariant *handle_list(XldrvClient *client, GError **error G_GNUC_UNUSED)
{
    gint32 type = client->authenticated ? XLDRV_AUTH_NONE : client->auth;
    return g_variant_new("(@ai)",
                         g_variant_new_fixed_array(G_VARIANT_TYPE_INT32, &type, 1, sizeof(type)));
}

static GVariant *handle_polkit(XldrvClient *client, GError **error)
{
    if (client->authenticated || client->auth != XLDRV_AUTH_POLKIT)
        xldrv_set_error_from(error, VIR_FROM_POLKIT, VIR_ERR_AUTH_FAILED,
                             "this connection does not use polkit");
    else
        xldrv_set_error_from(
            error, VIR_FROM_POLKIT, VIR_ERR_AUTH_UNAVAILABLE,
            "only root and user %u may manage domains here, not user %u: polkit is not supported",
            (guint)geteuid(), client->peer.uid);
    return NULL;
}

static GVariant *handle_sasl(XldrvClient *client G_GNUC_UNUSED, GError **error)
{
    xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED,
                         "this connection does not use SASL");
    return NULL;
}

static const struct {
    guint number;
    GVariant *(*handle)(XldrvClient *client, GError **error);
} handlers[] = {
    {AUTH_LIST, handle_list},      {AUTH_SASL_INIT, handle_sasl}, {AUTH_SASL_START, handle_sasl},
    {AUTH_SASL_STEP, handle_sasl}, {AUTH_POLKIT, handle_polkit},
};

GVariant *xldrv_auth_handle(XldrvClient *client, const XldrvProcedure *procedure, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(handlers); i++)
        if (handlers[i].number == procedure->number)
            return handlers[i].handle(client, error);
    xldrv_set_error(error, VIR_ERR_NO_SUPPORT, "%s", procedure->name);
    return NULL;
}
