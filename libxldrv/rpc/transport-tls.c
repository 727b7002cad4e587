/* transport-tls: TLS on a TCP socket.
 *
 * Before the first message come the handshake, the judgement of the client's certificate, and one byte that tells the
 * client of it (libvirt's protocol; a client that is refused sees the connection close). */
#include "config.h"

#include <errno.h>
#include <unistd.h>

#include "libxldrv/rpc/tls.h"
#include "libxldrv/rpc/transport.h"

typedef enum { HANDSHAKING, CONFIRMING, READY } State;

typedef struct {
    XldrvTransport base;
    XldrvTls *tls;        /* the server's, which outlives its clients */
    XldrvTlsFiles *files; /* a reference: a session uses them to its end */
    gnutls_session_t session;
    State state;
    char *peer;
} TlsTransport;

static TlsTransport *tls_of(XldrvTransport *transport)
{
    return (TlsTransport *)transport;
}

/* What gnutls said, as errno; always -1. */
static int fail(int rc)
{
    errno = rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED ? EAGAIN : EPROTO;
    if (errno == EPROTO)
        g_info("TLS: %s", gnutls_strerror(rc));
    return -1;
}

/* ---- before the first message */

static int shake_hands(TlsTransport *tls)
{
    g_autoptr(GError) why = NULL;
    int rc;

    do
        rc = gnutls_handshake(tls->session);
    while (rc < 0 && rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED && !gnutls_error_is_fatal(rc));
    if (rc < 0)
        return fail(rc);
    if (!xldrv_tls_check_peer(tls->tls, tls->session, &tls->peer, &why)) {
        g_message("a client is refused: %s", why->message);
        errno = EACCES;
        return -1;
    }
    tls->state = CONFIRMING;
    return 0;
}

static int confirm(TlsTransport *tls)
{
    gssize rc = gnutls_record_send(tls->session, "\1", 1);

    if (rc < 0)
        return fail(rc);
    tls->state = READY;
    return 0;
}

static int tls_handshake(XldrvTransport *transport)
{
    TlsTransport *tls = tls_of(transport);
    int rc = tls->state == HANDSHAKING ? shake_hands(tls) : 0;

    if (rc == 0 && tls->state == CONFIRMING)
        rc = confirm(tls);
    transport->wants_write = gnutls_record_get_direction(tls->session) == 1;
    return rc;
}

/* ---- messages */

static gssize tls_receive(XldrvTransport *transport, void *buffer, gsize length)
{
    gssize n;

    do
        n = gnutls_record_recv(tls_of(transport)->session, buffer, length);
    while (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_WARNING_ALERT_RECEIVED);
    if (n == GNUTLS_E_PREMATURE_TERMINATION)
        return 0;
    return n < 0 ? fail(n) : n;
}

static gssize tls_send(XldrvTransport *transport, const void *data, gsize length)
{
    gssize n;

    do
        n = gnutls_record_send(tls_of(transport)->session, data, length);
    while (n == GNUTLS_E_INTERRUPTED);
    return n < 0 ? fail(n) : n;
}

static gboolean tls_pending(XldrvTransport *transport)
{
    return gnutls_record_check_pending(tls_of(transport)->session) > 0;
}

static void tls_free(XldrvTransport *transport)
{
    TlsTransport *tls = tls_of(transport);

    if (tls->state == READY)
        gnutls_bye(tls->session, GNUTLS_SHUT_WR); /* as far as the socket takes it */
    gnutls_deinit(tls->session);
    xldrv_tls_files_unref(tls->files);
    close(transport->fd);
    g_free(tls->peer);
    g_free(tls);
}

static const XldrvTransportOps tls_ops = {
    .handshake = tls_handshake,
    .receive = tls_receive,
    .send = tls_send,
    .pending = tls_pending,
    .free = tls_free,
};

/* Without session tickets: libvirt's clients take whatever comes before the byte for a failure. */
XldrvTransport *xldrv_transport_new_tls(int fd, XldrvTls *server)
{
    TlsTransport *tls = g_new0(TlsTransport, 1);

    tls->base.ops = &tls_ops;
    tls->base.fd = fd;
    tls->tls = server;
    tls->files = xldrv_tls_files_ref(server->files);
    gnutls_init(&tls->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS);
    gnutls_priority_set_direct(tls->session, server->priority, NULL);
    gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, tls->files->credentials);
    gnutls_certificate_server_set_request(tls->session, server->verify ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
    gnutls_transport_set_int(tls->session, fd);
    return &tls->base;
}

const char *xldrv_transport_tls_peer(XldrvTransport *transport)
{
    return tls_of(transport)->peer;
}

guint xldrv_transport_tls_bits(XldrvTransport *transport)
{
    return 8 * gnutls_cipher_get_key_size(gnutls_cipher_get(tls_of(transport)->session));
}
