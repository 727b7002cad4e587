/* The store: the tree, the domains known to it, watches and connections, and the limits. Private to the store.
 *
 * How a request travels: connection.c collects a message and gives it to request.c, which finds its row in the table
 * of operations, checks what the row says, and calls a handler (ops-node.c, ops-domain.c). A handler reads and
 * changes nodes only through a transaction (transaction.c): the client's, or one for this request alone. Committing
 * a transaction first appends it to the journal (journal.c), then changes the tree, then fires watches (watch.c). So
 * a request is done entirely, on disk too, or not at all.
 *
 * Semantics and limits are those of Xen's docs/misc/xenstore.txt. Everything here is single-threaded.
 */
#pragma once

#include "hv/store/record.h"
#include "hv/store/table.h"
#include "hv/xen-abi.h"

struct hv_xs_conn;
struct hv_xs_journal;
struct hv_xs_tx;

/* Limits of one unprivileged domain; the numbers are Xen's defaults. */
struct hv_xs_quota {
    unsigned nodes;        /* nodes owned: ENOSPC */
    unsigned watches;      /* E2BIG */
    unsigned transactions; /* open at once: ENOSPC */
    unsigned entry_bytes;  /* of a node with all it holds: ENOSPC */
    unsigned perms;        /* of a node: ENOSPC */
    unsigned tx_nodes;     /* nodes that a transaction looks at: ENOSPC */
    unsigned outstanding;  /* requests whose answer it has not taken: no more are read */
    unsigned queue_bytes;  /* answers and events it has not taken: the connection is closed */
};

extern const struct hv_xs_quota hv_xs_default_quota;

struct hv_xs_domain {
    uint16_t domid;
    bool introduced;
    uint64_t gfn;  /* of its ring, as XS_INTRODUCE said */
    uint32_t port; /* event channel */
    int target;    /* XS_SET_TARGET, or -1 */
    unsigned nodes; /* that it owns */
};

/* A node in the tree. */
struct hv_xs_node {
    struct hv_xs_entry entry;
    struct hv_xs_record *record;
};

struct hv_xs {
    struct hv_xs_table nodes;
    struct hv_xs_domain **domains; /* by domid; made when first needed */
    struct hv_xs_table watches;    /* struct watch_list of watch.c */
    struct hv_xs_conn *conns;
    struct hv_xs_quota quota;
    struct hv_xs_journal *journal; /* NULL: the store is in memory only */
    uint64_t generation;
    uint32_t next_tx_id;
    void (*conn_ready)(void *opaque, struct hv_xs_conn *c); /* something to send, or to close */
    void *conn_ready_opaque;
};

/* A store with the nodes that are always there. 0 or -ENOMEM. */
int hv_xs_init(struct hv_xs *xs) HV_MUST_CHECK;
/* Without the nodes: journal.c puts back its own. */
int hv_xs_init_empty(struct hv_xs *xs) HV_MUST_CHECK;
/* Adds the nodes that are always there, where they are missing. */
int hv_xs_add_roots(struct hv_xs *xs) HV_MUST_CHECK;
void hv_xs_fini(struct hv_xs *xs);

/* The record at @path (borrowed), or NULL. */
struct hv_xs_record *hv_xs_find(const struct hv_xs *xs, const char *path);

/* The domain, made when it is not known; NULL for a bad number or when out of memory. */
struct hv_xs_domain *hv_xs_domain_get(struct hv_xs *xs, unsigned domid);
/* The domain, or NULL when it is not known. */
struct hv_xs_domain *hv_xs_domain_find(const struct hv_xs *xs, unsigned domid);
/* Counts a node of owner @domid. Cannot fail for a domain that hv_xs_domain_get has made. */
void hv_xs_domain_count(struct hv_xs *xs, unsigned domid, int nodes);

/* Length of the parent's path within @path, 0 for "/" and special names; 1 stands for the root itself. */
size_t hv_xs_parent_length(const char *path);
/* The last name of @path. */
const char *hv_xs_basename(const char *path);
