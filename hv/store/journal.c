/* The journal: batches of changes in a file.
 *
 * File: the header, then batches. Batch: struct batch_header, then changes, each a kind byte and its fields without
 * padding. All numbers are little-endian, as the machine. Names of children are not stored: they follow from the
 * paths.
 */
#include "config.h"

#include "hv/store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "hv/log.h"
#include "hv/store/request.h"

#define HEADER         "domus-xenstore-1"
#define HEADER_BYTES   16
#define BATCH_MAGIC    0x68637442u
#define SNAPSHOT_BATCH (256u << 10)
#define FIRST_SNAPSHOT (1u << 20) /* a smaller file is left alone */

enum { KIND_PUT = 'P', KIND_DELETE = 'D', KIND_DOMAIN = 'I' };

struct batch_header {
    uint32_t magic;
    uint32_t bytes;
    uint32_t crc;
};

struct hv_xs_journal {
    struct hv_xs *xs;
    int fd;
    char *path;
    uint64_t bytes;          /* of the file */
    uint64_t snapshot_bytes; /* of it when it was last rewritten */
    bool broken;             /* the file's end is not what it should be */
    uint8_t *batch;          /* struct batch_header and changes */
    size_t batch_bytes, batch_room;
    bool out_of_memory; /* a change did not fit into the batch */
};

/* ---- making a batch */

static void append(struct hv_xs_journal *j, const void *bytes, size_t count)
{
    if (j->out_of_memory || count == 0)
        return;
    if (count > j->batch_room - j->batch_bytes) {
        size_t room = (j->batch_bytes + count) * 2;
        uint8_t *batch = realloc(j->batch, room);

        if (!batch) {
            j->out_of_memory = true;
            return;
        }
        j->batch = batch;
        j->batch_room = room;
    }
    memcpy(j->batch + j->batch_bytes, bytes, count);
    j->batch_bytes += count;
}

static void append_u8(struct hv_xs_journal *j, uint8_t v)
{
    append(j, &v, sizeof(v));
}

static void append_u16(struct hv_xs_journal *j, size_t v)
{
    uint16_t small = (uint16_t)v;

    append(j, &small, sizeof(small));
}

static void append_u32(struct hv_xs_journal *j, size_t v)
{
    uint32_t small = (uint32_t)v;

    append(j, &small, sizeof(small));
}

static void append_path(struct hv_xs_journal *j, uint8_t kind, const char *path)
{
    append_u8(j, kind);
    append_u16(j, strlen(path));
    append(j, path, strlen(path));
}

static void reset_batch(struct hv_xs_journal *j)
{
    struct batch_header h = {0};

    j->batch_bytes = 0;
    j->out_of_memory = false;
    append(j, &h, sizeof(h));
}

void hv_xs_journal_put(struct hv_xs_journal *j, const char *path, const struct hv_xs_record *record)
{
    append_path(j, KIND_PUT, path);
    append_u16(j, record->nr_perms);
    for (unsigned i = 0; i < record->nr_perms; i++) {
        append_u16(j, record->perms[i].domid);
        append_u8(j, record->perms[i].access);
    }
    append_u32(j, record->value_bytes);
    append(j, record->value, record->value_bytes);
}

void hv_xs_journal_delete(struct hv_xs_journal *j, const char *path)
{
    append_path(j, KIND_DELETE, path);
}

void hv_xs_journal_domain(struct hv_xs_journal *j, const struct hv_xs_domain *domain)
{
    append_u8(j, KIND_DOMAIN);
    append_u16(j, domain->domid);
    append_u8(j, domain->introduced);
    append(j, &domain->gfn, sizeof(domain->gfn));
    append(j, &domain->port, sizeof(domain->port));
    append(j, &domain->target, sizeof(domain->target));
}

/* ---- writing */

static int write_all(int fd, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = write(fd, bytes, count);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        count -= (size_t)n;
    }
    return 0;
}

static int write_batch(struct hv_xs_journal *j, int fd, uint64_t *file_bytes)
{
    struct batch_header h = {.magic = BATCH_MAGIC, .bytes = (uint32_t)(j->batch_bytes - sizeof(h))};
    int err;

    if (j->out_of_memory)
        return -ENOMEM;
    h.crc = (uint32_t)crc32(0, j->batch + sizeof(h), h.bytes);
    memcpy(j->batch, &h, sizeof(h));
    err = write_all(fd, j->batch, j->batch_bytes);
    if (!err)
        *file_bytes += j->batch_bytes;
    return err;
}

/* Everything there is, in batches of moderate size. */
static int write_everything(struct hv_xs_journal *j, int fd, uint64_t *bytes)
{
    const struct hv_xs *xs = j->xs;
    int err = write_all(fd, (const uint8_t *)HEADER, HEADER_BYTES);

    *bytes = HEADER_BYTES;
    reset_batch(j);
    for (unsigned i = 0; i < DOMID_FIRST_RESERVED; i++)
        if (xs->domains[i])
            hv_xs_journal_domain(j, xs->domains[i]);
    for (struct hv_xs_entry *e = NULL; !err && (e = hv_xs_table_next(&xs->nodes, e));) {
        hv_xs_journal_put(j, e->path, HV_CONTAINER_OF(e, struct hv_xs_node, entry)->record);
        if (j->batch_bytes > SNAPSHOT_BATCH) {
            err = write_batch(j, fd, bytes);
            reset_batch(j);
        }
    }
    if (!err)
        err = write_batch(j, fd, bytes);
    if (!err && fsync(fd) < 0)
        err = -errno;
    return err;
}

/* Replaces the file by one that holds what the tree holds now. On failure the old one stays. */
static int write_snapshot(struct hv_xs_journal *j)
{
    char *new_path;
    uint64_t bytes = 0;
    int fd, err;

    if (asprintf(&new_path, "%s.new", j->path) < 0)
        return -ENOMEM;
    fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        err = -errno;
    } else {
        err = write_everything(j, fd, &bytes);
        if (!err && rename(new_path, j->path) < 0)
            err = -errno;
        if (err) {
            unlink(new_path);
            close(fd);
        }
    }
    if (!err) {
        if (j->fd >= 0)
            close(j->fd);
        j->fd = fd;
        j->bytes = j->snapshot_bytes = bytes;
        j->broken = false;
    } else {
        hv_log(HV_LOG_WARNING, "store: %s cannot be written: %s", new_path, strerror(-err));
    }
    free(new_path);
    return err;
}

void hv_xs_journal_begin(struct hv_xs_journal *j)
{
    uint64_t limit = j->snapshot_bytes > FIRST_SNAPSHOT / 4 ? j->snapshot_bytes * 4 : FIRST_SNAPSHOT;

    /* Before the batch: the tree does not have it yet. If this fails, the file only grows further. */
    if ((j->bytes > limit || j->broken) && write_snapshot(j) < 0)
        j->snapshot_bytes = j->bytes; /* not at every batch: it would be as slow each time */
    reset_batch(j);
}

int hv_xs_journal_end(struct hv_xs_journal *j)
{
    int err;

    if (j->broken)
        return -EIO;
    err = write_batch(j, j->fd, &j->bytes);
    if (err == 0 || err == -ENOMEM)
        return err;
    hv_log(HV_LOG_ERROR, "store: writing %s failed: %s", j->path, strerror(-err));
    /* What was written of the batch must not stay before the next one. */
    if (ftruncate(j->fd, (off_t)j->bytes) < 0 || lseek(j->fd, (off_t)j->bytes, SEEK_SET) < 0)
        j->broken = true;
    return err == -ENOSPC || err == -EDQUOT || err == -EFBIG ? -ENOSPC : -EIO;
}

/* ---- reading */

struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static const uint8_t *take(struct cursor *c, size_t bytes)
{
    const uint8_t *at = c->at;

    if (bytes > c->left) {
        c->bad = true;
        return NULL;
    }
    c->at += bytes;
    c->left -= bytes;
    return at;
}

static void take_into(struct cursor *c, void *out, size_t bytes)
{
    const uint8_t *at = take(c, bytes);

    if (at)
        memcpy(out, at, bytes);
    else
        memset(out, 0, bytes);
}

static bool take_path(struct cursor *c, char path[XENSTORE_ABS_PATH_MAX + 1])
{
    uint16_t length;
    const uint8_t *at;

    take_into(c, &length, sizeof(length));
    at = take(c, length);
    if (!at || length > XENSTORE_ABS_PATH_MAX)
        return false;
    memcpy(path, at, length);
    path[length] = '\0';
    return strlen(path) == length && hv_xs_path_valid(path, true);
}

static struct hv_xs_record *take_record(struct cursor *c)
{
    struct hv_xs_perm perms[XENSTORE_PAYLOAD_MAX / 2];
    uint16_t nr_perms;
    uint32_t value_bytes;
    const uint8_t *value;
    struct hv_xs_record *record;

    take_into(c, &nr_perms, sizeof(nr_perms));
    if (nr_perms == 0 || nr_perms > HV_ARRAY_LEN(perms))
        return NULL;
    for (unsigned i = 0; i < nr_perms; i++) {
        take_into(c, &perms[i].domid, sizeof(perms[i].domid));
        take_into(c, &perms[i].access, sizeof(perms[i].access));
    }
    take_into(c, &value_bytes, sizeof(value_bytes));
    value = take(c, value_bytes);
    record = value ? hv_xs_record_new(perms, nr_perms) : NULL;
    if (record && hv_xs_record_set_value(record, value, value_bytes) < 0) {
        hv_xs_record_unref(record);
        return NULL;
    }
    return record;
}

static void drop_node(struct hv_xs *xs, struct hv_xs_entry *e)
{
    struct hv_xs_node *node = HV_CONTAINER_OF(e, struct hv_xs_node, entry);

    hv_xs_table_remove(&xs->nodes, e);
    hv_xs_domain_count(xs, node->record->perms[0].domid, -1);
    hv_xs_record_unref(node->record);
    free(e->path);
    free(node);
}

static bool read_put(struct hv_xs *xs, struct cursor *c)
{
    char path[XENSTORE_ABS_PATH_MAX + 1];
    struct hv_xs_record *record = take_path(c, path) ? take_record(c) : NULL;
    struct hv_xs_entry *e = record ? hv_xs_table_find(&xs->nodes, path) : NULL;
    struct hv_xs_node *node;

    if (!record)
        return false;
    if (e)
        drop_node(xs, e);
    node = calloc(1, sizeof(*node));
    if (!node || !(node->entry.path = strdup(path)) || !hv_xs_domain_get(xs, record->perms[0].domid)) {
        if (node)
            free(node->entry.path);
        free(node);
        hv_xs_record_unref(record);
        return false;
    }
    record->generation = ++xs->generation;
    node->record = record;
    hv_xs_table_insert(&xs->nodes, &node->entry);
    hv_xs_domain_count(xs, record->perms[0].domid, 1);
    return true;
}

static bool read_delete(struct hv_xs *xs, struct cursor *c)
{
    char path[XENSTORE_ABS_PATH_MAX + 1];
    struct hv_xs_entry *e = take_path(c, path) ? hv_xs_table_find(&xs->nodes, path) : NULL;

    if (e)
        drop_node(xs, e);
    return e;
}

static bool read_domain(struct hv_xs *xs, struct cursor *c)
{
    struct hv_xs_domain *domain;
    uint16_t domid;
    uint8_t introduced;

    take_into(c, &domid, sizeof(domid));
    take_into(c, &introduced, sizeof(introduced));
    if (!(domain = hv_xs_domain_get(xs, domid)))
        return false;
    domain->introduced = introduced;
    take_into(c, &domain->gfn, sizeof(domain->gfn));
    take_into(c, &domain->port, sizeof(domain->port));
    take_into(c, &domain->target, sizeof(domain->target));
    return !c->bad;
}

static bool read_changes(struct hv_xs *xs, struct cursor *c)
{
    while (c->left > 0) {
        uint8_t kind;
        bool ok;

        take_into(c, &kind, sizeof(kind));
        ok = kind == KIND_PUT      ? read_put(xs, c)
             : kind == KIND_DELETE ? read_delete(xs, c)
             : kind == KIND_DOMAIN ? read_domain(xs, c)
                                   : false;
        if (!ok)
            return false;
    }
    return true;
}

/* Reads batches up to the first that is not whole. Gives where it stopped. */
static size_t read_batches(struct hv_xs *xs, const uint8_t *bytes, size_t count)
{
    struct cursor c = {.at = bytes, .left = count};

    while (c.left > 0) {
        struct batch_header h;
        struct cursor start = c, changes;

        take_into(&c, &h, sizeof(h));
        changes = (struct cursor){.left = h.bytes};
        changes.at = h.magic == BATCH_MAGIC ? take(&c, h.bytes) : NULL;
        if (!changes.at || (uint32_t)crc32(0, changes.at, h.bytes) != h.crc || !read_changes(xs, &changes))
            return count - start.left;
    }
    return count;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp((*(struct hv_xs_node *const *)a)->entry.path, (*(struct hv_xs_node *const *)b)->entry.path);
}

/* Enters every node in its parent's record. A parent sorts before its children. */
static int rebuild_children(struct hv_xs *xs)
{
    size_t count = xs->nodes.count, n = 0;
    struct hv_xs_node **nodes = calloc(count + 1, sizeof(*nodes));
    int err = nodes ? 0 : -ENOMEM;

    for (struct hv_xs_entry *e = NULL; !err && (e = hv_xs_table_next(&xs->nodes, e));)
        nodes[n++] = HV_CONTAINER_OF(e, struct hv_xs_node, entry);
    if (!err)
        qsort(nodes, n, sizeof(*nodes), compare_paths);
    for (size_t i = 0; !err && i < n; i++) {
        const char *path = nodes[i]->entry.path;
        char parent_path[XENSTORE_ABS_PATH_MAX + 1];
        size_t length = hv_xs_parent_length(path);
        struct hv_xs_record *parent;

        if (length == 0)
            continue;
        memcpy(parent_path, path, length);
        parent_path[length] = '\0';
        if ((parent = hv_xs_find(xs, parent_path)))
            err = hv_xs_record_add_child(parent, hv_xs_basename(path));
        else
            drop_node(xs, &nodes[i]->entry);
    }
    free(nodes);
    return err;
}

static int read_contents(int fd, uint8_t **bytes, size_t *count)
{
    struct stat st;
    size_t done = 0;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    *count = (size_t)st.st_size;
    if (!(*bytes = malloc(*count + 1)))
        return -ENOMEM;
    while (done < *count) {
        ssize_t n = read(fd, *bytes + done, *count - done);

        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    *count = done;
    return 0;
}

static int read_file(struct hv_xs_journal *j)
{
    uint8_t *bytes = NULL;
    size_t count = 0, good;
    int err = read_contents(j->fd, &bytes, &count);

    if (!err && count == 0) {
        free(bytes);
        j->broken = true; /* a new file: write it before the first batch */
        return 0;
    }
    if (!err && (count < HEADER_BYTES || memcmp(bytes, HEADER, HEADER_BYTES) != 0))
        err = -EINVAL;
    if (!err) {
        good = HEADER_BYTES + read_batches(j->xs, bytes + HEADER_BYTES, count - HEADER_BYTES);
        if (good < count) {
            hv_log(HV_LOG_WARNING, "store: the last %zu bytes of %s are no whole change and are dropped", count - good,
                   j->path);
            if (ftruncate(j->fd, (off_t)good) < 0 || lseek(j->fd, (off_t)good, SEEK_SET) < 0)
                j->broken = true;
        }
        j->bytes = good;
        err = rebuild_children(j->xs);
    }
    free(bytes);
    return err;
}

int hv_xs_journal_open(struct hv_xs *xs, const char *path)
{
    struct hv_xs_journal *j = calloc(1, sizeof(*j));
    int err = 0;

    if (!j || !(j->path = strdup(path))) {
        free(j);
        return -ENOMEM;
    }
    j->xs = xs;
    xs->journal = j;
    j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->fd < 0)
        err = -errno;
    if (!err)
        err = read_file(j);
    if (err)
        hv_xs_journal_close(xs);
    return err;
}

void hv_xs_journal_close(struct hv_xs *xs)
{
    struct hv_xs_journal *j = xs->journal;

    if (!j)
        return;
    if (j->fd >= 0)
        close(j->fd);
    free(j->batch);
    free(j->path);
    free(j);
    xs->journal = NULL;
}
