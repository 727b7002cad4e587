/* Requests: the table of operations, its dispatcher, and the parsing of what clients send. */
#include "config.h"

#include <errno.h> /* xs_wire.h lists the error names when it sees this */

#include "hv/store/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/store/connection.h"
#include "hv/store/transaction.h"

enum {
    OP_PRIVILEGED = 1u << 0, /* domain 0 only: EACCES */
    OP_PATH = 1u << 1,       /* the first string is a path: EINVAL when it is none */
    OP_SPECIAL = 1u << 2,    /* the path may be a special name (@...) */
    OP_NODE = 1u << 3,       /* works in the transaction of the request, or in one of its own */
};

struct operation {
    const char *name;
    hv_xs_handler *handler;
    unsigned strings; /* NUL-terminated strings that it must have: EINVAL */
    unsigned flags;
};

/* By number. Source: Xen docs/misc/xenstore.txt. */
static const struct operation operations[XS_TYPE_COUNT] = {
    [XS_CONTROL] = {"CONTROL", hv_xs_do_control, 1, OP_PRIVILEGED},
    [XS_DIRECTORY] = {"DIRECTORY", hv_xs_do_directory, 1, OP_PATH | OP_NODE},
    [XS_READ] = {"READ", hv_xs_do_read, 1, OP_PATH | OP_NODE},
    [XS_GET_PERMS] = {"GET_PERMS", hv_xs_do_get_perms, 1, OP_PATH | OP_SPECIAL | OP_NODE},
    [XS_WATCH] = {"WATCH", hv_xs_do_watch, 2, OP_PATH | OP_SPECIAL},
    [XS_UNWATCH] = {"UNWATCH", hv_xs_do_unwatch, 2, OP_PATH | OP_SPECIAL},
    [XS_TRANSACTION_START] = {"TRANSACTION_START", hv_xs_do_transaction_start, 0, 0},
    [XS_TRANSACTION_END] = {"TRANSACTION_END", hv_xs_do_transaction_end, 1, 0},
    [XS_INTRODUCE] = {"INTRODUCE", hv_xs_do_introduce, 3, OP_PRIVILEGED},
    [XS_RELEASE] = {"RELEASE", hv_xs_do_release, 1, OP_PRIVILEGED},
    [XS_GET_DOMAIN_PATH] = {"GET_DOMAIN_PATH", hv_xs_do_get_domain_path, 1, 0},
    [XS_WRITE] = {"WRITE", hv_xs_do_write, 1, OP_PATH | OP_NODE},
    [XS_MKDIR] = {"MKDIR", hv_xs_do_mkdir, 1, OP_PATH | OP_NODE},
    [XS_RM] = {"RM", hv_xs_do_rm, 1, OP_PATH | OP_NODE},
    [XS_SET_PERMS] = {"SET_PERMS", hv_xs_do_set_perms, 2, OP_PATH | OP_SPECIAL | OP_NODE},
    [XS_IS_DOMAIN_INTRODUCED] = {"IS_DOMAIN_INTRODUCED", hv_xs_do_is_domain_introduced, 1, OP_PRIVILEGED},
    [XS_RESUME] = {"RESUME", hv_xs_do_resume, 1, OP_PRIVILEGED},
    [XS_SET_TARGET] = {"SET_TARGET", hv_xs_do_set_target, 2, OP_PRIVILEGED},
    [XS_RESET_WATCHES] = {"RESET_WATCHES", hv_xs_do_reset_watches, 0, 0},
    [XS_DIRECTORY_PART] = {"DIRECTORY_PART", hv_xs_do_directory_part, 2, OP_PATH | OP_NODE},
};

/* ---- parsing */

/* Longer than any path is also longer than the name of a special watch. */
bool hv_xs_path_valid(const char *path, bool special)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/_@";
    size_t length = strlen(path);

    if (length == 0 || length > XENSTORE_ABS_PATH_MAX || path[strspn(path, allowed)])
        return false;
    if (path[0] == '@')
        return special && !strchr(path, '/');
    return path[0] == '/' && !strstr(path, "//") && (length == 1 || path[length - 1] != '/');
}

int hv_xs_path_complete(const struct hv_xs_who *who, const char *given, char path[XENSTORE_ABS_PATH_MAX + 1],
                        size_t *skip)
{
    size_t length = strlen(given);
    int home = 0;

    if (given[0] != '/' && given[0] != '@') {
        if (length > XENSTORE_REL_PATH_MAX)
            return -EINVAL;
        home = snprintf(path, XENSTORE_ABS_PATH_MAX, "/local/domain/%u/", who->domid);
    } else if (length > XENSTORE_ABS_PATH_MAX) {
        return -EINVAL;
    }
    strcpy(path + home, given); /* 2048 bytes and a short prefix, or 3072 without one */
    *skip = (size_t)home;
    return 0;
}

int hv_xs_number_parse(const char *text, uint64_t max, uint64_t *number)
{
    uint64_t value = 0;

    if (!*text)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || value > (max - (uint64_t)(*text - '0')) / 10)
            return -EINVAL;
        value = value * 10 + (uint64_t)(*text - '0');
    }
    *number = value;
    return value <= max ? 0 : -EINVAL;
}

static const char perm_letters[] = "nrwb"; /* by HV_XS_READ and HV_XS_WRITE */

char hv_xs_perm_letter(const struct hv_xs_perm *perm)
{
    return perm_letters[perm->access & (HV_XS_READ | HV_XS_WRITE)];
}

int hv_xs_perm_parse(const char *text, struct hv_xs_perm *perm)
{
    const char *letter = text[0] ? strchr(perm_letters, text[0]) : NULL;
    uint64_t domid;

    if (!letter || hv_xs_number_parse(text + 1, DOMID_FIRST_RESERVED - 1, &domid) < 0)
        return -EINVAL;
    *perm = (struct hv_xs_perm){.domid = (uint16_t)domid, .access = (uint8_t)(letter - perm_letters)};
    return 0;
}

unsigned hv_xs_request_split(const struct hv_xs_request *r, size_t start, const char **strings, unsigned max)
{
    unsigned count = 0;

    while (count < max && start < r->header->len) {
        const char *end = memchr(r->payload + start, '\0', r->header->len - start);

        if (!end)
            break;
        strings[count++] = r->payload + start;
        start = (size_t)(end - r->payload) + 1;
    }
    return count;
}

static void split_strings(struct hv_xs_request *r)
{
    r->nr_strings = hv_xs_request_split(r, 0, r->strings, HV_XS_MAX_STRINGS);
    if (r->nr_strings) {
        const char *last = r->strings[r->nr_strings - 1];

        r->strings_end = (size_t)(last - r->payload) + strlen(last) + 1;
    }
}

/* ---- dispatching */

static const char *error_name(int err)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(xsd_errors); i++)
        if (xsd_errors[i].errnum == -err)
            return xsd_errors[i].errstring;
    return "EINVAL";
}

void hv_xs_request_answer(struct hv_xs_request *r)
{
    hv_xs_conn_answer(r->conn, r->header, r->header->type, r->reply, r->reply_bytes);
    r->answered = true;
}

static int check(struct hv_xs_request *r, const struct operation *op)
{
    int err;

    if (op->flags & OP_PRIVILEGED && !r->who->privileged)
        return -EACCES;
    split_strings(r);
    if (r->nr_strings < op->strings)
        return -EINVAL;
    if (!(op->flags & OP_PATH))
        return 0;
    if ((err = hv_xs_path_complete(r->who, r->strings[0], r->path, &r->skip)) < 0)
        return err;
    return hv_xs_path_valid(r->path, op->flags & OP_SPECIAL) ? 0 : -EINVAL;
}

/* In the client's transaction, or in one that lasts for this request. */
static int run_node_operation(struct hv_xs_request *r, const struct operation *op, struct hv_xs_tx **own)
{
    int err;

    if (r->header->tx_id) {
        r->tx = hv_xs_conn_tx_find(r->conn, r->header->tx_id);
        return r->tx ? op->handler(r) : -ENOENT;
    }
    if ((err = hv_xs_tx_new(r->xs, r->who, own)) < 0)
        return err;
    r->tx = *own;
    if ((err = op->handler(r)) < 0)
        return err;
    return 0;
}

static void finish(struct hv_xs_request *r, int err)
{
    const char *name = error_name(err);

    if (r->answered)
        return;
    if (err)
        hv_xs_conn_answer(r->conn, r->header, XS_ERROR, name, strlen(name) + 1);
    else
        hv_xs_request_answer(r);
}

void hv_xs_request(struct hv_xs_conn *c, const struct xsd_sockmsg *header, const char *payload)
{
    struct hv_xs_request r;
    const struct operation *op = header->type < XS_TYPE_COUNT ? &operations[header->type] : NULL;
    struct hv_xs_tx *own = NULL;
    int err;

    r.xs = hv_xs_conn_store(c);
    r.conn = c;
    r.who = hv_xs_conn_who(c);
    r.header = header;
    r.payload = payload;
    r.nr_strings = 0;
    r.strings_end = 0;
    r.tx = NULL;
    r.reply = "OK";
    r.reply_bytes = sizeof("OK");
    r.answered = false;

    if (!op || !op->handler)
        err = -ENOSYS;
    else if ((err = check(&r, op)) == 0)
        err = op->flags & OP_NODE ? run_node_operation(&r, op, &own) : op->handler(&r);
    if (!err && own)
        err = hv_xs_tx_commit(own);
    finish(&r, err);
    hv_xs_tx_free(own);
}
