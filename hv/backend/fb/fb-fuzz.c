/* Hostile frontends of framebuffer and keyboard, and a hostile peer of the display: shared pages full of mostly valid
 * things with something wrong in them, indices that jump, drivers that come and go. Deterministic. Whatever they do, no
 * grant stays in use, memory that is not theirs stays as it was, and the process lives.
 */
#include "config.h"

#include "hv/backend/fb/front.h"
#include "hv/fuzz.h"
#include "hv/hypercall/grant-table.h"
#include "hv/tap.h"

#define ROUNDS  30u
#define WATCHED 0x600u /* gfn of a page that nobody has a reason to write to */

static bool one_in(uint32_t n)
{
    return fuzz_random(n) == 0;
}

static int32_t number(void)
{
    return one_in(6) ? (int32_t)fuzz_edge() : (int32_t)fuzz_random(100) - 10;
}

static void spoil_layout(void)
{
    static const unsigned depths[] = {8, 16, 32, 32, 32, 32, 32, 24};
    struct xenfb_page *page = front_fb();
    uint64_t *list = test_at(front.d, FRONT_LIST << 12);

    front_layout(1 + fuzz_random(80), 1 + fuzz_random(80), depths[fuzz_random(HV_ARRAY_LEN(depths))]);
    if (one_in(20))
        page->mem_length = (uint32_t)fuzz_edge();
    if (one_in(20))
        page->line_length = (uint32_t)fuzz_edge();
    if (one_in(20))
        page->width = number();
    if (one_in(20))
        page->height = number();
    if (one_in(20))
        page->pd[fuzz_random(4)] = fuzz_edge();
    if (one_in(20))
        page->out_cons = (uint32_t)fuzz_edge();
    for (unsigned i = one_in(4) ? 4 : 0; i; i--)
        list[fuzz_random(8)] = fuzz_edge();
}

static void fb_event(void)
{
    struct xenfb_page *page = front_fb();
    union xenfb_out_event event = {.update = {XENFB_TYPE_UPDATE, number(), number(), number(), number()}};

    if (one_in(3))
        event.resize = (struct xenfb_resize){XENFB_TYPE_RESIZE,      (int32_t)fuzz_random(70), (int32_t)fuzz_random(70),
                                             one_in(3) ? number() : 320, one_in(5) ? number() : 32,
                                             one_in(3) ? number() : 0};
    if (one_in(9))
        event.type = (uint8_t)fuzz_random(256);
    XENFB_OUT_RING_REF(page, page->out_prod) = event;
    page->out_prod += one_in(40) ? (uint32_t)fuzz_edge() : 1;
}

static void peer_message(void)
{
    static const uint32_t types[] = {HV_DISPLAY_WATCH, HV_DISPLAY_KEY, HV_DISPLAY_MOVE};
    struct hv_display_message message = {types[fuzz_random(3)], {number(), number(), number(), number()}};

    if (one_in(20))
        message.type = (uint32_t)fuzz_edge();
    if (front.peer >= 0)
        (void)!send(front.peer, &message, one_in(60) ? fuzz_random(sizeof(message)) : sizeof(message), MSG_NOSIGNAL);
}

static void take_messages(void)
{
    int fd;

    while (front.peer >= 0 && front_hear(&fd).type)
        if (fd >= 0)
            close(fd);
}

static void change_peer(void)
{
    if (front.peer >= 0)
        close(front.peer);
    front.peer = -1;
    if (!one_in(4))
        front_open_channel();
}

static void change_driver(void)
{
    const char *class = one_in(2) ? "vfb" : "vkbd";
    char state[2] = {(char)('0' + fuzz_random(9)), 0};

    front_write(class, "state", state);
}

static void connect_all(void)
{
    spoil_layout();
    front_write("vfb", "state", "6");
    front_write("vkbd", "state", "6");
    front_pump();
    front_write("vfb", "state", "1");
    front_write("vkbd", "state", "1");
    front_pump();
    front_fb_say();
    if (hv_evtchn_alloc_unbound(front.d, &front.kbd_port))
        return;
    front_number("vkbd", one_in(3) ? "page-ref" : "page-gref",
                 one_in(6) ? fuzz_edge() : one_in(2) ? FRONT_KBD_REF : FRONT_KBD);
    front_number("vkbd", "event-channel", one_in(9) ? (uint32_t)fuzz_edge() : front.kbd_port);
    front_write("vkbd", "request-abs-pointer", one_in(2) ? "1" : "0");
    front_write("vkbd", "state", "3");
    front_pump();
}

static void play(void)
{
    const struct domus_vkbd_keys keys = {.count = 1, .hold_ms = fuzz_random(3), .keys = {KEY_A}};

    for (unsigned i = 0; i < 60; i++) {
        fb_event();
        front_notify(front.fb_port);
        peer_message();
        if (one_in(4))
            front_kbd()->in_cons = one_in(3) ? (uint32_t)fuzz_edge() : front_kbd()->in_prod;
        if (one_in(5))
            front_notify(front.kbd_port);
        if (one_in(10) && hv_vkbd_send(front.d, &keys) < 0)
            take_messages();
        if (one_in(12))
            change_peer();
        if (one_in(25))
            change_driver();
        if (one_in(3))
            front_run_ms(1);
        if (one_in(6))
            take_messages();
    }
}

int main(void)
{
    unsigned intact = 0, held = 0, connected = 0, closed = 0;
    uint8_t kept[4096];

    hv_log_set_level(HV_LOG_ERROR);
    for (unsigned round = 0; round < ROUNDS; round++) {
        fuzz_seed(round + 1);
        front_new();
        for (unsigned i = 0; i < sizeof(kept); i++)
            kept[i] = (uint8_t)fuzz_random(256);
        memcpy(test_at(front.d, WATCHED << 12), kept, sizeof(kept));
        change_peer();
        for (unsigned i = 0; i < 4; i++) {
            connect_all();
            connected += front_state("vfb") == '4';
            play();
            closed += front_state("vfb") == '6';
        }
        intact += !memcmp(test_at(front.d, WATCHED << 12), kept, sizeof(kept));
        hv_xenbus_fini(front.d);
        held += front.d->gnttab->active;
        front_free();
    }
    TAP_OK(intact == ROUNDS, "memory that is not theirs stays as it was");
    TAP_OK(held == 0, "no grant stays in use");
    TAP_OK(connected > 2 * ROUNDS, "frontends connected: %u", connected);
    TAP_OK(closed > 0 && closed < 4 * ROUNDS, "some were stopped: %u", closed);
    return tap_done();
}
