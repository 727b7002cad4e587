/* client: what the files of this folder know of a client.
 *
 * Everything but the marked fields belongs to the main loop; other threads post letters. */
#pragma once

#include "libxldrv/rpc/mailbox.h"
#include "libxldrv/rpc/message.h"
#include "libxldrv/rpc/transport.h"

/* Who is at the other end of the socket. */
typedef struct {
    gboolean known; /* a process of this machine */
    guint uid, gid;
    int pid;
    guint64 start_time; /* of the process, as in its /proc/PID/stat; 0: not known */
    char *address;      /* "ADDRESS:PORT" of one on a network */
} XldrvPeer;

typedef enum {
    XLDRV_READ_HEADER,
    XLDRV_READ_PAYLOAD,
    XLDRV_READ_FDS,
} XldrvReadState;

struct _XldrvClient {
    /* Immutable. */
    guint64 id;
    gint64 connected_s; /* since the epoch */
    gboolean uses_tls;
    XldrvMailbox *mailbox;
    XldrvPeer peer;
    XldrvAuth auth;             /* what it has to do to be authenticated */
    gboolean needs_layer;       /* of SASL, with keys of min_ssf bits: nothing else encrypts */
    guint min_ssf;
    char *const *sasl_allowed;  /* names of users as patterns; NULL: all */

    /* Atomic. */
    gatomicrefcount refs;
    gint readonly, open, wants_keepalive, closed;
    gint queued_event_bytes; /* of events posted or queued */

    GMutex lock;
    char *sasl_user, *x509_name; /* under lock; NULL: has none */
    GVariant *identity; /* under lock: whose calls it passes on; NULL: its own */
    gpointer data; /* under lock, with its free_fn */
    GDestroyNotify data_free;

    /* Main loop. */
    XldrvServer *server; /* NULL once closed */
    XldrvTransport *transport;
    GSource *source;
    gpointer watch;
    gboolean handshaking, authenticated, closing;
    gint64 since_us; /* connected, then authenticated */
    guint tls_bits;  /* of the key; 0 without TLS */

    gboolean auth_busy; /* an AUTH procedure is being answered */
    gboolean begins_layer; /* behind the reply that is being made */
    guint auth_failures;
    GCancellable *auth_cancellable; /* of what it waits for, or NULL */
    struct _XldrvSasl *sasl;        /* the thread's that answers while auth_busy */

    XldrvReadState read_state;
    guint8 header_bytes[XLDRV_HEADER_SIZE];
    XldrvHeader header;
    GByteArray *payload;
    gsize n_read;    /* of the header or payload */
    GArray *fds;     /* int */
    guint n_fds;     /* expected */
    gint64 read_us;  /* last byte read */
    gint64 heard_us; /* last whole message, or when reading was paused */

    GQueue out; /* XldrvMessage */
    gboolean flushing;
    gint64 written_us; /* last progress of the queue */

    guint n_requests;        /* calls unanswered, or answered and not sent */
    gsize message_bytes;     /* its part of the server's */
    gsize stream_bytes;      /* received for streams and not consumed */
    GHashTable *streams;     /* by serial */
    guint pings;             /* unanswered */
    guint keepalives_queued; /* PING and PONG in the queue: 1 and 2 */
};

/* Takes @fd. The server keeps the reference. */
XldrvClient *xldrv_client_new(XldrvServer *server, int fd, const XldrvListen *how);
/* The transport's handshake is over. */
void xldrv_client_shaken(XldrvClient *client);

/* Queues a message (taken) and sends what the socket accepts. It is dropped if the client is
 * closed. */
void xldrv_client_queue(XldrvClient *client, XldrvMessage *message);
/* Polls for what is wanted now, and finishes closing when nothing is left to do. */
void xldrv_client_update(XldrvClient *client);
/* Accounts for @n more bytes of a message; FALSE: all clients together have too many. And for @n less. */
gboolean xldrv_client_take_memory(XldrvClient *client, gsize n);
void xldrv_client_return_memory(XldrvClient *client, gsize n);
/* Ends the connection now. Does nothing if it is closed. @reason is for the log. */
void xldrv_client_drop(XldrvClient *client, const char *reason);
/* Whose calls it makes, as a process; not known if what it said of that names none. Any thread. */
void xldrv_client_subject(XldrvClient *client, XldrvPeer *subject);
/* The client has proved who it is. */
void xldrv_client_set_authenticated(XldrvClient *client);
/* Time-outs: called every second. */
void xldrv_client_tick(XldrvClient *client, gint64 now_us);
