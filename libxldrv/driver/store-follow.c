/* What a domain has in the store, kept ready: reading all of it takes a round trip for each level of the tree, and a guest that is
 * sent elsewhere stands still meanwhile. */
#include "config.h"

#include "libxldrv/driver/store.h"

#include <errno.h>

#include "libxldrv/driver/store-nodes.h"
#include "libxldrv/rpc/rpc.h"

struct _XldrvStoreFollower {
    XldrvStore *store; /* borrowed */
    int id;
    XldrvStoreBatch *batch; /* a connection of its own, for its watches */
    guint64 n_watches;      /* each has told of itself once */
    GVariant *tree;         /* what was there then, or what came after */
};

void xldrv_store_follower_free(XldrvStoreFollower *follower)
{
    if (!follower)
        return;
    xldrv_store_batch_free(follower->batch);
    g_clear_pointer(&follower->tree, g_variant_unref);
    g_free(follower);
}

XldrvStoreFollower *xldrv_store_follow(XldrvStore *store, int id, GError **error)
{
    int fd = xldrv_store_connect(store, error);
    XldrvStoreFollower *f;

    if (fd < 0)
        return NULL;
    f = g_new0(XldrvStoreFollower, 1);
    *f = (XldrvStoreFollower){.store = store, .id = id, .batch = xldrv_store_batch_new(fd)};
    f->n_watches = xldrv_store_tree_watch(f->batch, id);
    if (xldrv_store_batch_run(f->batch, NULL, NULL) && (f->tree = xldrv_store_tree_read(f->batch, id)))
        return f;
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot follow the nodes of domain %d in the store: %s", id,
                    g_strerror(errno));
    xldrv_store_follower_free(f);
    return NULL;
}

/* What happened before the reply has come before it. */
static gboolean is_same(XldrvStoreFollower *f)
{
    xldrv_store_batch_directory(f->batch, "/local");
    return xldrv_store_batch_run(f->batch, NULL, NULL) && xldrv_store_batch_events(f->batch) == f->n_watches;
}

GVariant *xldrv_store_follower_end(XldrvStoreFollower *follower, GError **error)
{
    return is_same(follower) ? g_variant_ref(follower->tree) : xldrv_store_read_tree(follower->store, follower->id, error);
}
