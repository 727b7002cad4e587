/* A client of the store for the hypervisor's own backends: requests and watches on the event loop, over a connection
 * that speaks as this domain.
 *
 * Nothing is lost with a connection: what has no answer yet is asked again on the next one, and watches are set
 * again, which makes each of them fire. All requests can be repeated (there are no transactions here).
 *
 * Loop thread only.
 */
#pragma once

#include "hv/loop.h"

struct hv_store_client;
struct hv_store_watch;

/* The answer to a request: @error is 0 or a negative errno (-ENOENT, -EACCES ...); @value has @bytes bytes and a NUL
 * after them, good during the call. For a directory it is the names, each with its NUL. */
typedef void hv_store_answer_fn(void *opaque, int error, const char *value, size_t bytes);
typedef void hv_store_watch_fn(void *opaque);

int hv_store_client_new(struct hv_loop *loop, struct hv_store_client **out) HV_MUST_CHECK;
/* No function of a request or watch is called any more. Not from such a function. */
void hv_store_client_free(struct hv_store_client *client);

/* Talks over the connected socket @fd (taken; replaces the one before). On failure @fd is closed. */
int hv_store_client_attach(struct hv_store_client *client, int fd) HV_MUST_CHECK;

/* Each of these queues a request: 0, -ENOMEM, -ENAMETOOLONG. @fn may be NULL. Requests are answered in order. */
int hv_store_client_read(struct hv_store_client *client, const char *path, hv_store_answer_fn *fn, void *opaque);
int hv_store_client_directory(struct hv_store_client *client, const char *path, hv_store_answer_fn *fn, void *opaque);
int hv_store_client_write(struct hv_store_client *client, const char *path, const char *value, hv_store_answer_fn *fn,
                          void *opaque);
int hv_store_client_remove(struct hv_store_client *client, const char *path, hv_store_answer_fn *fn, void *opaque);

/* Watches @path and what is below; @fn is called once at first. NULL when out of memory. */
struct hv_store_watch *hv_store_client_watch(struct hv_store_client *client, const char *path, hv_store_watch_fn *fn,
                                             void *opaque);
void hv_store_client_unwatch(struct hv_store_watch *watch);

/* Requests made with @opaque will not be answered to; they are still carried out. */
void hv_store_client_forget(struct hv_store_client *client, const void *opaque);

/* All requests have been answered. */
bool hv_store_client_is_idle(const struct hv_store_client *client);
