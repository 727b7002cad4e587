/* The store as a whole: what is always there, and the domains. */
#include "config.h"

#include "hv/store/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hv/store/connection.h"
#include "hv/store/transaction.h"
#include "hv/store/watch.h"

const struct hv_xs_quota hv_xs_default_quota = {
    .nodes = 1000,
    .watches = 128,
    .transactions = 10,
    .entry_bytes = 2048,
    .perms = 5,
    .tx_nodes = 1024,
    .outstanding = 20,
    .queue_bytes = 2u << 20,
};

int hv_xs_init_empty(struct hv_xs *xs)
{
    struct timespec now;

    *xs = (struct hv_xs){.quota = hv_xs_default_quota};
    /* Transaction numbers of a server that was restarted must not look like those of the one before. */
    clock_gettime(CLOCK_REALTIME, &now);
    xs->next_tx_id = (uint32_t)now.tv_sec << 10 | 1;
    xs->generation = 1;
    xs->domains = calloc(DOMID_FIRST_RESERVED, sizeof(*xs->domains));
    if (!xs->domains || hv_xs_table_init(&xs->nodes) < 0 || hv_xs_table_init(&xs->watches) < 0) {
        hv_xs_fini(xs);
        return -ENOMEM;
    }
    return 0;
}

/* Special names are nodes too: their permissions say who may see the events. */
int hv_xs_add_roots(struct hv_xs *xs)
{
    static const char *const paths[] = {"/", "/tool/xenstored", "/local/domain", "/vm", "@introduceDomain",
                                        "@releaseDomain"};
    static const struct hv_xs_who dom0 = {.privileged = true, .target = -1};
    struct hv_xs_domain *domain0 = hv_xs_domain_get(xs, 0);
    int err = 0;

    if (!domain0)
        return -ENOMEM;
    domain0->introduced = true;
    for (size_t i = 0; !err && i < HV_ARRAY_LEN(paths); i++) {
        struct hv_xs_tx *tx;

        if (hv_xs_find(xs, paths[i]))
            continue;
        err = hv_xs_tx_new(xs, &dom0, &tx);
        if (err)
            break;
        err = hv_xs_tx_mkdir(tx, paths[i]);
        if (!err)
            err = hv_xs_tx_commit(tx);
        hv_xs_tx_free(tx);
    }
    return err;
}

int hv_xs_init(struct hv_xs *xs)
{
    int err = hv_xs_init_empty(xs);

    if (!err)
        err = hv_xs_add_roots(xs);
    if (err)
        hv_xs_fini(xs);
    return err;
}

void hv_xs_fini(struct hv_xs *xs)
{
    while (xs->conns)
        hv_xs_conn_free(xs->conns);
    if (xs->nodes.buckets) {
        for (struct hv_xs_entry *e = hv_xs_table_next(&xs->nodes, NULL), *next; e; e = next) {
            struct hv_xs_node *node = HV_CONTAINER_OF(e, struct hv_xs_node, entry);

            next = hv_xs_table_next(&xs->nodes, e);
            hv_xs_record_unref(node->record);
            free(e->path);
            free(node);
        }
    }
    hv_xs_table_fini(&xs->nodes);
    hv_xs_table_fini(&xs->watches);
    for (size_t i = 0; xs->domains && i < DOMID_FIRST_RESERVED; i++)
        free(xs->domains[i]);
    free(xs->domains);
    xs->domains = NULL;
}

struct hv_xs_record *hv_xs_find(const struct hv_xs *xs, const char *path)
{
    struct hv_xs_entry *e = hv_xs_table_find(&xs->nodes, path);

    return e ? HV_CONTAINER_OF(e, struct hv_xs_node, entry)->record : NULL;
}

struct hv_xs_domain *hv_xs_domain_find(const struct hv_xs *xs, unsigned domid)
{
    return domid < DOMID_FIRST_RESERVED ? xs->domains[domid] : NULL;
}

struct hv_xs_domain *hv_xs_domain_get(struct hv_xs *xs, unsigned domid)
{
    struct hv_xs_domain *domain = hv_xs_domain_find(xs, domid);

    if (domain || domid >= DOMID_FIRST_RESERVED)
        return domain;
    domain = calloc(1, sizeof(*domain));
    if (!domain)
        return NULL;
    domain->domid = (uint16_t)domid;
    domain->target = -1;
    xs->domains[domid] = domain;
    return domain;
}

void hv_xs_domain_count(struct hv_xs *xs, unsigned domid, int nodes)
{
    struct hv_xs_domain *domain = hv_xs_domain_get(xs, domid);

    if (domain)
        domain->nodes += (unsigned)nodes;
}

size_t hv_xs_parent_length(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (path[0] != '/' || path[1] == '\0')
        return 0;
    return slash == path ? 1 : (size_t)(slash - path);
}

const char *hv_xs_basename(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}
