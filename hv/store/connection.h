/* A connection: messages in, answers and events out, who speaks. It knows no socket; server.c moves its bytes.
 * Private to the store.
 */
#pragma once

#include "hv/store/core.h"

struct hv_xs_watch;

/* A connection of domain 0, in xs->conns; NULL when out of memory. */
struct hv_xs_conn *hv_xs_conn_new(struct hv_xs *xs, void *opaque);
/* Also drops its watches and transactions. */
void hv_xs_conn_free(struct hv_xs_conn *c);
struct hv_xs_conn *hv_xs_conn_next(const struct hv_xs_conn *c); /* in xs->conns */

struct hv_xs *hv_xs_conn_store(const struct hv_xs_conn *c);
const struct hv_xs_who *hv_xs_conn_who(struct hv_xs_conn *c);
void *hv_xs_conn_opaque(const struct hv_xs_conn *c);
struct hv_xs_watch **hv_xs_conn_watches(struct hv_xs_conn *c); /* head of watch.c's list */

/* From now on the connection speaks for @domid; watches and transactions are dropped. */
void hv_xs_conn_become(struct hv_xs_conn *c, uint16_t domid);

/* Asks that it be closed: nothing more is read. Whoever moves the bytes frees it. */
void hv_xs_conn_close(struct hv_xs_conn *c);
bool hv_xs_conn_closing(const struct hv_xs_conn *c);

/* Whether more requests may be read now: not with too many answers waiting. */
bool hv_xs_conn_wants_input(const struct hv_xs_conn *c);
/* Takes bytes that arrived, carries out the requests in them and gives how many were taken: fewer than @count
 * when it stopped wanting input. */
size_t hv_xs_conn_input(struct hv_xs_conn *c, const uint8_t *bytes, size_t count);

/* Bytes that wait to be sent, NULL when there are none; then how many of them were. */
const uint8_t *hv_xs_conn_output(const struct hv_xs_conn *c, size_t *count);
void hv_xs_conn_sent(struct hv_xs_conn *c, size_t count);

/* Queues an answer to @request, or an event. Out of memory or over the limit: closes the connection. */
void hv_xs_conn_answer(struct hv_xs_conn *c, const struct xsd_sockmsg *request, uint32_t type, const void *data,
                       size_t bytes);
void hv_xs_conn_event(struct hv_xs_conn *c, const char *path, const char *token);

/* Transactions of the connection: start gives the number; end forgets it and gives it to the caller. 0 or
 * -ENOSPC over quota, -ENOMEM. NULL: no such transaction. */
int hv_xs_conn_tx_start(struct hv_xs_conn *c, uint32_t *id) HV_MUST_CHECK;
struct hv_xs_tx *hv_xs_conn_tx_find(struct hv_xs_conn *c, uint32_t id);
struct hv_xs_tx *hv_xs_conn_tx_take(struct hv_xs_conn *c, uint32_t id);
void hv_xs_conn_tx_drop_all(struct hv_xs_conn *c);
