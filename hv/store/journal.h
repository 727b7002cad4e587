/* What keeps the tree over a restart: a file of changes, each transaction one checksummed batch, rewritten as a
 * snapshot when it has grown. Private to the store.
 *
 * A batch is with the kernel before its request is answered, so nothing acknowledged is lost when the process
 * dies; a batch that is cut short is not read back. Snapshots replace the file by rename, after fsync.
 */
#pragma once

#include "hv/store/core.h"

/* Opens or creates the file @path, reads it into @xs (which has been through hv_xs_init_empty) and hangs the journal
 * on xs->journal. 0 or negative errno; -EINVAL when the file is no journal. */
int hv_xs_journal_open(struct hv_xs *xs, const char *path) HV_MUST_CHECK;
void hv_xs_journal_close(struct hv_xs *xs);

/* A batch: begin, any number of changes, end. end gives 0, -ENOMEM, -ENOSPC or -EIO; then the file is as it was
 * before. */
void hv_xs_journal_begin(struct hv_xs_journal *j);
void hv_xs_journal_put(struct hv_xs_journal *j, const char *path, const struct hv_xs_record *record);
void hv_xs_journal_delete(struct hv_xs_journal *j, const char *path);
/* All about a domain, known and not introduced included. */
void hv_xs_journal_domain(struct hv_xs_journal *j, const struct hv_xs_domain *domain);
int hv_xs_journal_end(struct hv_xs_journal *j) HV_MUST_CHECK;
