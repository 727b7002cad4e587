/* Framebuffer, keyboard and display. Facts: xen/io/fbif.h, xen/io/kbdif.h, and hv/hv.h for the channel. */
#include "config.h"

#include "hv/backend/fb/front.h"
#include "hv/tap.h"

#define WIDTH  64u
#define HEIGHT 48u

/* What the peer has. */
static uint32_t *surface;
static size_t surface_bytes;

static bool hears_surface(unsigned width, unsigned height)
{
    int fd;
    struct hv_display_message message = front_hear(&fd);

    if (surface)
        munmap(surface, surface_bytes);
    surface = NULL;
    surface_bytes = (size_t)width * height * 4;
    if (fd >= 0) {
        surface = mmap(NULL, surface_bytes, PROT_READ, MAP_SHARED, fd, 0);
        TAP_OK(ftruncate(fd, 0) < 0 && mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED,
               "its size is sealed, and it is for reading");
        close(fd);
    }
    return message.type == HV_DISPLAY_SURFACE && message.value[0] == (int32_t)width &&
           message.value[1] == (int32_t)height && (width == 0) == (surface == NULL);
}

static bool hears_damage(int x, int y, int width, int height)
{
    struct hv_display_message message;
    int fd;

    front_run_ms(40); /* longer than the pause between two copies */
    message = front_hear(&fd);
    return message.type == HV_DISPLAY_DAMAGE && message.value[0] == x && message.value[1] == y &&
           message.value[2] == width && message.value[3] == height && fd < 0;
}

static bool hears_nothing(void)
{
    int fd;

    front_run_ms(40);
    return front_hear(&fd).type == 0;
}

static void fill(uint32_t value)
{
    uint32_t *pixels = (uint32_t *)front_pixels();

    for (unsigned i = 0; i < WIDTH * HEIGHT; i++)
        pixels[i] = value + i;
}

static void test_picture(void)
{
    front_new();
    front_open_channel();
    TAP_OK(hears_surface(0, 0), "at first there is nothing to be seen");
    fill(0xff100000);
    TAP_OK(front_fb_connect(WIDTH, HEIGHT, 32), "a framebuffer connects");
    TAP_OK(hears_surface(WIDTH, HEIGHT), "the peer gets a surface");
    TAP_OK(hears_nothing(), "and hears no more of it while it does not look");
    front_tell(HV_DISPLAY_WATCH, 1, 0, 0);
    TAP_OK(hears_damage(0, 0, WIDTH, HEIGHT) && surface[0] == 0x000010 && surface[WIDTH * HEIGHT - 1] == 0xff0b10,
           "when it looks it gets the whole picture");
    memset(front_pixels() + (10 * WIDTH + 4) * 4, 0xaa, 8);
    front_update(0, 8, WIDTH, 8);
    TAP_OK(hears_damage(0, 10, WIDTH, 1) && surface[10 * WIDTH + 4] == 0xaaaaaa, "then what changed of it");
    front_update(-5, -5, 20, 20);
    TAP_OK(hears_nothing(), "not what was only drawn again");
    front_update(INT32_MAX, 3, INT32_MAX, 3);
    front_update(3, 3, -1, INT32_MIN);
    TAP_OK(front_state("vfb") == '4', "parts that are nowhere do no harm");
    front_free();
}

static void test_late_peer(void)
{
    int file = memfd_create("picture", 0), fd;
    uint32_t pixel = 0;

    front_new();
    TAP_OK(hv_display_write(front.d, file) == -ENODATA, "there is no picture without a frontend");
    fill(7);
    TAP_OK(front_fb_connect(WIDTH, HEIGHT, 32) && hv_display_write(front.d, file) == 0 &&
               lseek(file, 0, SEEK_CUR) == WIDTH * HEIGHT * 4 && pread(file, &pixel, 4, 4 * WIDTH) == 4 &&
               pixel == (7 + WIDTH) << 16,
           "a picture is taken though nobody looks");
    front_open_channel();
    TAP_OK(hears_surface(WIDTH, HEIGHT), "a peer that comes later gets the surface");
    close(front.peer);
    front_pump();
    front_open_channel();
    TAP_OK(hears_surface(WIDTH, HEIGHT), "so does the next");
    TAP_OK(front_close("vfb") && front_hear(&fd).type == HV_DISPLAY_SURFACE, "the frontend goes");
    TAP_OK(front_fb_connect(WIDTH / 2, HEIGHT, 32) && hears_surface(WIDTH / 2, HEIGHT), "and another comes");
    close(file);
    front_free();
}

static void test_resize(void)
{
    union xenfb_out_event event = {.resize = {XENFB_TYPE_RESIZE, WIDTH / 2, HEIGHT / 2, WIDTH * 4, 32, WIDTH * 4}};

    front_new();
    front_open_channel();
    fill(0);
    TAP_OK(front_fb_connect(WIDTH, HEIGHT, 32), "a framebuffer to be resized");
    hears_surface(0, 0);
    hears_surface(WIDTH, HEIGHT);
    front_fb_event(&event);
    front_tell(HV_DISPLAY_WATCH, 1, 0, 0);
    TAP_OK(hears_surface(WIDTH / 2, HEIGHT / 2) && hears_damage(0, 0, WIDTH / 2, HEIGHT / 2) &&
               surface[0] == WIDTH << 16 && surface[WIDTH / 2] == 2 * WIDTH << 16,
           "another size within the same memory, with a stride and an offset");
    event.resize.offset = (int32_t)(WIDTH * HEIGHT * 4);
    front_fb_event(&event);
    TAP_OK(front_wait_state("vfb", '6') && hears_surface(0, 0), "one that does not fit ends it");
    front_free();
}

static void test_depths(void)
{
    static const struct {
        unsigned depth;
        uint32_t value, pixel;
    } rows[] = {{8, 0xe3, 0xff00ff}, {8, 0x1c, 0x00ff00}, {16, 0xf800, 0x0000ff}, {16, 0x07ff, 0xffff00}};

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        uint32_t pixel = 0;
        int file = memfd_create("picture", 0);

        front_new();
        memcpy(front_pixels() + rows[i].depth / 8, &rows[i].value, rows[i].depth / 8);
        TAP_OK(front_fb_connect(WIDTH, HEIGHT, rows[i].depth) && hv_display_write(front.d, file) == 0 &&
                   pread(file, &pixel, 4, 4) == 4 && pixel == rows[i].pixel,
               "pixels of %u bits: %x is %06x", rows[i].depth, rows[i].value, pixel);
        close(file);
        front_free();
    }
}

/* Frontends that cannot be served: their device is closed, and a good one is served after. */
static void too_large(void) { front_fb()->mem_length = FRONT_VIDEO * 1024 + 1; }
static void short_rows(void) { front_fb()->line_length--; }
static void no_width(void) { front_fb()->width = 0; }
static void negative_height(void) { front_fb()->height = -1; }
static void odd_depth(void) { front_fb()->depth = 24; }
static void little_memory(void) { front_fb()->mem_length--; }
static void list_nowhere(void) { front_fb()->pd[0] = ~0ul; }
static void list_in_a_hole(void) { front_fb()->pd[0] = TEST_PAGES + 100; }

static void test_bad_layouts(void)
{
    static const struct {
        const char *what;
        void (*spoil)(void);
    } rows[] = {{"more than video memory", too_large}, {"rows shorter than the width", short_rows},
                {"no width", no_width},                {"a negative height", negative_height},
                {"an odd depth", odd_depth},           {"memory too small", little_memory},
                {"a list beyond memory", list_nowhere}, {"a list in a hole", list_in_a_hole}};

    front_new();
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        front_layout(WIDTH, HEIGHT, 32);
        rows[i].spoil();
        front_fb_say();
        TAP_OK(front_wait_state("vfb", '6'), "refused: %s", rows[i].what);
        front_close("vfb");
    }
    TAP_OK(front_fb_connect(WIDTH, HEIGHT, 32), "a good frontend is served after");
    front_fb()->out_prod += XENFB_OUT_RING_LEN + 1;
    front_notify(front.fb_port);
    TAP_OK(front_wait_state("vfb", '6'), "a ring that holds too much ends it");
    front_free();
}

static void test_pages_nowhere(void)
{
    uint64_t *list;
    uint32_t pixel = 1;
    int file = memfd_create("picture", 0);

    front_new();
    fill(0x010101);
    front_layout(WIDTH, HEIGHT, 32);
    list = test_at(front.d, FRONT_LIST << 12);
    list[0] = ~0ull;
    list[1] = TEST_PAGES + 100;
    front_fb_say();
    TAP_OK(front_wait_state("vfb", '4') && hv_display_write(front.d, file) == 0 && pread(file, &pixel, 4, 0) == 4 &&
               pixel == 0,
           "pages that are no memory are black");
    TAP_OK(pread(file, &pixel, 4, 4096 * 2) == 4 && pixel == 0x010901, "the others are not");
    close(file);
    front_free();
}

/* ------------------------------------------------------------------ keys */

static bool hears_key(uint32_t key, bool pressed)
{
    union xenkbd_in_event event = front_kbd_event();

    return event.type == XENKBD_TYPE_KEY && event.key.keycode == key && event.key.pressed == pressed;
}

static bool hears_move(uint8_t type, int x, int y, int z)
{
    union xenkbd_in_event event = front_kbd_event();

    return event.type == type && event.pos.abs_x == x && event.pos.abs_y == y && event.pos.rel_z == z;
}

static void test_keys(void)
{
    const struct domus_vkbd_keys keys = {.count = 2, .hold_ms = 30, .keys = {KEY_LEFTCTRL, KEY_C}};
    struct domus_vkbd_keys bad = {.count = 1, .keys = {KEY_CNT}};

    front_new();
    front_open_channel();
    TAP_OK(hv_vkbd_send(front.d, &keys) == -ENOTCONN, "keys to nobody are refused");
    TAP_OK(front_kbd_connect(NULL), "a keyboard connects");
    front_tell(HV_DISPLAY_KEY, KEY_A, 1, 0);
    front_tell(HV_DISPLAY_KEY, KEY_A, 0, 0);
    TAP_OK(hears_key(KEY_A, true) && hears_key(KEY_A, false), "a key goes down and up");
    front_tell(HV_DISPLAY_KEY, KEY_CNT, 1, 0);
    front_tell(HV_DISPLAY_KEY, -1, 1, 0);
    front_tell(99, 1, 1, 1);
    TAP_OK(front_kbd_event().type == 0, "what is no key goes nowhere");
    TAP_OK(hv_vkbd_send(front.d, &bad) == -EINVAL, "and is refused to who sends it from outside");
    TAP_OK(hv_vkbd_send(front.d, &keys) == 0 && hears_key(KEY_LEFTCTRL, true) && hears_key(KEY_C, true),
           "keys are pressed in order");
    TAP_OK(front_kbd_event().type == 0, "held");
    front_run_ms(60);
    TAP_OK(hears_key(KEY_C, false) && hears_key(KEY_LEFTCTRL, false), "and released");
    front_tell(HV_DISPLAY_KEY, KEY_LEFTSHIFT, 1, 0);
    TAP_OK(hears_key(KEY_LEFTSHIFT, true), "a key stays down");
    close(front.peer);
    front.peer = -1;
    TAP_OK(hears_key(KEY_LEFTSHIFT, false), "until the peer is gone");
    front_free();
}

static void test_pointer(void)
{
    front_new();
    front_open_channel();
    TAP_OK(front_kbd_connect("request-abs-pointer"), "an absolute pointer");
    front_tell(HV_DISPLAY_MOVE, 5, 5, 0);
    TAP_OK(front_kbd_event().type == 0, "is nowhere without a picture");
    fill(0);
    TAP_OK(front_fb_connect(WIDTH, HEIGHT, 32), "with one");
    front_tell(HV_DISPLAY_MOVE, 5, 6, -1);
    TAP_OK(hears_move(XENKBD_TYPE_POS, 5, 6, -1), "it is where it was put, and the wheel turns");
    front_tell(HV_DISPLAY_MOVE, INT32_MAX, INT32_MIN, 77);
    TAP_OK(hears_move(XENKBD_TYPE_POS, WIDTH - 1, 0, 1), "it stays within");
    TAP_OK(front_close("vkbd") && front_kbd_connect("request-raw-pointer"), "raw");
    front_tell(HV_DISPLAY_MOVE, WIDTH - 1, 0, 0);
    TAP_OK(hears_move(XENKBD_TYPE_POS, 0x7fff, 0, 0), "coordinates of 15 bits");
    front_free();
    front_new();
    front_open_channel();
    TAP_OK(front_fb_connect(WIDTH, HEIGHT, 32) && front_kbd_connect(NULL), "a relative pointer");
    front_tell(HV_DISPLAY_MOVE, 10, 10, 0);
    front_tell(HV_DISPLAY_MOVE, 7, 12, 0);
    TAP_OK(hears_move(XENKBD_TYPE_MOTION, 10, 10, 0) && hears_move(XENKBD_TYPE_MOTION, -3, 2, 0), "goes by steps");
    front_free();
}

static void test_full_ring(void)
{
    unsigned count = 0;

    front_new();
    front_open_channel();
    TAP_OK(front_kbd_connect(NULL), "a guest that does not look at its keyboard");
    for (unsigned i = 0; i < 600; i++)
        front_tell(HV_DISPLAY_KEY, KEY_A, i % 2 == 0, 0);
    TAP_OK(front_kbd()->in_prod == XENKBD_IN_RING_LEN, "has a full ring");
    while (hears_key(KEY_A, count % 2 == 0))
        count++;
    TAP_OK(count == XENKBD_IN_RING_LEN + 256, "then takes what waited: %u", count);
    front_kbd()->in_cons = front_kbd()->in_prod + 12345;
    front_notify(front.kbd_port);
    front_tell(HV_DISPLAY_KEY, KEY_B, 1, 0);
    TAP_OK(front_state("vkbd") == '4', "one that lies about its ring gets nothing");
    front_free();
}

int main(void)
{
    hv_log_set_level(HV_LOG_ERROR);
    test_picture();
    test_late_peer();
    test_resize();
    test_depths();
    test_bad_layouts();
    test_pages_nowhere();
    test_keys();
    test_pointer();
    test_full_ring();
    if (surface)
        munmap(surface, surface_bytes);
    return tap_done();
}
