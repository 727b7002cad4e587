/* Listening: UNIX sockets by their path, TLS and TCP by their port. */
#include "config.h"

#include "libxldrv/sockets.h"

#include <errno.h>
#include <grp.h>
#include <unistd.h>

#include "libxldrv/host/socket.h"
#include "libxldrv/rpc/activation.h"

/* Of libvirt's daemons. */
#define PKI_DIR "/etc/pki"

typedef struct {
    const char *name; /* behind XLDRV_SERVER_NAME */
    guint mode;
    XldrvListen how;
} UnixSocket;

static gboolean give_to_group(const char *path, const char *group, GError **error)
{
    const struct group *entry = group ? getgrnam(group) : NULL;

    if (group && !entry)
        return xldrv_set_error(error, VIR_ERR_CONF_SYNTAX, "unix_sock_group: there is no group '%s'", group);
    return !group || chown(path, -1, entry->gr_gid) == 0 ||
           xldrv_set_system_error(error, errno, "cannot give '%s' to group '%s'", path, group);
}

static gboolean open_unix(XldrvServer *server, const XldrvSettings *settings, const XldrvPaths *paths,
                          const UnixSocket *socket, GError **error)
{
    g_autofree char *name = g_strconcat(XLDRV_SERVER_NAME, socket->name, NULL);
    g_autofree char *path = g_build_filename(paths->socket_dir, name, NULL);
    g_autofree char *short_path = xldrv_socket_short_path(path, error);

    return short_path && xldrv_server_listen_unix(server, short_path, socket->mode, &socket->how, error) &&
           give_to_group(path, settings->socket_group, error);
}

/* Its program has no procedure by which others could authenticate. */
gboolean xldrv_sockets_open_admin(XldrvServer *server, const XldrvSettings *settings, const XldrvPaths *paths,
                                  GError **error)
{
    const UnixSocket admin = {"-admin-sock", 0600, {.auth = XLDRV_AUTH_POLKIT}};
    XldrvSettings own = *settings;

    own.socket_group = NULL;
    return open_unix(server, &own, paths, &admin, error);
}

/* The service manager may name its sockets otherwise than we do, but for their ends. */
static gboolean take(XldrvServer *server, const UnixSocket *writing, const UnixSocket *reading, const GArray *fds,
                     GError **error)
{
    for (guint i = 0; i < fds->len; i++) {
        int fd = g_array_index(fds, int, i);
        const UnixSocket *socket = xldrv_activation_is_readonly(fd) ? reading : writing;
        if (!xldrv_server_listen_fd(server, fd, &socket->how, error))
            return FALSE;
    }
    return TRUE;
}

static char *pki_file(const XldrvPaths *paths, const char *setting, const char *name)
{
    return setting ? g_strdup(setting) : g_build_filename(paths->root, PKI_DIR, name, NULL);
}

/* As libvirt's qemu driver has it. */
static char *backup_dir(const XldrvSettings *s, const XldrvPaths *paths)
{
    g_autofree char *own = pki_file(paths, s->backup_cert_dir, "libvirt-backup");

    return s->backup_cert_dir || g_file_test(own, G_FILE_TEST_IS_DIR) ? g_steal_pointer(&own) : pki_file(paths, NULL, "qemu");
}

XldrvPki *xldrv_sockets_pki(const XldrvSettings *s, const XldrvPaths *paths)
{
    XldrvPki *pki = g_new0(XldrvPki, 1);

    *pki = (XldrvPki){
        .ca_file = pki_file(paths, s->ca_file, "CA/cacert.pem"),
        .crl_file = pki_file(paths, s->crl_file, "CA/crl.pem"),
        .server_cert_file = pki_file(paths, s->cert_file, "libvirt/servercert.pem"),
        .server_key_file = pki_file(paths, s->key_file, "libvirt/private/serverkey.pem"),
        .client_cert_file = pki_file(paths, s->client_cert_file, "libvirt/clientcert.pem"),
        .client_key_file = pki_file(paths, s->client_key_file, "libvirt/private/clientkey.pem"),
        .priority = g_strdup(s->tls_priority),
        .backup_dir = backup_dir(s, paths),
        .backup_verify = s->backup_verify,
    };
    return pki;
}

static XldrvTls *read_tls(const XldrvSettings *s, const XldrvPaths *paths, GError **error)
{
    g_autoptr(XldrvPki) pki = xldrv_sockets_pki(s, paths);
    const XldrvTlsOptions options = {
        .key_file = pki->server_key_file,
        .cert_file = pki->server_cert_file,
        .ca_file = pki->ca_file,
        .crl_file = pki->crl_file,
        .priority = pki->priority,
        .allowed_names = s->tls_allowed_names,
        .no_verify = s->tls_no_verify,
        .no_sanity = s->tls_no_sanity,
    };

    return xldrv_tls_new(&options, error);
}

static gboolean open_network(XldrvServer *server, const XldrvSettings *s, const XldrvPaths *paths, XldrvTls **tls,
                             GError **error)
{
    XldrvListen how = {.auth = s->auth_tcp, .min_ssf = s->tcp_min_ssf, .sasl_allowed = s->sasl_allowed};

    if (s->listen_tcp && !xldrv_server_listen_tcp(server, s->listen_address, s->tcp_port, &how, error))
        return FALSE;
    if (!s->listen_tls)
        return TRUE;
    how.auth = s->auth_tls;
    how.tls = *tls = read_tls(s, paths, error);
    return *tls && xldrv_server_listen_tcp(server, s->listen_address, s->tls_port, &how, error);
}

/* A private root has a configuration of its own. */
static gboolean prepare_sasl(const XldrvSettings *s, const XldrvPaths *paths, GError **error)
{
    g_autofree char *dir = *paths->root ? g_build_filename(paths->root, "etc/sasl2", NULL) : NULL;
    gboolean wanted = s->auth_unix_rw == XLDRV_AUTH_SASL || s->auth_unix_ro == XLDRV_AUTH_SASL ||
                      (s->listen_tls && s->auth_tls == XLDRV_AUTH_SASL) ||
                      (s->listen_tcp && s->auth_tcp == XLDRV_AUTH_SASL);

    return !wanted || xldrv_sasl_init(dir, error);
}

gboolean xldrv_sockets_open(XldrvServer *server, const XldrvSettings *settings, const XldrvPaths *paths,
                            const GArray *passed, XldrvTls **tls, GError **error)
{
    char **allowed = settings->sasl_allowed;
    const UnixSocket writing = {
        "-sock", settings->socket_mode, {.auth = settings->auth_unix_rw, .sasl_allowed = allowed}};
    const UnixSocket reading = {
        "-sock-ro",
        settings->socket_ro_mode,
        {.auth = settings->auth_unix_ro, .readonly = TRUE, .sasl_allowed = allowed}};

    *tls = NULL;
    if (!prepare_sasl(settings, paths, error))
        return FALSE;
    if (passed->len ? !take(server, &writing, &reading, passed, error)
                    : !(open_unix(server, settings, paths, &writing, error) &&
                        open_unix(server, settings, paths, &reading, error)))
        return FALSE;
    return open_network(server, settings, paths, tls, error);
}
