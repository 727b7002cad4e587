/* The store on sockets: moves bytes between connections and their sockets on an event loop. Private to the store. */
#pragma once

#include "hv/loop.h"
#include "hv/store/core.h"

struct hv_xs_server;

/* Serves @xs (borrowed, initialized) on @loop. 0 or -ENOMEM. */
int hv_xs_server_new(struct hv_loop *loop, struct hv_xs *xs, struct hv_xs_server **out) HV_MUST_CHECK;
/* Closes all connections. */
void hv_xs_server_free(struct hv_xs_server *server);

/* Accepts connections on the listening socket @fd (taken) from peers of this process's user and from root. */
int hv_xs_server_listen(struct hv_xs_server *server, int fd) HV_MUST_CHECK;
/* Serves the connected socket @fd (taken, also on failure) for domain @domid. The loop is quit when the connection
 * ends, if @last is set. */
int hv_xs_server_add(struct hv_xs_server *server, int fd, uint16_t domid, bool last) HV_MUST_CHECK;
