/* Devices in a stream.
 *
 * A device's state waits here until the toolstack adds the device with what it needs of this host; it is then connected as
 * it was, and the frontend sees nothing of it: the store's nodes, which the toolstack put back, say what they said.
 */
#include "config.h"

#include "hv/backend/xenbus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/loop.h"
#include "hv/store/client.h"
#include "hv/stream/codec.h"
#include "hv/xen-abi.h"

#define DEVICES_MAX      256u
#define STATE_BYTES_MAX  (1u << 20)
#define ERROR_BYTES      160u

struct hv_xenbus_pending {
    struct hv_xenbus_pending *next;
    uint32_t class, devid;
    size_t bytes;
    uint8_t state[];
};

struct device_state {
    uint32_t class, devid, bytes; /* bytes: of what the class has */
    uint32_t state, frontend;
    bool connected, failed;
};

static const struct hv_field device_fields[] = {
    HV_FIELD(1, struct device_state, class),
    HV_FIELD(2, struct device_state, devid),
    HV_FIELD_MAX(3, struct device_state, bytes, STATE_BYTES_MAX),
    HV_FIELD_MAX(4, struct device_state, state, XenbusStateReconfigured),
    HV_FIELD_MAX(5, struct device_state, frontend, XenbusStateReconfigured),
    HV_FIELD_BOOL(6, struct device_state, connected),
    HV_FIELD_BOOL(7, struct device_state, failed),
};

/* ------------------------------------------------------------------ freezing */

void hv_xenbus_freeze(struct hv_domain *d)
{
    for (struct hv_xenbus_device *dev = d->xenbus->devices; dev; dev = dev->next)
        if (dev->class->freeze)
            dev->class->freeze(dev);
}

void hv_xenbus_thaw(struct hv_domain *d)
{
    struct hv_xenbus_device *next;

    for (struct hv_xenbus_device *dev = d->xenbus->devices; dev; dev = next) {
        next = dev->next; /* it may end with what it does now */
        hv_xenbus_look(dev);
        if (dev->class->thaw)
            dev->class->thaw(dev);
    }
}

const char *hv_xenbus_unwritable(const struct hv_domain *d, char name[64])
{
    for (const struct hv_xenbus_device *dev = d->xenbus->devices; dev; dev = dev->next)
        if (!dev->class->encode) {
            snprintf(name, 64, "%s %u", dev->class->name, dev->devid);
            return name;
        }
    return NULL;
}

bool hv_xenbus_is_idle(struct hv_domain *d)
{
    for (struct hv_xenbus_device *dev = d->xenbus->devices; dev; dev = dev->next)
        if (dev->phase == HV_XENBUS_READING || dev->phase == HV_XENBUS_DRAINING ||
            (dev->class->idle && !dev->class->idle(dev)))
            return false;
    return hv_store_client_is_idle(d->xenbus->store);
}

/* ------------------------------------------------------------------ writing */

static void encode_device(struct hv_xenbus_device *dev, struct hv_encoder *e)
{
    struct hv_encoder own = {0};
    struct device_state state = {
        .class = dev->class->number,
        .devid = dev->devid,
        .state = (uint32_t)dev->state,
        .frontend = (uint32_t)dev->frontend,
        .connected = dev->phase == HV_XENBUS_CONNECTED,
        .failed = dev->failed,
    };

    if (dev->class->encode)
        dev->class->encode(dev, &own);
    state.bytes = (uint32_t)own.used;
    hv_encode_fields(e, device_fields, HV_ARRAY_LEN(device_fields), &state);
    hv_encode(e, own.data, own.used);
    e->failed |= own.failed;
    hv_encoder_fini(&own);
}

void hv_xenbus_encode(struct hv_domain *d, struct hv_encoder *e)
{
    uint32_t count = 0;

    for (struct hv_xenbus_device *dev = d->xenbus->devices; dev; dev = dev->next)
        count++;
    hv_encode_u32(e, count);
    for (struct hv_xenbus_device *dev = d->xenbus->devices; dev; dev = dev->next)
        encode_device(dev, e);
}

/* ------------------------------------------------------------------ reading */

static int keep(struct hv_xenbus *bus, const struct device_state *state, const uint8_t *from, size_t bytes,
                struct hv_decoder *dec)
{
    struct hv_xenbus_pending *p = malloc(sizeof(*p) + bytes);

    if (!p)
        return hv_decode_fail(dec, "out of memory");
    p->class = state->class;
    p->devid = state->devid;
    p->bytes = bytes;
    memcpy(p->state, from, bytes);
    p->next = bus->pending;
    bus->pending = p;
    return 0;
}

int hv_xenbus_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    uint32_t count;
    int error = hv_decode_count(dec, "the number of devices", DEVICES_MAX, &count);

    while (!error && count--) {
        const uint8_t *from = dec->at;
        struct device_state state;

        error = hv_decode_fields(dec, device_fields, HV_ARRAY_LEN(device_fields), &state);
        if (!error && !hv_decode_bytes(dec, state.bytes))
            error = -EBADMSG;
        if (!error)
            error = keep(d->xenbus, &state, from, (size_t)(dec->at - from), dec);
    }
    return error;
}

void hv_xenbus_forget_pending(struct hv_xenbus *bus)
{
    while (bus->pending) {
        struct hv_xenbus_pending *p = bus->pending;

        bus->pending = p->next;
        free(p);
    }
}

static const char *class_name(uint32_t number)
{
    static const char *const names[] = {
        [DOMUS_DEVICE_VBD] = "vbd", [DOMUS_DEVICE_VIF] = "vif", [DOMUS_DEVICE_CONSOLE] = "console",
        [DOMUS_DEVICE_VFB] = "vfb", [DOMUS_DEVICE_VKBD] = "vkbd"};

    return number < HV_ARRAY_LEN(names) && names[number] ? names[number] : "device";
}

const char *hv_xenbus_missing(struct hv_domain *d, char name[64])
{
    const struct hv_xenbus_pending *p = d->xenbus->pending;

    if (!p)
        return NULL;
    snprintf(name, 64, "%s %u", class_name(p->class), p->devid);
    return name;
}

bool hv_xenbus_resumes_connected(const struct hv_xenbus_device *dev)
{
    return dev->phase == HV_XENBUS_CONNECTED;
}

static int decode_device(struct hv_xenbus_device *dev, struct hv_decoder *dec)
{
    struct device_state state;
    int error = hv_decode_fields(dec, device_fields, HV_ARRAY_LEN(device_fields), &state);

    if (error)
        return error;
    dev->state = (int)state.state;
    dev->frontend = (int)state.frontend;
    dev->failed = state.failed;
    dev->phase = state.connected ? HV_XENBUS_CONNECTED : HV_XENBUS_IDLE;
    error = dev->class->decode ? dev->class->decode(dev, dec) : 0;
    if (!error)
        error = hv_decode_end(dec);
    if (error)
        dev->phase = HV_XENBUS_IDLE;
    return error;
}

static struct hv_xenbus_pending *take_pending(struct hv_xenbus_device *dev)
{
    struct hv_xenbus_pending **link = &dev->bus->pending, *p;

    while (*link && ((*link)->class != dev->class->number || (*link)->devid != dev->devid))
        link = &(*link)->next;
    p = *link;
    if (p)
        *link = p->next;
    return p;
}

int hv_xenbus_resume(struct hv_xenbus_device *dev)
{
    struct hv_xenbus_pending *p = take_pending(dev);
    char name[64], error_text[ERROR_BYTES] = "";
    struct hv_decoder dec = {.what = name, .error = error_text, .error_bytes = sizeof(error_text)};
    int error;

    if (!p)
        return 0;
    snprintf(name, sizeof(name), "%s %u", dev->class->name, dev->devid);
    dec.at = p->state;
    dec.left = p->bytes;
    error = decode_device(dev, &dec);
    free(p);
    if (error)
        hv_log_guest(dev->domain, HV_LOG_ERROR, "its saved state is of no use: %s", error_text);
    return error;
}
