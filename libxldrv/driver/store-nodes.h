/* The nodes of one domain in xenstore. */
#pragma once

#include <xenstore.h>

#include "libxldrv/driver/store-batch.h"
#include "libxldrv/driver/store.h"

/* In one transaction. FALSE with errno. */
gboolean xldrv_store_write_nodes(XldrvStoreBatch *batch, const XldrvStoreDomain *what);
/* Both halves of a device, in one transaction. FALSE with errno. */
gboolean xldrv_store_write_device(XldrvStoreBatch *batch, const XldrvStoreDevice *device);
/* Watches all of it; how many watches that are. */
guint xldrv_store_tree_watch(XldrvStoreBatch *batch, int id);
/* As xldrv_store_read_tree and _write_tree: store-tree.c. NULL, FALSE with errno. */
GVariant *xldrv_store_tree_read(XldrvStoreBatch *batch, int id);
gboolean xldrv_store_tree_write(XldrvStoreBatch *batch, int id, GVariant *tree);
/* Adds requests that make of @was, which was written, @now; what they remove may be gone already. */
void xldrv_store_tree_add_changes(XldrvStoreBatch *batch, int id, GVariant *was, GVariant *now);
/* Adds requests for the nodes that are known only when all of a domain has come. */
void xldrv_store_add_rings(XldrvStoreBatch *batch, const XldrvStoreDomain *what);
/* What is not there is fine. */
void xldrv_store_remove_device_nodes(struct xs_handle *handle, int id, const char *kind, guint devid);
void xldrv_store_remove_nodes(struct xs_handle *handle, int id, const char *uuid);
