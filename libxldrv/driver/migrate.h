/* Migration, protocol 3 of libvirt: what both sides share.
 *
 *      source                      destination
 *      Begin: XML, cookie    ->    Prepare: a process that waits for the stream, and where to send it; what the guest will
 *                                  have here beside it: nodes, interfaces without a carrier, storage
 *                                  daemons without images, a VNC server
 *      Perform: sends, gives up the disks   (the guest stands still from its last pass on)
 *                            ->    Finish: what changed in the store, takes the disks, attaches devices, lets it run
 *      Confirm: ends it
 *
 * The client carries cookies from step to step. That only one side runs the guest is not left to it: the hypervisors agree on
 * that themselves, when Finish asks for the guest (hv/stream/handover.c). Until then it can go on at the source, by Confirm of a
 * cancelled migration or when the client is lost; what waits at the destination ends with its client.
 *
 * Peer to peer, a process of the source is that client: migrate-peer.c. Offline, only the definition goes: Perform is left out.
 *
 * With TLS the stream goes through a thread of each daemon (host/tls-pipe.h), and ends with either of them.
 *
 * In post-copy, Perform ends with the switch, and Finish and Confirm take until all memory is there: migrate-postcopy.c.
 *
 * Disks may be copied along: migrate-disks.h.
 *
 * Over several connections the stream (if it is encrypted: what TLS makes of it) goes through threads of each daemon, as with TLS:
 * host/stripes.h. Each connection says the secret word of the destination's cookie.
 *
 * Tunnelled, the stream goes to that process, and from there through the connection to the other daemon: migrate/tunnel.c.
 *
 * Refused by name: resuming post-copy that failed, post-copy that is encrypted, compressed or over several
 * connections.
 */
#pragma once

#include "libxldrv/driver/driver.h"

#define XLDRV_MIGRATE_COPY_FLAGS (VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC)
#define XLDRV_MIGRATE_FLAGS                                                                                         \
    (VIR_MIGRATE_LIVE | VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE | VIR_MIGRATE_PAUSED |              \
     VIR_MIGRATE_CHANGE_PROTECTION | VIR_MIGRATE_UNSAFE | VIR_MIGRATE_ABORT_ON_ERROR | VIR_MIGRATE_AUTO_CONVERGE | \
     VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_OFFLINE | VIR_MIGRATE_TLS | VIR_MIGRATE_COMPRESSED | VIR_MIGRATE_POSTCOPY | \
     VIR_MIGRATE_PARALLEL | VIR_MIGRATE_TUNNELLED | XLDRV_MIGRATE_COPY_FLAGS | \
     VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES)

/* In the directory of running domains: where domus-migrate comes to. */
#define XLDRV_MIGRATE_SOCKET "migrate-sock"

typedef struct {
    guint flags;
    /* Borrowed; NULL: not given. */
    const char *uri, *dname, *xml, *persistent_xml, *listen_address, *tls_destination, *compression, *disks_uri;
    guint64 bandwidth_mib, postcopy_bandwidth_mib;                   /* 0: no limit */
    int disks_port;                                                  /* 0: any that is free */
    int connections;                                                 /* of a parallel one; 0: it is none */
    GVariant *params;                                                /* that this was read from; or NULL */
} XldrvMigration;

typedef struct _XldrvCookie XldrvCookie;

/* Reads typed parameters, which have to stay, and flags. Others than those above are refused by name. */
gboolean xldrv_migration_read(GVariant *params, guint flags, XldrvMigration *migration, GError **error);

/* The typed parameters again; floating. */
GVariant *xldrv_migration_params(const XldrvMigration *migration);

/* Whether the disk is copied: one that is named, or where none is, all that can be written and is not shared. */
gboolean xldrv_migration_copies(const XldrvMigration *migration, const XmlconfDisk *disk);
/* The names of disks one after the other, *@at from 0 on; NULL: there are no more. */
const char *xldrv_migration_next_disk(const XldrvMigration *migration, guint *at);

/* Moves the domain to the daemon at that URI, and returns when it is there. Without the domain's job. migrate-peer.c */
gboolean xldrv_migrate_peer(XldrvDriver *driver, XldrvDomain *domain, const char *destination,
                            const XldrvMigration *migration, GError **error);
/* The socket to send the domain to, once; or -1. */
int xldrv_migrate_peer_tunnel(XldrvDomain *domain, GError **error);
/* Ends that, if the domain was not sent yet. */
gboolean xldrv_migrate_peer_abort(XldrvDomain *domain, GError **error);

/* Both ends of the connection: what is written is sent at once, also while what was before is not acknowledged, and a host that
 * does not answer for long is not there any more. */
void xldrv_migration_tune_socket(int fd);
/* The sender's end, before post-copy: little waits in it, as what is asked for would wait behind that. */
void xldrv_migration_keep_short(int fd);
/* Listens on that port, or for 0 on the first one of libvirt's range that is free: *@chosen. -1 with an error. */
int xldrv_migration_listen(const char *address, int port, int *chosen, GError **error);
/* Connects to "tcp://HOST:PORT". migrate-source.c */
int xldrv_migration_connect(const char *uri, GError **error);
/* The source: makes the other connections of a parallel migration, of which @fd is the first one; a socket that carries the
 * stream over all of them, or -1. Takes @fd. migrate-parallel.c */
int xldrv_migration_spread(const XldrvMigration *migration, const XldrvCookie *prepared, int fd, GError **error);
/* The destination: the same for those that come, until *@stop: then -1 without an error. migrate-parallel.c */
int xldrv_migration_gather(int listen_fd, guint connections, const char *word, const gint *stop, GError **error);
/* Speaks TLS on @fd, which is taken, to the migration's host; the socket inside of it, or -1. migrate-source.c */
int xldrv_migration_encrypt(XldrvDriver *driver, const XldrvMigration *migration, int fd, GError **error);

/* Target, size in bytes, path and format of the image that it is based on and that is not copied ("": none). */
#define XLDRV_COOKIE_DISKS      "a(stss)"
#define XLDRV_COOKIE_WORD_CHARS 32

/* What one step tells the next one, on the wire as bytes. */
struct _XldrvCookie {
    int id;          /* that the guest knows itself by */
    GVariant *store; /* xldrv_store_read_tree: before it is sent, and at the end; NULL: not told */
    GVariant *disks; /* that are copied, of type XLDRV_COOKIE_DISKS; NULL: none */
    guint port;      /* where they are taken; 0: nowhere */
    char word[XLDRV_COOKIE_WORD_CHARS + 1]; /* that is said there, and on parallel connections; "": none */
    gboolean copied; /* they are at the destination, as they are */
};
void xldrv_cookie_clear(XldrvCookie *cookie);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XldrvCookie, xldrv_cookie_clear)

/* A new one, that nobody can guess. */
gboolean xldrv_cookie_make_word(char word[XLDRV_COOKIE_WORD_CHARS + 1], GError **error);

/* An array of bytes; floating. */
GVariant *xldrv_cookie_encode(const XldrvCookie *cookie);
/* @bytes is such an array; an empty one is no cookie. */
gboolean xldrv_cookie_decode(GVariant *bytes, XldrvCookie *cookie, GError **error);

/* A domain that was sent goes on here, if the destination did not get it; @recall: or if it did and does not run it, as a
 * person says. With its job. migrate-source.c */
gboolean xldrv_migration_cancel(XldrvDriver *driver, XldrvJob *job, gboolean recall, GError **error);
/* Whether it was sent, and nobody has said yet what becomes of it. */
gboolean xldrv_migration_is_sent(const XldrvJob *job);
/* Nobody will say so any more: it goes on here, or has ended here because it runs there; where not even the hypervisor knows
 * it stays as it is. With its job. */
void xldrv_migration_settle(XldrvDriver *driver, XldrvJob *job);
/* The same with an error for what cannot be settled, also in post-copy, when it takes until all was sent. */
gboolean xldrv_migration_come_back(XldrvDriver *driver, XldrvJob *job, GError **error);
/* Does that for what this client sent. */
void xldrv_migration_sender_closed(XldrvDriver *driver, guint64 client);
/* Ends what waits for a migration that this client prepared. migrate-dest.c */
void xldrv_migration_client_closed(XldrvDriver *driver, guint64 client);

/* Post-copy: migrate-postcopy.c. All with the domain's job. */

/* The source: it was switched, and waits (TRUE from _left on); follows until all was sent, FALSE: it failed; or gives up. */
void xldrv_postcopy_left(XldrvDriver *driver, XldrvJob *job);
gboolean xldrv_postcopy_is_left(const XldrvJob *job);
gboolean xldrv_postcopy_complete(XldrvDriver *driver, XldrvJob *job, GError **error);
void xldrv_postcopy_give_up(XldrvDriver *driver, XldrvJob *job);
/* The destination: follows a domain that runs here already until all is there, FALSE: it failed. */
gboolean xldrv_postcopy_arrive(XldrvDriver *driver, XldrvJob *job, GError **error);
gboolean xldrv_postcopy_is_arriving(const XldrvJob *job);
/* Either: it failed. */
gboolean xldrv_postcopy_is_lost(const XldrvJob *job);
/* Whether a person may let it go on here. */
gboolean xldrv_postcopy_check_resume(XldrvJob *job, GError **error);
/* Either side, any thread, without the job: a thread of its own follows it. */
void xldrv_postcopy_follow_soon(XldrvDomain *domain);
