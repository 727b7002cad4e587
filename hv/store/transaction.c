/* Transactions over the tree. */
#include "config.h"

#include "hv/store/transaction.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/store/journal.h"
#include "hv/store/watch.h"

enum fire { FIRE_NONE, FIRE_EXACT, FIRE_ALL };

/* One node that the transaction has looked at. */
struct access {
    struct hv_xs_entry entry;
    struct access *next;         /* in order of the first look */
    struct hv_xs_record *base;   /* NULL: it was not there */
    struct hv_xs_record *record; /* NULL: it is not to be there; same as base: unchanged */
    enum fire fire;
    struct hv_xs_node *node; /* commit: what goes into the tree for a new node */
};

struct hv_xs_tx {
    struct hv_xs *xs;
    struct hv_xs_who who;
    struct hv_xs_table table;
    struct access *first, **tail;
    int created; /* nodes of the caller's own, less those it removed */
    int broken;  /* errno of an operation that was left half done */
};

int hv_xs_tx_new(struct hv_xs *xs, const struct hv_xs_who *who, struct hv_xs_tx **out)
{
    struct hv_xs_tx *tx = calloc(1, sizeof(*tx));

    if (!tx || hv_xs_table_init(&tx->table) < 0) {
        free(tx);
        return -ENOMEM;
    }
    tx->xs = xs;
    tx->who = *who;
    tx->tail = &tx->first;
    *out = tx;
    return 0;
}

static void free_node(struct hv_xs_node *node)
{
    if (!node)
        return;
    hv_xs_record_unref(node->record);
    free(node->entry.path);
    free(node);
}

void hv_xs_tx_free(struct hv_xs_tx *tx)
{
    if (!tx)
        return;
    for (struct access *a = tx->first, *next; a; a = next) {
        next = a->next;
        hv_xs_record_unref(a->base);
        hv_xs_record_unref(a->record);
        free_node(a->node);
        free(a->entry.path);
        free(a);
    }
    hv_xs_table_fini(&tx->table);
    free(tx);
}

/* The transaction's view of the node at @path. */
static int look(struct hv_xs_tx *tx, const char *path, struct access **out)
{
    struct hv_xs_entry *e = hv_xs_table_find(&tx->table, path);
    struct access *a;

    if (e) {
        *out = HV_CONTAINER_OF(e, struct access, entry);
        return 0;
    }
    if (!tx->who.privileged && tx->table.count >= tx->xs->quota.tx_nodes)
        return -ENOSPC;
    a = calloc(1, sizeof(*a));
    if (!a || !(a->entry.path = strdup(path))) {
        free(a);
        return -ENOMEM;
    }
    a->base = hv_xs_record_ref(hv_xs_find(tx->xs, path));
    a->record = hv_xs_record_ref(a->base);
    hv_xs_table_insert(&tx->table, &a->entry);
    *tx->tail = a;
    tx->tail = &a->next;
    *out = a;
    return 0;
}

/* Makes the record of @a one that may be changed. */
static int make_writable(struct access *a)
{
    struct hv_xs_record *clone;

    if (a->record != a->base)
        return 0;
    clone = hv_xs_record_clone(a->base);
    if (!clone)
        return -ENOMEM;
    hv_xs_record_unref(a->record);
    a->record = clone;
    return 0;
}

static void set_fire(struct access *a, enum fire fire)
{
    if (a->fire < fire)
        a->fire = fire;
}

/* An operation that failed half way must not be committed. */
static int broken(struct hv_xs_tx *tx, int err)
{
    tx->broken = err;
    return err;
}

/* Finds the nearest node above @path that is there; *out is NULL for special names and above the root. */
static int look_above(struct hv_xs_tx *tx, const char *path, struct access **out)
{
    char above[XENSTORE_ABS_PATH_MAX + 1];
    size_t length = hv_xs_parent_length(path);
    int err;

    *out = NULL;
    while (length > 0) {
        memcpy(above, path, length);
        above[length] = '\0';
        if ((err = look(tx, above, out)) < 0)
            return err;
        if ((*out)->record)
            return 0;
        *out = NULL;
        length = hv_xs_parent_length(above);
    }
    return 0;
}

/* Looks at @path and checks that the caller has the rights @want. Who may not even see the parent does not learn
 * whether the node is there. */
static int look_permitted(struct hv_xs_tx *tx, const char *path, unsigned want, struct access **out)
{
    struct access *above;
    int err = look(tx, path, out);

    if (err < 0)
        return err;
    if ((*out)->record)
        return (hv_xs_record_access((*out)->record, &tx->who) & want) == want ? 0 : -EACCES;
    if ((err = look_above(tx, path, &above)) < 0)
        return err;
    if (!above)
        return tx->who.privileged ? -ENOENT : -EACCES;
    return hv_xs_record_access(above->record, &tx->who) & want ? -ENOENT : -EACCES;
}

int hv_xs_tx_read(struct hv_xs_tx *tx, const char *path, const struct hv_xs_record **out)
{
    struct access *a;
    int err = look_permitted(tx, path, HV_XS_READ, &a);

    *out = err ? NULL : a->record;
    return err;
}

static bool too_big(const struct hv_xs_tx *tx, size_t bytes)
{
    return !tx->who.privileged && bytes >= tx->xs->quota.entry_bytes;
}

/* Checks, before anything is changed, that creating @path below @above stays within the limits. */
static int check_create(struct hv_xs_tx *tx, const struct access *above, const char *path, size_t value_bytes)
{
    size_t at = above ? strlen(above->entry.path) : 0;
    size_t base = above ? 16 + above->record->nr_perms * 4 : 0;
    size_t bytes = above ? hv_xs_record_bytes(above->record) : 0;
    struct hv_xs_domain *domain;
    unsigned created = 0;

    if (tx->who.privileged)
        return 0;
    if (!above)
        return -EACCES;
    at = at == 1 ? 0 : at; /* the root's own slash */
    while (path[at]) {
        size_t name = strcspn(path + at + 1, "/");

        if (too_big(tx, bytes + name + 1))
            return -ENOSPC;
        bytes = base;
        at += 1 + name;
        created++;
    }
    if (too_big(tx, base + value_bytes))
        return -ENOSPC;
    domain = hv_xs_domain_get(tx->xs, tx->who.domid);
    if (!domain)
        return -ENOMEM;
    if ((int64_t)domain->nodes + tx->created + created > tx->xs->quota.nodes)
        return -ENOSPC;
    return 0;
}

/* New nodes have the permissions of the node above; an unprivileged domain owns what it makes. */
static struct hv_xs_record *inherit(const struct hv_xs_tx *tx, const struct access *above)
{
    static const struct hv_xs_perm nobody = {0};
    struct hv_xs_record *record;

    if (!above)
        return hv_xs_record_new(&nobody, 1);
    record = hv_xs_record_new(above->record->perms, above->record->nr_perms);
    if (record && !tx->who.privileged)
        record->perms[0].domid = tx->who.domid;
    return record;
}

static int create_one(struct hv_xs_tx *tx, struct access *parent, const char *path, struct access **out)
{
    struct access *a;
    struct hv_xs_record *record;
    int err = look(tx, path, &a);

    if (err < 0)
        return err;
    if (parent && (err = make_writable(parent)) < 0)
        return err;
    if (!(record = inherit(tx, parent)))
        return -ENOMEM;
    if (parent && (err = hv_xs_record_add_child(parent->record, hv_xs_basename(path))) < 0) {
        hv_xs_record_unref(record);
        return err;
    }
    a->record = record;
    tx->created += record->perms[0].domid == tx->who.domid;
    *out = a;
    return 0;
}

/* Creates @path, which is not there, with what is missing above it. */
static int create(struct hv_xs_tx *tx, const char *path, size_t value_bytes, struct access **out)
{
    char part[XENSTORE_ABS_PATH_MAX + 1];
    struct access *above;
    size_t at;
    int err = look_above(tx, path, &above);

    if (!err && above && !(hv_xs_record_access(above->record, &tx->who) & HV_XS_WRITE))
        err = -EACCES;
    if (!err)
        err = check_create(tx, above, path, value_bytes);
    if (err < 0)
        return err;
    if (!above && path[0] == '/' && path[1] && (err = create_one(tx, NULL, "/", &above)) < 0)
        return broken(tx, err);
    if (!above)
        at = strlen(path); /* the root or a special name */
    else
        at = above->entry.path[1] ? strlen(above->entry.path) : 0;
    if (!path[at])
        return create_one(tx, NULL, path, out);
    while (path[at]) {
        at += 1 + strcspn(path + at + 1, "/");
        memcpy(part, path, at);
        part[at] = '\0';
        if ((err = create_one(tx, above, part, &above)) < 0)
            return broken(tx, err);
    }
    *out = above;
    return 0;
}

int hv_xs_tx_write(struct hv_xs_tx *tx, const char *path, const void *value, size_t bytes)
{
    struct access *a;
    int err = look_permitted(tx, path, HV_XS_WRITE, &a);

    if (err == -ENOENT)
        err = create(tx, path, bytes, &a);
    else if (!err && too_big(tx, hv_xs_record_bytes(a->record) - a->record->value_bytes + bytes))
        err = -ENOSPC;
    if (err < 0)
        return err;
    if ((err = make_writable(a)) < 0 || (err = hv_xs_record_set_value(a->record, value, bytes)) < 0)
        return broken(tx, err);
    set_fire(a, FIRE_ALL);
    return 0;
}

int hv_xs_tx_mkdir(struct hv_xs_tx *tx, const char *path)
{
    struct access *a;
    int err = look_permitted(tx, path, HV_XS_WRITE, &a);

    if (err != -ENOENT)
        return err;
    if ((err = create(tx, path, 0, &a)) < 0)
        return err;
    set_fire(a, FIRE_ALL);
    return 0;
}

/* Removes the node at @path, a buffer for XENSTORE_ABS_PATH_MAX bytes, and all below it. The depth is bounded by
 * the length of a path. */
static int remove_tree(struct hv_xs_tx *tx, char *path, enum fire fire)
{
    size_t length = strlen(path);
    struct hv_xs_record *record;
    struct access *a;
    int err = look(tx, path, &a);

    if (err < 0 || !a->record)
        return err;
    record = a->record;
    for (size_t at = 0; at < record->children_bytes;) {
        const char *name = record->children + at;
        size_t bytes = strlen(name) + 1;

        path[length] = '/';
        memcpy(path + length + 1, name, bytes);
        if ((err = remove_tree(tx, path, FIRE_EXACT)) < 0)
            return err;
        at += bytes;
    }
    path[length] = '\0';
    tx->created -= record->perms[0].domid == tx->who.domid;
    a->record = NULL;
    hv_xs_record_unref(record);
    set_fire(a, fire);
    return 0;
}

static int remove_from_parent(struct hv_xs_tx *tx, const char *path)
{
    struct access *parent;
    int err = look_above(tx, path, &parent);

    if (err < 0 || !parent)
        return err;
    if ((err = make_writable(parent)) < 0)
        return err;
    hv_xs_record_remove_child(parent->record, hv_xs_basename(path));
    return 0;
}

/* Removing what is not there is no error when it could have been there. */
static int check_parent_there(struct hv_xs_tx *tx, const char *path)
{
    char parent[XENSTORE_ABS_PATH_MAX + 1];
    size_t length = hv_xs_parent_length(path);
    struct access *a;
    int err;

    memcpy(parent, path, length);
    parent[length] = '\0';
    if ((err = look(tx, parent, &a)) < 0)
        return err;
    return a->record ? 0 : -ENOENT;
}

int hv_xs_tx_rm(struct hv_xs_tx *tx, const char *path)
{
    char buffer[XENSTORE_ABS_PATH_MAX + 1];
    struct access *a;
    int err;

    if (hv_xs_parent_length(path) == 0)
        return -EINVAL;
    err = look_permitted(tx, path, HV_XS_WRITE, &a);
    if (err == -ENOENT)
        return check_parent_there(tx, path);
    if (err < 0)
        return err;
    strcpy(buffer, path); /* valid paths are no longer than that */
    if ((err = remove_from_parent(tx, path)) < 0 || (err = remove_tree(tx, buffer, FIRE_ALL)) < 0)
        return broken(tx, err);
    return 0;
}

int hv_xs_tx_set_perms(struct hv_xs_tx *tx, const char *path, const struct hv_xs_perm *perms, unsigned nr_perms)
{
    struct access *a;
    int err = look_permitted(tx, path, HV_XS_WRITE | HV_XS_OWNER, &a);

    if (err < 0)
        return err;
    if (!tx->who.privileged && perms[0].domid != a->record->perms[0].domid)
        return -EPERM;
    if (!tx->who.privileged && nr_perms > tx->xs->quota.perms)
        return -ENOSPC;
    if (too_big(tx, hv_xs_record_bytes(a->record) + (size_t)nr_perms * 4 - a->record->nr_perms * 4))
        return -ENOSPC;
    if ((err = make_writable(a)) < 0 || (err = hv_xs_record_set_perms(a->record, perms, nr_perms)) < 0)
        return err;
    set_fire(a, FIRE_ALL);
    return 0;
}

/* ---- commit: all that can fail, then all that cannot */

static bool is_changed(const struct access *a)
{
    return a->record != a->base;
}

/* Everything that applying will need. */
static int prepare_one(struct hv_xs_tx *tx, struct access *a)
{
    if (!a->record)
        return 0;
    if (!hv_xs_domain_get(tx->xs, a->record->perms[0].domid))
        return -ENOMEM;
    if (a->base)
        return 0;
    a->node = calloc(1, sizeof(*a->node));
    if (!a->node || !(a->node->entry.path = strdup(a->entry.path)))
        return -ENOMEM;
    return 0;
}

static int prepare(struct hv_xs_tx *tx, bool *changed)
{
    struct hv_xs_domain *domain = hv_xs_domain_find(tx->xs, tx->who.domid);
    int err = 0;

    if (!tx->who.privileged && tx->created > 0 && domain &&
        (int64_t)domain->nodes + tx->created > tx->xs->quota.nodes)
        return -ENOSPC;
    for (struct access *a = tx->first; a && !err; a = a->next) {
        if (hv_xs_find(tx->xs, a->entry.path) != a->base)
            return -EAGAIN;
        if (!is_changed(a))
            continue;
        *changed = true;
        err = prepare_one(tx, a);
    }
    return err;
}

static int write_journal(struct hv_xs_tx *tx)
{
    struct hv_xs_journal *j = tx->xs->journal;

    if (!j)
        return 0;
    hv_xs_journal_begin(j);
    for (struct access *a = tx->first; a; a = a->next) {
        if (is_changed(a) && a->record)
            hv_xs_journal_put(j, a->entry.path, a->record);
        else if (is_changed(a))
            hv_xs_journal_delete(j, a->entry.path);
    }
    return hv_xs_journal_end(j);
}

static void apply_one(struct hv_xs *xs, struct access *a)
{
    struct hv_xs_entry *e = hv_xs_table_find(&xs->nodes, a->entry.path);
    struct hv_xs_node *node = e ? HV_CONTAINER_OF(e, struct hv_xs_node, entry) : a->node;

    if (a->base)
        hv_xs_domain_count(xs, a->base->perms[0].domid, -1);
    if (!a->record) {
        hv_xs_table_remove(&xs->nodes, &node->entry);
        free_node(node);
        return;
    }
    hv_xs_domain_count(xs, a->record->perms[0].domid, 1);
    a->record->generation = ++xs->generation;
    hv_xs_record_unref(node->record);
    node->record = hv_xs_record_ref(a->record);
    if (!e) {
        hv_xs_table_insert(&xs->nodes, &node->entry);
        a->node = NULL;
    }
}

int hv_xs_tx_commit(struct hv_xs_tx *tx)
{
    bool changed = false;
    int err = tx->broken ? tx->broken : prepare(tx, &changed);

    if (err < 0 || !changed)
        return err;
    if ((err = write_journal(tx)) < 0)
        return err;
    for (struct access *a = tx->first; a; a = a->next)
        if (is_changed(a))
            apply_one(tx->xs, a);
    for (struct access *a = tx->first; a; a = a->next)
        if (a->fire != FIRE_NONE && is_changed(a))
            hv_xs_watch_fire(tx->xs, a->entry.path, a->fire == FIRE_EXACT, a->base);
    return 0;
}
