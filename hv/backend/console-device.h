/* Consoles beside the first: devices of class "console" (xen/io/console.h; number 0 is not one, its ring is the
 * builder's).
 */
#pragma once

#include "hv/domain.h"
#include "hv/hv.h"

#define HV_CONSOLES_MAX 16u

/* Gives console @devid, from 1, a terminal and a log (taken, as hv_console_set_terminal takes them); makes the device if
 * there is none. The nodes of both ends are in the store. 0 or negative errno. Loop thread. */
int hv_console_device_attach(struct hv_domain *d, uint32_t devid, int tty_fd, int log_fd) HV_MUST_CHECK;
/* hv_console_set_log of console @devid, from 1; -ENODEV, and nothing taken, when there is none. Loop thread. */
int hv_console_device_set_log(struct hv_domain *d, uint32_t devid, int log_fd, uint64_t limit_bytes) HV_MUST_CHECK;
/* See struct domus_console_detach, struct domus_console_info; -ENODEV when there is none. Loop thread. */
int hv_console_device_detach(struct hv_domain *d, uint32_t devid, bool force) HV_MUST_CHECK;
int hv_console_device_info(struct hv_domain *d, struct domus_console_info *info) HV_MUST_CHECK;
