/* Transactions: the only way to read and change the tree for a client. Private to the store.
 *
 * A transaction remembers each node it has looked at, as it was (base) and as it is to become (record). It can be
 * committed when every base is still what the tree has.
 */
#pragma once

#include "hv/store/core.h"

/* A new transaction of @who. 0 or -ENOMEM. */
int hv_xs_tx_new(struct hv_xs *xs, const struct hv_xs_who *who, struct hv_xs_tx **out) HV_MUST_CHECK;
void hv_xs_tx_free(struct hv_xs_tx *tx);

/* Node operations. Paths are complete and valid. All give 0 or: -ENOENT, -EACCES, -EPERM (owner), -ENOSPC (a
 * limit), -EINVAL (removing the root), -ENOMEM. A transaction stays usable after an error; nodes that the failing
 * operation had already changed in it are given back as they were, except by hv_xs_tx_rm out of memory. */
int hv_xs_tx_read(struct hv_xs_tx *tx, const char *path, const struct hv_xs_record **out) HV_MUST_CHECK;
int hv_xs_tx_write(struct hv_xs_tx *tx, const char *path, const void *value, size_t bytes) HV_MUST_CHECK;
int hv_xs_tx_mkdir(struct hv_xs_tx *tx, const char *path) HV_MUST_CHECK;
int hv_xs_tx_rm(struct hv_xs_tx *tx, const char *path) HV_MUST_CHECK;
int hv_xs_tx_set_perms(struct hv_xs_tx *tx, const char *path, const struct hv_xs_perm *perms, unsigned nr_perms) HV_MUST_CHECK;

/* Makes the changes lasting and fires watches. -EAGAIN when a node it looked at has changed meanwhile, -ENOSPC over
 * quota or disk full, -EIO, -ENOMEM: then nothing has changed. */
int hv_xs_tx_commit(struct hv_xs_tx *tx) HV_MUST_CHECK;
