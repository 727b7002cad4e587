/* The picture of a domain and its channel.
 *
 * Two rectangles are on their way: damage, which the source told and nobody has copied yet, and changed, which is in the
 * surface and the peer does not know of. Both only grow until they are worked off, so neither a guest that draws all the
 * time nor a peer that does not read costs more than one copy each COPY_NS, and nothing is ever queued.
 */
#include "config.h"

#include "hv/backend/fb/display.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/hv.h"
#include "hv/loop.h"

#define COPY_NS          16000000ull /* as often as a screen is drawn */
#define MESSAGES_AT_ONCE 64u         /* of the peer, before others have their turn */
#define PIXEL_BYTES      4u

/* Pixels [x1, x2) of rows [y1, y2); empty where x1 >= x2. */
struct rect {
    uint32_t x1, y1, x2, y2;
};

struct hv_display {
    struct hv_domain *domain;
    struct hv_display_source source;
    struct hv_display_input input;
    struct rect damage, changed;

    int surface_fd; /* -1: no surface, which is while there is no source or no channel */
    uint32_t *pixels;
    size_t surface_bytes;
    uint32_t *row; /* of the source's width */

    int fd; /* the channel, -1: none */
    struct hv_loop_source *channel, *timer;
    bool watched;      /* somebody looks */
    bool tell_surface; /* the peer does not have it yet, or has one that is gone */
    bool full;         /* the peer has to read before it can be told more */
    bool armed;
    uint64_t copied_ns;
    uint8_t pressed[(KEY_CNT + 7) / 8]; /* keys that the peer holds down */
};

static const struct rect empty;

static bool is_empty(const struct rect *r)
{
    return r->x1 >= r->x2;
}

static uint32_t min(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void grow(struct rect *r, const struct rect *by)
{
    if (is_empty(r))
        *r = *by;
    else if (!is_empty(by))
        *r = (struct rect){min(r->x1, by->x1), min(r->y1, by->y1), max(r->x2, by->x2), max(r->y2, by->y2)};
}

static struct rect whole(const struct hv_display *display)
{
    return (struct rect){0, 0, display->source.width, display->source.height};
}

/* ------------------------------------------------------------------ the surface */

static void drop_surface(struct hv_display *display)
{
    if (display->pixels)
        munmap(display->pixels, display->surface_bytes);
    if (display->surface_fd >= 0)
        close(display->surface_fd);
    free(display->row);
    display->pixels = display->row = NULL;
    display->surface_fd = -1;
    display->changed = empty;
}

/* Its size is sealed, so that the peer need not fear for its mapping, and others can only read it. */
static int make_surface(struct hv_display *display)
{
    size_t pixels = (size_t)display->source.width * display->source.height;
    void *map = MAP_FAILED;

    display->surface_bytes = pixels * PIXEL_BYTES;
    display->row = malloc((size_t)display->source.width * PIXEL_BYTES);
    display->surface_fd = memfd_create("domus-display", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (display->row && display->surface_fd >= 0 && ftruncate(display->surface_fd, (off_t)display->surface_bytes) == 0)
        map = mmap(NULL, display->surface_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, display->surface_fd, 0);
    if (map == MAP_FAILED ||
        fcntl(display->surface_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0) {
        if (map != MAP_FAILED)
            munmap(map, display->surface_bytes);
        drop_surface(display);
        return -ENOMEM;
    }
    display->pixels = map;
    display->damage = whole(display);
    return 0;
}

/* A surface for what is to be seen, if there is somebody to show it to. */
static int renew_surface(struct hv_display *display)
{
    int error = 0;

    drop_surface(display);
    display->tell_surface = true;
    if (display->source.width && display->fd >= 0)
        error = make_surface(display);
    if (error)
        hv_log_guest(display->domain, HV_LOG_ERROR, "a surface of %u x %u pixels: out of memory", display->source.width,
                     display->source.height);
    return error;
}

/* What only seems to have changed, as guests redraw a lot, is not told. */
static void copy_damage(struct hv_display *display)
{
    struct rect r = display->damage;
    size_t bytes = (size_t)(r.x2 - r.x1) * PIXEL_BYTES;

    display->damage = empty;
    display->copied_ns = hv_loop_now();
    for (uint32_t y = r.y1; y < r.y2; y++) {
        uint32_t *to = display->pixels + (size_t)y * display->source.width + r.x1;

        display->source.read_row(display->source.opaque, r.x1, y, r.x2 - r.x1, display->row);
        if (memcmp(to, display->row, bytes) == 0)
            continue;
        memcpy(to, display->row, bytes);
        grow(&display->changed, &(struct rect){r.x1, y, r.x2, y + 1});
    }
}

/* ------------------------------------------------------------------ telling the peer */

static void close_channel(struct hv_display *display);

/* False: not now, or never again. */
static bool send_message(struct hv_display *display, const struct hv_display_message *message, int fd)
{
    struct iovec iov = {(void *)(uintptr_t)message, sizeof(*message)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        header.msg_control = &control;
        header.msg_controllen = sizeof(control);
    }
    if (sendmsg(display->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return true;
    display->full = errno == EAGAIN || errno == EINTR || errno == ENOBUFS;
    if (!display->full)
        close_channel(display);
    return false;
}

static void tell_surface(struct hv_display *display)
{
    const struct hv_display_message message = {
        .type = HV_DISPLAY_SURFACE,
        .value = {display->pixels ? (int32_t)display->source.width : 0,
                  display->pixels ? (int32_t)display->source.height : 0},
    };

    if (send_message(display, &message, display->surface_fd))
        display->tell_surface = false;
}

static void tell_changed(struct hv_display *display)
{
    const struct rect *r = &display->changed;
    const struct hv_display_message message = {
        .type = HV_DISPLAY_DAMAGE,
        .value = {(int32_t)r->x1, (int32_t)r->y1, (int32_t)(r->x2 - r->x1), (int32_t)(r->y2 - r->y1)},
    };

    if (send_message(display, &message, -1))
        display->changed = empty;
}

static void choose_events(struct hv_display *display)
{
    if (display->channel && hv_loop_set_events(display->channel, EPOLLIN | (display->full ? EPOLLOUT : 0)))
        close_channel(display);
}

/* Works off what can be. */
static void update(struct hv_display *display)
{
    uint64_t due = display->copied_ns + COPY_NS;
    bool wanted = display->watched && display->pixels && !is_empty(&display->damage);

    if (display->fd < 0)
        return;
    if (wanted && hv_loop_now() >= due) {
        copy_damage(display);
    } else if (wanted && !display->armed) {
        display->armed = true;
        hv_loop_arm(display->timer, due);
    }
    if (!display->full && display->tell_surface)
        tell_surface(display);
    if (display->fd >= 0 && !display->full && !display->tell_surface && !is_empty(&display->changed))
        tell_changed(display);
    choose_events(display);
}

static void copy_due(void *opaque)
{
    struct hv_display *display = opaque;

    display->armed = false;
    update(display);
}

/* ------------------------------------------------------------------ hearing from it */

static void pass_key(struct hv_display *display, uint32_t key, bool pressed)
{
    uint8_t *byte = &display->pressed[key / 8], bit = (uint8_t)(1u << key % 8);

    *byte = pressed ? *byte | bit : *byte & (uint8_t)~bit;
    if (display->input.key)
        display->input.key(display->input.opaque, key, pressed);
}

/* Nobody holds them any more. */
static void release_keys(struct hv_display *display)
{
    for (uint32_t key = 0; key < KEY_CNT; key++)
        if (display->pressed[key / 8] >> key % 8 & 1)
            pass_key(display, key, false);
}

static int32_t clamp(int32_t at, uint32_t side)
{
    return at < 0 ? 0 : (uint32_t)at >= side ? (int32_t)side - 1 : at;
}

static void pass_move(struct hv_display *display, const int32_t value[4])
{
    int32_t wheel = value[2] < -1 ? -1 : value[2] > 1 ? 1 : value[2];

    if (display->input.move && display->source.width)
        display->input.move(display->input.opaque, clamp(value[0], display->source.width),
                            clamp(value[1], display->source.height), wheel);
}

static void handle(struct hv_display *display, const struct hv_display_message *message)
{
    switch (message->type) {
    case HV_DISPLAY_WATCH:
        display->watched = message->value[0] != 0;
        break;
    case HV_DISPLAY_KEY:
        if (message->value[0] >= 0 && message->value[0] < KEY_CNT)
            pass_key(display, (uint32_t)message->value[0], message->value[1] != 0);
        break;
    case HV_DISPLAY_MOVE:
        pass_move(display, message->value);
        break;
    }
}

static void read_messages(struct hv_display *display)
{
    for (unsigned i = 0; i < MESSAGES_AT_ONCE; i++) {
        struct hv_display_message message;
        ssize_t got = recv(display->fd, &message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got != sizeof(message)) {
            close_channel(display);
            return;
        }
        handle(display, &message);
    }
}

static void channel_ready(void *opaque, int fd, uint32_t events)
{
    struct hv_display *display = opaque;

    (void)fd;
    display->full = display->full && !(events & EPOLLOUT);
    if (events & EPOLLIN)
        read_messages(display);
    else if (events & (EPOLLHUP | EPOLLERR))
        close_channel(display);
    update(display);
}

static void close_channel(struct hv_display *display)
{
    if (display->fd < 0)
        return;
    hv_loop_remove(display->channel);
    close(display->fd);
    display->channel = NULL;
    display->fd = -1;
    display->watched = display->full = false;
    release_keys(display);
    drop_surface(display);
}

/* ------------------------------------------------------------------ from outside */

int hv_display_attach(struct hv_domain *d, int fd)
{
    struct hv_display *display = d->display;
    struct hv_loop_source *channel = hv_loop_add_fd(d->loop, fd, EPOLLIN, channel_ready, display);

    if (!channel)
        return -ENOMEM;
    close_channel(display);
    display->fd = fd;
    display->channel = channel;
    (void)renew_surface(display); /* without, the peer is told that there is none */
    update(display);
    return 0;
}

int hv_display_set_source(struct hv_domain *d, const struct hv_display_source *source)
{
    struct hv_display *display = d->display;
    int error;

    display->source = *source;
    display->damage = empty;
    error = renew_surface(display);
    if (error)
        display->source = (struct hv_display_source){0};
    update(display);
    return error;
}

void hv_display_clear_source(struct hv_domain *d)
{
    struct hv_display *display = d->display;

    display->source = (struct hv_display_source){0};
    display->damage = empty;
    drop_surface(display);
    display->tell_surface = true;
    update(display);
}

void hv_display_damage(struct hv_domain *d, int32_t x, int32_t y, int32_t width, int32_t height)
{
    struct hv_display *display = d->display;
    int64_t x2 = (int64_t)x + width, y2 = (int64_t)y + height;
    struct rect r = {
        .x1 = x > 0 ? (uint32_t)x : 0,
        .y1 = y > 0 ? (uint32_t)y : 0,
        .x2 = x2 <= 0 ? 0 : x2 < display->source.width ? (uint32_t)x2 : display->source.width,
        .y2 = y2 <= 0 ? 0 : y2 < display->source.height ? (uint32_t)y2 : display->source.height,
    };

    if (r.x1 >= r.x2 || r.y1 >= r.y2)
        return;
    grow(&display->damage, &r);
    update(display);
}

void hv_display_set_input(struct hv_domain *d, const struct hv_display_input *input)
{
    d->display->input = input ? *input : (struct hv_display_input){0};
}

void hv_display_size(const struct hv_domain *d, uint32_t *width, uint32_t *height)
{
    *width = d->display->source.width;
    *height = d->display->source.height;
}

static int write_all(int fd, const uint8_t *bytes, size_t count)
{
    while (count) {
        ssize_t done = write(fd, bytes, count);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return -EIO;
        bytes += done;
        count -= (size_t)done;
    }
    return 0;
}

int hv_display_write(struct hv_domain *d, int fd)
{
    const struct hv_display_source *source = &d->display->source;
    size_t bytes = (size_t)source->width * PIXEL_BYTES;
    uint32_t *row = source->width ? malloc(bytes) : NULL;
    int error = row ? 0 : source->width ? -ENOMEM : -ENODATA;

    for (uint32_t y = 0; !error && y < source->height; y++) {
        source->read_row(source->opaque, 0, y, source->width, row);
        error = write_all(fd, (const uint8_t *)row, bytes);
    }
    free(row);
    return error;
}

int hv_display_init(struct hv_domain *d)
{
    struct hv_display *display = calloc(1, sizeof(*display));

    if (!display)
        return -ENOMEM;
    display->domain = d;
    display->fd = display->surface_fd = -1;
    display->timer = hv_loop_add_timer(d->loop, copy_due, display);
    if (!display->timer) {
        free(display);
        return -ENOMEM;
    }
    d->display = display;
    return 0;
}

void hv_display_fini(struct hv_domain *d)
{
    if (!d->display)
        return;
    close_channel(d->display);
    drop_surface(d->display);
    hv_loop_remove(d->display->timer);
    free(d->display);
    d->display = NULL;
}
