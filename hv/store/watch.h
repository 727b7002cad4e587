/* Watches. Private to the store. */
#pragma once

#include "hv/store/core.h"

/* A client wants to be told of changes at @path (complete, or special) and below. Events carry the path without its
 * first @skip bytes, and @token. 0, -EEXIST for a second one with the same path and token, -E2BIG over quota,
 * -ENOMEM. */
int hv_xs_watch_add(struct hv_xs_conn *c, const char *path, size_t skip, const char *token) HV_MUST_CHECK;
/* 0 or -ENOENT. */
int hv_xs_watch_remove(struct hv_xs_conn *c, const char *path, const char *token) HV_MUST_CHECK;
void hv_xs_watch_remove_all(struct hv_xs_conn *c);

/* The node at @path changed; @old is what it was (NULL: not there). Sends an event to every watch on it and, unless
 * @exact, above it, whose client may read it, could read it, or may read its parent. */
void hv_xs_watch_fire(struct hv_xs *xs, const char *path, bool exact, const struct hv_xs_record *old);
/* A special event: @introduceDomain or @releaseDomain. */
void hv_xs_watch_fire_special(struct hv_xs *xs, const char *name);
