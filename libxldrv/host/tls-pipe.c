/* TLS around a stream of bytes.
 *
 * Both ends have certificates of one authority, and a client also compares the server's name with the one that it connected to.
 * When the server has accepted the client it sends one byte: with TLS 1.3 a client would not hear in its handshake that it was
 * refused. Then a thread moves bytes between the two sockets.
 */
#include "config.h"

#include "libxldrv/host/tls-pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define HANDSHAKE_MS     10000
#define BUFFER_BYTES     (128u << 10)
#define SERVER_IS_READY  0x06
#define DEFAULT_PRIORITY "NORMAL"

struct _XldrvTlsEnd {
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    char *peer; /* NULL: the server */
};

/* ---- files */

XldrvPki *xldrv_pki_copy(const XldrvPki *pki)
{
    XldrvPki *copy = g_new0(XldrvPki, 1);

    *copy = (XldrvPki){
        .ca_file = g_strdup(pki->ca_file),
        .crl_file = g_strdup(pki->crl_file),
        .server_cert_file = g_strdup(pki->server_cert_file),
        .server_key_file = g_strdup(pki->server_key_file),
        .client_cert_file = g_strdup(pki->client_cert_file),
        .client_key_file = g_strdup(pki->client_key_file),
        .priority = g_strdup(pki->priority),
        .backup_dir = g_strdup(pki->backup_dir),
        .backup_verify = pki->backup_verify,
    };
    return copy;
}

void xldrv_pki_free(XldrvPki *pki)
{
    if (!pki)
        return;
    g_free(pki->ca_file);
    g_free(pki->crl_file);
    g_free(pki->server_cert_file);
    g_free(pki->server_key_file);
    g_free(pki->client_cert_file);
    g_free(pki->client_key_file);
    g_free(pki->priority);
    g_free(pki->backup_dir);
    g_free(pki);
}

static gboolean fail(GError **error, const char *what, const char *path, int rc)
{
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_GNUTLS_ERROR, "cannot use %s '%s': %s", what, path,
                                gnutls_strerror(rc));
}

static gboolean check_readable(const char *what, const char *path, GError **error)
{
    return access(path, R_OK) == 0 || xldrv_set_system_error(error, errno, "Cannot read %s '%s'", what, path);
}

static gboolean load_authority(gnutls_certificate_credentials_t credentials, const XldrvPki *pki, GError **error)
{
    int rc;

    if (!check_readable("CA certificate", pki->ca_file, error))
        return FALSE;
    rc = gnutls_certificate_set_x509_trust_file(credentials, pki->ca_file, GNUTLS_X509_FMT_PEM);
    if (rc <= 0)
        return fail(error, "CA certificate", pki->ca_file, rc ? rc : GNUTLS_E_NO_CERTIFICATE_FOUND);
    if (access(pki->crl_file, F_OK) < 0)
        return TRUE;
    rc = gnutls_certificate_set_x509_crl_file(credentials, pki->crl_file, GNUTLS_X509_FMT_PEM);
    return rc >= 0 || fail(error, "revocation list", pki->crl_file, rc);
}

static gboolean load_own(gnutls_certificate_credentials_t credentials, const XldrvPki *pki, gboolean server, GError **error)
{
    const char *cert = server ? pki->server_cert_file : pki->client_cert_file;
    const char *key = server ? pki->server_key_file : pki->client_key_file;
    const char *what = server ? "server certificate" : "client certificate";
    int rc;

    if (!check_readable(what, cert, error) || !check_readable(server ? "server key" : "client key", key, error))
        return FALSE;
    rc = gnutls_certificate_set_x509_key_file(credentials, cert, key, GNUTLS_X509_FMT_PEM);
    return rc >= 0 || fail(error, what, cert, rc);
}

/* ---- ends */

static gboolean make_session(XldrvTlsEnd *end, const XldrvPki *pki, GError **error)
{
    int rc = gnutls_init(&end->session, end->peer ? GNUTLS_CLIENT : GNUTLS_SERVER);

    if (rc >= 0)
        rc = gnutls_priority_set_direct(end->session, pki->priority ? pki->priority : DEFAULT_PRIORITY, NULL);
    if (rc >= 0)
        rc = gnutls_credentials_set(end->session, GNUTLS_CRD_CERTIFICATE, end->credentials);
    if (rc < 0)
        return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_GNUTLS_ERROR, "cannot begin TLS: %s", gnutls_strerror(rc));
    if (!end->peer)
        gnutls_certificate_server_set_request(end->session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert(end->session, end->peer, 0);
    gnutls_handshake_set_timeout(end->session, HANDSHAKE_MS);
    return TRUE;
}

XldrvTlsEnd *xldrv_tls_end_new(const XldrvPki *pki, const char *peer, GError **error)
{
    g_autoptr(XldrvTlsEnd) end = g_new0(XldrvTlsEnd, 1);

    end->peer = g_strdup(peer);
    gnutls_certificate_allocate_credentials(&end->credentials);
    if (!load_authority(end->credentials, pki, error) || !load_own(end->credentials, pki, !peer, error) ||
        !make_session(end, pki, error))
        return NULL;
    return g_steal_pointer(&end);
}

void xldrv_tls_end_free(XldrvTlsEnd *end)
{
    if (!end)
        return;
    if (end->session)
        gnutls_deinit(end->session);
    gnutls_certificate_free_credentials(end->credentials);
    g_free(end->peer);
    g_free(end);
}

/* ---- handshake */

static gboolean refuse(XldrvTlsEnd *end, int rc, GError **error)
{
    const char *who = end->peer ? "server" : "client";
    guint status = rc == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR ? gnutls_session_get_verify_cert_status(end->session) : 0;
    gnutls_datum_t text = {NULL, 0};

    if (status)
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    if (text.data)
        xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "the %s's certificate is not accepted%s%s%s: %s", who,
                             end->peer ? " for host '" : "", end->peer ? end->peer : "", end->peer ? "'" : "", text.data);
    else
        xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_GNUTLS_ERROR, "TLS handshake with the %s failed: %s", who,
                             gnutls_strerror(rc));
    gnutls_free(text.data);
    return FALSE;
}

/* The server says that it has accepted the client, who waits for it. */
static gboolean agree(XldrvTlsEnd *end, GError **error)
{
    guint8 word = SERVER_IS_READY;
    ssize_t n;

    if (!end->peer) {
        n = gnutls_record_send(end->session, &word, 1);
        return n == 1 || refuse(end, (int)n, error);
    }
    word = 0;
    gnutls_record_set_timeout(end->session, HANDSHAKE_MS);
    do
        n = gnutls_record_recv(end->session, &word, 1);
    while (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_AGAIN);
    gnutls_record_set_timeout(end->session, 0); /* from now on nothing waits */
    if (n == 1 && word == SERVER_IS_READY)
        return TRUE;
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED,
                                "host '%s' does not accept this host's certificate, or does not expect TLS: %s", end->peer,
                                n < 0 ? gnutls_strerror((int)n) : "it closed the connection");
}

static gboolean shake_hands(XldrvTlsEnd *end, int fd, GError **error)
{
    int rc;

    gnutls_transport_set_int(end->session, fd);
    do
        rc = gnutls_handshake(end->session);
    while (rc < 0 && !gnutls_error_is_fatal(rc));
    return rc < 0 ? refuse(end, rc, error) : agree(end, error);
}

/* ---- moving bytes */

typedef struct {
    XldrvTlsEnd *end;
    int tls_fd, plain_fd;
    guint8 *out, *in; /* to the other host, and from it; */
    gsize out_used, out_done, in_used, in_done;
    gboolean out_ended, in_ended; /* no more will come */
} Mover;

/* 0: nothing now, -1: the end. */
static ssize_t tls_result(ssize_t n)
{
    return n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? 0 : n <= 0 ? -1 : n;
}

static ssize_t plain_result(ssize_t n)
{
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n <= 0 ? -1 : n;
}

/* Reads when what was before has gone. FALSE: writing is of no use any more. */
static gboolean move_out(Mover *m)
{
    ssize_t n;

    if (m->out_done == m->out_used && !m->out_ended) {
        n = plain_result(recv(m->plain_fd, m->out, BUFFER_BYTES, MSG_DONTWAIT));
        m->out_ended = n < 0;
        m->out_done = 0;
        m->out_used = n > 0 ? (gsize)n : 0;
    }
    while (m->out_done < m->out_used) {
        n = tls_result(gnutls_record_send(m->end->session, m->out + m->out_done, m->out_used - m->out_done));
        if (n <= 0)
            return n == 0;
        m->out_done += (gsize)n;
    }
    return TRUE;
}

static gboolean move_in(Mover *m)
{
    ssize_t n;

    if (m->in_done == m->in_used && !m->in_ended) {
        n = tls_result(gnutls_record_recv(m->end->session, m->in, BUFFER_BYTES));
        m->in_ended = n < 0;
        m->in_done = 0;
        m->in_used = n > 0 ? (gsize)n : 0;
    }
    while (m->in_done < m->in_used) {
        n = plain_result(send(m->plain_fd, m->in + m->in_done, m->in_used - m->in_done, MSG_DONTWAIT | MSG_NOSIGNAL));
        if (n <= 0)
            return n == 0;
        m->in_done += (gsize)n;
    }
    return TRUE;
}

/* One of the two has ended, and what it had said has arrived. */
static gboolean is_over(const Mover *m)
{
    return (m->out_ended && m->out_done == m->out_used) || (m->in_ended && m->in_done == m->in_used);
}

static void wait_for_work(const Mover *m)
{
    gboolean out_waits = m->out_done < m->out_used, in_waits = m->in_done < m->in_used;
    struct pollfd fds[] = {
        {.fd = m->tls_fd, .events = (short)((in_waits ? 0 : POLLIN) | (out_waits ? POLLOUT : 0))},
        {.fd = m->plain_fd, .events = (short)((out_waits ? 0 : POLLIN) | (in_waits ? POLLOUT : 0))},
    };

    if (in_waits || !gnutls_record_check_pending(m->end->session))
        poll(fds, G_N_ELEMENTS(fds), -1);
}

static gpointer move(gpointer data)
{
    Mover *m = data;

    while (move_out(m) && move_in(m) && !is_over(m))
        wait_for_work(m);
    if (m->out_ended)
        gnutls_bye(m->end->session, GNUTLS_SHUT_WR);
    close(m->plain_fd);
    close(m->tls_fd);
    xldrv_tls_end_free(m->end);
    g_free(m->out);
    g_free(m->in);
    g_free(m);
    return NULL;
}

int xldrv_tls_end_start(XldrvTlsEnd *taken, int fd, GError **error)
{
    g_autoptr(XldrvTlsEnd) end = taken;
    int fds[2];
    Mover *m;

    if (!shake_hands(end, fd, error)) {
        close(fd);
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        xldrv_set_system_error(error, errno, "cannot make a socket");
        close(fd);
        return -1;
    }
    m = g_new0(Mover, 1);
    *m = (Mover){.end = g_steal_pointer(&end), .tls_fd = fd, .plain_fd = fds[1], .out = g_malloc(BUFFER_BYTES),
                 .in = g_malloc(BUFFER_BYTES)};
    g_thread_unref(g_thread_new("tls", move, m));
    return fds[0];
}
