/* A record: what one node of the store holds, its value, its permissions and the names of its children.
 * Private to the store.
 *
 * Records are counted references and are never changed once they are in the tree: a change makes a clone and puts
 * that in its place. So a transaction that keeps a reference to what it has read sees at a glance, by comparing
 * pointers, whether the node is still the same.
 */
#pragma once

#include "hv/types.h"

enum { HV_XS_READ = 1, HV_XS_WRITE = 2, HV_XS_OWNER = 4 };

/* The first of a record's permissions is its owner with the access of everybody not listed. */
struct hv_xs_perm {
    uint16_t domid;
    uint8_t access; /* READ, WRITE */
};

/* Who asks. */
struct hv_xs_who {
    uint16_t domid;
    bool privileged;
    int target; /* domain whose rights this one has too (XS_SET_TARGET), or -1 */
};

struct hv_xs_record {
    unsigned refs;
    uint64_t generation; /* unique to this content */
    struct hv_xs_perm *perms;
    unsigned nr_perms; /* at least 1 */
    uint8_t *value;
    size_t value_bytes;
    char *children; /* names, each with its NUL, in order of creation */
    size_t children_bytes;
};

/* A new record without value and children; NULL when out of memory. */
struct hv_xs_record *hv_xs_record_new(const struct hv_xs_perm *perms, unsigned nr_perms);
struct hv_xs_record *hv_xs_record_clone(const struct hv_xs_record *record);
struct hv_xs_record *hv_xs_record_ref(struct hv_xs_record *record); /* NULL stays NULL */
void hv_xs_record_unref(struct hv_xs_record *record);

/* Changes of a record that is not in the tree yet. 0 or -ENOMEM (unchanged). */
int hv_xs_record_set_value(struct hv_xs_record *record, const void *value, size_t bytes) HV_MUST_CHECK;
int hv_xs_record_set_perms(struct hv_xs_record *record, const struct hv_xs_perm *perms, unsigned nr_perms) HV_MUST_CHECK;
int hv_xs_record_add_child(struct hv_xs_record *record, const char *name) HV_MUST_CHECK;
void hv_xs_record_remove_child(struct hv_xs_record *record, const char *name);

/* The rights of @who: set of HV_XS_*. */
unsigned hv_xs_record_access(const struct hv_xs_record *record, const struct hv_xs_who *who);
/* Size that counts against the entry quota. */
size_t hv_xs_record_bytes(const struct hv_xs_record *record);
