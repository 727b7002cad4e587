/* console_io and physdev_op: the emergency console; physical devices, which a PVH guest has none of. */
#include "config.h"

#include "hv/hypercall/families.h"

#include "hv/backend/console.h"

/* A guest's emergency message is a line of printk. */
#define WRITE_MAX 65536u

static long write_bytes(struct hv_caller *c, uint64_t address, uint64_t count)
{
    char part[256];

    if (count > WRITE_MAX)
        return -XEN_E2BIG;
    while (count) {
        size_t now = count < sizeof(part) ? count : sizeof(part);

        if (hv_caller_read(c, address, part, now))
            return -XEN_EFAULT;
        hv_console_write(c->domain, part, now);
        address += now;
        count -= now;
    }
    return 0;
}

/* args: CONSOLEIO_*, byte count, address. Source: xen/xen.h. */
long hv_console_io(struct hv_caller *c, const uint64_t args[5])
{
    switch ((uint32_t)args[0]) {
    case CONSOLEIO_write:
        return write_bytes(c, args[2], (uint32_t)args[1]);
    case CONSOLEIO_read: /* input comes through the console ring */
        return -XEN_EPERM;
    default:
        return -XEN_ENOSYS;
    }
}

/* Without PIRQs there is nothing that a PVH guest could ask: Xen answers the same. Source: xen/physdev.h. */
long hv_physdev_op(struct hv_caller *c, const uint64_t args[5])
{
    (void)c, (void)args;
    return -XEN_ENOSYS;
}
