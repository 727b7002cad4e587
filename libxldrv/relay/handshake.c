/* handshake: authenticates, opens the connection and tells whose it is. One step is one call. */
#include "config.h"

#include "libxldrv/relay/handshake.h"

#include <libvirt/libvirt.h>

#include "libxldrv/rpc/server.h"

struct _XldrvHandshake {
    const XldrvCompiled *compiled; /* program REMOTE */
    XldrvClient *client;
    char *uri;
    guint step; /* and the serial of its call */
    gboolean polkit; /* is asked for */
};

/* ---- authentication: root needs none, and the owner of a user's daemon neither */

static GVariant *no_args(const XldrvHandshake *handshake G_GNUC_UNUSED)
{
    return g_variant_new("()");
}

static gboolean take_auth_list(XldrvHandshake *handshake, GVariant *reply, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(reply, 0);
    gsize n;
    const gint32 *types = g_variant_get_fixed_array(list, &n, sizeof(*types));

    if (n > 0 && types[0] == XLDRV_AUTH_SASL)
        return xldrv_set_error(error, VIR_ERR_AUTH_FAILED, "the daemon of %s wants SASL", handshake->uri);
    handshake->polkit = n > 0 && types[0] == XLDRV_AUTH_POLKIT;
    return TRUE;
}

static gboolean wants_polkit(const XldrvHandshake *handshake)
{
    return handshake->polkit;
}

/* ---- opening */

static GVariant *open_args(const XldrvHandshake *handshake)
{
    return g_variant_new("(msu)", handshake->uri, xldrv_client_is_readonly(handshake->client) ? VIR_CONNECT_RO : 0);
}

/* ---- identity: what the daemon's access control looks at */

static GVariant *identity_args(const XldrvHandshake *handshake)
{
    g_autoptr(GVariant) params = xldrv_client_get_identity(handshake->client);

    return g_variant_new("(@a(sv)u)", params, 0);
}

/* ---- the steps */

static const struct {
    guint procedure;
    gboolean (*wanted)(const XldrvHandshake *handshake); /* NULL: always */
    GVariant *(*args)(const XldrvHandshake *handshake);
    gboolean (*take)(XldrvHandshake *handshake, GVariant *reply, GError **error); /* NULL: nothing to learn */
} steps[] = {
    {66 /* AUTH_LIST */, NULL, no_args, take_auth_list},
    {70 /* AUTH_POLKIT */, wants_polkit, no_args, NULL},
    {1 /* CONNECT_OPEN */, NULL, open_args, NULL},
    {419 /* CONNECT_SET_IDENTITY */, NULL, identity_args, NULL},
};

XldrvHandshake *xldrv_handshake_new(const XldrvCompiled *compiled, XldrvClient *client, const char *uri)
{
    XldrvHandshake *handshake = g_new0(XldrvHandshake, 1);

    handshake->compiled = compiled;
    handshake->client = client;
    handshake->uri = g_strdup(uri);
    return handshake;
}

void xldrv_handshake_free(XldrvHandshake *handshake)
{
    g_free(handshake->uri);
    g_free(handshake);
}

XldrvMessage *xldrv_handshake_next(XldrvHandshake *handshake)
{
    guint number = steps[handshake->step].procedure;
    g_autoptr(GVariant) args = g_variant_ref_sink(steps[handshake->step].args(handshake));
    const XldrvHeader header = {.program = handshake->compiled->program->program,
                                .version = handshake->compiled->program->version,
                                .procedure = (gint32)number,
                                .type = XLDRV_TYPE_CALL,
                                .serial = handshake->step};
    XldrvMessage *message = xldrv_message_new(XLDRV_OUT_PLAIN, &header);

    if (!xldrv_codec_encode(handshake->compiled->args[number - 1], args, message->bytes, NULL))
        g_assert_not_reached(); /* our own arguments, all short */
    xldrv_message_seal(message);
    return message;
}

static gboolean take_reply(XldrvHandshake *handshake, const GByteArray *bytes, GError **error)
{
    const XldrvCodec *codec = handshake->compiled->ret[steps[handshake->step].procedure - 1];
    g_autoptr(GVariant) reply = NULL;

    if (!steps[handshake->step].take)
        return TRUE;
    reply = xldrv_codec_decode(codec, bytes->data + XLDRV_HEADER_SIZE, bytes->len - XLDRV_HEADER_SIZE, NULL, error);
    return reply && steps[handshake->step].take(handshake, reply, error);
}

gboolean xldrv_handshake_expects(const XldrvHandshake *handshake, const XldrvHeader *header)
{
    return header->program == handshake->compiled->program->program && header->type == XLDRV_TYPE_REPLY &&
           header->serial == handshake->step;
}

XldrvHandshakeState xldrv_handshake_receive(XldrvHandshake *handshake, const XldrvHeader *header,
                                            const GByteArray *bytes, GError **error)
{
    if (header->status != XLDRV_STATUS_OK || !take_reply(handshake, bytes, error))
        return XLDRV_HANDSHAKE_FAILED;
    do
        handshake->step++;
    while (handshake->step < G_N_ELEMENTS(steps) && steps[handshake->step].wanted &&
           !steps[handshake->step].wanted(handshake));
    return handshake->step < G_N_ELEMENTS(steps) ? XLDRV_HANDSHAKE_GOES_ON : XLDRV_HANDSHAKE_DONE;
}
