/* The paravirtual framebuffer and keyboard of a domain: devices vfb 0 and vkbd 0, shown by display.h.
 * ABI of the operations: hv/hv.h, which says what the results mean. Loop thread. */
#pragma once

#include "hv/domain.h"
#include "hv/hv.h"

#define HV_FB_DEVID 0u

int hv_vfb_attach(struct hv_domain *d, const struct domus_vfb *vfb) HV_MUST_CHECK;
int hv_vkbd_attach(struct hv_domain *d) HV_MUST_CHECK;
int hv_vkbd_send(struct hv_domain *d, const struct domus_vkbd_keys *keys) HV_MUST_CHECK;
