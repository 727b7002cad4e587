/* daemons: which one a procedure belongs to, and where it listens. */
#include "config.h"

#include "libxldrv/relay/daemons.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/host/socket.h"
#include "libxldrv/rpc/rpc.h"

/* Bounds nothing: the sockets do not block. */
#define CONNECT_TIMEOUT_MS 1000

static const char *const names[XLDRV_N_DAEMONS] = {
    [XLDRV_DAEMON_NETWORK] = "network",     [XLDRV_DAEMON_STORAGE] = "storage",
    [XLDRV_DAEMON_NODEDEV] = "nodedev",     [XLDRV_DAEMON_INTERFACE] = "interface",
    [XLDRV_DAEMON_SECRET] = "secret",       [XLDRV_DAEMON_NWFILTER] = "nwfilter",
};

const char *xldrv_daemon_name(XldrvDaemon daemon)
{
    return names[daemon];
}

#define NETWORK   XLDRV_DAEMON_NETWORK
#define STORAGE   XLDRV_DAEMON_STORAGE
#define NODEDEV   XLDRV_DAEMON_NODEDEV
#define INTERFACE XLDRV_DAEMON_INTERFACE
#define SECRET    XLDRV_DAEMON_SECRET
#define NWFILTER  XLDRV_DAEMON_NWFILTER

typedef struct {
    guint first, last; /* numbers in libvirt's remote_protocol */
    XldrvDaemon daemon;
} Range;

/* In the order of the numbers. Detaching node devices (118 to 120, 301) is the hypervisor's to do. */
static const Range ranges[] = {
    {36, 36, NETWORK},   {38, 50, NETWORK},     {52, 52, NETWORK},   {71, 100, STORAGE},   {111, 117, NODEDEV},
    {123, 124, NODEDEV}, {125, 125, STORAGE},   {126, 134, INTERFACE}, {137, 138, INTERFACE}, {139, 147, SECRET},
    {152, 153, NETWORK}, {154, 155, STORAGE},   {156, 156, INTERFACE}, {165, 165, STORAGE}, {175, 181, NWFILTER},
    {208, 209, STORAGE}, {220, 222, INTERFACE}, {259, 260, STORAGE}, {281, 282, STORAGE},  {283, 283, NETWORK},
    {284, 284, INTERFACE}, {285, 285, NODEDEV}, {286, 286, NWFILTER}, {287, 287, SECRET},  {291, 291, NETWORK},
    {297, 297, NODEDEV}, {313, 315, NETWORK},   {341, 341, NETWORK}, {368, 370, STORAGE},  {373, 373, STORAGE},
    {374, 377, NODEDEV}, {378, 378, STORAGE},   {380, 383, SECRET},  {391, 391, STORAGE},  {397, 401, NWFILTER},
    {403, 403, STORAGE}, {404, 410, NETWORK},   {428, 430, NODEDEV}, {431, 431, NWFILTER}, {432, 432, NETWORK},
    {433, 436, NODEDEV}, {437, 437, NETWORK},
};

static int compare(const void *key, const void *element)
{
    guint number = *(const guint *)key;
    const Range *range = element;

    return number < range->first ? -1 : number > range->last;
}

XldrvDaemon xldrv_daemon_of_procedure(guint number)
{
    const Range *range = bsearch(&number, ranges, G_N_ELEMENTS(ranges), sizeof(*ranges), compare);

    return range ? range->daemon : XLDRV_DAEMON_NONE;
}

/* Sockets that may be the daemon's: its own, then that of a libvirtd, or a virtproxyd, for all of them. */
enum { OWN, COMMON, N_SOCKETS };

static char *socket_path(XldrvDaemon daemon, int which, const char *dir, gboolean readonly)
{
    g_autofree char *own = g_strdup_printf("virt%sd", names[daemon]);
    g_autofree char *file = g_strconcat(which == OWN ? own : "libvirt", readonly ? "-sock-ro" : "-sock", NULL);

    return g_build_filename(dir, file, NULL);
}

/* libvirt has one connection for root's daemons and one for those of users. */
static const char *uri_path(const char *socket)
{
    struct stat st;

    return stat(socket, &st) == 0 && st.st_uid != 0 ? "/session" : "/system";
}

int xldrv_daemon_connect(XldrvDaemon daemon, const char *socket_dir, gboolean readonly, char **uri, GError **error)
{
    for (int which = 0; which < N_SOCKETS; which++) {
        g_autofree char *path = socket_path(daemon, which, socket_dir, readonly);
        if (which + 1 < N_SOCKETS && access(path, F_OK) < 0)
            continue;
        g_clear_error(error);
        int fd = xldrv_socket_connect(path, SOCK_STREAM | SOCK_NONBLOCK, CONNECT_TIMEOUT_MS, error);
        if (fd >= 0) {
            *uri = g_strconcat(names[daemon], "://", uri_path(path), NULL);
            return fd;
        }
    }
    return -1;
}

char *xldrv_daemon_uri(XldrvDaemon daemon, const char *socket_dir)
{
    g_autofree char *own = socket_path(daemon, OWN, socket_dir, FALSE);
    g_autofree char *common = socket_path(daemon, COMMON, socket_dir, FALSE);
    const char *path = access(own, F_OK) == 0 ? own : common;

    g_autofree char *escaped = g_uri_escape_string(path, "/", FALSE);
    return g_strconcat(names[daemon], "+unix://", uri_path(path), "?socket=", escaped, NULL);
}
