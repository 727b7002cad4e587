/* A table of things found by path: hashed, chained. */
#include "config.h"

#include "hv/store/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BUCKETS 16u

int hv_xs_table_init(struct hv_xs_table *table)
{
    *table = (struct hv_xs_table){.nr_buckets = FIRST_BUCKETS};
    table->buckets = calloc(FIRST_BUCKETS, sizeof(*table->buckets));
    return table->buckets ? 0 : -ENOMEM;
}

void hv_xs_table_fini(struct hv_xs_table *table)
{
    free(table->buckets);
    *table = (struct hv_xs_table){0};
}

/* FNV-1a, then mixed so that the low bits depend on all of it. */
uint64_t hv_xs_hash(const char *path)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *path; path++)
        hash = (hash ^ (uint8_t)*path) * UINT64_C(0x100000001b3);
    hash ^= hash >> 32;
    return hash;
}

static struct hv_xs_entry **bucket(const struct hv_xs_table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->nr_buckets - 1)];
}

struct hv_xs_entry *hv_xs_table_find(const struct hv_xs_table *table, const char *path)
{
    uint64_t hash = hv_xs_hash(path);

    for (struct hv_xs_entry *e = *bucket(table, hash); e; e = e->next)
        if (e->hash == hash && !strcmp(e->path, path))
            return e;
    return NULL;
}

static void link_entry(struct hv_xs_table *table, struct hv_xs_entry *entry)
{
    struct hv_xs_entry **head = bucket(table, entry->hash);

    entry->next = *head;
    *head = entry;
}

static void grow(struct hv_xs_table *table)
{
    struct hv_xs_table bigger = {.nr_buckets = table->nr_buckets * 2, .count = table->count};

    bigger.buckets = calloc(bigger.nr_buckets, sizeof(*bigger.buckets));
    if (!bigger.buckets)
        return;
    for (size_t i = 0; i < table->nr_buckets; i++) {
        for (struct hv_xs_entry *e = table->buckets[i], *next; e; e = next) {
            next = e->next;
            link_entry(&bigger, e);
        }
    }
    free(table->buckets);
    *table = bigger;
}

void hv_xs_table_insert(struct hv_xs_table *table, struct hv_xs_entry *entry)
{
    if (table->count >= table->nr_buckets)
        grow(table);
    entry->hash = hv_xs_hash(entry->path);
    link_entry(table, entry);
    table->count++;
}

void hv_xs_table_remove(struct hv_xs_table *table, struct hv_xs_entry *entry)
{
    struct hv_xs_entry **at = bucket(table, entry->hash);

    while (*at && *at != entry)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = entry->next;
    table->count--;
}

struct hv_xs_entry *hv_xs_table_next(const struct hv_xs_table *table, const struct hv_xs_entry *after)
{
    size_t i = 0;

    if (after) {
        if (after->next)
            return after->next;
        i = (after->hash & (table->nr_buckets - 1)) + 1;
    }
    for (; i < table->nr_buckets; i++)
        if (table->buckets[i])
            return table->buckets[i];
    return NULL;
}
