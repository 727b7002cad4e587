/* libxldrv/driver: what the procedures of libvirt's protocol do.
 *
 * One XldrvDriver per daemon owns everything: the domains, their events, the connection to the store, the
 * directories. A procedure's handler (handlers.h, one file per theme) runs on a worker thread, finds its
 * domain by UUID, takes the domain's job if it changes something, and works. What happens without a client,
 * a guest that shuts down or a process that dies, comes from the monitor of the domain's instance on the
 * main loop and is worked off by the reactor, a thread pool, under the same jobs.
 *
 *   define.c     definitions: define, undefine, rename, autostart
 *   start.c      from a definition to a running domain, and back when a step fails
 *   stop.c       the end of a running domain
 *   react.c      what a guest's end or a lost connection asks for
 *   recover.c    at daemon start: definitions from disk, running domains found again
 *   instance.c   what runs of a domain: process, control channel, monitor
 *   store.c      the domain's nodes in xenstore; store-watch.c: its daemon's end
 *   lifecycle.c, info.c, stats.c, lookup.c, metadata.c, console.c, connection.c, node.c: procedures
 */
#pragma once

#include "libxldrv/driver/access.h"
#include "libxldrv/driver/cpus.h"
#include "libxldrv/driver/domains.h"
#include "libxldrv/driver/events.h"
#include "libxldrv/driver/store.h"
#include "libxldrv/host/log-file.h"
#include "libxldrv/host/tls-pipe.h"
#include "libxldrv/rpc/rpc.h"
#include "libxldrv/state/paths.h"
#include "xmlconf/xmlconf.h"

typedef struct {
    XldrvPaths *paths;       /* immutable */
    char *hypervisor;        /* immutable: path of domus-hv */
    char *engine;            /* immutable: its --engine; NULL: its own choice */
    char *store_daemon;      /* immutable: path of domus-xenstored */
    char *secret_uri;        /* immutable: libvirt's, of the secret daemon */
    char *network_uri;       /* immutable: libvirt's, of the network daemon */
    char *filter_uri;        /* immutable: libvirt's, of the filter daemon */
    char *storage_uri;       /* immutable: libvirt's, of the storage daemon; NULL: what listens in relay_sockets */
    char *relay_sockets;     /* immutable: directory of the sockets of libvirt's other daemons */
    char *hypervisor_user;   /* immutable: UID:GID that domus-hv runs as; NULL: our own */
    XldrvLogLimits log_limits; /* immutable: of consoles */
    XldrvPki *pki;           /* immutable: for migration with TLS */
    XmlconfHost host;        /* immutable */
    XldrvCpus *cpus;         /* self-locking */
    XldrvDomains *domains;   /* self-locking */
    XldrvEvents *events;     /* self-locking */
    XldrvAccess *access;     /* self-locking; NULL: whoever is connected may do everything */
    XldrvStore *store;       /* self-locking */
    GThreadPool *reactor;    /* self-locking */
    GSource *store_watch;    /* the main loop's, or the reaction's that makes it again */
    int store_fd;            /* what it watches */
    GMutex id_lock;          /* the file of the last domain id */
    GHashTable *starting_ids; /* under id_lock: of domains that are being started, and have none yet */
    GMutex recover_lock;
    GCond recovered;
    guint recovering;        /* under recover_lock: domains found again that were not asked yet */
    GMutex owned_lock;
    GPtrArray *owned;        /* under owned_lock: domains with an owner */
    GMutex coming_lock;
    GPtrArray *coming;       /* under coming_lock: domains that migrate to here: migrate-dest.c */
} XldrvDriver;

typedef struct {
    const char *root;
    const char *hypervisor;   /* NULL: beside ourselves, or where it is installed */
    const char *store_daemon; /* likewise */
    const char *secret_uri;   /* NULL: the system's as root, else the session's */
    const char *network_uri;  /* likewise */
    const char *filter_uri;   /* likewise */
    const char *storage_uri;  /* NULL: what listens in relay_sockets */
    const char *relay_sockets;
    const char *engine;       /* NULL: the hypervisor's choice */
    XldrvLogLimits log_limits; /* of consoles */
    const XldrvPki *pki;      /* certificates, for migration with TLS */
    gboolean access;          /* polkit is asked about each call */
    const char *user;         /* whom domus-hv runs as; NULL: "domus" if we are root and it exists */
} XldrvDriverOptions;

/* Makes the directories, starts the store daemon where none runs, reads the definitions and finds running
 * domains again. Before clients are let in, on the thread of the main loop. */
XldrvDriver *xldrv_driver_new(const XldrvDriverOptions *options, GError **error);
/* Leaves running domains running. */
void xldrv_driver_free(XldrvDriver *driver);
/* Starts what is marked for autostart and does not run. Does not wait for it. */
void xldrv_driver_autostart(XldrvDriver *driver);

/* The driver that handlers work for: set by xldrv_driver_new, the same until the process ends. */
XldrvDriver *xldrv_driver_get(void);

/* What is to be done about something that nobody called for. Runs on a thread of the reactor. */
typedef struct _XldrvReaction XldrvReaction;
struct _XldrvReaction {
    void (*fn)(XldrvDriver *driver, const XldrvReaction *reaction);
    XldrvDomain *domain;     /* a reference, or NULL: about no domain */
    XldrvInstance *instance; /* a reference, or NULL */
    guint event;             /* of the instance */
    guint64 arg;
};
/* Queues a copy of @reaction, with references of its own. Any thread. */
void xldrv_driver_react(XldrvDriver *driver, const XldrvReaction *reaction);

/* Starts the store daemon again when it ends. Main loop. */
gboolean xldrv_store_watch(XldrvDriver *driver, GError **error);
void xldrv_store_unwatch(XldrvDriver *driver);

/* A client is gone: its event registrations end and its auto-destroy domains too. */
void xldrv_driver_client_closed(XldrvClient *client, gpointer driver);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvDriver, xldrv_driver_free)
