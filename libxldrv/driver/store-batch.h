/* Many requests to the store at once. A request and its reply by themselves take two changes of process, and a domain has
 * hundreds of nodes, some of which are written while a guest stands still. */
#pragma once

#include <xenstore.h>

#include "libxldrv/rpc/rpc.h"

typedef struct _XldrvStoreBatch XldrvStoreBatch;

/* @fd, a connection to the store, is taken. */
XldrvStoreBatch *xldrv_store_batch_new(int fd);
void xldrv_store_batch_free(XldrvStoreBatch *batch);

/* Each adds one request. */
void xldrv_store_batch_write(XldrvStoreBatch *batch, const char *path, const void *value, gsize bytes);
void xldrv_store_batch_set_permissions(XldrvStoreBatch *batch, const char *path, const struct xs_permissions *list, guint n);
void xldrv_store_batch_remove(XldrvStoreBatch *batch, const char *path);
void xldrv_store_batch_read(XldrvStoreBatch *batch, const char *path);
void xldrv_store_batch_get_permissions(XldrvStoreBatch *batch, const char *path);
void xldrv_store_batch_directory(XldrvStoreBatch *batch, const char *path);

/* From now on what happens to the node and to those below it is told: at once for the first time, then with the replies to later
 * requests. How often in all is what _events says. */
void xldrv_store_batch_watch(XldrvStoreBatch *batch, const char *path);
guint64 xldrv_store_batch_events(const XldrvStoreBatch *batch);

/* The reply to request @number since the last run: an errno, or 0 with its payload, which has a zero byte behind it. */
typedef void (*XldrvStoreReply)(guint number, int error, const char *payload, gsize bytes, gpointer data);

/* Sends what was added, and tells of each reply (@fn may be NULL). FALSE with errno, which is the first that a request got where
 * @fn is NULL; another one after that needs a new connection only when it is EPIPE. */
gboolean xldrv_store_batch_run(XldrvStoreBatch *batch, XldrvStoreReply fn, gpointer data);

/* Adds requests. */
typedef void (*XldrvStoreFill)(XldrvStoreBatch *batch, gconstpointer data);

/* Runs what @fill adds in a transaction, again when others were in its way. FALSE with errno. */
gboolean xldrv_store_batch_transaction(XldrvStoreBatch *batch, XldrvStoreFill fill, gconstpointer data);
