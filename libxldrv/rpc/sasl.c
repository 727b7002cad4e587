/* sasl: the negotiation, by Cyrus SASL. Its configuration is that of libvirt's daemons, sasl2/libvirt.conf. */
#include "config.h"

#include "libxldrv/rpc/sasl.h"

#include <sasl/sasl.h>
#include <string.h>

#define SERVICE "libvirt"
/* Largest piece of a layer, from libvirt's protocol. */
#define LAYER_BYTES_MAX 65536
#define ANY_SSF         100000

struct _XldrvSasl {
    sasl_conn_t *connection;
    gboolean layer, started;
};

/* ---- the library, once for the process */

static void *new_mutex(void)
{
    GMutex *mutex = g_new(GMutex, 1);
    g_mutex_init(mutex);
    return mutex;
}

static int lock_mutex(void *mutex)
{
    g_mutex_lock(mutex);
    return 0;
}

static int unlock_mutex(void *mutex)
{
    g_mutex_unlock(mutex);
    return 0;
}

static void free_mutex(void *mutex)
{
    g_mutex_clear(mutex);
    g_free(mutex);
}

static int log_message(void *context G_GNUC_UNUSED, int level, const char *message)
{
    GLogLevelFlags ours = level <= SASL_LOG_FAIL ? G_LOG_LEVEL_INFO : G_LOG_LEVEL_DEBUG;

    if (level != SASL_LOG_PASS) /* secrets */
        g_log(G_LOG_DOMAIN, ours, "SASL: %s", message);
    return SASL_OK;
}

gboolean xldrv_sasl_init(const char *config_dir, GError **error)
{
    static const sasl_callback_t callbacks[] = {
        {SASL_CB_LOG, (int (*)(void))(gpointer)log_message, NULL},
        {SASL_CB_LIST_END, NULL, NULL},
    };
    int rc = SASL_OK;

    sasl_set_mutex(new_mutex, lock_mutex, unlock_mutex, free_mutex);
    if (config_dir)
        rc = sasl_set_path(SASL_PATH_TYPE_CONFIG, (char *)config_dir);
    if (rc == SASL_OK)
        rc = sasl_server_init(callbacks, SERVICE);
    return rc == SASL_OK || xldrv_set_error_from(error, VIR_FROM_AUTH, VIR_ERR_AUTH_FAILED,
                                                 "cannot initialize SASL: %s", sasl_errstring(rc, NULL, NULL));
}

/* ---- one client */

static gboolean fail(XldrvSasl *sasl, GError **error, const char *what, int rc)
{
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "%s: %s", what,
                                sasl->connection ? sasl_errdetail(sasl->connection) : sasl_errstring(rc, NULL, NULL));
}

static int set_properties(XldrvSasl *sasl, guint min_ssf, guint external_ssf)
{
    const sasl_security_properties_t properties = {
        .min_ssf = sasl->layer ? min_ssf : 0,
        .max_ssf = sasl->layer ? ANY_SSF : 0,
        .maxbufsize = LAYER_BYTES_MAX,
        .security_flags = sasl->layer ? SASL_SEC_NOPLAINTEXT | SASL_SEC_NOANONYMOUS : 0,
    };
    sasl_ssf_t ssf = external_ssf;
    int rc = ssf > 0 ? sasl_setprop(sasl->connection, SASL_SSF_EXTERNAL, &ssf) : SASL_OK;

    return rc == SASL_OK ? sasl_setprop(sasl->connection, SASL_SEC_PROPS, &properties) : rc;
}

XldrvSasl *xldrv_sasl_new(gboolean layer, guint min_ssf, guint external_ssf, GError **error)
{
    XldrvSasl *sasl = g_new0(XldrvSasl, 1);
    int rc = sasl_server_new(SERVICE, NULL, NULL, NULL, NULL, NULL, SASL_SUCCESS_DATA, &sasl->connection);

    sasl->layer = layer;
    if (rc == SASL_OK)
        rc = set_properties(sasl, min_ssf, external_ssf);
    if (rc == SASL_OK)
        return sasl;
    fail(sasl, error, "cannot begin SASL", rc);
    xldrv_sasl_free(sasl);
    return NULL;
}

void xldrv_sasl_free(XldrvSasl *sasl)
{
    if (!sasl)
        return;
    if (sasl->connection)
        sasl_dispose(&sasl->connection);
    g_free(sasl);
}

char *xldrv_sasl_mechanisms(XldrvSasl *sasl, GError **error)
{
    const char *list = NULL;
    int rc = sasl_listmech(sasl->connection, NULL, "", " ", "", &list, NULL, NULL);

    if (rc == SASL_OK && list && *list)
        return g_strdup(list);
    fail(sasl, error, sasl->layer ? "there is no SASL mechanism that can encrypt" : "there is no SASL mechanism", rc);
    return NULL;
}

gboolean xldrv_sasl_step(XldrvSasl *sasl, const char *mechanism, const char *data, guint length, gboolean *complete,
                         const char **answer, guint *answer_length, GError **error)
{
    int rc;

    *answer = NULL;
    *answer_length = 0;
    if ((mechanism == NULL) != sasl->started)
        return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "SASL was %s",
                                    sasl->started ? "started already" : "not started");
    sasl->started = TRUE;
    rc = mechanism ? sasl_server_start(sasl->connection, mechanism, data, length, answer, answer_length)
                   : sasl_server_step(sasl->connection, data, length, answer, answer_length);
    *complete = rc == SASL_OK;
    if (rc != SASL_OK && rc != SASL_CONTINUE)
        return fail(sasl, error, "SASL", rc);
    return *answer_length <= XLDRV_SASL_DATA_MAX ||
           xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED, "SASL: an answer of %u bytes", *answer_length);
}

static gboolean matches(const char *user, char *const *allowed)
{
    for (; allowed && *allowed; allowed++) {
        if (g_pattern_match_simple(*allowed, user))
            return TRUE;
    }
    return FALSE;
}

char *xldrv_sasl_user(XldrvSasl *sasl, char *const *allowed, GError **error)
{
    const void *name = NULL;
    int rc = sasl_getprop(sasl->connection, SASL_USERNAME, &name);

    if (rc != SASL_OK || !name) {
        fail(sasl, error, "SASL tells no user", rc);
        return NULL;
    }
    if (allowed && !matches(name, allowed)) {
        xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_AUTH_FAILED,
                             "SASL user '%s' is not on the list of allowed users", (const char *)name);
        return NULL;
    }
    return g_utf8_make_valid(name, -1);
}

gboolean xldrv_sasl_has_layer(XldrvSasl *sasl)
{
    const void *ssf = NULL;

    return sasl->layer && sasl_getprop(sasl->connection, SASL_SSF, &ssf) == SASL_OK && *(const sasl_ssf_t *)ssf > 0;
}

struct sasl_conn *xldrv_sasl_connection(XldrvSasl *sasl)
{
    return sasl->connection;
}
