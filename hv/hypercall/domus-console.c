/* domus_op: consoles that are devices. ABI: hv/hv.h. */
#include "config.h"

#include "hv/hypercall/domus-console.h"

#include "hv/backend/console-device.h"

long hv_domus_console_detach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct domus_console_detach *detach = arg;

    (void)args;
    return c->domain ? hv_console_device_detach(c->domain, detach->devid, detach->force) : -XEN_ESRCH;
}

long hv_domus_console_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return c->domain ? hv_console_device_info(c->domain, arg) : -XEN_ESRCH;
}
