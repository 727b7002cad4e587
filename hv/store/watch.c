/* Watches: who wants to know what changes. */
#include "config.h"

#include "hv/store/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/store/connection.h"

struct hv_xs_watch {
    struct hv_xs_conn *conn;
    struct watch_list *list;
    struct hv_xs_watch *next_on_path;
    struct hv_xs_watch *next_of_conn;
    size_t skip;
    char *token;
};

/* All watches on one path. */
struct watch_list {
    struct hv_xs_entry entry;
    struct hv_xs_watch *first;
};

static struct watch_list *find_list(const struct hv_xs *xs, const char *path)
{
    struct hv_xs_entry *e = hv_xs_table_find(&xs->watches, path);

    return e ? HV_CONTAINER_OF(e, struct watch_list, entry) : NULL;
}

static struct watch_list *new_list(struct hv_xs *xs, const char *path)
{
    struct watch_list *list = calloc(1, sizeof(*list));

    if (!list || !(list->entry.path = strdup(path))) {
        free(list);
        return NULL;
    }
    hv_xs_table_insert(&xs->watches, &list->entry);
    return list;
}

static void free_list_if_empty(struct hv_xs *xs, struct watch_list *list)
{
    if (list->first)
        return;
    hv_xs_table_remove(&xs->watches, &list->entry);
    free(list->entry.path);
    free(list);
}

int hv_xs_watch_add(struct hv_xs_conn *c, const char *path, size_t skip, const char *token)
{
    struct hv_xs *xs = hv_xs_conn_store(c);
    struct hv_xs_watch **of_conn = hv_xs_conn_watches(c), *w;
    struct watch_list *list = find_list(xs, path);
    unsigned count = 0;

    for (w = *of_conn; w; w = w->next_of_conn, count++)
        if (w->list == list && !strcmp(w->token, token))
            return -EEXIST;
    if (!hv_xs_conn_who(c)->privileged && count >= xs->quota.watches)
        return -E2BIG;
    w = calloc(1, sizeof(*w));
    if (!w || !(w->token = strdup(token)) || (!list && !(list = new_list(xs, path)))) {
        if (w)
            free(w->token);
        free(w);
        return -ENOMEM;
    }
    w->conn = c;
    w->list = list;
    w->skip = skip;
    w->next_on_path = list->first;
    list->first = w;
    w->next_of_conn = *of_conn;
    *of_conn = w;
    return 0;
}

/* Removes the watch that @of_conn, a link in its connection's list, points to. */
static void remove_watch(struct hv_xs *xs, struct hv_xs_watch **of_conn)
{
    struct hv_xs_watch *w = *of_conn, **on_path = &w->list->first;

    *of_conn = w->next_of_conn;
    while (*on_path != w)
        on_path = &(*on_path)->next_on_path;
    *on_path = w->next_on_path;
    free_list_if_empty(xs, w->list);
    free(w->token);
    free(w);
}

int hv_xs_watch_remove(struct hv_xs_conn *c, const char *path, const char *token)
{
    struct hv_xs *xs = hv_xs_conn_store(c);
    const struct watch_list *list = find_list(xs, path);

    for (struct hv_xs_watch **at = hv_xs_conn_watches(c); list && *at; at = &(*at)->next_of_conn) {
        if ((*at)->list == list && !strcmp((*at)->token, token)) {
            remove_watch(xs, at);
            return 0;
        }
    }
    return -ENOENT;
}

void hv_xs_watch_remove_all(struct hv_xs_conn *c)
{
    while (*hv_xs_conn_watches(c))
        remove_watch(hv_xs_conn_store(c), hv_xs_conn_watches(c));
}

/* What decides who may learn of a change: the node before and after, and its parent. */
struct change {
    const char *path;
    const struct hv_xs_record *records[3];
};

static bool may_see(const struct hv_xs_who *who, const struct change *change)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(change->records); i++)
        if (change->records[i] && hv_xs_record_access(change->records[i], who) & HV_XS_READ)
            return true;
    return false;
}

static void fire_list(const struct watch_list *list, const struct change *change)
{
    /* Queueing an event never removes a watch: a connection that has too much is closed later. */
    for (struct hv_xs_watch *w = list ? list->first : NULL; w; w = w->next_on_path)
        if (may_see(hv_xs_conn_who(w->conn), change))
            hv_xs_conn_event(w->conn, change->path + w->skip, w->token);
}

void hv_xs_watch_fire(struct hv_xs *xs, const char *path, bool exact, const struct hv_xs_record *old)
{
    struct change change = {.path = path, .records = {old, hv_xs_find(xs, path)}};
    char prefix[XENSTORE_ABS_PATH_MAX + 1];
    size_t length = hv_xs_parent_length(path);

    if (xs->watches.count == 0)
        return;
    strcpy(prefix, path); /* valid paths are no longer than that */
    prefix[length] = '\0';
    if (length)
        change.records[2] = hv_xs_find(xs, prefix);
    fire_list(find_list(xs, path), &change);
    while (!exact && length) {
        fire_list(find_list(xs, prefix), &change);
        length = hv_xs_parent_length(prefix);
        prefix[length] = '\0';
    }
}

void hv_xs_watch_fire_special(struct hv_xs *xs, const char *name)
{
    struct change change = {.path = name, .records = {hv_xs_find(xs, name)}};

    fire_list(find_list(xs, name), &change);
}
