/* Framebuffer, keyboard and VNC server. */
#include "config.h"

#include "libxldrv/driver/display.h"

#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/run.h"
#include "libxldrv/host/process.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/host/tcp.h"
#include "libxldrv/host/vnc.h"
#include "libxldrv/state/files.h"

#define PROGRAM  "domus-vnc"
#define PROCESS  ".vnc"
#define CONTROL  ".vnc.ctl"
#define LISTENER ".vnc.sock" /* where a socket of our choice is asked for */

#define LOOPBACK        "127.0.0.1"
#define FIRST_PORT      5900
#define FIRST_WEBSOCKET 5700
#define PORTS           1024 /* that are tried */
#define LISTENERS_MAX   2

static char *path_of(XldrvDriver *driver, const char *uuid, const char *suffix)
{
    g_autofree char *name = g_strconcat(uuid, suffix, NULL);

    return xldrv_run_path(driver, name);
}

static XmlconfGraphics *graphics_of(const XmlconfDomainConfig *config)
{
    return config->graphics && config->graphics->len ? config->graphics->pdata[0] : NULL;
}

static XmlconfVideo *video_of(const XmlconfDomainConfig *config)
{
    return config->videos && config->videos->len ? config->videos->pdata[0] : NULL;
}

/* ---- devices of the guest */

static int attach_vfb(struct domctl *ctl, gpointer data)
{
    return domctl_vfb_attach(ctl, data);
}

static int attach_vkbd(struct domctl *ctl, gpointer data G_GNUC_UNUSED)
{
    return domctl_vkbd_attach(ctl);
}

/* Frontends read these before they say anything. */
static gboolean add_nodes(const XldrvDeviceHost *host, const char *kind, const XldrvStoreKey *backend, GError **error)
{
    const XldrvStoreKey none[] = {{NULL, NULL}};
    const XldrvStoreDevice device = {
        .id = xldrv_instance_id(host->instance), .kind = kind, .backend = backend, .frontend = none};

    return xldrv_store_add_device(host->driver->store, &device, error);
}

static gboolean make_framebuffer(const XldrvDeviceHost *host, XmlconfVideo *video, GError **error)
{
    g_autofree char *videoram = g_strdup_printf("%u", video->vram_kib / 1024);
    g_autofree char *width = g_strdup_printf("%u", video->width);
    g_autofree char *height = g_strdup_printf("%u", video->height);
    const XldrvStoreKey keys[] = {
        {"videoram", videoram}, {video->width ? "width" : NULL, width}, {"height", height}, {NULL, NULL}};

    g_free(video->alias);
    video->alias = g_strdup("video0");
    return add_nodes(host, "vfb", keys, error);
}

static gboolean attach_framebuffer(const XldrvDeviceHost *host, XmlconfVideo *video, GError **error)
{
    struct domus_vfb vfb = {.video_kib = video->vram_kib};

    return (xldrv_instance_made(host->instance) || make_framebuffer(host, video, error)) &&
           xldrv_instance_control(host->instance, "attach a framebuffer to", attach_vfb, &vfb, error);
}

static gboolean make_keyboard(const XldrvDeviceHost *host, const XmlconfDomainConfig *config, GError **error)
{
    const XmlconfVideo *video = video_of(config);
    g_autofree char *width = g_strdup_printf("%u", video ? video->width : 0);
    g_autofree char *height = g_strdup_printf("%u", video ? video->height : 0);
    const XldrvStoreKey keys[] = {
        {"feature-abs-pointer", "1"},
        {"feature-raw-pointer", "1"},
        {"feature-disable-keyboard", xmlconf_has_input(config, TRUE) ? "0" : "1"},
        {"feature-disable-pointer", xmlconf_has_input(config, FALSE) ? "0" : "1"},
        {video && video->width ? "width" : NULL, width},
        {"height", height},
        {NULL, NULL},
    };

    for (guint i = 0; i < config->inputs->len; i++) {
        XmlconfInput *input = config->inputs->pdata[i];
        g_free(input->alias);
        input->alias = g_strdup_printf("input%u", i);
    }
    return add_nodes(host, "vkbd", keys, error);
}

static gboolean attach_keyboard(const XldrvDeviceHost *host, const XmlconfDomainConfig *config, GError **error)
{
    return (xldrv_instance_made(host->instance) || make_keyboard(host, config, error)) &&
           xldrv_instance_control(host->instance, "attach a keyboard to", attach_vkbd, NULL, error);
}

/* ---- where clients come to */

typedef struct {
    int fds[2 + LISTENERS_MAX]; /* as libxldrv/vnc/protocol.h counts them */
    guint n_fds;
    int hypervisor; /* the other end of the first; -1: none */
} Ends;

static void ends_clear(Ends *ends)
{
    for (guint i = 0; i < ends->n_fds; i++)
        close(ends->fds[i]);
    if (ends->hypervisor >= 0)
        close(ends->hypervisor);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Ends, ends_clear)

static gboolean add_fd(Ends *ends, int fd)
{
    if (fd >= 0)
        ends->fds[ends->n_fds++] = fd;
    return fd >= 0;
}

static int listen_at(const char *address, int port, GError **error)
{
    g_autofree char *service = g_strdup_printf("%d", port);

    return xldrv_tcp_open(address, service, TRUE, 0, error);
}

/* The first port that is free, which *@port is then. An address that is none is found out before. */
static int listen_at_any(const char *address, int first, int *port, GError **error)
{
    int fd = listen_at(address, 0, error);

    if (fd < 0)
        return -1;
    close(fd);
    for (*port = first; *port < first + PORTS; (*port)++) {
        fd = listen_at(address, *port, NULL);
        if (fd >= 0)
            return fd;
    }
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "no port from %d to %d of '%s' is free for VNC", first,
                    first + PORTS - 1, address);
    return -1;
}

/* A port that a running domain has is kept: clients know it. */
static gboolean open_ports(XmlconfGraphics *graphics, Ends *ends, GError **error)
{
    if (!graphics->address)
        graphics->address = g_strdup(LOOPBACK);
    if (!add_fd(ends, graphics->port > 0 ? listen_at(graphics->address, graphics->port, error)
                                         : listen_at_any(graphics->address, FIRST_PORT, &graphics->port, error)))
        return FALSE;
    if (!graphics->websocket)
        return TRUE;
    if (graphics->websocket > 0)
        graphics->websocket_port = graphics->websocket;
    return add_fd(ends, graphics->websocket_port > 0
                            ? listen_at(graphics->address, graphics->websocket_port, error)
                            : listen_at_any(graphics->address, FIRST_WEBSOCKET, &graphics->websocket_port, error));
}

static gboolean open_listeners(const XldrvDeviceHost *host, XmlconfGraphics *graphics, Ends *ends, GError **error)
{
    switch (graphics->listen) {
    case XMLCONF_LISTEN_NONE:
        return TRUE;
    case XMLCONF_LISTEN_SOCKET:
        if (!graphics->socket)
            graphics->socket = path_of(host->driver, host->uuid, LISTENER);
        return add_fd(ends, xldrv_socket_listen_stream(graphics->socket, error));
    default:
        return open_ports(graphics, ends, error);
    }
}

static gboolean open_ends(const XldrvDeviceHost *host, XmlconfGraphics *graphics, Ends *ends, GError **error)
{
    g_autofree char *control = path_of(host->driver, host->uuid, CONTROL);
    int pair[2];

    ends->hypervisor = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make a socket: %s", g_strerror(errno));
    ends->hypervisor = pair[0];
    return add_fd(ends, pair[1]) && add_fd(ends, xldrv_socket_listen(control, SOCK_SEQPACKET, error)) &&
           open_listeners(host, graphics, ends, error);
}

/* ---- the VNC server */

static const char *share_of(const XmlconfGraphics *graphics)
{
    return graphics->share_policy == XMLCONF_SHARE_FORCE_SHARED ? "force-shared"
           : graphics->share_policy == XMLCONF_SHARE_IGNORE     ? "ignore"
                                                                : "allow-exclusive";
}

static gboolean spawn(const XldrvDeviceHost *host, const XmlconfGraphics *graphics, const Ends *ends, GError **error)
{
    g_autofree char *program = xldrv_program_find(NULL, PROGRAM, DOMUS_LIBEXECDIR, PROGRAM, error);
    g_autofree char *process_path = path_of(host->driver, host->uuid, PROCESS);
    g_autofree char *log = xldrv_file_path(host->driver->paths->log_dir, host->name, ".vnc.log", error);
    g_autofree char *listeners = g_strdup_printf("%u", ends->n_fds - 2);
    const char *argv[] = {program, "--name", host->name, "--layout",
                          xmlconf_keymap_layout(graphics->keymap ? graphics->keymap : "en-us"), "--share",
                          share_of(graphics), "--listeners", listeners,
                          host->driver->hypervisor_user ? "--user" : NULL, host->driver->hypervisor_user, NULL};
    const XldrvSpawn how = {
        .argv = argv, .fds = ends->fds, .n_fds = ends->n_fds, .log_path = log, .pid_path = process_path};
    g_autoptr(XldrvProcess) process = program && log ? xldrv_process_spawn(&how, error) : NULL;

    return process != NULL;
}

static int attach_display(struct domctl *ctl, gpointer data)
{
    return domctl_display_attach(ctl, *(const int *)data);
}

/* A connection to the server that speaks for one request. */
static gboolean request(XldrvDriver *driver, const char *uuid, const struct xldrv_vnc_message *message, int fd,
                        GError **error)
{
    g_autofree char *control = path_of(driver, uuid, CONTROL);
    int connection = xldrv_vnc_connect(control, error);
    gboolean ok = connection >= 0 && xldrv_vnc_request(connection, message, fd, error);

    if (connection >= 0)
        close(connection);
    return ok;
}

gboolean xldrv_display_set_password(XldrvDriver *driver, const char *uuid, const XmlconfGraphics *graphics,
                                    GError **error)
{
    struct xldrv_vnc_message message = {.type = XLDRV_VNC_SET_PASSWORD, .value = graphics->passwd != NULL};
    gint64 seconds;

    g_strlcpy(message.password, graphics->passwd ? graphics->passwd : "", sizeof(message.password));
    if (xmlconf_graphics_valid_to(graphics, &seconds))
        message.valid_to = seconds > 0 ? seconds : 1; /* 0 would be for ever */
    return request(driver, uuid, &message, -1, error);
}

gboolean xldrv_display_add_client(XldrvDriver *driver, const char *uuid, int fd, gboolean without_password,
                                  GError **error)
{
    const struct xldrv_vnc_message message = {.type = XLDRV_VNC_ADD_CLIENT, .value = without_password};

    return request(driver, uuid, &message, fd, error);
}

static void end_server(XldrvDriver *driver, const char *uuid)
{
    g_autofree char *process = path_of(driver, uuid, PROCESS);
    g_autofree char *control = path_of(driver, uuid, CONTROL);

    xldrv_process_end_written(process, PROGRAM, XLDRV_PROCESS_END_MS);
    unlink(control);
}

static gboolean start_server(const XldrvDeviceHost *host, XmlconfGraphics *graphics, GError **error)
{
    g_auto(Ends) ends = {.hypervisor = -1};

    end_server(host->driver, host->uuid);
    if (!open_ends(host, graphics, &ends, error) || !spawn(host, graphics, &ends, error))
        return FALSE;
    return xldrv_instance_control(host->instance, "show", attach_display, &ends.hypervisor, error) &&
           xldrv_display_set_password(host->driver, host->uuid, graphics, error);
}

static gboolean has_keyboard(const XmlconfDomainConfig *config)
{
    return config->inputs && config->inputs->len;
}

gboolean xldrv_display_make(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error)
{
    XmlconfVideo *video = video_of(config);
    XmlconfGraphics *graphics = graphics_of(config);

    return (!video || make_framebuffer(host, video, error)) && (!has_keyboard(config) || make_keyboard(host, config, error)) &&
           (!graphics || start_server(host, graphics, error));
}

gboolean xldrv_display_attach(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error)
{
    XmlconfVideo *video = video_of(config);
    XmlconfGraphics *graphics = graphics_of(config);

    return (!video || attach_framebuffer(host, video, error)) &&
           (!has_keyboard(config) || attach_keyboard(host, config, error)) &&
           (!graphics || xldrv_instance_made(host->instance) || start_server(host, graphics, error));
}

void xldrv_display_forget_ports(const XmlconfDomainConfig *config)
{
    XmlconfGraphics *graphics = graphics_of(config);

    if (!graphics || graphics->autoport != XMLCONF_YES)
        return;
    graphics->port = graphics->websocket_port = 0;
    if (graphics->websocket) /* the XML of a running domain does not tell whether it was chosen */
        graphics->websocket = -1;
}

gboolean xldrv_display_restart(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error)
{
    XmlconfGraphics *graphics = graphics_of(config);

    return !graphics || start_server(host, graphics, error);
}

void xldrv_display_close(XldrvDriver *driver, const XmlconfDomainConfig *config)
{
    const XmlconfGraphics *graphics = graphics_of(config);
    struct stat about;

    if (!graphics)
        return;
    end_server(driver, config->uuid);
    if (graphics->listen == XMLCONF_LISTEN_SOCKET && graphics->socket && lstat(graphics->socket, &about) == 0 &&
        S_ISSOCK(about.st_mode))
        unlink(graphics->socket);
}

/* ---- watching it */

typedef struct {
    XldrvDriver *driver;
    XldrvDomain *domain;
    XldrvInstance *instance;
    int fd;
} Watch;

static void watch_free(gpointer data)
{
    Watch *watch = data;

    close(watch->fd);
    xldrv_domain_unref(watch->domain);
    xldrv_instance_unref(watch->instance);
    g_free(watch);
}

/* Its end comes with the domain's as well: whoever reacts finds out. */
static gboolean server_speaks(int fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    Watch *watch = data;
    struct xldrv_vnc_message event;
    int got;

    while ((got = xldrv_vnc_next_event(fd, &event)) > 0) {
        if (event.type == XLDRV_VNC_EVENT)
            xldrv_event_graphics(watch->driver->events, watch->domain, &event);
    }
    if (got == 0)
        return G_SOURCE_CONTINUE;
    xldrv_react_to_instance(watch->instance, XLDRV_DISPLAY_LOST, 0, watch->domain);
    return G_SOURCE_REMOVE;
}

static int subscribe(XldrvDriver *driver, const char *uuid, GError **error)
{
    const struct xldrv_vnc_message message = {.type = XLDRV_VNC_SUBSCRIBE};
    g_autofree char *control = path_of(driver, uuid, CONTROL);
    int fd = xldrv_vnc_connect(control, error);

    if (fd >= 0 && !xldrv_vnc_request(fd, &message, -1, error)) {
        close(fd);
        return -1;
    }
    return fd;
}

gboolean xldrv_display_watch(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance, GError **error)
{
    g_autofree Watch *watch = g_new0(Watch, 1);
    g_autoptr(GSource) source = NULL;

    watch->fd = subscribe(driver, domain->uuid_text, error);
    if (watch->fd < 0)
        return FALSE;
    watch->driver = driver;
    watch->domain = xldrv_domain_ref(domain);
    watch->instance = xldrv_instance_ref(instance);
    source = g_unix_fd_source_new(watch->fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(source, G_SOURCE_FUNC(server_speaks), g_steal_pointer(&watch), watch_free);
    g_source_attach(source, NULL);
    return TRUE;
}

/* ---- updates */

gboolean xldrv_display_check_update(const XmlconfGraphics *now, const XmlconfGraphics *wanted, GError **error)
{
    const char *problem = NULL;

    if (now->listen != wanted->listen)
        problem = "way to listen";
    else if (wanted->address && g_strcmp0(now->address, wanted->address) != 0)
        problem = "address";
    else if (wanted->socket && g_strcmp0(now->socket, wanted->socket) != 0)
        problem = "socket";
    else if (wanted->port > 0 && wanted->port != now->port)
        problem = "port";
    else if (wanted->websocket > 0 && wanted->websocket != now->websocket_port)
        problem = "port for browsers";
    else if (g_strcmp0(now->keymap, wanted->keymap) != 0)
        problem = "keymap";
    else if (now->share_policy != wanted->share_policy)
        problem = "share policy";
    return !problem || xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                                       "cannot change the %s of the graphics while the domain runs", problem);
}
