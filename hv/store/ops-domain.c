/* Operations on domains, and XS_CONTROL. */
#include "config.h"

#include <errno.h>

#include "hv/store/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/log.h"
#include "hv/store/connection.h"
#include "hv/store/journal.h"
#include "hv/store/transaction.h"
#include "hv/store/watch.h"

static int parse_domid(const char *text, unsigned *domid)
{
    uint64_t number;
    int err = hv_xs_number_parse(text, DOMID_FIRST_RESERVED - 1, &number);

    *domid = err ? 0 : (unsigned)number;
    return err;
}

/* The introduced domain named by string @i of the request. */
static int find_introduced(struct hv_xs_request *r, unsigned i, struct hv_xs_domain **out)
{
    unsigned domid;
    int err = parse_domid(r->strings[i], &domid);

    if (err)
        return err;
    *out = hv_xs_domain_find(r->xs, domid);
    return *out && (*out)->introduced ? 0 : -ENOENT;
}

/* Makes @changed the state of its domain, on disk first. */
static int update_domain(struct hv_xs *xs, const struct hv_xs_domain *changed)
{
    struct hv_xs_domain *domain = hv_xs_domain_get(xs, changed->domid);
    int err = 0;

    if (!domain)
        return -ENOMEM;
    if (xs->journal) {
        hv_xs_journal_begin(xs->journal);
        hv_xs_journal_domain(xs->journal, changed);
        err = hv_xs_journal_end(xs->journal);
    }
    if (!err)
        *domain = *changed;
    return err;
}

int hv_xs_do_introduce(struct hv_xs_request *r)
{
    struct hv_xs_domain *domain, changed;
    uint64_t gfn, port;
    unsigned domid;
    bool is_new;
    int err;

    if (parse_domid(r->strings[0], &domid) < 0 || domid == 0 || hv_xs_number_parse(r->strings[1], UINT64_MAX, &gfn) < 0 ||
        hv_xs_number_parse(r->strings[2], INT32_MAX, &port) < 0 || port == 0)
        return -EINVAL;
    if (!(domain = hv_xs_domain_get(r->xs, domid)))
        return -ENOMEM;
    is_new = !domain->introduced;
    changed = *domain;
    changed.introduced = true;
    changed.gfn = gfn;
    changed.port = (uint32_t)port;
    if ((err = update_domain(r->xs, &changed)) < 0)
        return err;
    hv_xs_request_answer(r);
    if (is_new)
        hv_xs_watch_fire_special(r->xs, "@introduceDomain");
    return 0;
}

/* ---- release */

static bool mentions(const struct hv_xs_record *record, unsigned domid)
{
    for (unsigned i = 0; i < record->nr_perms; i++)
        if (record->perms[i].domid == domid)
            return true;
    return false;
}

/* The permissions of a node that outlives domain @domid, without it. A node that cannot go becomes domain 0's. */
static int forget_in_perms(struct hv_xs_tx *tx, const char *path, const struct hv_xs_record *record, unsigned domid)
{
    struct hv_xs_perm *perms = calloc(record->nr_perms + 1, sizeof(*perms));
    unsigned count = record->perms[0].domid == domid;
    int err;

    if (!perms)
        return -ENOMEM;
    for (unsigned i = 0; i < record->nr_perms; i++)
        if (record->perms[i].domid != domid)
            perms[count++] = record->perms[i];
    err = hv_xs_tx_set_perms(tx, path, perms, count);
    free(perms);
    return err;
}

/* Removes what the domain owned, and its rights elsewhere: the number will be used again. */
static int forget_domain(struct hv_xs *xs, unsigned domid)
{
    static const struct hv_xs_who dom0 = {.privileged = true, .target = -1};
    struct hv_xs_tx *tx;
    int err = hv_xs_tx_new(xs, &dom0, &tx);

    if (err)
        return err;
    for (struct hv_xs_entry *e = NULL; !err && (e = hv_xs_table_next(&xs->nodes, e));) {
        const struct hv_xs_record *record = HV_CONTAINER_OF(e, struct hv_xs_node, entry)->record;

        if (!mentions(record, domid))
            continue;
        /* It may be gone from the transaction already, with a node above it. */
        err = hv_xs_tx_read(tx, e->path, &record);
        if (err == -ENOENT)
            err = 0;
        else if (!err && record->perms[0].domid == domid && hv_xs_parent_length(e->path))
            err = hv_xs_tx_rm(tx, e->path);
        else if (!err)
            err = forget_in_perms(tx, e->path, record, domid);
    }
    if (!err)
        err = hv_xs_tx_commit(tx);
    hv_xs_tx_free(tx);
    return err;
}

static int drop_targets(struct hv_xs *xs, unsigned domid)
{
    int err = 0;

    for (unsigned i = 0; !err && i < DOMID_FIRST_RESERVED; i++) {
        struct hv_xs_domain changed;

        if (!xs->domains[i] || xs->domains[i]->target != (int)domid)
            continue;
        changed = *xs->domains[i];
        changed.target = -1;
        err = update_domain(xs, &changed);
    }
    return err;
}

int hv_xs_do_release(struct hv_xs_request *r)
{
    struct hv_xs_domain *domain, changed;
    int err = find_introduced(r, 0, &domain);

    if (!err && domain->domid == 0)
        err = -EINVAL;
    if (!err)
        err = drop_targets(r->xs, domain->domid);
    if (!err)
        err = forget_domain(r->xs, domain->domid);
    if (err)
        return err;
    changed = (struct hv_xs_domain){.domid = domain->domid, .target = -1, .nodes = domain->nodes};
    if ((err = update_domain(r->xs, &changed)) < 0)
        return err;
    for (struct hv_xs_conn *c = r->xs->conns; c; c = hv_xs_conn_next(c))
        if (hv_xs_conn_who(c)->domid == domain->domid)
            hv_xs_conn_close(c);
    hv_xs_request_answer(r);
    hv_xs_watch_fire_special(r->xs, "@releaseDomain");
    return 0;
}

/* ---- what is known of domains */

int hv_xs_do_resume(struct hv_xs_request *r)
{
    struct hv_xs_domain *domain;

    /* Being shut down is not this store's business, so there is nothing to take back. */
    return find_introduced(r, 0, &domain);
}

int hv_xs_do_set_target(struct hv_xs_request *r)
{
    struct hv_xs_domain *domain, *target, changed;
    int err = find_introduced(r, 0, &domain);

    if (!err)
        err = find_introduced(r, 1, &target);
    if (err)
        return err;
    if (domain->domid == 0 || target->domid == 0 || domain == target)
        return -EINVAL; /* nobody gets the rights of domain 0 so */
    changed = *domain;
    changed.target = target->domid;
    return update_domain(r->xs, &changed);
}

int hv_xs_do_get_domain_path(struct hv_xs_request *r)
{
    unsigned domid;
    int err = parse_domid(r->strings[0], &domid);

    r->reply = r->buffer;
    r->reply_bytes = (size_t)snprintf(r->buffer, sizeof(r->buffer), "/local/domain/%u", domid) + 1;
    return err;
}

int hv_xs_do_is_domain_introduced(struct hv_xs_request *r)
{
    struct hv_xs_domain *domain;
    int err = find_introduced(r, 0, &domain);

    r->reply = err ? "F" : "T";
    r->reply_bytes = 2;
    return err == -ENOENT ? 0 : err;
}

/* ---- XS_CONTROL */

/* Domusd's own: the connection speaks for a domain from now on, and can then be handed to it. */
static int control_domain_connection(struct hv_xs_request *r)
{
    unsigned domid;
    int err = parse_domid(r->strings[1], &domid);

    if (!err && domid == 0)
        err = -EINVAL;
    if (!err && !hv_xs_domain_get(r->xs, domid))
        err = -ENOMEM;
    if (!err)
        hv_xs_conn_become(r->conn, (uint16_t)domid);
    return err;
}

static int control_print(struct hv_xs_request *r)
{
    hv_log(HV_LOG_INFO, "store: client says: %s", r->strings[1]);
    return 0;
}

static void reply_text(struct hv_xs_request *r, size_t length)
{
    r->reply = r->buffer;
    r->reply_bytes = (length < sizeof(r->buffer) - 1 ? length : sizeof(r->buffer) - 1) + 1;
}

static int control_quota(struct hv_xs_request *r)
{
    const struct hv_xs_quota *q = &r->xs->quota;
    const struct hv_xs_domain *domain;
    unsigned domid;
    int err;

    if (r->nr_strings == 1) {
        reply_text(r, (size_t)snprintf(r->buffer, sizeof(r->buffer),
                                       "nodes: %u\nwatches: %u\ntransactions: %u\nsize: %u\npermissions: %u\n"
                                       "transaction-nodes: %u\noutstanding: %u\nqueue-bytes: %u\n",
                                       q->nodes, q->watches, q->transactions, q->entry_bytes, q->perms, q->tx_nodes,
                                       q->outstanding, q->queue_bytes));
        return 0;
    }
    if ((err = parse_domid(r->strings[1], &domid)) < 0)
        return err;
    domain = hv_xs_domain_find(r->xs, domid);
    if (!domain)
        return -ENOENT;
    reply_text(r, (size_t)snprintf(r->buffer, sizeof(r->buffer), "Domain %u:\nnodes: %u\nintroduced: %s\n", domid,
                                   domain->nodes, domain->introduced ? "yes" : "no"));
    return 0;
}

static hv_xs_handler control_help;

static const struct control {
    const char *name;
    hv_xs_handler *handler;
    unsigned strings; /* with the command itself */
    const char *arguments;
} controls[] = {
    {"domain-connection", control_domain_connection, 2, "<domid>"},
    {"help", control_help, 1, ""},
    {"print", control_print, 2, "<text>"},
    {"quota", control_quota, 1, "[<domid>]"},
};

static int control_help(struct hv_xs_request *r)
{
    size_t used = 0;

    for (size_t i = 0; i < HV_ARRAY_LEN(controls); i++)
        used += (size_t)snprintf(r->buffer + used, sizeof(r->buffer) - used, "\t%s\t%s\n", controls[i].name,
                                 controls[i].arguments);
    reply_text(r, used);
    return 0;
}

int hv_xs_do_control(struct hv_xs_request *r)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(controls); i++)
        if (!strcmp(r->strings[0], controls[i].name))
            return r->nr_strings < controls[i].strings ? -EINVAL : controls[i].handler(r);
    return -EINVAL;
}
