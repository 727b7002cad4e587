/* Operations on nodes, watches and transactions. */
#include "config.h"

#include <errno.h>

#include "hv/store/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hv/store/connection.h"
#include "hv/store/transaction.h"
#include "hv/store/watch.h"

static void set_reply(struct hv_xs_request *r, const void *reply, size_t bytes)
{
    r->reply = reply;
    r->reply_bytes = bytes;
}

int hv_xs_do_read(struct hv_xs_request *r)
{
    const struct hv_xs_record *record;
    int err = hv_xs_tx_read(r->tx, r->path, &record);

    if (!err)
        set_reply(r, record->value, record->value_bytes);
    return err;
}

int hv_xs_do_directory(struct hv_xs_request *r)
{
    const struct hv_xs_record *record;
    int err = hv_xs_tx_read(r->tx, r->path, &record);

    if (err)
        return err;
    if (record->children_bytes > XENSTORE_PAYLOAD_MAX)
        return -E2BIG; /* libxenstore then asks for parts */
    set_reply(r, record->children, record->children_bytes);
    return 0;
}

/* Answer: the generation, the names from the offset on as far as whole ones fit, and one more NUL at the end. */
int hv_xs_do_directory_part(struct hv_xs_request *r)
{
    const struct hv_xs_record *record;
    uint64_t offset;
    size_t used, end;
    int err = hv_xs_number_parse(r->strings[1], UINT32_MAX, &offset);

    if (!err)
        err = hv_xs_tx_read(r->tx, r->path, &record);
    if (!err && offset > record->children_bytes)
        err = -EINVAL;
    if (err)
        return err;
    used = (size_t)snprintf(r->buffer, sizeof(r->buffer), "%" PRIu64, record->generation) + 1;
    for (end = offset; end < record->children_bytes;) {
        size_t bytes = strlen(record->children + end) + 1;

        if (used + bytes >= XENSTORE_PAYLOAD_MAX)
            break;
        memcpy(r->buffer + used, record->children + end, bytes);
        used += bytes;
        end += bytes;
    }
    if (end == record->children_bytes)
        r->buffer[used++] = '\0';
    set_reply(r, r->buffer, used);
    return 0;
}

int hv_xs_do_get_perms(struct hv_xs_request *r)
{
    const struct hv_xs_record *record;
    size_t used = 0;
    int err = hv_xs_tx_read(r->tx, r->path, &record);

    for (unsigned i = 0; !err && i < record->nr_perms; i++) {
        size_t room = sizeof(r->buffer) - used;
        size_t bytes = (size_t)snprintf(r->buffer + used, room, "%c%u", hv_xs_perm_letter(&record->perms[i]),
                                        record->perms[i].domid);

        used += bytes + 1;
        if (used > XENSTORE_PAYLOAD_MAX)
            err = -E2BIG;
    }
    set_reply(r, r->buffer, used);
    return err;
}

int hv_xs_do_write(struct hv_xs_request *r)
{
    size_t start = strlen(r->payload) + 1;

    return hv_xs_tx_write(r->tx, r->path, r->payload + start, r->header->len - start);
}

int hv_xs_do_mkdir(struct hv_xs_request *r)
{
    return hv_xs_tx_mkdir(r->tx, r->path);
}

int hv_xs_do_rm(struct hv_xs_request *r)
{
    return hv_xs_tx_rm(r->tx, r->path);
}

int hv_xs_do_set_perms(struct hv_xs_request *r)
{
    const char *strings[XENSTORE_PAYLOAD_MAX / 3];
    struct hv_xs_perm perms[XENSTORE_PAYLOAD_MAX / 3];
    unsigned count = hv_xs_request_split(r, strlen(r->payload) + 1, strings, HV_ARRAY_LEN(strings));

    if (count == 0)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++)
        if (hv_xs_perm_parse(strings[i], &perms[i]) < 0)
            return -EINVAL;
    return hv_xs_tx_set_perms(r->tx, r->path, perms, count);
}

/* ---- watches */

int hv_xs_do_watch(struct hv_xs_request *r)
{
    int err;

    if (r->nr_strings != 2)
        return -EINVAL;
    err = hv_xs_watch_add(r->conn, r->path, r->skip, r->strings[1]);
    if (err)
        return err;
    /* A new watch fires at once, whether the node is there or not; the client knows it by its answer first. */
    hv_xs_request_answer(r);
    hv_xs_conn_event(r->conn, r->path + r->skip, r->strings[1]);
    return 0;
}

int hv_xs_do_unwatch(struct hv_xs_request *r)
{
    return r->nr_strings == 2 ? hv_xs_watch_remove(r->conn, r->path, r->strings[1]) : -EINVAL;
}

int hv_xs_do_reset_watches(struct hv_xs_request *r)
{
    hv_xs_watch_remove_all(r->conn);
    hv_xs_conn_tx_drop_all(r->conn);
    return 0;
}

/* ---- transactions */

int hv_xs_do_transaction_start(struct hv_xs_request *r)
{
    uint32_t id;
    int err;

    if (r->header->tx_id)
        return -EBUSY;
    if ((err = hv_xs_conn_tx_start(r->conn, &id)) < 0)
        return err;
    set_reply(r, r->buffer, (size_t)snprintf(r->buffer, sizeof(r->buffer), "%u", id) + 1);
    return 0;
}

int hv_xs_do_transaction_end(struct hv_xs_request *r)
{
    bool commit = !strcmp(r->strings[0], "T");
    struct hv_xs_tx *tx;
    int err = 0;

    if (!commit && strcmp(r->strings[0], "F") != 0)
        return -EINVAL;
    tx = hv_xs_conn_tx_take(r->conn, r->header->tx_id);
    if (!tx)
        return -ENOENT;
    if (commit)
        err = hv_xs_tx_commit(tx);
    hv_xs_tx_free(tx);
    return err;
}
