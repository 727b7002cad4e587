/* multicall: a list of hypercalls in one. Source: xen/xen.h. */
#include "config.h"

#include "hv/hypercall/families.h"

/* Bounds one call; Linux sends 32 at most. */
#define MULTICALL_MAX 1024u

static long run_entry(struct hv_caller *c, uint64_t address)
{
    struct multicall_entry entry;
    uint64_t args[5];

    if (hv_caller_read(c, address, &entry, sizeof(entry)))
        return -XEN_EFAULT;
    for (unsigned i = 0; i < 5; i++)
        args[i] = entry.args[i];
    entry.result = (uint64_t)hv_hypercall_dispatch(c, entry.op, args);
    return hv_caller_write(c, address + offsetof(struct multicall_entry, result), &entry.result,
                           sizeof(entry.result));
}

/* args: address of the list, its length. */
long hv_multicall(struct hv_caller *c, const uint64_t args[5])
{
    uint64_t count = (uint32_t)args[1];
    long result = 0;

    if (c->in_multicall)
        return -XEN_EINVAL;
    if (count > MULTICALL_MAX)
        return -XEN_E2BIG;
    for (uint64_t i = 0; i < count && !result; i++) {
        uint64_t address = args[0] + i * sizeof(struct multicall_entry);

        if (i && hv_caller_must_yield(c)) {
            hv_caller_continue(c, (const uint64_t[5]){address, count - i});
            break;
        }
        c->in_multicall = true;
        result = run_entry(c, address);
        c->in_multicall = false;
    }
    return result;
}
