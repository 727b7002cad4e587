/* The console backend: the other end of the guest's console ring (xen/io/console.h).
 *
 * Keeps the last HV_CONSOLE_BACKLOG_BYTES of output until the terminal takes them, as xenconsoled does, so
 * that who attaches late reads what came before and a terminal nobody reads never stops the guest.
 */
#pragma once

#include "hv/domain.h"

#define HV_CONSOLE_BACKLOG_BYTES 65536u

/* One console: a backlog with a terminal and a log, and a ring while the guest has one. @number is its in events. Loop
 * thread. NULL: no memory. */
struct hv_console *hv_console_make(struct hv_domain *d, unsigned number);
void hv_console_destroy(struct hv_console *con);
/* The guest's ring, which stays where it is until hv_console_disconnect, and its port. @map: the grant that it is mapped
 * by; NULL for a page of the builder's. */
struct hv_grant_map;
int hv_console_connect(struct hv_console *con, void *ring, const struct hv_grant_map *map, uint32_t port) HV_MUST_CHECK;
void hv_console_disconnect(struct hv_console *con);
uint32_t hv_console_port(const struct hv_console *con);
/* A terminal (taken, or -1; replaces the one before) and a log (taken, or -1). A listening socket is a terminal for one
 * peer at a time. On failure nothing is taken or changed. */
int hv_console_set_terminal(struct hv_console *con, int tty_fd, int log_fd) HV_MUST_CHECK;

/* Another log (taken) in the place of the one that it has; HV_EVENT_LOG_FULL tells when there are @limit_bytes more in it,
 * unless that is 0. */
void hv_console_set_log(struct hv_console *con, int log_fd, uint64_t limit_bytes);

struct hv_decoder;
struct hv_encoder;
/* State for a stream: what the terminal has not taken yet. */
void hv_console_encode(struct hv_console *con, struct hv_encoder *e);
int hv_console_decode(struct hv_console *con, struct hv_decoder *d) HV_MUST_CHECK;
/* The domain is not frozen any more. */
void hv_console_thaw(struct hv_console *con);
/* Whether hv_console_set_terminal can take @tty_fd, which it then makes non-blocking. */
bool hv_console_can_use(int tty_fd);

/* The domain's first console, whose ring is the builder's. */

/* Called by the loader's caller once the ring page and port exist. */
int hv_console_new(struct hv_domain *d, hv_gfn ring, uint32_t port) HV_MUST_CHECK;
void hv_console_free(struct hv_domain *d);
/* hv_console_set_terminal of the first console; -ENODEV without. */
int hv_console_attach(struct hv_domain *d, int tty_fd, int log_fd) HV_MUST_CHECK;
/* Output that does not come through the ring: the emergency console of console_io and of port 0xe9. Any thread. */
void hv_console_write(struct hv_domain *d, const void *bytes, size_t count);
