/* The paravirtual keyboard and pointer: the other end of xen-kbdfront.
 *
 * Events go into a ring of the guest's. While that is full they wait here, moves of the pointer one in the place of the
 * other; what finds no room here either is lost, as keys of a guest that does not look at its keyboard are.
 * Source: xen/io/kbdif.h, Linux drivers/input/misc/xen-kbdfront.c.
 */
#include "config.h"

#include "hv/backend/fb/fb.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/fb/display.h"
#include "hv/backend/xenbus.h"
#include "hv/hypercall/evtchn.h"
#include "hv/loop.h"
#include "hv/stream/codec.h"
#include "hv/xen-abi.h"

#define WAITING_MAX 256u
#define RAW_MAX     0x7fff /* of raw coordinates */
#define HOLD_MS_MAX 60000u

struct vkbd {
    struct hv_xenbus_device dev;
    hv_evtchn_port port; /* 0: not connected */
    struct hv_grant_map map;
    hv_gfn page; /* where it is not granted, as older frontends do not */
    uint32_t in_prod; /* ours: the guest's copy is only written */
    bool absolute, raw; /* what the frontend asked for */
    int32_t x, y;       /* where the pointer was, for relative moves */
    union xenkbd_in_event waiting[WAITING_MAX]; /* first to last */
    unsigned nr_waiting;
    struct hv_loop_source *wakeup; /* the guest notified, or there is something to send */
    struct hv_loop_source *release;
    struct domus_vkbd_keys held; /* until then */
};

static struct vkbd *vkbd_of(struct hv_xenbus_device *dev)
{
    return HV_CONTAINER_OF(dev, struct vkbd, dev);
}

/* ------------------------------------------------------------------ the ring */

static struct xenkbd_page *shared_page(const struct vkbd *vkbd)
{
    if (vkbd->map.page)
        return (struct xenkbd_page *)vkbd->map.page;
    return hv_memory_at(&vkbd->dev.domain->mem, hv_gfn_to_gpa(vkbd->page), HV_PAGE_SIZE, true);
}

static void written(const struct vkbd *vkbd)
{
    if (vkbd->map.page)
        hv_grant_written(vkbd->dev.domain, &vkbd->map, 0, HV_PAGE_SIZE);
    else
        hv_memory_written(&vkbd->dev.domain->mem, hv_gfn_to_gpa(vkbd->page), HV_PAGE_SIZE);
}

/* How many events went into the ring. What the guest says that it has taken is believed as far as it can be: whatever
 * it says, only its own ring is written to. */
static unsigned fill(struct vkbd *vkbd, struct xenkbd_page *page)
{
    uint32_t used = vkbd->in_prod - __atomic_load_n(&page->in_cons, __ATOMIC_ACQUIRE);
    unsigned room = used <= XENKBD_IN_RING_LEN ? XENKBD_IN_RING_LEN - used : 0;
    unsigned count = vkbd->nr_waiting < room ? vkbd->nr_waiting : room;

    for (unsigned i = 0; i < count; i++)
        memcpy(&XENKBD_IN_RING_REF(page, vkbd->in_prod + i), &vkbd->waiting[i], sizeof(vkbd->waiting[i]));
    vkbd->in_prod += count;
    __atomic_store_n(&page->in_prod, vkbd->in_prod, __ATOMIC_RELEASE);
    return count;
}

static void serve(void *opaque)
{
    struct vkbd *vkbd = opaque;
    bool any = vkbd->port && vkbd->nr_waiting && !vkbd->dev.domain->frozen;
    struct xenkbd_page *page = any ? shared_page(vkbd) : NULL;
    unsigned count;

    if (!page)
        return;
    count = fill(vkbd, page);
    if (!count)
        return;
    written(vkbd);
    vkbd->nr_waiting -= count;
    memmove(vkbd->waiting, vkbd->waiting + count, vkbd->nr_waiting * sizeof(vkbd->waiting[0]));
    hv_evtchn_backend_notify(vkbd->dev.domain, vkbd->port);
}

/* On the notifying vCPU's thread. */
static void guest_notified(void *opaque)
{
    struct vkbd *vkbd = opaque;

    hv_loop_wake(vkbd->wakeup);
}

static void queue(struct vkbd *vkbd, const union xenkbd_in_event *event)
{
    if (!vkbd->port || vkbd->nr_waiting == WAITING_MAX)
        return;
    vkbd->waiting[vkbd->nr_waiting++] = *event;
    hv_loop_wake(vkbd->wakeup);
}

/* ------------------------------------------------------------------ events */

static void send_key(void *opaque, uint32_t key, bool pressed)
{
    union xenkbd_in_event event = {0};

    event.key = (struct xenkbd_key){XENKBD_TYPE_KEY, pressed, key};
    queue(opaque, &event);
}

static union xenkbd_in_event absolute_move(const struct vkbd *vkbd, int32_t x, int32_t y, int32_t wheel)
{
    union xenkbd_in_event event = {0};
    uint32_t width, height;

    hv_display_size(vkbd->dev.domain, &width, &height);
    if (vkbd->raw) {
        x = width > 1 ? (int32_t)((int64_t)x * RAW_MAX / (width - 1)) : 0;
        y = height > 1 ? (int32_t)((int64_t)y * RAW_MAX / (height - 1)) : 0;
    }
    event.pos = (struct xenkbd_position){XENKBD_TYPE_POS, x, y, wheel};
    return event;
}

/* A move may take the place of one that has not gone yet. */
static bool replaces_last(const struct vkbd *vkbd, const union xenkbd_in_event *event)
{
    const union xenkbd_in_event *last = vkbd->nr_waiting ? &vkbd->waiting[vkbd->nr_waiting - 1] : NULL;

    return last && last->type == XENKBD_TYPE_POS && event->type == XENKBD_TYPE_POS && last->pos.rel_z == 0;
}

static void send_move(void *opaque, int32_t x, int32_t y, int32_t wheel)
{
    struct vkbd *vkbd = opaque;
    union xenkbd_in_event event = {0};

    if (vkbd->absolute)
        event = absolute_move(vkbd, x, y, wheel);
    else
        event.motion = (struct xenkbd_motion){XENKBD_TYPE_MOTION, x - vkbd->x, y - vkbd->y, wheel};
    vkbd->x = x;
    vkbd->y = y;
    if (replaces_last(vkbd, &event))
        vkbd->nr_waiting--;
    queue(vkbd, &event);
}

/* The last that was pressed first. */
static void release_held(void *opaque)
{
    struct vkbd *vkbd = opaque;

    while (vkbd->held.count)
        send_key(vkbd, vkbd->held.keys[--vkbd->held.count], false);
}

/* ------------------------------------------------------------------ connecting */

/* What a frontend must know, it reads before there is a handshake: the toolstack has written it. */
static void publish(struct hv_xenbus_device *dev)
{
    (void)dev;
}

static int find_page(struct vkbd *vkbd)
{
    struct hv_xenbus_device *dev = &vkbd->dev;
    uint64_t ref;
    int error;

    if (hv_xenbus_number(dev, "page-gref", UINT32_MAX, &ref) == 0) {
        error = hv_grant_map(dev->domain, (uint32_t)ref, true, &vkbd->map);
    } else {
        error = hv_xenbus_number(dev, "page-ref", dev->domain->mem.nr_gfns - 1, &ref);
        vkbd->page = hv_gfn_of(error ? 0 : ref);
        if (!error && !shared_page(vkbd))
            error = -EFAULT;
    }
    if (error)
        hv_xenbus_fail(dev, "page-gref or page-ref: %s", strerror(-error));
    return error;
}

static void end(struct vkbd *vkbd)
{
    if (vkbd->port)
        hv_evtchn_backend_unbind(vkbd->dev.domain, vkbd->port);
    vkbd->port = 0;
    hv_display_set_input(vkbd->dev.domain, NULL);
    hv_loop_arm(vkbd->release, 0);
    vkbd->held.count = 0;
    vkbd->nr_waiting = 0;
    hv_grant_unmap(vkbd->dev.domain, &vkbd->map);
}

static int connect_vkbd(struct hv_xenbus_device *dev)
{
    struct vkbd *vkbd = vkbd_of(dev);
    const struct hv_display_input input = {send_key, send_move, vkbd};
    uint64_t port;
    int error = find_page(vkbd);

    if (error)
        return error;
    error = hv_xenbus_number(dev, "event-channel", UINT32_MAX, &port);
    if (!error)
        error = hv_evtchn_backend_bind(dev->domain, (uint32_t)port, guest_notified, vkbd);
    if (error) {
        hv_xenbus_fail(dev, "event-channel: %s", strerror(-error));
        hv_grant_unmap(dev->domain, &vkbd->map);
        return error;
    }
    vkbd->port = (hv_evtchn_port)port;
    vkbd->absolute = hv_xenbus_is_set(dev, "request-abs-pointer");
    vkbd->raw = vkbd->absolute && hv_xenbus_is_set(dev, "request-raw-pointer");
    vkbd->in_prod = __atomic_load_n(&shared_page(vkbd)->in_prod, __ATOMIC_RELAXED);
    hv_display_set_input(dev->domain, &input);
    return 0;
}

static void disconnect_vkbd(struct hv_xenbus_device *dev)
{
    end(vkbd_of(dev));
    hv_xenbus_disconnected(dev);
}

static void free_vkbd(struct hv_xenbus_device *dev)
{
    struct vkbd *vkbd = vkbd_of(dev);

    hv_loop_remove(vkbd->wakeup);
    hv_loop_remove(vkbd->release);
    free(vkbd);
}

/* ------------------------------------------------------------------ streams */

struct vkbd_state {
    uint64_t page;
    uint32_t ref, port, in_prod, nr_waiting;
    int32_t x, y;
    bool granted, absolute, raw;
};

static const struct hv_field state_fields[] = {
    HV_FIELD(1, struct vkbd_state, page),
    HV_FIELD(2, struct vkbd_state, ref),
    HV_FIELD(3, struct vkbd_state, port),
    HV_FIELD(4, struct vkbd_state, in_prod),
    HV_FIELD_MAX(5, struct vkbd_state, nr_waiting, WAITING_MAX),
    HV_FIELD(6, struct vkbd_state, x),
    HV_FIELD(7, struct vkbd_state, y),
    HV_FIELD_BOOL(8, struct vkbd_state, granted),
    HV_FIELD_BOOL(9, struct vkbd_state, absolute),
    HV_FIELD_BOOL(10, struct vkbd_state, raw),
};

/* Nobody would release them elsewhere. */
static void freeze_vkbd(struct hv_xenbus_device *dev)
{
    struct vkbd *vkbd = vkbd_of(dev);

    hv_loop_arm(vkbd->release, 0);
    release_held(vkbd);
}

static void thaw_vkbd(struct hv_xenbus_device *dev)
{
    hv_loop_wake(vkbd_of(dev)->wakeup);
}

static void encode_vkbd(struct hv_xenbus_device *dev, struct hv_encoder *e)
{
    const struct vkbd *vkbd = vkbd_of(dev);
    const struct vkbd_state state = {
        .page = vkbd->page.v, .ref = vkbd->map.grant.ref, .port = vkbd->port, .in_prod = vkbd->in_prod,
        .nr_waiting = vkbd->nr_waiting, .x = vkbd->x, .y = vkbd->y, .granted = vkbd->map.page != NULL,
        .absolute = vkbd->absolute, .raw = vkbd->raw,
    };

    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), &state);
    hv_encode(e, vkbd->waiting, state.nr_waiting * sizeof(vkbd->waiting[0]));
}

static int resume_page(struct vkbd *vkbd, const struct vkbd_state *state)
{
    struct hv_domain *d = vkbd->dev.domain;

    if (state->granted)
        return hv_grant_map(d, state->ref, true, &vkbd->map);
    vkbd->page = hv_gfn_of(state->page < d->mem.nr_gfns ? state->page : 0);
    return shared_page(vkbd) ? 0 : -EFAULT;
}

static int resume(struct vkbd *vkbd, const struct vkbd_state *state, struct hv_decoder *d)
{
    const struct hv_display_input input = {send_key, send_move, vkbd};
    int error = resume_page(vkbd, state);

    if (!error)
        error = hv_evtchn_backend_bind(vkbd->dev.domain, state->port, guest_notified, vkbd);
    if (error) {
        hv_grant_unmap(vkbd->dev.domain, &vkbd->map);
        return hv_decode_fail(d, "its page or port cannot be had");
    }
    vkbd->port = state->port;
    vkbd->in_prod = state->in_prod;
    vkbd->nr_waiting = state->nr_waiting;
    vkbd->absolute = state->absolute;
    vkbd->raw = state->raw;
    vkbd->x = state->x;
    vkbd->y = state->y;
    hv_display_set_input(vkbd->dev.domain, &input);
    return 0;
}

static int decode_vkbd(struct hv_xenbus_device *dev, struct hv_decoder *d)
{
    struct vkbd *vkbd = vkbd_of(dev);
    struct vkbd_state state;
    int error = hv_decode_fields(d, state_fields, HV_ARRAY_LEN(state_fields), &state);

    if (!error)
        error = hv_decode(d, vkbd->waiting, state.nr_waiting * sizeof(vkbd->waiting[0]));
    return !error && hv_xenbus_resumes_connected(dev) ? resume(vkbd, &state, d) : error;
}

static const struct hv_xenbus_class vkbd_class = {
    .name = "vkbd",
    .number = DOMUS_DEVICE_VKBD,
    .publish = publish,
    .connect = connect_vkbd,
    .disconnect = disconnect_vkbd,
    .free = free_vkbd,
    .stop = disconnect_vkbd,
    .freeze = freeze_vkbd,
    .thaw = thaw_vkbd,
    .encode = encode_vkbd,
    .decode = decode_vkbd,
};

int hv_vkbd_attach(struct hv_domain *d)
{
    struct vkbd *vkbd = calloc(1, sizeof(*vkbd));
    int error = -ENOMEM;

    if (!vkbd)
        return -ENOMEM;
    vkbd->wakeup = hv_loop_add_wakeup(d->loop, serve, vkbd);
    vkbd->release = hv_loop_add_timer(d->loop, release_held, vkbd);
    if (vkbd->wakeup && vkbd->release)
        error = hv_xenbus_add(d, &vkbd_class, HV_FB_DEVID, &vkbd->dev);
    if (!error)
        return 0;
    if (vkbd->wakeup)
        hv_loop_remove(vkbd->wakeup);
    if (vkbd->release)
        hv_loop_remove(vkbd->release);
    free(vkbd);
    return error;
}

static bool are_keys(const struct domus_vkbd_keys *keys)
{
    if (keys->count == 0 || keys->count > DOMUS_VKBD_KEYS_MAX || keys->hold_ms > HOLD_MS_MAX)
        return false;
    for (unsigned i = 0; i < keys->count; i++)
        if (keys->keys[i] == 0 || keys->keys[i] >= KEY_CNT)
            return false;
    return true;
}

int hv_vkbd_send(struct hv_domain *d, const struct domus_vkbd_keys *keys)
{
    struct hv_xenbus_device *dev = hv_xenbus_find(d, &vkbd_class, HV_FB_DEVID);
    struct vkbd *vkbd = dev ? vkbd_of(dev) : NULL;

    if (!vkbd)
        return -ENODEV;
    if (!are_keys(keys))
        return -EINVAL;
    if (!vkbd->port)
        return -ENOTCONN;
    release_held(vkbd);
    vkbd->held = *keys;
    for (unsigned i = 0; i < keys->count; i++)
        send_key(vkbd, keys->keys[i], true);
    if (keys->hold_ms)
        hv_loop_arm(vkbd->release, hv_loop_now() + keys->hold_ms * 1000000ull);
    else
        release_held(vkbd);
    return 0;
}
