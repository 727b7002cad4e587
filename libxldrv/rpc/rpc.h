/* rpc: libvirt's wire protocol, seen from the driver.
 *
 * A server owns listening sockets and clients; a program is a table of procedures. A message comes
 * in on the main loop, is checked against its table row (known, authenticated, allowed on this
 * socket, decodable) and its handler is called on a worker thread with the arguments as a GVariant
 * tuple. The handler returns the reply as a GVariant tuple, or NULL with a GError; the rpc layer
 * encodes, so no handler sees XDR. Replies may overtake each other. A row without a handler answers
 * VIR_ERR_NO_SUPPORT by name.
 *
 * Signatures are in the letters of libvirt's protocol notation (i u x t d c q s ms ay U D N P V I E
 * S F B O H K T aX X[n] (..) mX); the GVariant types they become are in codec.h.
 *
 * Start reading at server.c (what a client can do), then codec.c.
 */
#pragma once

#include <gio/gio.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

/* Errors for clients: domain XLDRV_ERROR, the code is a virErrorNumber, the message is complete.
 * Errors of other domains become VIR_ERR_INTERNAL_ERROR, or what a converter of the driver says. */
#define XLDRV_ERROR (xldrv_error_quark())
GQuark xldrv_error_quark(void);

/* Sets an error whose text is libvirt's usual prefix of @code ("Domain not found: ", "Requested
 * operation is not valid: ", ...) and the formatted detail. Always returns FALSE. */
gboolean xldrv_set_error(GError **error, virErrorNumber code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

/* The same as if it came from another part of libvirt (XLDRV_ERROR still), for clients that look at
 * the domain. */
gboolean xldrv_set_error_from(GError **error, virErrorDomain from, virErrorNumber code,
                              const char *format, ...) G_GNUC_PRINTF(4, 5);

/* The same for a text that is complete, prefix and all: it came from another daemon. */
gboolean xldrv_set_error_complete(GError **error, virErrorDomain from, virErrorNumber code, const char *text);

/* Sets VIR_ERR_SYSTEM_ERROR with the formatted text, ": " and what @system_errno means. Always
 * returns FALSE. */
gboolean xldrv_set_system_error(GError **error, int system_errno, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

typedef struct _XldrvServer XldrvServer;
typedef struct _XldrvClient XldrvClient; /* reference-counted; may be closed while a handler runs */
typedef struct _XldrvCall XldrvCall;
typedef struct _XldrvStream XldrvStream;

typedef GVariant *(*XldrvHandler)(XldrvCall *call, GVariant *args, GError **error);

typedef enum {
    XLDRV_PROC_NONE = 0,
    XLDRV_PROC_READONLY_OK = 1 << 0, /* allowed on read-only connections */
    XLDRV_PROC_NO_AUTH = 1 << 1,     /* authentication itself: answered by the rpc layer */
    XLDRV_PROC_NO_OPEN = 1 << 2,     /* allowed before CONNECT_OPEN */
    XLDRV_PROC_HIGH = 1 << 3,        /* never waits behind blocked workers */
    XLDRV_PROC_STREAM = 1 << 4,      /* the handler must create a stream */
    XLDRV_PROC_FDS_IN = 1 << 5,
    XLDRV_PROC_FDS_OUT = 1 << 6,
    XLDRV_PROC_EVENT = 1 << 7, /* server to client only */
    XLDRV_PROC_LOOP = 1 << 8,  /* its handler runs on the main loop: it must not block, but may put the call off */
} XldrvProcedureFlags;

typedef struct {
    guint number;
    const char *name;   /* as in libvirt's remote_protocol, without REMOTE_PROC_ */
    const char *args;   /* signature */
    const char *ret;    /* signature; of the event for XLDRV_PROC_EVENT */
    const char *limits; /* maximum element counts of the arrays in args, then of those in ret, in
                         * order of appearance and separated by commas; "" if there are no arrays */
    const char *acl;    /* object:permission[;...] */
    guint flags;        /* XldrvProcedureFlags */
    XldrvHandler handler;
} XldrvProcedure;

typedef struct {
    guint32 program, version;
    const XldrvProcedure *procedures; /* sorted by number, index is number - 1 */
    guint n_procedures;
} XldrvProgram;

typedef struct {
    guint max_clients;                            /* 5000 */
    guint max_anonymous_clients;                  /* 20 */
    guint max_queued_clients;                     /* 1000: connected and not accepted yet, of each socket */
    guint max_client_requests;                    /* 5 */
    guint min_workers, max_workers, prio_workers; /* 5, 20, 5 */
    int keepalive_interval;                       /* 5 s, -1 is off */
    guint keepalive_count;                        /* 5 */
    guint auth_timeout;  /* 30 s until authenticated, and as long again until CONNECT_OPEN */
    guint stall_timeout; /* 60 s without progress of a half-read or half-written message */
    gsize message_bytes; /* of all messages being received or worked on: 256 MiB; small ones always pass */
} XldrvLimits;

extern const XldrvLimits xldrv_default_limits;

/* A server on the caller's thread-default main context: create, use and free it on that thread.
 * @name is for messages. Makes the process ignore SIGPIPE. */
XldrvServer *xldrv_server_new(const char *name, const XldrvLimits *limits);
/* Numbers its clients from @first on, before there are any: those of servers with the same driver must not meet. */
void xldrv_server_number_clients(XldrvServer *server, guint64 first);
/* Closes all sockets and clients, waits for the handlers that run, and drops what they return.
 * Takes NULL. */
void xldrv_server_free(XldrvServer *server);
/* Serves @program, which must stay. Its signatures are compiled here; a bad one is a programming
 * error. */
void xldrv_server_add_program(XldrvServer *server, const XldrvProgram *program);
/* What code errors of other domains than XLDRV_ERROR have; VIR_ERR_OK stands for
 * VIR_ERR_INTERNAL_ERROR. The usual prefix of the code is put before their text. Any thread. */
typedef virErrorNumber (*XldrvErrorCodeFn)(const GError *error);
void xldrv_server_set_error_code(XldrvServer *server, XldrvErrorCodeFn fn);

/* Whether a call may be made, after all other checks of its row. It runs where the handler does. Before there
 * are clients. */
typedef gboolean (*XldrvAccessFn)(XldrvCall *call, GVariant *args, GError **error);
void xldrv_server_set_access(XldrvServer *server, XldrvAccessFn fn);

/* What a client has to do to be authenticated: numbers as on the wire. */
typedef enum {
    XLDRV_AUTH_NONE = 0,
    XLDRV_AUTH_SASL = 1,
    XLDRV_AUTH_POLKIT = 2, /* on UNIX sockets */
} XldrvAuth;

typedef struct _XldrvTls XldrvTls;

/* Who may come to a listening socket, and how. */
typedef struct {
    gboolean readonly;
    XldrvAuth auth; /* of polkit root and our own user are spared */
    XldrvTls *tls;  /* NULL: no TLS. Must stay until the server is freed */
    guint min_ssf;  /* bits of the key by which SASL has to encrypt where nothing else does */
    char **sasl_allowed; /* names of users that may come, with * and ?; NULL: all. Must stay likewise */
} XldrvListen;

/* Before a server listens where SASL is asked for. @config_dir, if not NULL, is where libvirt.conf is looked for, in
 * place of the library's own. */
gboolean xldrv_sasl_init(const char *config_dir, GError **error);

/* Listens on a UNIX socket; replaces a stale one, refuses a live one. @mode as of chmod. */
gboolean xldrv_server_listen_unix(XldrvServer *server, const char *path, guint mode,
                                  const XldrvListen *how, GError **error);
/* Listens on TCP @port of @host (a name or an address), for NULL of every address that this machine has. */
gboolean xldrv_server_listen_tcp(XldrvServer *server, const char *host, guint port, const XldrvListen *how,
                                 GError **error);
/* Takes a listening UNIX socket that the service manager opened. */
gboolean xldrv_server_listen_fd(XldrvServer *server, int fd, const XldrvListen *how, GError **error);

typedef struct {
    const char *key_file, *cert_file, *ca_file;
    const char *crl_file;     /* may be NULL, or name no file */
    const char *priority;     /* as of gnutls_priority_init; NULL: "NORMAL" */
    char **allowed_names;     /* distinguished names of clients, with * and ? for what is not known; NULL: all */
    gboolean no_verify;       /* clients need no certificate, and all are accepted */
    gboolean no_sanity;       /* the server's own certificate is not examined */
} XldrvTlsOptions;

/* The server's end of TLS. Errors name the file, or say what is wrong with a certificate. */
XldrvTls *xldrv_tls_new(const XldrvTlsOptions *options, GError **error);
/* Reads the files again, for connections to come. If one is bad all stays as it was. Main loop. */
gboolean xldrv_tls_reload(XldrvTls *tls, GError **error);
void xldrv_tls_free(XldrvTls *tls);

/* Called on the main loop when a client is gone, after its streams were aborted. */
typedef void (*XldrvClientClosedFn)(XldrvClient *client, gpointer user_data);
void xldrv_server_set_client_closed(XldrvServer *server, XldrvClientClosedFn fn,
                                    gpointer user_data);

/* ---- inside a handler */

XldrvClient *xldrv_call_client(XldrvCall *call); /* borrowed */
const XldrvProcedure *xldrv_call_procedure(XldrvCall *call);
/* For a handler, or who checks access, that would have to block. TRUE: it runs on the main loop, and the
 * call will be made again on a worker; return at once, what does not matter. FALSE: block. */
gboolean xldrv_call_put_off(XldrvCall *call);
/* Descriptors that came with the call: borrowed (dup what is kept), count in *n. */
const int *xldrv_call_fds(XldrvCall *call, guint *n);
/* Gives descriptor @fd (taken) back with the reply. */
void xldrv_call_return_fd(XldrvCall *call, int fd);
/* @fn runs on the main loop right after the reply has been queued: what must not overtake it. It
 * runs also if the handler failed or the client is gone. */
void xldrv_call_after_reply(XldrvCall *call, GDestroyNotify fn, gpointer user_data);

/* ---- clients */

XldrvClient *xldrv_client_ref(XldrvClient *client);
void xldrv_client_unref(XldrvClient *client);
guint64 xldrv_client_id(XldrvClient *client);
gboolean xldrv_client_is_readonly(XldrvClient *client);
void xldrv_client_set_readonly(XldrvClient *client);
/* Whether its connection has ended. Any thread. */
gboolean xldrv_client_is_closed(XldrvClient *client);
gboolean xldrv_client_is_open(XldrvClient *client);
void xldrv_client_set_open(XldrvClient *client);
/* Credentials of a UNIX peer. FALSE if there are none. */
gboolean xldrv_client_peer(XldrvClient *client, guint *uid, guint *gid, int *pid);
/* Whose calls these are, as the client, which passes them on, tells: typed parameters VIR_CONNECT_IDENTITY_*, a(sv).
 * VIR_ERR_INVALID_ARG for what these are not, and nothing is changed. Any thread. */
gboolean xldrv_client_set_identity(XldrvClient *client, GVariant *params, GError **error);
/* The same again: what was set, or what is known of the client itself. A reference. */
GVariant *xldrv_client_get_identity(XldrvClient *client);
/* The driver's own data of this connection; freed with the last reference to the client, on any
 * thread. */
void xldrv_client_set_data(XldrvClient *client, gpointer data, GDestroyNotify free_fn);
gpointer xldrv_client_get_data(XldrvClient *client);
/* Starts sending keepalive pings (the client said it answers them). */
void xldrv_client_start_keepalive(XldrvClient *client);
/* Sends event procedure @number of @program; @payload is floating or taken. Any thread; in order. A
 * client that does not read has its queue bounded and is then closed. */
void xldrv_client_send_event(XldrvClient *client, guint32 program, guint number, GVariant *payload);
/* Takes no further call, and closes when those in progress have been answered and what is queued
 * has been sent. Any thread. */
void xldrv_client_close(XldrvClient *client);

/* ---- streams */

/* Makes the stream of this call: data flows between the client and @fd (taken, non-blocking is set;
 * a pty, pipe, socket or file), in the directions that its access mode allows, until EOF, hang-up,
 * finish or abort.
 * @closed runs once on the main loop when it is over. If the handler then fails, the stream is
 * dropped (and
 * @closed still runs). Returns a reference for the caller. */
typedef void (*XldrvStreamClosedFn)(XldrvStream *stream, gpointer user_data);
XldrvStream *xldrv_stream_new_fd(XldrvCall *call, int fd, XldrvStreamClosedFn closed,
                                 gpointer user_data) G_GNUC_WARN_UNUSED_RESULT;
/* Ends it from our side with an error for the client. Any thread, also after it is over. */
void xldrv_stream_abort(XldrvStream *stream, virErrorNumber code, const char *message);
XldrvStream *xldrv_stream_ref(XldrvStream *stream);
void xldrv_stream_unref(XldrvStream *stream);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvServer, xldrv_server_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvClient, xldrv_client_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvStream, xldrv_stream_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvTls, xldrv_tls_free)
