/* Records: contents of a node. */
#include "config.h"

#include "hv/store/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct hv_xs_record *hv_xs_record_new(const struct hv_xs_perm *perms, unsigned nr_perms)
{
    struct hv_xs_record *record = calloc(1, sizeof(*record));

    if (!record)
        return NULL;
    record->refs = 1;
    if (hv_xs_record_set_perms(record, perms, nr_perms) < 0) {
        free(record);
        return NULL;
    }
    return record;
}

/* A copy of @bytes at @from, never NULL but when out of memory. */
static void *duplicate(const void *from, size_t bytes)
{
    void *to = malloc(bytes ? bytes : 1);

    if (to && bytes)
        memcpy(to, from, bytes);
    return to;
}

struct hv_xs_record *hv_xs_record_clone(const struct hv_xs_record *record)
{
    struct hv_xs_record *clone = hv_xs_record_new(record->perms, record->nr_perms);

    if (!clone)
        return NULL;
    clone->generation = record->generation;
    clone->children = duplicate(record->children, record->children_bytes);
    clone->children_bytes = record->children_bytes;
    if (!clone->children || hv_xs_record_set_value(clone, record->value, record->value_bytes) < 0) {
        hv_xs_record_unref(clone);
        return NULL;
    }
    return clone;
}

struct hv_xs_record *hv_xs_record_ref(struct hv_xs_record *record)
{
    if (record)
        record->refs++;
    return record;
}

void hv_xs_record_unref(struct hv_xs_record *record)
{
    if (!record || --record->refs)
        return;
    free(record->perms);
    free(record->value);
    free(record->children);
    free(record);
}

int hv_xs_record_set_value(struct hv_xs_record *record, const void *value, size_t bytes)
{
    uint8_t *copy = duplicate(value, bytes);

    if (!copy)
        return -ENOMEM;
    free(record->value);
    record->value = copy;
    record->value_bytes = bytes;
    return 0;
}

int hv_xs_record_set_perms(struct hv_xs_record *record, const struct hv_xs_perm *perms, unsigned nr_perms)
{
    struct hv_xs_perm *copy = duplicate(perms, nr_perms * sizeof(*perms));

    if (!copy)
        return -ENOMEM;
    free(record->perms);
    record->perms = copy;
    record->nr_perms = nr_perms;
    return 0;
}

int hv_xs_record_add_child(struct hv_xs_record *record, const char *name)
{
    size_t bytes = strlen(name) + 1;
    char *children = realloc(record->children, record->children_bytes + bytes);

    if (!children)
        return -ENOMEM;
    memcpy(children + record->children_bytes, name, bytes);
    record->children = children;
    record->children_bytes += bytes;
    return 0;
}

void hv_xs_record_remove_child(struct hv_xs_record *record, const char *name)
{
    size_t at = 0;

    while (at < record->children_bytes) {
        size_t bytes = strlen(record->children + at) + 1;

        if (!strcmp(record->children + at, name)) {
            memmove(record->children + at, record->children + at + bytes, record->children_bytes - at - bytes);
            record->children_bytes -= bytes;
            return;
        }
        at += bytes;
    }
}

static bool is_who(const struct hv_xs_who *who, uint16_t domid)
{
    return who->domid == domid || who->target == domid;
}

unsigned hv_xs_record_access(const struct hv_xs_record *record, const struct hv_xs_who *who)
{
    if (who->privileged || is_who(who, record->perms[0].domid))
        return HV_XS_READ | HV_XS_WRITE | HV_XS_OWNER;
    for (unsigned i = 1; i < record->nr_perms; i++)
        if (is_who(who, record->perms[i].domid))
            return record->perms[i].access;
    return record->perms[0].access;
}

size_t hv_xs_record_bytes(const struct hv_xs_record *record)
{
    return 16 + record->nr_perms * 4 + record->value_bytes + record->children_bytes;
}
