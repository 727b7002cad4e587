/* Requests: the table of operations and what its handlers share. Private to the store. */
#pragma once

#include "hv/store/core.h"

#define HV_XS_MAX_STRINGS 8

/* A request being carried out. */
struct hv_xs_request {
    struct hv_xs *xs;
    struct hv_xs_conn *conn;
    const struct hv_xs_who *who;
    const struct xsd_sockmsg *header;
    const char *payload; /* header->len bytes and a NUL */

    /* The NUL-terminated strings at the start of the payload, at most HV_XS_MAX_STRINGS, and where they end. */
    const char *strings[HV_XS_MAX_STRINGS];
    unsigned nr_strings;
    size_t strings_end;

    /* For operations on nodes. */
    char path[XENSTORE_ABS_PATH_MAX + 1]; /* of strings[0], complete */
    size_t skip;                          /* bytes of it that were added to what the client sent */
    struct hv_xs_tx *tx;

    /* The answer: "OK" unless the handler sets another. Good until the transaction is freed. */
    const void *reply;
    size_t reply_bytes;
    bool answered; /* the handler did it itself */
    char buffer[XENSTORE_PAYLOAD_MAX + 1]; /* for answers that are put together */
};

/* Carries out a request and queues its answer. @payload is header->len bytes followed by a NUL. */
void hv_xs_request(struct hv_xs_conn *c, const struct xsd_sockmsg *header, const char *payload);

/* Answers now, ahead of events that the handler is about to send. */
void hv_xs_request_answer(struct hv_xs_request *r);
/* Finds the strings from payload byte @start on, where the dispatcher looked for fewer. */
unsigned hv_xs_request_split(const struct hv_xs_request *r, size_t start, const char **strings, unsigned max);

/* A complete path: letters, digits and -/_@, no empty names, not too long; or with @special one that starts with @. */
bool hv_xs_path_valid(const char *path, bool special);
/* Completes a path that may be relative to the caller's home. 0 or -EINVAL. */
int hv_xs_path_complete(const struct hv_xs_who *who, const char *given, char path[XENSTORE_ABS_PATH_MAX + 1],
                        size_t *skip) HV_MUST_CHECK;

/* "r5" and back. parse: 0 or -EINVAL. */
int hv_xs_perm_parse(const char *text, struct hv_xs_perm *perm) HV_MUST_CHECK;
char hv_xs_perm_letter(const struct hv_xs_perm *perm);
/* A decimal number of at most @max. 0 or -EINVAL. */
int hv_xs_number_parse(const char *text, uint64_t max, uint64_t *number) HV_MUST_CHECK;

typedef int hv_xs_handler(struct hv_xs_request *r);

/* ops-node.c */
hv_xs_handler hv_xs_do_directory, hv_xs_do_directory_part, hv_xs_do_read, hv_xs_do_get_perms, hv_xs_do_write,
    hv_xs_do_mkdir, hv_xs_do_rm, hv_xs_do_set_perms, hv_xs_do_watch, hv_xs_do_unwatch, hv_xs_do_reset_watches,
    hv_xs_do_transaction_start, hv_xs_do_transaction_end;
/* ops-domain.c */
hv_xs_handler hv_xs_do_control, hv_xs_do_introduce, hv_xs_do_release, hv_xs_do_resume, hv_xs_do_set_target,
    hv_xs_do_get_domain_path, hv_xs_do_is_domain_introduced;
