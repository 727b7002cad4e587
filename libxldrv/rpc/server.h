/* server: what the files of this folder know of a server. All of it belongs to the main loop. */
#pragma once

#include "libxldrv/rpc/codec.h"
#include "libxldrv/rpc/mailbox.h"
#include "libxldrv/rpc/rpc.h"
#include "libxldrv/rpc/workers.h"

/* A program with its signatures compiled, by index. */
typedef struct {
    const XldrvProgram *program;
    XldrvCodec **args, **ret;
} XldrvCompiled;

typedef struct _XldrvRaw XldrvRaw; /* raw.h */

struct _XldrvServer {
    char *name;         /* immutable */
    XldrvLimits limits;
    struct _XldrvAdmin *admin; /* of an admin server */
    GMainContext *context;
    XldrvMailbox *mailbox;
    XldrvWorkers *workers;
    GThreadPool *file_pool;  /* blocking I/O of streams on regular files; made on demand */
    GThreadPool *auth_pool;  /* likewise: steps of SASL */
    GPtrArray *programs;     /* XldrvCompiled; not changed once clients exist */
    XldrvCodec *error_codec; /* immutable */
    XldrvErrorCodeFn error_code;
    XldrvAccessFn access;    /* NULL: no access control; not changed once clients exist */
    XldrvClientClosedFn client_closed;
    gpointer client_closed_data;
    const XldrvRaw *raw; /* NULL: no call is passed on */
    gpointer raw_data;
    GPtrArray *listeners;
    GHashTable *clients; /* set; a reference each */
    guint n_anonymous;   /* of these, not authenticated */
    gsize message_bytes; /* received of messages that are not done with */
    guint64 last_client_id;
    gboolean accepting;
    GSource *tick; /* once per second while there are clients, or no room to accept one */
};

/* Of @number in @compiled; NULL if there is none or it is an event. */
const XldrvProcedure *xldrv_compiled_procedure(const XldrvCompiled *compiled, gint64 number);
/* NULL if no such program is served. */
const XldrvCompiled *xldrv_server_find_program(XldrvServer *server, guint32 program,
                                               guint32 version);

/* A client was authenticated, or is gone. */
void xldrv_server_client_authenticated(XldrvServer *server);
void xldrv_server_client_gone(XldrvServer *server, XldrvClient *client, gboolean authenticated);

/* Starts or stops the tick. */
void xldrv_server_update_tick(XldrvServer *server);

/* listen.c: */
void xldrv_listener_free(gpointer listener);
/* Looks for connections only while there is room for more clients. */
void xldrv_server_update_accepting(XldrvServer *server);
/* Takes in a connected socket: in server.c, called by a listener. */
void xldrv_server_add_client(XldrvServer *server, int fd, const XldrvListen *how);
