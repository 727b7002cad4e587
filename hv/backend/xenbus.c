/* The xenbus state machine of a backend.
 *
 * advance() looks at what the frontend says, at what is going on (phase) and at whether the device is to go, and takes
 * the next step; everything that happens ends in a call of it. Source: xen/io/xenbus.h.
 */
#include "config.h"

#include "hv/backend/xenbus.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/control/server.h"
#include "hv/loop.h"
#include "hv/store/client.h"
#include "hv/xen-abi.h"

struct hv_store_client *hv_xenbus_store(const struct hv_xenbus_device *dev)
{
    return dev->bus->store;
}

/* ------------------------------------------------------------------ nodes */

void hv_xenbus_frontend_path(const struct hv_xenbus_device *dev, const char *key, char path[HV_XENBUS_PATH_MAX])
{
    snprintf(path, HV_XENBUS_PATH_MAX, "/local/domain/%u/device/%s/%u%s%s", dev->domain->domid, dev->class->name,
             dev->devid, key[0] ? "/" : "", key);
}

static void written(void *opaque, int error, const char *value, size_t bytes)
{
    struct hv_xenbus_device *dev = opaque;

    (void)value, (void)bytes;
    if (error && !dev->detaching)
        hv_log_guest(dev->domain, HV_LOG_WARNING, "%s %u: writing the backend's nodes: %s", dev->class->name, dev->devid,
                     strerror(-error));
}

static void write_text(struct hv_xenbus_device *dev, const char *key, const char *value)
{
    char path[HV_XENBUS_PATH_MAX];

    snprintf(path, sizeof(path), "/local/domain/0/backend/%s/%u/%u/%s", dev->class->name, dev->domain->domid,
             dev->devid, key);
    if (hv_store_client_write(dev->bus->store, path, value, written, dev))
        hv_log_guest(dev->domain, HV_LOG_ERROR, "%s %u: out of memory", dev->class->name, dev->devid);
}

void hv_xenbus_write(struct hv_xenbus_device *dev, const char *key, const char *format, ...)
{
    char value[256];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    write_text(dev, key, value);
}

static void publish_state(struct hv_xenbus_device *dev)
{
    hv_xenbus_write(dev, "state", "%d", dev->state);
}

static void set_state(struct hv_xenbus_device *dev, int state)
{
    if (dev->state == state)
        return;
    dev->state = state;
    publish_state(dev);
}

void hv_xenbus_changed(struct hv_xenbus_device *dev)
{
    if (dev->state == XenbusStateConnected)
        publish_state(dev);
}

/* ------------------------------------------------------------------ steps */

static void advance(struct hv_xenbus_device *dev);

static void tell(struct hv_xenbus_device *dev, enum hv_event event)
{
    if (!dev->bus->stopping)
        hv_control_notify(dev->domain, event, (uint64_t)dev->class->number << 32 | dev->devid);
}

static void unlink_device(struct hv_xenbus_device *dev)
{
    struct hv_xenbus_device **link = &dev->bus->devices;

    while (*link != dev)
        link = &(*link)->next;
    *link = dev->next;
}

static void free_device(struct hv_xenbus_device *dev)
{
    unlink_device(dev);
    if (dev->watch)
        hv_store_client_unwatch(dev->watch);
    hv_xenbus_drop_keys(dev);
    hv_store_client_forget(dev->bus->store, dev);
    hv_loop_remove(dev->detach_timer);
    dev->class->free(dev);
}

static void start_waiting(struct hv_xenbus_device *dev)
{
    dev->failed = false;
    dev->class->publish(dev);
    set_state(dev, XenbusStateInitWait);
}

static void read_keys(struct hv_xenbus_device *dev)
{
    dev->phase = HV_XENBUS_READING;
    hv_xenbus_read_keys(dev);
}

void hv_xenbus_keys_read(struct hv_xenbus_device *dev, bool ok)
{
    int error = -EINVAL;

    dev->phase = HV_XENBUS_IDLE;
    if (!ok)
        hv_xenbus_fail(dev, "the frontend's keys cannot be read");
    else
        error = dev->class->connect(dev);
    hv_xenbus_drop_keys(dev);
    if (error) {
        dev->failed = true;
        set_state(dev, XenbusStateClosed);
    } else {
        dev->phase = HV_XENBUS_CONNECTED;
        set_state(dev, XenbusStateConnected);
    }
    advance(dev); /* the frontend may have moved on */
}

static void drain(struct hv_xenbus_device *dev)
{
    dev->phase = HV_XENBUS_DRAINING;
    dev->class->disconnect(dev);
}

void hv_xenbus_disconnected(struct hv_xenbus_device *dev)
{
    dev->phase = HV_XENBUS_IDLE;
    if (dev->failed)
        set_state(dev, XenbusStateClosed);
    advance(dev);
}

/* No frontend is there any more (or it need not agree): the device ends, or waits for the next one. */
static void closed(struct hv_xenbus_device *dev)
{
    if (dev->phase == HV_XENBUS_CONNECTED) {
        drain(dev);
        return;
    }
    set_state(dev, XenbusStateClosed);
    if (!dev->detaching)
        return;
    tell(dev, HV_EVENT_DEVICE_GONE);
    free_device(dev);
}

/* A frontend that starts from the beginning, while one was connected: the one before did not say good-bye. */
static void initialising(struct hv_xenbus_device *dev)
{
    if (dev->phase == HV_XENBUS_CONNECTED)
        drain(dev);
    else if (dev->detaching)
        closed(dev);
    else if (dev->state != XenbusStateInitWait)
        start_waiting(dev);
}

/* A frontend that needs to know nothing may be ready before it was seen starting. */
static void ready(struct hv_xenbus_device *dev)
{
    if (dev->phase == HV_XENBUS_IDLE && dev->state == XenbusStateInitialising)
        start_waiting(dev);
    if (dev->phase == HV_XENBUS_IDLE && dev->state == XenbusStateInitWait)
        read_keys(dev);
}

/* May free @dev. */
static void advance(struct hv_xenbus_device *dev)
{
    if (dev->phase == HV_XENBUS_READING || dev->phase == HV_XENBUS_DRAINING)
        return;
    if (dev->forced || (dev->failed && dev->phase == HV_XENBUS_CONNECTED)) {
        closed(dev);
        return;
    }
    switch (dev->frontend) {
    case XenbusStateInitialising:
        initialising(dev);
        return;
    case XenbusStateInitialised:
    case XenbusStateConnected:
        ready(dev);
        return;
    case XenbusStateClosing:
        if (!dev->failed)
            set_state(dev, XenbusStateClosing);
        return;
    case XenbusStateClosed:
    case XenbusStateUnknown: /* its nodes are gone */
        closed(dev);
        return;
    default: /* InitWait and the Reconfiguring states ask nothing of a backend */
        return;
    }
}

/* ------------------------------------------------------------------ the frontend's state */

static void state_read(void *opaque, int error, const char *value, size_t bytes)
{
    struct hv_xenbus_device *dev = opaque;

    if (error && error != -ENOENT)
        return;
    if (error)
        dev->frontend = XenbusStateUnknown;
    else if (bytes == 1 && value[0] >= '0' && value[0] <= '8')
        dev->frontend = value[0] - '0';
    else
        return; /* not a state: as if it had not been written */
    if (dev->domain->frozen)
        return; /* hv_xenbus_thaw looks again */
    /* A device whose nodes come after it waits for them. */
    if (dev->frontend == XenbusStateUnknown && dev->phase == HV_XENBUS_IDLE && !dev->detaching &&
        dev->state == XenbusStateInitialising)
        return;
    advance(dev);
}

static void state_changed(void *opaque)
{
    hv_xenbus_look(opaque);
}

void hv_xenbus_look(struct hv_xenbus_device *dev)
{
    char path[HV_XENBUS_PATH_MAX];

    hv_xenbus_frontend_path(dev, "state", path);
    if (hv_store_client_read(dev->bus->store, path, state_read, dev))
        hv_log_guest(dev->domain, HV_LOG_ERROR, "%s %u: out of memory", dev->class->name, dev->devid);
}

/* ------------------------------------------------------------------ failing and detaching */

void hv_xenbus_fail(struct hv_xenbus_device *dev, const char *format, ...)
{
    char why[200];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    hv_log_guest(dev->domain, HV_LOG_WARNING, "%s %u: %s", dev->class->name, dev->devid, why);
    write_text(dev, "error", why);
    if (dev->phase != HV_XENBUS_CONNECTED)
        return;
    dev->failed = true;
    advance(dev);
}

static void detach_timeout(void *opaque)
{
    struct hv_xenbus_device *dev = opaque;

    if (!dev->detaching || dev->forced)
        return;
    dev->detaching = false;
    hv_xenbus_write(dev, "online", "1");
    if (dev->phase == HV_XENBUS_CONNECTED)
        set_state(dev, XenbusStateConnected);
    tell(dev, HV_EVENT_DEVICE_KEPT);
    advance(dev);
}

int hv_xenbus_detach(struct hv_xenbus_device *dev, bool force)
{
    if (dev->forced || (dev->detaching && !force))
        return -EALREADY;
    dev->detaching = true;
    dev->forced = force;
    hv_xenbus_write(dev, "online", "0");
    if (dev->phase == HV_XENBUS_READING && force) {
        hv_xenbus_drop_keys(dev);
        dev->phase = HV_XENBUS_IDLE;
    }
    if (dev->phase == HV_XENBUS_CONNECTED || dev->state == XenbusStateInitWait)
        set_state(dev, XenbusStateClosing);
    if (!force)
        hv_loop_arm(dev->detach_timer, hv_loop_now() + HV_XENBUS_DETACH_NS);
    advance(dev);
    return 0;
}

/* ------------------------------------------------------------------ devices */

struct hv_xenbus_device *hv_xenbus_find(struct hv_domain *d, const struct hv_xenbus_class *class, uint32_t devid)
{
    for (struct hv_xenbus_device *dev = d->xenbus->devices; dev; dev = dev->next)
        if (dev->class == class && dev->devid == devid)
            return dev;
    return NULL;
}

struct hv_xenbus_device *hv_xenbus_next(struct hv_domain *d, const struct hv_xenbus_class *class,
                                        struct hv_xenbus_device *dev)
{
    dev = dev ? dev->next : d->xenbus ? d->xenbus->devices : NULL;
    while (dev && dev->class != class)
        dev = dev->next;
    return dev;
}

int hv_xenbus_add(struct hv_domain *d, const struct hv_xenbus_class *class, uint32_t devid,
                  struct hv_xenbus_device *dev)
{
    char path[HV_XENBUS_PATH_MAX];
    int error;

    if (hv_xenbus_find(d, class, devid))
        return -EEXIST;
    dev->domain = d;
    dev->class = class;
    dev->devid = devid;
    dev->bus = d->xenbus;
    dev->state = XenbusStateInitialising;
    dev->detach_timer = hv_loop_add_timer(d->loop, detach_timeout, dev);
    if (!dev->detach_timer)
        return -ENOMEM;
    hv_xenbus_frontend_path(dev, "state", path);
    dev->watch = hv_store_client_watch(dev->bus->store, path, state_changed, dev);
    if (!dev->watch) {
        hv_loop_remove(dev->detach_timer);
        return -ENOMEM;
    }
    dev->next = dev->bus->devices;
    dev->bus->devices = dev;
    error = hv_xenbus_resume(dev);
    if (!error)
        return 0;
    unlink_device(dev);
    hv_store_client_unwatch(dev->watch);
    hv_loop_remove(dev->detach_timer);
    return error;
}

int hv_xenbus_init(struct hv_domain *d)
{
    int error;

    d->xenbus = calloc(1, sizeof(*d->xenbus));
    if (!d->xenbus)
        return -ENOMEM;
    error = hv_store_client_new(d->loop, &d->xenbus->store);
    if (error)
        hv_xenbus_fini(d);
    return error;
}

/* What is being asked of the store does not matter any more; what a guest's memory is being used for does. */
static void stop_device(struct hv_xenbus_device *dev)
{
    struct hv_xenbus *bus = dev->bus;

    dev->detaching = dev->forced = true;
    if (dev->phase == HV_XENBUS_READING)
        dev->phase = HV_XENBUS_IDLE;
    if (dev->phase == HV_XENBUS_IDLE) {
        free_device(dev);
        return;
    }
    dev->phase = HV_XENBUS_DRAINING;
    dev->class->stop(dev); /* ends in free_device */
    hv_assert(bus->devices != dev);
}

void hv_xenbus_fini(struct hv_domain *d)
{
    struct hv_xenbus *bus = d->xenbus;

    if (!bus)
        return;
    bus->stopping = true;
    while (bus->devices)
        stop_device(bus->devices);
    hv_store_client_free(bus->store);
    hv_xenbus_forget_pending(bus);
    free(bus);
    d->xenbus = NULL;
}

int hv_xenbus_attach_store(struct hv_domain *d, int fd)
{
    return hv_store_client_attach(d->xenbus->store, fd);
}
