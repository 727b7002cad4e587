/* tls: reads the files that a TLS server needs, and judges the certificates of clients. */
#include "config.h"

#include "libxldrv/rpc/tls.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <unistd.h>

/* What libvirt uses where the settings say nothing. */
#define DEFAULT_PRIORITY "NORMAL"

XldrvTlsFiles *xldrv_tls_files_ref(XldrvTlsFiles *files)
{
    files->refs++;
    return files;
}

void xldrv_tls_files_unref(XldrvTlsFiles *files)
{
    if (!files || --files->refs > 0)
        return;
    gnutls_certificate_free_credentials(files->credentials);
    g_free(files);
}

static gboolean fail(GError **error, const char *what, const char *path, int rc)
{
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_GNUTLS_ERROR, "cannot use %s '%s': %s", what, path,
                                gnutls_strerror(rc));
}

/* A list of what has been called back is optional; it is not there for most. */
static gboolean load_crl(XldrvTls *tls, gnutls_certificate_credentials_t credentials, GError **error)
{
    if (!tls->crl_file || access(tls->crl_file, F_OK) < 0)
        return TRUE;
    int rc = gnutls_certificate_set_x509_crl_file(credentials, tls->crl_file, GNUTLS_X509_FMT_PEM);
    return rc >= 0 || fail(error, "revocation list", tls->crl_file, rc);
}

static gboolean load(XldrvTls *tls, gnutls_certificate_credentials_t credentials, GError **error)
{
    int rc = gnutls_certificate_set_x509_trust_file(credentials, tls->ca_file, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        return fail(error, "CA certificate", tls->ca_file, rc);
    if (!load_crl(tls, credentials, error))
        return FALSE;
    rc = gnutls_certificate_set_x509_key_file(credentials, tls->cert_file, tls->key_file, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        return fail(error, "server certificate", tls->cert_file, rc);
    gnutls_certificate_set_known_dh_params(credentials, GNUTLS_SEC_PARAM_MEDIUM);
    return TRUE;
}

/* gnutls tells of a file that cannot be read in words that do not help. */
static gboolean check_readable(const XldrvTls *tls, GError **error)
{
    const struct {
        const char *what, *path;
    } files[] = {
        {"CA certificate", tls->ca_file}, {"server certificate", tls->cert_file}, {"server key", tls->key_file}};

    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        if (access(files[i].path, R_OK) < 0)
            return xldrv_set_system_error(error, errno, "Cannot read %s '%s'", files[i].what, files[i].path);
    }
    return TRUE;
}

gboolean xldrv_tls_reload(XldrvTls *tls, GError **error)
{
    XldrvTlsFiles *files;

    if (!check_readable(tls, error) ||
        (tls->sanity && !xldrv_tls_check_own(tls->cert_file, tls->ca_file, error)))
        return FALSE;
    files = g_new0(XldrvTlsFiles, 1);
    files->refs = 1;
    gnutls_certificate_allocate_credentials(&files->credentials);
    if (!load(tls, files->credentials, error)) {
        xldrv_tls_files_unref(files);
        return FALSE;
    }
    xldrv_tls_files_unref(tls->files);
    tls->files = files;
    return TRUE;
}

static GPtrArray *compile_names(char **names)
{
    if (!names)
        return NULL;
    GPtrArray *patterns = g_ptr_array_new_with_free_func((GDestroyNotify)g_pattern_spec_free);
    for (; *names; names++)
        g_ptr_array_add(patterns, g_pattern_spec_new(*names));
    return patterns;
}

static gboolean check_priority(const char *priority, GError **error)
{
    gnutls_priority_t compiled;
    const char *at = priority;
    int rc = gnutls_priority_init(&compiled, priority, &at);

    if (rc < 0)
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "tls_priority '%s': %s at '%s'", priority,
                               gnutls_strerror(rc), at);
    gnutls_priority_deinit(compiled);
    return TRUE;
}

XldrvTls *xldrv_tls_new(const XldrvTlsOptions *options, GError **error)
{
    g_autoptr(XldrvTls) tls = g_new0(XldrvTls, 1);

    tls->key_file = g_strdup(options->key_file);
    tls->cert_file = g_strdup(options->cert_file);
    tls->ca_file = g_strdup(options->ca_file);
    tls->crl_file = g_strdup(options->crl_file);
    tls->priority = g_strdup(options->priority ? options->priority : DEFAULT_PRIORITY);
    tls->allowed = compile_names(options->allowed_names);
    tls->verify = !options->no_verify;
    tls->sanity = !options->no_sanity;
    return check_priority(tls->priority, error) && xldrv_tls_reload(tls, error) ? g_steal_pointer(&tls) : NULL;
}

void xldrv_tls_free(XldrvTls *tls)
{
    if (!tls)
        return;
    xldrv_tls_files_unref(tls->files);
    g_clear_pointer(&tls->allowed, g_ptr_array_unref);
    g_free(tls->key_file);
    g_free(tls->cert_file);
    g_free(tls->ca_file);
    g_free(tls->crl_file);
    g_free(tls->priority);
    g_free(tls);
}

/* ---- clients */

static gboolean check_chain(gnutls_session_t session, GError **error)
{
    guint status = 0;
    int rc = gnutls_certificate_verify_peers2(session, &status);
    gnutls_datum_t text = {NULL, 0};

    if (rc == 0 && status == 0)
        return TRUE;
    if (rc == 0)
        gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "the client's certificate is not accepted: %s",
                         rc < 0 ? gnutls_strerror(rc) : text.data ? (const char *)text.data : "unknown status");
    gnutls_free(text.data);
    return FALSE;
}

static char *peer_name(gnutls_session_t session)
{
    guint n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
    gnutls_x509_crt_t certificate;
    gnutls_datum_t name = {NULL, 0};
    char *copy = NULL;

    if (!chain || n == 0 || gnutls_x509_crt_init(&certificate) < 0)
        return NULL;
    /* The form that libvirt's list of names has; its successor, get_dn3, turns it round. */
    if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0 &&
        gnutls_x509_crt_get_dn2(certificate, &name) == 0)
        copy = g_utf8_make_valid((const char *)name.data, name.size);
    gnutls_free(name.data);
    gnutls_x509_crt_deinit(certificate);
    return copy;
}

static gboolean check_name(const XldrvTls *tls, const char *name, GError **error)
{
    for (guint i = 0; tls->allowed && i < tls->allowed->len; i++) {
        if (g_pattern_spec_match_string(tls->allowed->pdata[i], name))
            return TRUE;
    }
    return !tls->allowed ||
           xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED,
                                "the client's distinguished name '%s' is not on the list of allowed clients", name);
}

gboolean xldrv_tls_check_peer(XldrvTls *tls, gnutls_session_t session, char **name, GError **error)
{
    *name = peer_name(session);
    if (!tls->verify)
        return TRUE;
    if (!*name)
        return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "the client has no certificate");
    return check_chain(session, error) && check_name(tls, *name, error);
}
