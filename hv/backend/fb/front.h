/* For tests of framebuffer and keyboard: the frontends without a guest, on a store of their own, and who looks at them. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/backend/fb/display.h"
#include "hv/backend/fb/fb.h"
#include "hv/backend/xenbus.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/test-domain.h"
#include "hv/store/client.h"
#include "hv/store/domain-nodes.h"
#include "hv/store/server.h"
#include "hv/store/transaction.h"

#define FRONT_TABLE   0x80u  /* gfn of the grant table */
#define FRONT_FB      0x90u  /* of the framebuffer's shared page */
#define FRONT_LIST    0x91u  /* of the list of its pages */
#define FRONT_KBD     0x98u  /* of the keyboard's page */
#define FRONT_KBD_REF 8u
#define FRONT_PIXELS  0x200u /* of the framebuffer's pages */
#define FRONT_VIDEO   256u   /* KiB */

struct front {
    struct hv_loop *loop;
    struct hv_loop_source *quit, *timer;
    struct hv_xs xs;
    struct hv_xs_server *server;
    struct hv_store_client *store; /* as the guest */
    struct hv_domain *d;
    uint32_t fb_port, kbd_port;
    int peer; /* the other end of the display's channel */
    char state;
};

static struct front front;

static void front_quit(void *opaque)
{
    (void)opaque;
    hv_loop_quit(front.loop);
}

/* Lets everything happen that can. */
__attribute__((unused)) static void front_pump(void)
{
    for (unsigned i = 0; i < 40; i++) {
        hv_loop_wake(front.quit);
        hv_loop_run(front.loop);
    }
}

__attribute__((unused)) static void front_run_ms(unsigned ms)
{
    hv_loop_arm(front.timer, hv_loop_now() + ms * 1000000ull);
    hv_loop_run(front.loop);
}

static int front_connect_store(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) ||
        hv_xs_server_add(front.server, ends[1], 7, false))
        abort();
    return ends[0];
}

/* A node of the toolstack's that the domain may write. */
static void front_put(struct hv_xs_tx *tx, const char *path, const char *value)
{
    const struct hv_xs_perm perms[] = {{0, 0}, {7, HV_XS_READ | HV_XS_WRITE}};

    if (hv_xs_tx_write(tx, path, value, strlen(value)) || hv_xs_tx_set_perms(tx, path, perms, 2))
        abort();
}

static void front_make_nodes(const char *class)
{
    static const struct hv_xs_who dom0 = {.privileged = true, .target = -1};
    struct hv_xs_tx *tx;
    char path[128];

    if (hv_xs_tx_new(&front.xs, &dom0, &tx))
        abort();
    snprintf(path, sizeof(path), "/local/domain/0/backend/%s/7/0", class);
    front_put(tx, path, "");
    snprintf(path, sizeof(path), "/local/domain/7/device/%s/0", class);
    front_put(tx, path, "");
    snprintf(path, sizeof(path), "/local/domain/7/device/%s/0/state", class);
    front_put(tx, path, "1");
    if (hv_xs_tx_commit(tx))
        abort();
    hv_xs_tx_free(tx);
}

__attribute__((unused)) static void front_write(const char *class, const char *key, const char *value)
{
    char path[128];

    snprintf(path, sizeof(path), "/local/domain/7/device/%s/0/%s", class, key);
    if (hv_store_client_write(front.store, path, value, NULL, NULL))
        abort();
}

__attribute__((unused)) static void front_number(const char *class, const char *key, unsigned long long value)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", value);
    front_write(class, key, text);
}

static void front_state_read(void *opaque, int error, const char *value, size_t bytes)
{
    (void)opaque;
    front.state = error || bytes != 1 ? '?' : value[0];
    hv_loop_quit(front.loop);
}

/* The backend's state. */
__attribute__((unused)) static char front_state(const char *class)
{
    char path[128];

    snprintf(path, sizeof(path), "/local/domain/0/backend/%s/7/0/state", class);
    front.state = 0;
    if (hv_store_client_read(front.store, path, front_state_read, NULL))
        abort();
    while (!front.state)
        hv_loop_run(front.loop);
    return front.state;
}

__attribute__((unused)) static bool front_wait_state(const char *class, char state)
{
    for (int i = 0; i < 2000 && front_state(class) != state; i++)
        front_run_ms(1);
    return front_state(class) == state;
}

/* ------------------------------------------------------------------ the framebuffer */

static struct xenfb_page *front_fb(void)
{
    return test_at(front.d, FRONT_FB << 12);
}

__attribute__((unused)) static uint8_t *front_pixels(void)
{
    return test_at(front.d, FRONT_PIXELS << 12);
}

/* The shared page of a framebuffer without gaps. */
__attribute__((unused)) static void front_layout(unsigned width, unsigned height, unsigned depth)
{
    struct xenfb_page *page = front_fb();
    uint64_t *list = test_at(front.d, FRONT_LIST << 12);

    memset(page, 0, sizeof(*page));
    page->width = (int32_t)width;
    page->height = (int32_t)height;
    page->depth = (uint8_t)depth;
    page->line_length = width * depth / 8;
    page->mem_length = page->line_length * height;
    page->pd[0] = FRONT_LIST;
    for (unsigned i = 0; i < 512; i++)
        list[i] = FRONT_PIXELS + i;
}

static void front_notify(uint32_t port)
{
    struct evtchn_send send = {.port = port};

    test_op(front.d->vcpus[0], __HYPERVISOR_event_channel_op, EVTCHNOP_send, &send, sizeof(send));
}

__attribute__((unused)) static void front_fb_event(const union xenfb_out_event *event)
{
    struct xenfb_page *page = front_fb();

    XENFB_OUT_RING_REF(page, page->out_prod) = *event;
    page->out_prod++;
    front_notify(front.fb_port);
    front_pump();
}

__attribute__((unused)) static void front_update(int x, int y, int width, int height)
{
    union xenfb_out_event event = {.update = {XENFB_TYPE_UPDATE, x, y, width, height}};

    front_fb_event(&event);
}

/* Says what a frontend says. */
__attribute__((unused)) static void front_fb_say(void)
{
    if (hv_evtchn_alloc_unbound(front.d, &front.fb_port))
        abort();
    front_number("vfb", "page-ref", FRONT_FB);
    front_number("vfb", "event-channel", front.fb_port);
    front_write("vfb", "protocol", XEN_IO_PROTO_ABI_X86_64);
    front_write("vfb", "feature-update", "1");
    front_write("vfb", "state", "3");
}

__attribute__((unused)) static bool front_fb_connect(unsigned width, unsigned height, unsigned depth)
{
    front_layout(width, height, depth);
    front_fb_say();
    return front_wait_state("vfb", '4');
}

/* The guest's driver goes, and comes again. */
__attribute__((unused)) static bool front_close(const char *class)
{
    front_write(class, "state", "6");
    if (!front_wait_state(class, '6'))
        return false;
    front_write(class, "state", "1");
    return front_wait_state(class, '2');
}

/* ------------------------------------------------------------------ keyboard and pointer */

static struct xenkbd_page *front_kbd(void)
{
    return test_at(front.d, FRONT_KBD << 12);
}

__attribute__((unused)) static bool front_kbd_connect(const char *request)
{
    memset(front_kbd(), 0, 4096);
    if (hv_evtchn_alloc_unbound(front.d, &front.kbd_port))
        abort();
    front_number("vkbd", "page-gref", FRONT_KBD_REF);
    front_number("vkbd", "event-channel", front.kbd_port);
    if (request)
        front_write("vkbd", request, "1");
    front_write("vkbd", "state", "3");
    return front_wait_state("vkbd", '4');
}

/* The next event; type 0: there is none. */
__attribute__((unused)) static union xenkbd_in_event front_kbd_event(void)
{
    struct xenkbd_page *page = front_kbd();
    union xenkbd_in_event event = {0};

    front_pump();
    if (page->in_cons == page->in_prod)
        return event;
    event = XENKBD_IN_RING_REF(page, page->in_cons);
    page->in_cons++;
    front_notify(front.kbd_port);
    return event;
}

/* ------------------------------------------------------------------ who looks */

__attribute__((unused)) static void front_open_channel(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) ||
        hv_display_attach(front.d, ends[0]))
        abort();
    front.peer = ends[1];
}

__attribute__((unused)) static void front_tell(uint32_t type, int32_t a, int32_t b, int32_t c)
{
    const struct hv_display_message message = {type, {a, b, c, 0}};

    if (send(front.peer, &message, sizeof(message), MSG_NOSIGNAL) < 0)
        abort();
    front_pump();
}

/* The next message, type 0 for none; *@fd is -1 without a descriptor. */
__attribute__((unused)) static struct hv_display_message front_hear(int *fd)
{
    struct hv_display_message message = {0};
    struct iovec iov = {&message, sizeof(message)};
    char control[CMSG_SPACE(sizeof(int))];
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};

    *fd = -1;
    front_pump();
    if (recvmsg(front.peer, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(message))
        return (struct hv_display_message){0};
    if (CMSG_FIRSTHDR(&header))
        memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(*fd));
    return message;
}

/* ------------------------------------------------------------------ all of it */

__attribute__((unused)) static void front_new(void)
{
    const struct hv_store_domain nodes = {.domid = 7, .name = "front", .nr_vcpus = 1};
    const struct domus_vfb vfb = {.video_kib = FRONT_VIDEO};
    struct grant_entry_v1 *grants;

    memset(&front, 0, sizeof(front));
    if (hv_loop_new(&front.loop) || hv_xs_init(&front.xs) || hv_xs_write_domain_nodes(&front.xs, &nodes) ||
        hv_xs_server_new(front.loop, &front.xs, &front.server) || hv_store_client_new(front.loop, &front.store) ||
        hv_store_client_attach(front.store, front_connect_store()))
        abort();
    front.quit = hv_loop_add_wakeup(front.loop, front_quit, NULL);
    front.timer = hv_loop_add_timer(front.loop, front_quit, NULL);
    front.d = test_domain_new(front.loop, 1);
    if (!front.quit || !front.timer || !front.d || hv_xenbus_attach_store(front.d, front_connect_store()) ||
        hv_physmap_add(front.d, XENMAPSPACE_grant_table, 0, hv_gfn_of(FRONT_TABLE)))
        abort();
    grants = test_at(front.d, FRONT_TABLE << 12);
    grants[FRONT_KBD_REF] = (struct grant_entry_v1){GTF_permit_access, 0, FRONT_KBD};
    front_make_nodes("vfb");
    front_make_nodes("vkbd");
    if (hv_vfb_attach(front.d, &vfb) || hv_vkbd_attach(front.d))
        abort();
    front.peer = -1;
}

__attribute__((unused)) static void front_free(void)
{
    hv_domain_free(front.d);
    hv_store_client_free(front.store);
    hv_xs_server_free(front.server);
    hv_xs_fini(&front.xs);
    hv_loop_remove(front.quit);
    hv_loop_remove(front.timer);
    hv_loop_free(front.loop);
    if (front.peer >= 0)
        close(front.peer);
}
