/* libdomctl: looks into the guest's memory, and how fast it changes. */
#include "config.h"

#include "hv/hv.h"

#include <errno.h>
#include <string.h>

#include "hv/control/domctl-private.h"

#define PART_BYTES (64u * 1024)

/* A call, and what it brings behind it. */
struct call_data {
    struct domus_peek peek;
    uint8_t bytes[PART_BYTES];
};
_Static_assert(sizeof(struct call_data) <= HV_CONTROL_DATA_MAX, "it fits a call");

int domctl_peek(struct domctl *ctl, uint64_t address, void *buffer, size_t bytes, uint32_t flags)
{
    struct call_data data;
    int error = 0;

    for (size_t done = 0, n; !error && done < bytes; done += n) {
        n = bytes - done < PART_BYTES ? bytes - done : PART_BYTES;
        data.peek = (struct domus_peek){.address = address + done, .bytes = (uint32_t)n, .flags = flags,
                                        .buffer = HV_CONTROL_DATA_ADDRESS + offsetof(struct call_data, bytes)};
        error = domctl_domus_op(ctl, DOMUS_OP_peek, &data, sizeof(data.peek) + n, NULL, 0);
        if (!error)
            memcpy((uint8_t *)buffer + done, data.bytes, n);
    }
    return error;
}

int domctl_dirty_rate_start(struct domctl *ctl, unsigned seconds)
{
    struct domus_dirty_rate rate = {.seconds = seconds};

    return domctl_domus_op(ctl, DOMUS_OP_dirty_rate_start, &rate, sizeof(rate), NULL, 0);
}

int domctl_dirty_rate(struct domctl *ctl, struct domus_dirty_rate *rate)
{
    return domctl_domus_op(ctl, DOMUS_OP_dirty_rate, rate, sizeof(*rate), NULL, 0);
}
