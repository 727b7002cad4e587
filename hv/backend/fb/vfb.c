/* The paravirtual framebuffer: the other end of xen-fbfront.
 *
 * The guest names a page by its number, not by a grant. It has the framebuffer's size, the directory of its pages, and a
 * ring of what the guest tells: parts that changed, another size. Size and directory are read once, when the frontend
 * connects; from then on the ring alone is looked at, and each event is copied, then checked, then believed. A frontend
 * that does not tell of changes is looked at as a whole, a few times a second.
 * Source: xen/io/fbif.h, Linux drivers/video/fbdev/xen-fbfront.c.
 */
#include "config.h"

#include "hv/backend/fb/fb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/fb/display.h"
#include "hv/backend/fb/pages.h"
#include "hv/backend/xenbus.h"
#include "hv/hypercall/evtchn.h"
#include "hv/loop.h"
#include "hv/stream/codec.h"
#include "hv/xen-abi.h"

#define VIDEO_KIB_MAX (256u * 1024) /* what a directory of 8-byte entries can name is twice that */
#define POLL_NS       100000000ull

/* How the pixels lie in the framebuffer. */
struct layout {
    uint32_t width, height, stride, depth, offset;
};

struct vfb {
    struct hv_xenbus_device dev;
    uint32_t video_kib;
    hv_gfn page; /* the shared one, while connected */
    hv_evtchn_port port;
    bool polled; /* the frontend does not tell of changes */
    uint32_t out_cons; /* ours: the guest's copy is only written */
    struct layout layout;
    struct hv_fb_pages pages;
    struct hv_loop_source *wakeup; /* the guest notified */
    struct hv_loop_source *poll;   /* armed for a frontend that is polled */
    uint8_t *raw;                  /* a row as the guest has it */
};

static struct vfb *vfb_of(struct hv_xenbus_device *dev)
{
    return HV_CONTAINER_OF(dev, struct vfb, dev);
}

/* ------------------------------------------------------------------ pixels */

static uint32_t rgb(unsigned r, unsigned g, unsigned b)
{
    return r | g << 8 | b << 16; /* bytes red, green, blue, 0 */
}

/* @bits of @value from @shift on, spread over eight. */
static unsigned channel(uint32_t value, unsigned shift, unsigned bits)
{
    unsigned top = (1u << bits) - 1;

    return (value >> shift & top) * 255 / top;
}

static void convert_8(const uint8_t *from, uint32_t *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] = rgb(channel(from[i], 5, 3), channel(from[i], 2, 3), channel(from[i], 0, 2));
}

static void convert_16(const uint8_t *from, uint32_t *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint16_t pixel;

        memcpy(&pixel, from + i * 2, sizeof(pixel));
        to[i] = rgb(channel(pixel, 11, 5), channel(pixel, 5, 6), channel(pixel, 0, 5));
    }
}

static void convert_32(const uint8_t *from, uint32_t *to, uint32_t count)
{
    memcpy(to, from, (size_t)count * 4);
    for (uint32_t i = 0; i < count; i++)
        to[i] = (to[i] >> 16 & 0xff) | (to[i] & 0xff00) | (to[i] & 0xff) << 16;
}

static const struct depth {
    uint32_t bits;
    void (*convert)(const uint8_t *from, uint32_t *to, uint32_t count);
} depths[] = {{8, convert_8}, {16, convert_16}, {32, convert_32}};

static const struct depth *find_depth(uint32_t bits)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(depths); i++)
        if (depths[i].bits == bits)
            return &depths[i];
    return NULL;
}

static void read_row(void *opaque, uint32_t x, uint32_t y, uint32_t width, uint32_t *out)
{
    struct vfb *vfb = opaque;
    const struct layout *l = &vfb->layout;
    size_t pixel_bytes = l->depth / 8;

    hv_fb_pages_read(vfb->dev.domain, &vfb->pages, l->offset + (size_t)y * l->stride + x * pixel_bytes, vfb->raw,
                     width * pixel_bytes);
    find_depth(l->depth)->convert(vfb->raw, out, width);
}

/* What is wrong with a layout in a framebuffer of @bytes; NULL: nothing. */
static const char *check_layout(const struct layout *l, size_t bytes)
{
    uint64_t row = (uint64_t)l->width * (l->depth / 8);

    if (!find_depth(l->depth))
        return "pixels of 8, 16 and 32 bits are known";
    if (l->width == 0 || l->height == 0 || l->width > HV_DISPLAY_SIDE_MAX || l->height > HV_DISPLAY_SIDE_MAX)
        return "it has no such size";
    if (l->stride < row)
        return "its rows are shorter than its width";
    if (l->offset > bytes || (uint64_t)(l->height - 1) * l->stride + row > bytes - l->offset)
        return "it does not fit into its memory";
    return NULL;
}

static int show(struct vfb *vfb, const struct layout *layout)
{
    const struct hv_display_source source = {layout->width, layout->height, read_row, vfb};
    uint8_t *raw = malloc((size_t)layout->width * (layout->depth / 8));

    if (!raw)
        return -ENOMEM;
    free(vfb->raw);
    vfb->raw = raw;
    vfb->layout = *layout;
    return hv_display_set_source(vfb->dev.domain, &source);
}

/* ------------------------------------------------------------------ the ring */

static struct xenfb_page *shared_page(const struct vfb *vfb)
{
    return hv_memory_at(&vfb->dev.domain->mem, hv_gfn_to_gpa(vfb->page), HV_PAGE_SIZE, true);
}

/* NULL, or why the frontend cannot go on. */
static const char *resize(struct vfb *vfb, const struct xenfb_resize *event)
{
    const struct layout layout = {(uint32_t)event->width, (uint32_t)event->height, (uint32_t)event->stride,
                                  (uint32_t)event->depth, (uint32_t)event->offset};
    const char *wrong = check_layout(&layout, vfb->pages.bytes);

    if (wrong || memcmp(&layout, &vfb->layout, sizeof(layout)) == 0)
        return wrong;
    return show(vfb, &layout) ? "no memory for it" : NULL;
}

static const char *take(struct vfb *vfb, const union xenfb_out_event *event)
{
    switch (event->type) {
    case XENFB_TYPE_UPDATE:
        hv_display_damage(vfb->dev.domain, event->update.x, event->update.y, event->update.width,
                          event->update.height);
        return NULL;
    case XENFB_TYPE_RESIZE:
        return resize(vfb, &event->resize);
    default: /* "receipt of an unknown out event is an error": one that harms nobody */
        return NULL;
    }
}

static const char *take_all(struct vfb *vfb, struct xenfb_page *page)
{
    uint32_t prod = __atomic_load_n(&page->out_prod, __ATOMIC_ACQUIRE);
    const char *wrong = NULL;

    if (prod - vfb->out_cons > XENFB_OUT_RING_LEN)
        return "the ring holds more than it can";
    while (!wrong && vfb->out_cons != prod) {
        union xenfb_out_event event;

        memcpy(&event, &XENFB_OUT_RING_REF(page, vfb->out_cons), sizeof(event));
        vfb->out_cons++;
        wrong = take(vfb, &event);
    }
    __atomic_store_n(&page->out_cons, vfb->out_cons, __ATOMIC_RELEASE);
    hv_memory_written(&vfb->dev.domain->mem, hv_gfn_to_gpa(vfb->page), sizeof(*page));
    return wrong;
}

static void serve(void *opaque)
{
    struct vfb *vfb = opaque;
    struct xenfb_page *page;
    const char *wrong;
    uint32_t before;

    if (!vfb->port || vfb->dev.domain->frozen)
        return;
    page = shared_page(vfb);
    before = vfb->out_cons;
    wrong = page ? take_all(vfb, page) : "its page is no memory any more";
    if (before != vfb->out_cons)
        hv_evtchn_backend_notify(vfb->dev.domain, vfb->port); /* it may wait for room */
    if (wrong)
        hv_xenbus_fail(&vfb->dev, "the framebuffer: %s", wrong);
}

/* On the notifying vCPU's thread. */
static void guest_notified(void *opaque)
{
    struct vfb *vfb = opaque;

    hv_loop_wake(vfb->wakeup);
}

static void poll_all(void *opaque)
{
    struct vfb *vfb = opaque;

    if (!vfb->port)
        return;
    hv_display_damage(vfb->dev.domain, 0, 0, (int32_t)vfb->layout.width, (int32_t)vfb->layout.height);
    hv_loop_arm(vfb->poll, hv_loop_now() + POLL_NS);
}

/* ------------------------------------------------------------------ connecting */

static void publish(struct hv_xenbus_device *dev)
{
    hv_xenbus_write(dev, "feature-resize", "1");
}

/* What the frontend's side looks like: its own unsigned long. */
static int find_directory(struct hv_xenbus_device *dev, struct hv_fb_directory *out)
{
    const char *protocol = hv_xenbus_key(dev, "protocol");
    bool is_32 = protocol && strcmp(protocol, XEN_IO_PROTO_ABI_X86_32) == 0;

    if (protocol && !is_32 && strcmp(protocol, XEN_IO_PROTO_ABI_X86_64) != 0) {
        hv_xenbus_fail(dev, "protocol '%.40s' is not known", protocol);
        return -EINVAL;
    }
    out->entry_bytes = is_32 ? 4 : 8;
    out->offset = is_32 ? 36 : 40; /* behind a byte at 32, aligned */
    return 0;
}

_Static_assert(offsetof(struct xenfb_page, pd) == 40 && offsetof(struct xenfb_page, depth) == 32, "struct xenfb_page");

/* The framebuffer as the shared page has it now. */
static int read_page(struct vfb *vfb, const struct hv_fb_directory *directory)
{
    struct hv_domain *d = vfb->dev.domain;
    struct xenfb_page page;
    const char *wrong;
    int error;

    if (hv_memory_read(&d->mem, hv_gfn_to_gpa(vfb->page), &page, sizeof(page)))
        return hv_xenbus_fail(&vfb->dev, "page-ref %llu is no memory", (unsigned long long)vfb->page.v), -EFAULT;
    const struct layout layout = {(uint32_t)page.width, (uint32_t)page.height, page.line_length, page.depth, 0};

    wrong = page.mem_length > (uint64_t)vfb->video_kib * 1024 ? "it is larger than video memory"
                                                              : check_layout(&layout, page.mem_length);
    if (wrong) {
        hv_xenbus_fail(&vfb->dev, "a framebuffer of %d x %d pixels, %u bits, %u bytes a row, %u bytes: %s", page.width,
                       page.height, page.depth, page.line_length, page.mem_length, wrong);
        return -EINVAL;
    }
    error = hv_fb_pages_init(d, vfb->page, directory, page.mem_length, &vfb->pages);
    if (!error)
        error = show(vfb, &layout);
    if (error)
        hv_xenbus_fail(&vfb->dev, "the pages of the framebuffer: %s", strerror(-error));
    vfb->out_cons = page.out_cons;
    return error;
}

static void end(struct vfb *vfb)
{
    if (vfb->port)
        hv_evtchn_backend_unbind(vfb->dev.domain, vfb->port);
    vfb->port = 0;
    hv_loop_arm(vfb->poll, 0);
    hv_display_clear_source(vfb->dev.domain);
    hv_fb_pages_fini(&vfb->pages);
    free(vfb->raw);
    vfb->raw = NULL;
}

static int bind_port(struct vfb *vfb, uint32_t port)
{
    int error = hv_evtchn_backend_bind(vfb->dev.domain, port, guest_notified, vfb);

    if (error)
        hv_xenbus_fail(&vfb->dev, "event channel %u: %s", port, strerror(-error));
    else
        vfb->port = port;
    return error;
}

static void begin(struct vfb *vfb)
{
    if (vfb->polled)
        hv_loop_arm(vfb->poll, hv_loop_now() + POLL_NS);
    hv_loop_wake(vfb->wakeup);
}

static int connect_vfb(struct hv_xenbus_device *dev)
{
    struct vfb *vfb = vfb_of(dev);
    uint64_t gfn, port;
    struct hv_fb_directory directory;
    int error;

    if (hv_xenbus_number(dev, "page-ref", dev->domain->mem.nr_gfns - 1, &gfn) ||
        hv_xenbus_number(dev, "event-channel", UINT32_MAX, &port))
        return hv_xenbus_fail(dev, "page-ref or event-channel is missing or no number"), -EINVAL;
    error = find_directory(dev, &directory);
    if (error)
        return error;
    vfb->page = hv_gfn_of(gfn);
    error = read_page(vfb, &directory);
    if (!error)
        error = bind_port(vfb, (uint32_t)port);
    if (error) {
        end(vfb);
        return error;
    }
    vfb->polled = !hv_xenbus_is_set(dev, "feature-update");
    hv_xenbus_write(dev, "request-update", "%d", !vfb->polled);
    begin(vfb);
    return 0;
}

static void disconnect_vfb(struct hv_xenbus_device *dev)
{
    end(vfb_of(dev));
    hv_xenbus_disconnected(dev);
}

static void free_vfb(struct hv_xenbus_device *dev)
{
    struct vfb *vfb = vfb_of(dev);

    hv_loop_remove(vfb->wakeup);
    hv_loop_remove(vfb->poll);
    free(vfb);
}

/* ------------------------------------------------------------------ streams */

struct vfb_state {
    uint64_t page, bytes;
    uint32_t port, out_cons;
    struct layout layout;
    bool polled;
};

static const struct hv_field state_fields[] = {
    HV_FIELD(1, struct vfb_state, page),
    HV_FIELD_MAX(2, struct vfb_state, bytes, VIDEO_KIB_MAX * 1024ull),
    HV_FIELD(3, struct vfb_state, port),
    HV_FIELD(4, struct vfb_state, out_cons),
    HV_FIELD(5, struct vfb_state, layout.width),
    HV_FIELD(6, struct vfb_state, layout.height),
    HV_FIELD(7, struct vfb_state, layout.stride),
    HV_FIELD(8, struct vfb_state, layout.depth),
    HV_FIELD(9, struct vfb_state, layout.offset),
    HV_FIELD_BOOL(10, struct vfb_state, polled),
};

static void encode_vfb(struct hv_xenbus_device *dev, struct hv_encoder *e)
{
    const struct vfb *vfb = vfb_of(dev);
    const struct vfb_state state = {vfb->page.v, vfb->pages.bytes, vfb->port, vfb->out_cons, vfb->layout, vfb->polled};

    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), &state);
    hv_fb_pages_encode(&vfb->pages, e);
}

static int resume(struct vfb *vfb, const struct vfb_state *state, struct hv_decoder *d)
{
    const char *wrong = check_layout(&state->layout, vfb->pages.bytes);

    if (wrong)
        return hv_decode_fail(d, "the framebuffer: %s", wrong);
    if (state->page >= vfb->dev.domain->mem.nr_gfns || !shared_page(vfb))
        return hv_decode_fail(d, "its page is no memory");
    if (show(vfb, &state->layout) || hv_evtchn_backend_bind(vfb->dev.domain, state->port, guest_notified, vfb))
        return hv_decode_fail(d, "its picture or its port cannot be had");
    vfb->port = state->port;
    begin(vfb);
    return 0;
}

static int decode_vfb(struct hv_xenbus_device *dev, struct hv_decoder *d)
{
    struct vfb *vfb = vfb_of(dev);
    struct vfb_state state;
    int error = hv_decode_fields(d, state_fields, HV_ARRAY_LEN(state_fields), &state);

    if (!error && state.bytes > (uint64_t)vfb->video_kib * 1024)
        error = hv_decode_fail(d, "it is larger than video memory");
    if (!error)
        error = hv_fb_pages_decode(d, state.bytes, &vfb->pages);
    if (error)
        return error;
    vfb->page = hv_gfn_of(state.page);
    vfb->out_cons = state.out_cons;
    vfb->polled = state.polled;
    if (hv_xenbus_resumes_connected(dev))
        error = resume(vfb, &state, d);
    if (error || !hv_xenbus_resumes_connected(dev))
        end(vfb);
    return error;
}

static void thaw_vfb(struct hv_xenbus_device *dev)
{
    hv_loop_wake(vfb_of(dev)->wakeup);
}

static const struct hv_xenbus_class vfb_class = {
    .name = "vfb",
    .number = DOMUS_DEVICE_VFB,
    .publish = publish,
    .connect = connect_vfb,
    .disconnect = disconnect_vfb,
    .free = free_vfb,
    .stop = disconnect_vfb,
    .thaw = thaw_vfb,
    .encode = encode_vfb,
    .decode = decode_vfb,
};

int hv_vfb_attach(struct hv_domain *d, const struct domus_vfb *config)
{
    struct vfb *vfb;
    int error = -ENOMEM;

    if (config->video_kib == 0 || config->video_kib > VIDEO_KIB_MAX || config->reserved)
        return -EINVAL;
    vfb = calloc(1, sizeof(*vfb));
    if (!vfb)
        return -ENOMEM;
    vfb->video_kib = config->video_kib;
    vfb->wakeup = hv_loop_add_wakeup(d->loop, serve, vfb);
    vfb->poll = hv_loop_add_timer(d->loop, poll_all, vfb);
    if (vfb->wakeup && vfb->poll)
        error = hv_xenbus_add(d, &vfb_class, HV_FB_DEVID, &vfb->dev);
    if (!error)
        return 0;
    if (vfb->wakeup)
        hv_loop_remove(vfb->wakeup);
    if (vfb->poll)
        hv_loop_remove(vfb->poll);
    free(vfb);
    return error;
}
