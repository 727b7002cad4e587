/* transport-sasl: the security layer of SASL on another transport. */
#include "config.h"

#include <errno.h>
#include <sasl/sasl.h>
#include <string.h>

#include "libxldrv/rpc/sasl.h"

#define READ_BYTES 8192

typedef struct {
    XldrvTransport base;
    XldrvTransport *inner;
    XldrvSasl *sasl;
    gboolean encodes;
    const char *decoded; /* the library's, until it decodes again */
    gsize decoded_left;
    const char *encoded; /* likewise */
    gsize encoded_left;
    gsize plain; /* what that was before */
} SaslTransport;

static SaslTransport *layer_of(XldrvTransport *transport)
{
    return (SaslTransport *)transport;
}

static int fail(int rc)
{
    g_info("SASL: %s", sasl_errstring(rc, NULL, NULL));
    errno = EPROTO;
    return -1;
}

/* Until there is something: a piece may arrive in parts. 1 then, otherwise as receive. */
static gssize decode(SaslTransport *layer)
{
    char bytes[READ_BYTES];
    unsigned length = 0;

    while (layer->decoded_left == 0) {
        gssize n = layer->inner->ops->receive(layer->inner, bytes, sizeof(bytes));
        if (n <= 0)
            return n;
        int rc = sasl_decode(xldrv_sasl_connection(layer->sasl), bytes, n, &layer->decoded, &length);
        if (rc != SASL_OK)
            return fail(rc);
        layer->decoded_left = length;
    }
    return 1;
}

static gssize sasl_receive(XldrvTransport *transport, void *buffer, gsize length)
{
    SaslTransport *layer = layer_of(transport);
    gssize got = decode(layer);

    if (got <= 0)
        return got;
    gsize n = MIN(length, layer->decoded_left);
    memcpy(buffer, layer->decoded, n);
    layer->decoded += n;
    layer->decoded_left -= n;
    return n;
}

static int encode(SaslTransport *layer, const void *data, gsize length)
{
    const void *max = NULL;
    unsigned encoded = 0;
    sasl_conn_t *connection = xldrv_sasl_connection(layer->sasl);
    int rc = sasl_getprop(connection, SASL_MAXOUTBUF, &max);

    layer->plain = MIN(length, rc == SASL_OK && *(const unsigned *)max > 0 ? *(const unsigned *)max : READ_BYTES);
    rc = sasl_encode(connection, data, layer->plain, &layer->encoded, &encoded);
    layer->encoded_left = encoded;
    return rc == SASL_OK ? 0 : fail(rc);
}

static gssize sasl_send(XldrvTransport *transport, const void *data, gsize length)
{
    SaslTransport *layer = layer_of(transport);

    if (!layer->encodes)
        return layer->inner->ops->send(layer->inner, data, length);
    if (layer->encoded_left == 0 && encode(layer, data, length) < 0)
        return -1;
    while (layer->encoded_left > 0) {
        gssize n = layer->inner->ops->send(layer->inner, layer->encoded, layer->encoded_left);
        if (n < 0)
            return n;
        layer->encoded += n;
        layer->encoded_left -= n;
    }
    return layer->plain;
}

static gboolean sasl_pending(XldrvTransport *transport)
{
    SaslTransport *layer = layer_of(transport);

    return layer->decoded_left > 0 || (layer->inner->ops->pending && layer->inner->ops->pending(layer->inner));
}

static void layer_free(XldrvTransport *transport)
{
    SaslTransport *layer = layer_of(transport);

    layer->inner->ops->free(layer->inner);
    xldrv_sasl_free(layer->sasl);
    g_free(layer);
}

static const XldrvTransportOps sasl_ops = {
    .receive = sasl_receive,
    .send = sasl_send,
    .pending = sasl_pending,
    .free = layer_free,
};

XldrvTransport *xldrv_transport_new_sasl(XldrvTransport *inner, XldrvSasl *sasl)
{
    SaslTransport *layer = g_new0(SaslTransport, 1);

    layer->base.ops = &sasl_ops;
    layer->base.fd = inner->fd;
    layer->inner = inner;
    layer->sasl = sasl;
    return &layer->base;
}

void xldrv_transport_sasl_encode(XldrvTransport *transport)
{
    layer_of(transport)->encodes = TRUE;
}
