/* TLS around a stream of bytes: for those that speak to a socket and know nothing of it. */
#pragma once

#include <glib.h>

/* Where certificates are: of the authority, what it called back (may be missing), and one's own at either end. */
typedef struct {
    char *ca_file, *crl_file;
    char *server_cert_file, *server_key_file;
    char *client_cert_file, *client_key_file;
    char *priority; /* NULL: gnutls's own */
    char *backup_dir; /* what backups are served with, in files of QEMU's names */
    gboolean backup_verify; /* whose clients need certificates */
} XldrvPki;

XldrvPki *xldrv_pki_copy(const XldrvPki *pki);
void xldrv_pki_free(XldrvPki *pki);

typedef struct _XldrvTlsEnd XldrvTlsEnd;

/* One end. The server's, where @peer is NULL, or that of a client of the host @peer. Reads the files; NULL with an error that
 * names the one that cannot be used. */
XldrvTlsEnd *xldrv_tls_end_new(const XldrvPki *pki, const char *peer, GError **error);
void xldrv_tls_end_free(XldrvTlsEnd *end);

/* Speaks TLS on @fd, a socket, until each end has accepted the other's certificate; blocks for some seconds at most. The
 * socket that is returned carries what is inside, and is moved by a thread until either of them ends, for as long as this process
 * lives. Takes @fd and @end in any case. -1 with an error. */
int xldrv_tls_end_start(XldrvTlsEnd *end, int fd, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvPki, xldrv_pki_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvTlsEnd, xldrv_tls_end_free)
