/* The request parser under fire: requests that are mostly valid, and damaged ones, from three domains at once, in
 * random pieces. Nothing may crash, and at the end the tree must agree with itself: every node is in its parent's
 * list, and the nodes counted for each domain are those it owns.
 *
 * store-fuzz [SEED [ROUNDS]] is deterministic; `make check` replays a short run.
 */
#include "config.h"

#include <unistd.h>

#include "hv/fuzz.h"
#include "hv/log.h"
#include "hv/store/journal.h"
#include "hv/store/talk.h"
#include "hv/tap.h"

static const char *const words[] = {
    "/",      "/a",        "/a/b",     "/a/b/c",  "/local/domain/5", "/local/domain/5/d", "d",    "d/e",   "d/e/f",
    "x",      "@releaseDomain", "@introduceDomain", "", "/a//b", "/a/", "n0", "r5", "b6", "w0", "n5", "5", "6", "7", "0",
    "T",      "F",         "token",    "99999",   "-1",  "18446744073709551616", "domain-connection", "quota", "help",
};

/* Strings, and sometimes bytes that are none. */
static size_t make_payload(uint8_t *out)
{
    unsigned count = fuzz_random(4);
    size_t used = 0;

    for (unsigned i = 0; i < count; i++) {
        const char *word = words[fuzz_random(HV_ARRAY_LEN(words))];

        memcpy(out + used, word, strlen(word) + 1);
        used += strlen(word) + 1;
    }
    if (used && fuzz_random(4) == 0)
        used--;
    if (used && fuzz_random(8) == 0)
        out[fuzz_random((uint32_t)used)] = (uint8_t)fuzz_random(256);
    if (fuzz_random(50) == 0) {
        used = fuzz_random(XENSTORE_PAYLOAD_MAX + 1);
        memset(out, fuzz_random(2) ? 'q' : '/', used);
    }
    return used;
}

static size_t make_message(uint8_t *out, uint32_t first_tx)
{
    struct xsd_sockmsg h = {.type = fuzz_random(XS_TYPE_COUNT + 1), .req_id = fuzz_random(3)};

    h.len = (uint32_t)make_payload(out + sizeof(h));
    if (fuzz_random(3) == 0)
        h.tx_id = first_tx + fuzz_random(40);
    if (h.type == XS_TRANSACTION_START && fuzz_random(4))
        h.tx_id = 0;
    memcpy(out, &h, sizeof(h));
    if (fuzz_random(200) == 0)
        out[fuzz_random(sizeof(h))] ^= (uint8_t)(1 + fuzz_random(255));
    return sizeof(h) + h.len;
}

/* Connections that were closed, or that a length no message has made hang, are replaced. */
static void renew(struct hv_xs *xs, struct hv_xs_conn **c, unsigned i)
{
    static const uint16_t domids[] = {0, 5, 6};

    if (*c)
        hv_xs_conn_free(*c);
    *c = talk_connect(xs, domids[i]);
}

static bool parent_lists(const struct hv_xs *xs, const char *path)
{
    char parent[XENSTORE_ABS_PATH_MAX + 1];
    size_t length = hv_xs_parent_length(path);
    const struct hv_xs_record *record;

    if (length == 0)
        return true;
    memcpy(parent, path, length);
    parent[length] = '\0';
    record = hv_xs_find(xs, parent);
    for (size_t at = 0; record && at < record->children_bytes; at += strlen(record->children + at) + 1)
        if (!strcmp(record->children + at, hv_xs_basename(path)))
            return true;
    return false;
}

static bool is_consistent(const struct hv_xs *xs)
{
    static unsigned owned[DOMID_FIRST_RESERVED];
    size_t children = 0, nodes = 0;

    memset(owned, 0, sizeof(owned));
    for (struct hv_xs_entry *e = NULL; (e = hv_xs_table_next(&xs->nodes, e));) {
        const struct hv_xs_record *r = HV_CONTAINER_OF(e, struct hv_xs_node, entry)->record;

        if (!hv_xs_path_valid(e->path, true) || !parent_lists(xs, e->path))
            return false;
        owned[r->perms[0].domid]++;
        nodes += hv_xs_parent_length(e->path) != 0;
        for (size_t at = 0; at < r->children_bytes; at += strlen(r->children + at) + 1)
            children++;
    }
    for (unsigned i = 0; i < DOMID_FIRST_RESERVED; i++)
        if ((xs->domains[i] ? xs->domains[i]->nodes : 0) != owned[i])
            return false;
    return nodes == children;
}

/* Nodes that the state file brings back must be those that were there. */
static bool survives(struct hv_xs *xs, const char *path)
{
    size_t count = xs->nodes.count;
    bool same = true;
    struct hv_xs again;

    if (hv_xs_init_empty(&again) < 0 || hv_xs_journal_open(&again, path) < 0)
        return false;
    for (struct hv_xs_entry *e = NULL; same && (e = hv_xs_table_next(&xs->nodes, e));)
        same = hv_xs_find(&again, e->path) != NULL;
    same &= again.nodes.count == count && is_consistent(&again);
    hv_xs_journal_close(&again);
    hv_xs_fini(&again);
    return same;
}

static void run(struct hv_xs *xs, unsigned long rounds)
{
    static uint8_t message[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX + 64];
    struct hv_xs_conn *conns[3] = {NULL};
    struct talk_message m;

    for (unsigned i = 0; i < 3; i++)
        renew(xs, &conns[i], i);
    for (unsigned long round = 0; round < rounds; round++) {
        unsigned who = fuzz_random(3);
        size_t count = make_message(message, xs->next_tx_id - 30), at = 0;

        while (at < count && hv_xs_conn_wants_input(conns[who])) {
            size_t part = 1 + fuzz_random((uint32_t)(count - at));

            at += hv_xs_conn_input(conns[who], message + at, part);
        }
        while (fuzz_random(8) && talk_next(conns[who], &m))
            ;
        for (unsigned i = 0; i < 3; i++)
            if (hv_xs_conn_closing(conns[i]) || fuzz_random(2000) == 0)
                renew(xs, &conns[i], i);
    }
}

int main(int argc, char **argv)
{
    char path[] = "/tmp/domus-store-fuzz-XXXXXX";
    unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 150000;
    struct hv_xs xs;
    int fd = mkstemp(path);

    close(fd);
    hv_log_set_level(HV_LOG_ERROR); /* not what it thinks of such clients */
    if (hv_xs_init_empty(&xs) < 0 || hv_xs_journal_open(&xs, path) < 0 || hv_xs_add_roots(&xs) < 0)
        return 99;
    fuzz_seed(seed);
    run(&xs, rounds);
    TAP_OK(is_consistent(&xs), "%lu requests from seed %lu: %zu nodes, consistent", rounds, seed, xs.nodes.count);
    TAP_OK(survives(&xs, path), "the state file brings them back");
    hv_xs_journal_close(&xs);
    hv_xs_fini(&xs);
    unlink(path);
    return tap_done();
}
