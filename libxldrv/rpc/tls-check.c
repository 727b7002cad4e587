/* tls-check: mistakes in a server's certificates that clients would otherwise meet one by one. */
#include "config.h"

#include <gnutls/x509.h>
#include <time.h>

#include "libxldrv/rpc/tls.h"

/* In one file. */
#define CERTIFICATES_MAX 64

typedef struct {
    const char *path, *what;
    gboolean is_authority;
    gnutls_x509_crt_t certificate;
} Subject;

static gboolean refuse(const Subject *subject, GError **error, const char *why)
{
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_SYSTEM_ERROR, "The %s '%s' %s", subject->what,
                                subject->path, why);
}

static gboolean check_times(const Subject *subject, GError **error)
{
    time_t now = time(NULL);

    if (gnutls_x509_crt_get_expiration_time(subject->certificate) < now)
        return refuse(subject, error, "has expired");
    if (gnutls_x509_crt_get_activation_time(subject->certificate) > now)
        return refuse(subject, error, "is not yet active");
    return TRUE;
}

/* The extension may be missing from a server's certificate, not from an authority's. */
static gboolean check_constraints(const Subject *subject, GError **error)
{
    int rc = gnutls_x509_crt_get_basic_constraints(subject->certificate, NULL, NULL, NULL);

    if (rc > 0 && !subject->is_authority)
        return refuse(subject, error, "has basic constraints that make it a CA's, and a server's is needed");
    if (rc == 0 && subject->is_authority)
        return refuse(subject, error, "has basic constraints that do not make it a CA's");
    if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE && subject->is_authority)
        return refuse(subject, error, "has no basic constraints, which a CA's needs");
    return rc >= 0 || rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE || refuse(subject, error, gnutls_strerror(rc));
}

static gboolean check_usage(const Subject *subject, GError **error)
{
    guint usage = 0, critical = 0;
    int rc = gnutls_x509_crt_get_key_usage(subject->certificate, &usage, &critical);

    if (rc < 0 || !critical)
        return TRUE; /* everything, or a hint */
    if (subject->is_authority && !(usage & GNUTLS_KEY_KEY_CERT_SIGN))
        return refuse(subject, error, "is not for signing certificates");
    if (!subject->is_authority && !(usage & GNUTLS_KEY_DIGITAL_SIGNATURE))
        return refuse(subject, error, "is not for digital signatures");
    return TRUE;
}

static gboolean check_purpose(const Subject *subject, GError **error)
{
    gboolean any = FALSE;
    char oid[128];

    for (guint i = 0; !subject->is_authority; i++) {
        size_t size = sizeof(oid);
        if (gnutls_x509_crt_get_key_purpose_oid(subject->certificate, i, oid, &size, NULL) < 0)
            break;
        any = TRUE;
        if (g_str_equal(oid, GNUTLS_KP_TLS_WWW_SERVER) || g_str_equal(oid, GNUTLS_KP_ANY))
            return TRUE;
    }
    return !any || refuse(subject, error, "is not for TLS servers");
}

static gboolean check_one(const Subject *subject, GError **error)
{
    return check_times(subject, error) && check_constraints(subject, error) && check_usage(subject, error) &&
           check_purpose(subject, error);
}

/* Certificates of one PEM file. */
typedef struct {
    const char *path, *what;
    gnutls_x509_crt_t *certificates;
    guint n; /* before it is read: room */
} List;

static gboolean check_signature(const List *server, const List *ca, GError **error)
{
    const Subject subject = {server->path, server->what, FALSE, server->certificates[0]};
    guint status = 0;
    int rc = gnutls_x509_crt_list_verify(server->certificates, server->n, ca->certificates, ca->n, NULL, 0, 0, &status);

    if (rc < 0)
        return refuse(&subject, error, gnutls_strerror(rc));
    return status == 0 || refuse(&subject, error, status & GNUTLS_CERT_INSECURE_ALGORITHM
                                                      ? "was signed by an algorithm that is not secure"
                                                      : "was not signed by the CA certificate");
}

static gboolean read_list(List *list, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    gsize length;
    guint max = list->n;

    list->n = 0;
    if (!g_file_get_contents(list->path, &text, &length, &why))
        return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_SYSTEM_ERROR, "%s", why->message);
    gnutls_datum_t data = {(guchar *)text, length};
    int rc = gnutls_x509_crt_list_import(list->certificates, &max, &data, GNUTLS_X509_FMT_PEM, 0);
    if (rc <= 0)
        return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_GNUTLS_ERROR, "cannot use %s '%s': %s", list->what,
                                    list->path, rc < 0 ? gnutls_strerror(rc) : "it is empty");
    list->n = rc;
    return TRUE;
}

static void free_list(List *list)
{
    for (guint i = 0; i < list->n; i++)
        gnutls_x509_crt_deinit(list->certificates[i]);
}

static gboolean check_lists(const List *server, const List *ca, GError **error)
{
    const Subject subject = {server->path, server->what, FALSE, server->certificates[0]};

    for (guint i = 0; i < ca->n; i++) {
        const Subject authority = {ca->path, ca->what, TRUE, ca->certificates[i]};
        if (!check_one(&authority, error))
            return FALSE;
    }
    return check_one(&subject, error) && check_signature(server, ca, error);
}

gboolean xldrv_tls_check_own(const char *cert_file, const char *ca_file, GError **error)
{
    gnutls_x509_crt_t chain[CERTIFICATES_MAX], authorities[CERTIFICATES_MAX];
    List server = {cert_file, "server certificate", chain, CERTIFICATES_MAX};
    List ca = {ca_file, "CA certificate", authorities, 0};
    gboolean ok = read_list(&server, error);

    if (ok) {
        ca.n = CERTIFICATES_MAX;
        ok = read_list(&ca, error) && check_lists(&server, &ca, error);
    }
    free_list(&ca);
    free_list(&server);
    return ok;
}
