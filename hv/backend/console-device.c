/* Consoles beside the first: the xenbus side. What goes through them is console.c's. Source: Linux
 * drivers/tty/hvc/hvc_xen.c, xen/io/console.h. */
#include "config.h"

#include "hv/backend/console-device.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/console.h"
#include "hv/backend/xenbus.h"
#include "hv/stream/codec.h"

struct device {
    struct hv_xenbus_device dev;
    struct hv_console *console;
    struct hv_grant_map ring;
    bool connected;
};

static struct device *device_of(struct hv_xenbus_device *dev)
{
    return (struct device *)((char *)dev - offsetof(struct device, dev));
}

/* A frontend need not know anything before it makes its ring. */
static void publish(struct hv_xenbus_device *dev)
{
    (void)dev;
}

static int connect_ring(struct device *device, uint32_t ref, uint32_t port)
{
    struct hv_domain *d = device->dev.domain;
    int error = hv_grant_map(d, ref, true, &device->ring);

    if (error)
        return error;
    error = hv_console_connect(device->console, device->ring.page, &device->ring, port);
    if (error)
        hv_grant_unmap(d, &device->ring);
    return error;
}

static int connect_console(struct hv_xenbus_device *dev)
{
    struct device *device = device_of(dev);
    uint64_t ref, port;
    int error;

    if (hv_xenbus_number(dev, "ring-ref", UINT32_MAX, &ref) || hv_xenbus_number(dev, "port", UINT32_MAX, &port)) {
        hv_xenbus_fail(dev, "ring-ref or port is missing or no number");
        return -EINVAL;
    }
    error = connect_ring(device, (uint32_t)ref, (uint32_t)port);
    if (error)
        hv_xenbus_fail(dev, "ring-ref %llu, port %llu: %s", (unsigned long long)ref, (unsigned long long)port,
                       strerror(-error));
    device->connected = !error;
    return error;
}

static void disconnect_console(struct hv_xenbus_device *dev)
{
    struct device *device = device_of(dev);

    device->connected = false;
    hv_console_disconnect(device->console);
    hv_grant_unmap(dev->domain, &device->ring);
    hv_xenbus_disconnected(dev);
}

static void free_console(struct hv_xenbus_device *dev)
{
    struct device *device = device_of(dev);

    hv_console_destroy(device->console);
    free(device);
}

static void thaw_console(struct hv_xenbus_device *dev)
{
    hv_console_thaw(device_of(dev)->console);
}

static void encode_console(struct hv_xenbus_device *dev, struct hv_encoder *e)
{
    const struct device *device = device_of(dev);

    hv_encode_u32(e, device->ring.grant.ref);
    hv_encode_u32(e, hv_console_port(device->console));
    hv_console_encode(device->console, e);
}

static int decode_console(struct hv_xenbus_device *dev, struct hv_decoder *d)
{
    struct device *device = device_of(dev);
    uint32_t ref, port;
    int error = hv_decode_u32(d, &ref);

    if (!error)
        error = hv_decode_u32(d, &port);
    if (!error && hv_xenbus_resumes_connected(dev))
        error = connect_ring(device, ref, port) ? hv_decode_fail(d, "its ring or port cannot be had") : 0;
    device->connected = !error && hv_xenbus_resumes_connected(dev);
    return error ? error : hv_console_decode(device->console, d);
}

static const struct hv_xenbus_class console_class = {
    .name = "console",
    .number = DOMUS_DEVICE_CONSOLE,
    .publish = publish,
    .connect = connect_console,
    .disconnect = disconnect_console,
    .free = free_console,
    .stop = disconnect_console,
    .thaw = thaw_console,
    .encode = encode_console,
    .decode = decode_console,
};

static int add(struct hv_domain *d, uint32_t devid, struct device **out)
{
    struct device *device = calloc(1, sizeof(*device));
    int error;

    if (!device)
        return -ENOMEM;
    device->console = hv_console_make(d, devid);
    error = device->console ? hv_xenbus_add(d, &console_class, devid, &device->dev) : -ENOMEM;
    if (error) {
        if (device->console)
            hv_console_destroy(device->console);
        free(device);
        return error;
    }
    *out = device;
    return 0;
}

static struct device *find(struct hv_domain *d, uint32_t devid)
{
    struct hv_xenbus_device *dev = hv_xenbus_find(d, &console_class, devid);

    return dev ? device_of(dev) : NULL;
}

int hv_console_device_attach(struct hv_domain *d, uint32_t devid, int tty_fd, int log_fd)
{
    struct device *device = find(d, devid);
    int error = 0;

    if (devid == 0 || devid >= HV_CONSOLES_MAX)
        return -ENOENT;
    if (!hv_console_can_use(tty_fd)) /* before there is a device that would have to go again */
        return -EINVAL;
    if (!device)
        error = add(d, devid, &device);
    return error ? error : hv_console_set_terminal(device->console, tty_fd, log_fd);
}

int hv_console_device_set_log(struct hv_domain *d, uint32_t devid, int log_fd, uint64_t limit_bytes)
{
    struct device *device = find(d, devid);

    if (!device)
        return -ENODEV;
    hv_console_set_log(device->console, log_fd, limit_bytes);
    return 0;
}

int hv_console_device_detach(struct hv_domain *d, uint32_t devid, bool force)
{
    struct device *device = find(d, devid);

    return device ? hv_xenbus_detach(&device->dev, force) : -ENODEV;
}

int hv_console_device_info(struct hv_domain *d, struct domus_console_info *info)
{
    struct device *device = find(d, info->devid);

    if (!device)
        return -ENODEV;
    info->connected = device->connected;
    return 0;
}
