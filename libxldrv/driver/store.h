/* xenstore: the daemon of this host, and what a domain has there.
 *
 * The layout is that of Xen's own tools (docs/misc/xenstore-paths): /local/domain/ID, /vm/UUID, /libxl/ID.
 */
#pragma once

#include <glib.h>

#include "libxldrv/state/paths.h"
#include "xmlconf/xmlconf.h"

typedef struct _XldrvStore XldrvStore;

/* @daemon is the program to start where no store daemon answers. Sets XENSTORED_PATH of this process. */
XldrvStore *xldrv_store_new(const XldrvPaths *paths, const char *daemon, GError **error);
void xldrv_store_free(XldrvStore *store);

/* Starts the daemon again if it is gone. */
gboolean xldrv_store_ensure(XldrvStore *store, GError **error);
/* A connection to the daemon of which nothing is wanted but its end: that of the daemon. -1 with an error. */
int xldrv_store_connect(XldrvStore *store, GError **error);

typedef struct {
    int id;
    XmlconfDomain *domain;
    guint64 ring_gfn; /* of the store ring */
    guint ring_port;
    guint64 console_gfn;
    guint console_port;
    const char *tty; /* of the console; NULL: none */
} XldrvStoreDomain;

/* Writes all nodes of a new domain and introduces it. */
gboolean xldrv_store_add_domain(XldrvStore *store, const XldrvStoreDomain *what, GError **error);
/* The same in two steps, for a domain that comes from elsewhere: its nodes while nobody looks at them, of its rings what is
 * known; then what has changed since of the tree that was written (@was, @now; NULL: nothing), and it is introduced. */
gboolean xldrv_store_write_domain(XldrvStore *store, const XldrvStoreDomain *what, GError **error);
gboolean xldrv_store_complete_domain(XldrvStore *store, const XldrvStoreDomain *what, GVariant *was, GVariant *now,
                                     GError **error);
/* Releases a domain and removes its nodes; what is not there is fine. */
void xldrv_store_remove_domain(XldrvStore *store, int id, const char *uuid);

/* A device between the guest's front end and the hypervisor's back end. */
typedef struct {
    const char *key, *value;
} XldrvStoreKey;

typedef struct {
    int id;           /* of the domain */
    const char *kind; /* "vbd", "vif" */
    guint devid;
    /* Beside what all devices have; each list ends with a NULL key. */
    const XldrvStoreKey *backend, *frontend;
    const XldrvStoreKey *hidden; /* of the host, under /libxl; NULL: none */
} XldrvStoreDevice;

/* Writes the nodes of both halves. The guest sees the device come. */
gboolean xldrv_store_add_device(XldrvStore *store, const XldrvStoreDevice *device, GError **error);
/* Removes them; what is not there is fine. */
void xldrv_store_remove_device(XldrvStore *store, int id, const char *kind, guint devid);

/* Introduces a domain again to a store daemon that was restarted, from its nodes there. */
gboolean xldrv_store_introduce_again(XldrvStore *store, int id, GError **error);
/* Two connections to the daemon that speak for the domain, one for the guest and one for its backends: both or, with an
 * error, none (-1). */
gboolean xldrv_store_domain_connections(XldrvStore *store, int id, int fds[2], GError **error);

/* All that a domain and its devices have in the store, to be written where it goes on: what is of the host stays as it is
 * there. A reference; NULL with an error. */
#define XLDRV_STORE_TREE_TYPE G_VARIANT_TYPE("(ia(saya(uu)))")
GVariant *xldrv_store_read_tree(XldrvStore *store, int id, GError **error);
gboolean xldrv_store_write_tree(XldrvStore *store, int id, GVariant *tree, GError **error);

/* The same kept ready: it is read when following begins, and at the end again only if something has changed since. */
typedef struct _XldrvStoreFollower XldrvStoreFollower;
XldrvStoreFollower *xldrv_store_follow(XldrvStore *store, int id, GError **error);
GVariant *xldrv_store_follower_end(XldrvStoreFollower *follower, GError **error);
void xldrv_store_follower_free(XldrvStoreFollower *follower);

/* Gives a node below /local/domain/ID, which exists, another value. */
gboolean xldrv_store_write(XldrvStore *store, int id, const char *node, const char *value, GError **error);
/* Asks the guest by its control/shutdown node: "poweroff", "reboot" ... */
gboolean xldrv_store_request_shutdown(XldrvStore *store, int id, const char *what, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvStore, xldrv_store_free)
