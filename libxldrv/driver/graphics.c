/* Procedures about what a domain shows, and keys sent to it. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/driver/display.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/keycodes.h"
#include "libxldrv/driver/wire.h"

#define MIME_TYPE    "image/x-portable-pixmap"
#define HOLD_MS      100 /* QEMU's, where none is asked for */
#define MAX_HOLD_MS  60000
#define PIXEL_BYTES  4 /* red, green, blue, 0 */

/* What runs of the domain of a call. FALSE with an error: nothing does. */
typedef struct {
    XldrvDomain *domain;
    XldrvInstance *instance;
    XmlconfDomain *config;
} Running;

static void running_clear(Running *running)
{
    g_clear_pointer(&running->config, xmlconf_domain_unref);
    g_clear_pointer(&running->instance, xldrv_instance_unref);
    g_clear_pointer(&running->domain, xldrv_domain_unref);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Running, running_clear)

static gboolean find_running(GVariant *args, Running *running, GError **error)
{
    running->domain = xldrv_args_domain(args, error);
    running->instance = running->domain ? xldrv_domain_get_instance(running->domain, error) : NULL;
    running->config = running->instance ? xldrv_domain_get_config(running->domain, FALSE) : NULL;
    return running->config != NULL;
}

static gboolean has_any(const GPtrArray *list)
{
    return list && list->len > 0;
}

/* ---- screenshot */

typedef struct {
    int fd;
    struct domus_picture picture;
    int rc;
} Shot;

static int take(struct domctl *ctl, gpointer data)
{
    Shot *shot = data;

    shot->rc = domctl_display_write(ctl, shot->fd, &shot->picture);
    return shot->rc == -ENODATA ? 0 : shot->rc;
}

static int make_file(const char *name, GError **error)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make a file for a picture: %s", g_strerror(errno));
    return fd;
}

static gboolean write_all(int fd, const guint8 *bytes, gsize count)
{
    while (count) {
        gssize done = write(fd, bytes, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return FALSE;
        bytes += done;
        count -= (gsize)done;
    }
    return TRUE;
}

/* Rows of pixels of four bytes become rows of three. */
static gboolean write_rows(int to, const guint8 *pixels, const struct domus_picture *picture)
{
    g_autofree guint8 *row = g_malloc((gsize)picture->width * 3);

    for (guint y = 0; y < picture->height; y++) {
        for (guint x = 0; x < picture->width; x++)
            memcpy(row + (gsize)x * 3, pixels + ((gsize)y * picture->width + x) * PIXEL_BYTES, 3);
        if (!write_all(to, row, (gsize)picture->width * 3))
            return FALSE;
    }
    return TRUE;
}

/* A portable pixmap of the picture in @from, from its start; @from is as large as the hypervisor said, or that fails. */
static gboolean convert(int from, int to, const struct domus_picture *picture)
{
    gsize bytes = (gsize)picture->width * picture->height * PIXEL_BYTES;
    g_autofree char *header = g_strdup_printf("P6\n%u %u\n255\n", picture->width, picture->height);
    gboolean ok = lseek(from, 0, SEEK_END) == (off_t)bytes && bytes > 0;
    guint8 *pixels = ok ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, from, 0) : MAP_FAILED;

    if (pixels == MAP_FAILED)
        return FALSE;
    ok = write_all(to, (const guint8 *)header, strlen(header)) && write_rows(to, pixels, picture);
    munmap(pixels, bytes);
    return ok && lseek(to, 0, SEEK_SET) == 0;
}

static gboolean shoot(XldrvInstance *instance, int pixels, int pixmap, GError **error)
{
    Shot shot = {.fd = pixels};

    if (!xldrv_instance_control(instance, "take a picture of", take, &shot, error))
        return FALSE;
    if (shot.rc == -ENODATA)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the guest shows nothing (yet)");
    return convert(pixels, pixmap, &shot.picture) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot write the picture: %s", g_strerror(errno));
}

/* For reading alone, so that the stream has one direction. */
static int reopen(int fd, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    int again = open(path, O_RDONLY | O_CLOEXEC);

    if (again < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot read the picture: %s", g_strerror(errno));
    return again;
}

static int take_screenshot(XldrvInstance *instance, GError **error)
{
    int pixels = make_file("pixels", error), pixmap = pixels >= 0 ? make_file("pixmap", error) : -1, fd = -1;

    if (pixmap >= 0 && shoot(instance, pixels, pixmap, error))
        fd = reopen(pixmap, error);
    if (pixels >= 0)
        close(pixels);
    if (pixmap >= 0)
        close(pixmap);
    return fd;
}

static void nothing_more(XldrvStream *stream G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
}

GVariant *xldrv_handle_domain_screenshot(XldrvCall *call, GVariant *args, GError **error)
{
    guint screen = xldrv_args_u32(args, 1);
    g_auto(Running) running = {0};
    int fd;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error) || !find_running(args, &running, error))
        return NULL;
    if (!has_any(xmlconf_domain_config(running.config)->videos)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "the domain has no framebuffer to take a picture of");
        return NULL;
    }
    if (screen != 0) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the domain has one screen, so there is no screen %u", screen);
        return NULL;
    }
    fd = take_screenshot(running.instance, error);
    if (fd < 0)
        return NULL;
    xldrv_stream_unref(xldrv_stream_new_fd(call, fd, nothing_more, NULL));
    return g_variant_new("(ms)", MIME_TYPE);
}

/* ---- keys */

typedef struct {
    struct domus_vkbd_keys keys;
    int rc;
} Keys;

static int send_keys(struct domctl *ctl, gpointer data)
{
    Keys *keys = data;

    keys->rc = domctl_vkbd_send(ctl, &keys->keys);
    return keys->rc == -ENOTCONN ? 0 : keys->rc;
}

static gboolean read_keys(GVariant *args, struct domus_vkbd_keys *out, GError **error)
{
    guint codeset = xldrv_args_u32(args, 1), hold_ms = xldrv_args_u32(args, 2);
    g_autoptr(GVariant) codes = g_variant_get_child_value(args, 3);
    gsize n = g_variant_n_children(codes);

    if (codeset > VIR_KEYCODE_SET_QNUM)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "there is no set %u of key codes", codeset);
    if (hold_ms > MAX_HOLD_MS)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "keys are held for %u ms at most, not %u", MAX_HOLD_MS,
                               hold_ms);
    if (n == 0 || n > DOMUS_VKBD_KEYS_MAX)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "1 to %u keys can be sent at once", DOMUS_VKBD_KEYS_MAX);
    *out = (struct domus_vkbd_keys){.count = (guint32)n, .hold_ms = hold_ms ? hold_ms : HOLD_MS};
    for (gsize i = 0; i < n; i++) {
        guint32 code;

        g_variant_get_child(codes, i, "u", &code);
        out->keys[i] = (guint16)xldrv_keycode_to_linux(codeset, code);
        if (!out->keys[i])
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "there is no key with code %u (%#x) in that set", code,
                                   code);
    }
    return TRUE;
}

GVariant *xldrv_handle_domain_send_key(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_auto(Running) running = {0};
    Keys keys = {0};

    if (!xldrv_check_flags(xldrv_args_u32(args, 4), 0, G_STRFUNC, error) || !find_running(args, &running, error))
        return NULL;
    if (!xmlconf_has_input(xmlconf_domain_config(running.config), TRUE)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                        "the domain has no keyboard to send keys from: it has a console");
        return NULL;
    }
    if (!read_keys(args, &keys.keys, error) ||
        !xldrv_instance_control(running.instance, "send keys to", send_keys, &keys, error))
        return NULL;
    if (keys.rc == -ENOTCONN) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the guest does not listen to its keyboard (yet)");
        return NULL;
    }
    return xldrv_reply_void();
}

/* ---- VNC clients that come through us */

#define OPEN_FLAGS VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH

static gboolean open_graphics(GVariant *args, int fd, GError **error)
{
    guint index = xldrv_args_u32(args, 1), flags = xldrv_args_u32(args, 2);
    g_auto(Running) running = {0};

    if (!xldrv_check_flags(flags, OPEN_FLAGS, G_STRFUNC, error) || !find_running(args, &running, error))
        return FALSE;
    if (index != 0 || !has_any(xmlconf_domain_config(running.config)->graphics))
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "No graphics backend with index %u", index);
    return xldrv_display_add_client(xldrv_driver_get(), running.domain->uuid_text, fd, (flags & OPEN_FLAGS) != 0, error);
}

GVariant *xldrv_handle_domain_open_graphics(XldrvCall *call, GVariant *args, GError **error)
{
    guint n = 0;
    const int *fds = xldrv_call_fds(call, &n);

    if (n != 1) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "one descriptor is needed for a VNC client, not %u", n);
        return NULL;
    }
    return open_graphics(args, fds[0], error) ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_open_graphics_fd(XldrvCall *call, GVariant *args, GError **error)
{
    int pair[2];
    gboolean ok;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make a socket: %s", g_strerror(errno));
        return NULL;
    }
    ok = open_graphics(args, pair[1], error);
    close(pair[1]);
    if (!ok) {
        close(pair[0]);
        return NULL;
    }
    xldrv_call_return_fd(call, pair[0]);
    return xldrv_reply_void();
}
