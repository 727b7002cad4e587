/* The console backend: the other end of the guest's console ring (xen/io/console.h).
 *
 * Keeps the last HV_CONSOLE_BACKLOG_BYTES of output until the terminal takes them, as xenconsoled does, so
 * that who attaches late reads what came before and a terminal nobody reads never stops the guest.
 */
#pragma once

#include "hv/domain.h"

#define HV_CONSOLE_BACKLOG_BYTES 65536u

/* Called by the loader's caller once the ring page and port exist. */
int hv_console_new(struct hv_domain *d, hv_gfn ring, uint32_t port) HV_MUST_CHECK;
void hv_console_free(struct hv_domain *d);
/* Attaches a terminal (taken, or -1; replaces the one before) and a log (taken, or -1). On failure nothing is
 * taken or changed. Loop thread. */
int hv_console_attach(struct hv_domain *d, int tty_fd, int log_fd) HV_MUST_CHECK;
/* Output that does not come through the ring: the emergency console of console_io and of port 0xe9. Any thread. */
void hv_console_write(struct hv_domain *d, const void *bytes, size_t count);
