/* tls: the server's end of TLS: its certificate, and whose certificates it accepts. */
#pragma once

#include <gio/gio.h>
#include <gnutls/gnutls.h>

#include "libxldrv/rpc/rpc.h"

/* What was read from the files at one time; connections keep theirs. All of it belongs to the main loop. */
typedef struct {
    guint refs;
    gnutls_certificate_credentials_t credentials;
} XldrvTlsFiles;

XldrvTlsFiles *xldrv_tls_files_ref(XldrvTlsFiles *files);
void xldrv_tls_files_unref(XldrvTlsFiles *files);

struct _XldrvTls {
    char *key_file, *cert_file, *ca_file, *crl_file, *priority;
    GPtrArray *allowed; /* GPatternSpec, of distinguished names; NULL: all */
    gboolean verify, sanity;
    XldrvTlsFiles *files;
};

/* Whether the peer's certificate is one that @tls accepts; *name gets its distinguished name, or NULL where none is
 * asked for. FALSE with VIR_ERR_AUTH_FAILED. */
gboolean xldrv_tls_check_peer(XldrvTls *tls, gnutls_session_t session, char **name, GError **error);

/* tls-check.c: whether the server's own certificate and that of its authority can work: in time, of the right kind,
 * and the one signed by the other. FALSE with VIR_ERR_SYSTEM_ERROR or VIR_ERR_CONFIG_UNSUPPORTED that names the file. */
gboolean xldrv_tls_check_own(const char *cert_file, const char *ca_file, GError **error);
