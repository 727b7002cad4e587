/* A table of things found by path. Private to the store.
 *
 * Entries are embedded in what they find, so that inserting one cannot fail: a table that cannot get memory for
 * more buckets only becomes slower. That is what lets a transaction be applied without a way to fail.
 */
#pragma once

#include "hv/types.h"

struct hv_xs_entry {
    struct hv_xs_entry *next;
    uint64_t hash;
    char *path; /* owned by whoever embeds the entry */
};

struct hv_xs_table {
    struct hv_xs_entry **buckets;
    size_t nr_buckets; /* a power of two */
    size_t count;
};

int hv_xs_table_init(struct hv_xs_table *table) HV_MUST_CHECK;
/* The entries are the caller's to free before. */
void hv_xs_table_fini(struct hv_xs_table *table);

uint64_t hv_xs_hash(const char *path);
struct hv_xs_entry *hv_xs_table_find(const struct hv_xs_table *table, const char *path);
/* @entry->path is set and not in the table. */
void hv_xs_table_insert(struct hv_xs_table *table, struct hv_xs_entry *entry);
void hv_xs_table_remove(struct hv_xs_table *table, struct hv_xs_entry *entry);
/* Walks all entries in no order: NULL gives the first, NULL comes after the last. Removing the entry that was
 * given last is allowed only after asking for the next. */
struct hv_xs_entry *hv_xs_table_next(const struct hv_xs_table *table, const struct hv_xs_entry *after);
