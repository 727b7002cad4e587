/* Storage daemons. */
#include "config.h"

#include "libxldrv/driver/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/run.h"
#include "libxldrv/driver/secret.h"
#include "libxldrv/host/export.h"
#include "libxldrv/host/process.h"
#include "libxldrv/host/qmp.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/state/files.h"

#define PROGRAM    "qemu-storage-daemon"
#define PROCESS    ".storage"
#define NBD        ".nbd"
#define QMP        ".qmp"
#define NBD_FD     3 /* descriptors in the daemon, in the order in which they are passed */
#define QMP_FD     4
#define SECRET_FD  5
#define CONNECT_MS 5000
/* It writes what it has not written yet, which on slow storage takes long; what it is killed with is lost. */
#define END_MS     30000
/* It is ours, and when it ends there is another at once, also on a busy host or after a restart of this daemon. As long as
 * guests wait for their SCSI disks. */
#define RECONNECT_SECONDS 30

#define RESIZE_TRIES    20
#define RESIZE_RETRY_US 20000

/* ---- names */

/* UUID.TARGET or, for the next one, UUID.TARGET.next: with @suffix, in the run directory. */
static char *path_of(const XldrvDeviceHost *host, const char *target, XldrvStorageSlot slot, const char *suffix)
{
    g_autofree char *name = g_strconcat(host->uuid, ".", target, slot == XLDRV_STORAGE_NEXT ? ".next" : "", suffix, NULL);

    return xldrv_run_path(host->driver, name);
}

/* ---- what it is told */

const char *xldrv_storage_format(const XmlconfDisk *disk)
{
    if (strcmp(disk->format, "vhd") == 0)
        return "vpc";
    return disk->encryption && strcmp(disk->format, "raw") == 0 ? "luks" : disk->format;
}

static void append_cache(GString *json, const XmlconfDisk *disk)
{
    gboolean direct = disk->cache == XMLCONF_CACHE_NONE || disk->cache == XMLCONF_CACHE_DIRECTSYNC;

    g_string_append_printf(json, ", \"cache\": {\"direct\": %s, \"no-flush\": %s}", direct ? "true" : "false",
                           disk->cache == XMLCONF_CACHE_UNSAFE ? "true" : "false");
    g_string_append_printf(json, ", \"read-only\": %s, \"discard\": \"%s\"", disk->readonly ? "true" : "false",
                           disk->discard == XMLCONF_DISCARD_IGNORE ? "ignore" : "unmap");
}

/* @backing: what it is on, in the place of what the image says; NULL: as that says. */
static char *blockdev_of(const XmlconfDisk *disk, const char *backing)
{
    GString *json = g_string_new("{\"driver\": ");
    gboolean is_qcow2 = strcmp(disk->format, "qcow2") == 0;

    xldrv_json_append_string(json, xldrv_storage_format(disk));
    g_string_append(json, ", \"node-name\": \"" XLDRV_STORAGE_NODE "\"");
    append_cache(json, disk);
    if (disk->encryption)
        g_string_append(json, is_qcow2 ? ", \"encrypt\": {\"format\": \"luks\", \"key-secret\": \"secret\"}"
                                       : ", \"key-secret\": \"secret\"");
    g_string_append_printf(json, ", \"file\": {\"driver\": \"%s\", \"filename\": ",
                           xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK ? "host_device" : "file");
    xldrv_json_append_string(json, xmlconf_disk_source(disk));
    append_cache(json, disk);
    if (disk->io)
        g_string_append_printf(json, ", \"aio\": \"%s\"", disk->io);
    g_string_append(json, ", \"locking\": \"on\"}");
    if (backing)
        g_string_append_printf(json, ", \"backing\": %s", backing);
    g_string_append_c(json, '}');
    return g_string_free(json, FALSE);
}

gboolean xldrv_storage_reopen(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *backing, GError **error)
{
    g_autofree char *options = blockdev_of(disk, backing);
    g_autofree char *command =
        g_strdup_printf("{\"execute\": \"blockdev-reopen\", \"arguments\": {\"options\": [%s]}}", options);

    return xldrv_storage_command(host, disk, command, error);
}

char *xldrv_storage_blockdev(const XmlconfDisk *disk)
{
    XmlconfDisk reading = *disk;

    reading.readonly = TRUE;
    return blockdev_of(&reading, NULL);
}

static gboolean writes_through(const XmlconfDisk *disk)
{
    return !disk->readonly &&
           (disk->cache == XMLCONF_CACHE_WRITETHROUGH || disk->cache == XMLCONF_CACHE_DIRECTSYNC);
}

static char *export_of(const XmlconfDisk *disk)
{
    return g_strdup_printf("type=nbd,id=export,node-name=" XLDRV_STORAGE_NODE ",name=" XLDRV_STORAGE_EXPORT
                           ",writable=%s,writethrough=%s",
                           disk->readonly ? "off" : "on", writes_through(disk) ? "on" : "off");
}

/* The same as a command. */
static char *export_command(const XmlconfDisk *disk)
{
    return g_strdup_printf("{\"execute\": \"block-export-add\", \"arguments\": {\"type\": \"nbd\", \"id\": \"export\", "
                           "\"node-name\": \"" XLDRV_STORAGE_NODE "\", \"name\": \"" XLDRV_STORAGE_EXPORT
                           "\", \"writable\": %s, \"writethrough\": %s}}",
                           disk->readonly ? "false" : "true", writes_through(disk) ? "true" : "false");
}

/* @serves: from the start on, else when it is told (serve). */
static GPtrArray *arguments_of(const char *program, const XmlconfDisk *disk, gboolean serves)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    const char *const fixed[] = {"--nbd-server", "addr.type=fd,addr.str=" G_STRINGIFY(NBD_FD),
                                 "--chardev", "socket,id=qmp,fd=" G_STRINGIFY(QMP_FD) ",server=on,wait=off",
                                 "--monitor", "chardev=qmp"};

    g_ptr_array_add(argv, g_strdup(program));
    if (disk->encryption) {
        g_ptr_array_add(argv, g_strdup("--object"));
        g_ptr_array_add(argv, g_strdup("secret,id=secret,file=/proc/self/fd/" G_STRINGIFY(SECRET_FD)));
    }
    if (serves) {
        g_ptr_array_add(argv, g_strdup("--blockdev"));
        g_ptr_array_add(argv, blockdev_of(disk, NULL));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(fixed); i++)
        g_ptr_array_add(argv, g_strdup(fixed[i]));
    if (serves) {
        g_ptr_array_add(argv, g_strdup("--export"));
        g_ptr_array_add(argv, export_of(disk));
    }
    g_ptr_array_add(argv, NULL);
    return argv;
}

/* ---- starting */

static char *find_program(const char *name, const char *package, GError **error)
{
    char *path = g_find_program_in_path(name);

    if (!path)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                        "cannot find program '%s', which images that are not raw need (Debian package %s)", name, package);
    return path;
}

/* A file of no name, for it to read from the start. -1 with an error. */
static int make_secret_file(const XmlconfDisk *disk, GError **error)
{
    g_autoptr(GBytes) secret = xldrv_secret_get(disk->secret_uuid, disk->secret_usage, error);
    gsize bytes = 0;
    gconstpointer data;
    int fd;

    if (!secret)
        return -1;
    data = g_bytes_get_data(secret, &bytes);
    fd = memfd_create("secret", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, bytes) != (gssize)bytes || lseek(fd, 0, SEEK_SET) < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot pass the secret of disk '%s': %s", disk->target,
                        g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

typedef struct {
    char *process, *nbd, *qmp, *log;
    goffset log_start; /* what it says comes after this */
    int fds[3];
    guint n_fds;
} Spawn;

goffset xldrv_storage_log_size(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_size : 0;
}

static void spawn_clear(Spawn *s)
{
    for (guint i = 0; i < s->n_fds; i++)
        close(s->fds[i]);
    g_free(s->process);
    g_free(s->nbd);
    g_free(s->qmp);
    g_free(s->log);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Spawn, spawn_clear)

static gboolean add_fd(Spawn *s, int fd)
{
    if (fd >= 0)
        s->fds[s->n_fds++] = fd;
    return fd >= 0;
}

static gboolean prepare(Spawn *s, const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot,
                        GError **error)
{
    s->process = path_of(host, disk->target, slot, PROCESS);
    s->nbd = path_of(host, disk->target, slot, NBD);
    s->qmp = path_of(host, disk->target, slot, QMP);
    s->log = xldrv_file_path(host->driver->paths->log_dir, host->name, ".storage.log", error);
    if (!s->log)
        return FALSE;
    s->log_start = xldrv_storage_log_size(s->log);
    return add_fd(s, xldrv_socket_listen(s->nbd, SOCK_STREAM, error)) &&
           add_fd(s, xldrv_socket_listen(s->qmp, SOCK_STREAM, error)) &&
           (!disk->encryption || add_fd(s, make_secret_file(disk, error)));
}

static gboolean start(const Spawn *s, const XmlconfDisk *disk, gboolean serves, GError **error)
{
    g_autofree char *program = find_program(PROGRAM, "qemu-system-common", error);
    g_autoptr(GPtrArray) argv = program ? arguments_of(program, disk, serves) : NULL;
    const XldrvSpawn spawn = {.argv = argv ? (const char *const *)argv->pdata : NULL,
                              .fds = s->fds,
                              .n_fds = s->n_fds,
                              .log_path = s->log,
                              .pid_path = s->process,
                              .confine = TRUE};
    g_autoptr(XldrvProcess) process = program ? xldrv_process_spawn(&spawn, error) : NULL;

    return process != NULL;
}

/* What is left of a complaint without the program's name and the option that it is about. */
static char *complaint_of(const char *line)
{
    const char *text = line + strlen(PROGRAM ": ");
    const char *json_end = g_str_has_prefix(text, "--") ? g_strrstr(text, "}: ") : NULL;
    const char *colon = strstr(text, ": ");

    if (json_end)
        return g_strdup(json_end + 3);
    return g_strdup(g_str_has_prefix(text, "--") && colon ? colon + 2 : text);
}

char *xldrv_storage_complaint(const char *path, goffset from)
{
    g_autofree char *text = xldrv_file_read(path, 16 << 20, NULL);
    char *found = NULL;

    if (!text || (goffset)strlen(text) < from)
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text + from, "\n", -1);
    for (char **line = lines; *line && !found; line++) {
        if (g_str_has_prefix(*line, PROGRAM ": "))
            found = complaint_of(*line);
    }
    return found;
}

static int connect_to(const char *path, const char *where, struct domus_vbd_source *source, GError **error)
{
    int fd = xldrv_socket_connect(path, SOCK_STREAM, CONNECT_MS, error);

    if (fd >= 0)
        fd = xldrv_export_open(fd, XLDRV_STORAGE_EXPORT, where, source, error);
    source->reconnect_seconds = RECONNECT_SECONDS;
    return fd;
}

/* The listening sockets are there before the daemon is, so a connection waits for it, and breaks when it ends. */
static int start_and_connect(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot,
                             struct domus_vbd_source *source, GError **error)
{
    g_auto(Spawn) s = {0};
    g_autoptr(GError) why = NULL;
    g_autofree char *complaint = NULL;
    int fd;

    if (!prepare(&s, host, disk, slot, error) || !start(&s, disk, TRUE, error)) {
        xldrv_storage_close(host, disk->target, slot);
        return -1;
    }
    for (; s.n_fds > 0; s.n_fds--)
        close(s.fds[s.n_fds - 1]);
    fd = connect_to(s.nbd, xmlconf_disk_source(disk), source, &why);
    if (fd >= 0)
        return fd;
    xldrv_storage_close(host, disk->target, slot);
    complaint = xldrv_storage_complaint(s.log, s.log_start);
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open image '%s' of disk '%s' as %s: %s",
                    xmlconf_disk_source(disk), disk->target, xldrv_storage_format(disk), complaint ? complaint : why->message);
    return -1;
}

static gboolean is_running(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    g_autofree char *path = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, PROCESS);
    g_autoptr(XldrvProcess) process = xldrv_process_find_written(path);

    return process != NULL;
}

gboolean xldrv_storage_make(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    g_auto(Spawn) s = {0};

    if (is_running(host, disk))
        return TRUE;
    xldrv_storage_close(host, disk->target, XLDRV_STORAGE_CURRENT);
    return prepare(&s, host, disk, XLDRV_STORAGE_CURRENT, error) && start(&s, disk, FALSE, error);
}

/* By a daemon that was made before. -1: there is none, or something is wrong with it or the image. */
static int serve(const XldrvDeviceHost *host, const XmlconfDisk *disk, struct domus_vbd_source *source)
{
    g_autofree char *nbd = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, NBD);
    g_autofree char *options = blockdev_of(disk, NULL);
    g_autofree char *open = g_strdup_printf("{\"execute\": \"blockdev-add\", \"arguments\": %s}", options);
    g_autofree char *export = export_command(disk);

    if (!is_running(host, disk) || !xldrv_storage_command(host, disk, open, NULL) ||
        !xldrv_storage_command(host, disk, export, NULL))
        return -1;
    return connect_to(nbd, xmlconf_disk_source(disk), source, NULL);
}

int xldrv_storage_open(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot,
                       struct domus_vbd_source *source, GError **error)
{
    gboolean made = slot == XLDRV_STORAGE_CURRENT && host->instance && xldrv_instance_made(host->instance);
    int fd = made ? serve(host, disk, source) : -1;

    if (fd >= 0)
        return fd;
    xldrv_storage_close(host, disk->target, slot);
    return start_and_connect(host, disk, slot, source, error);
}

int xldrv_storage_reconnect(const XldrvDeviceHost *host, const XmlconfDisk *disk, struct domus_vbd_source *source,
                            GError **error)
{
    g_autofree char *process_path = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, PROCESS);
    g_autofree char *nbd = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, NBD);
    g_autoptr(XldrvProcess) running = xldrv_process_find_written(process_path);
    int fd = running ? connect_to(nbd, xmlconf_disk_source(disk), source, NULL) : -1;

    return fd >= 0 ? fd : xldrv_storage_open(host, disk, XLDRV_STORAGE_CURRENT, source, error);
}

int xldrv_storage_connect(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *nbd = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, NBD);

    return xldrv_socket_connect(nbd, SOCK_STREAM, CONNECT_MS, error);
}

/* ---- ending */

void xldrv_storage_close(const XldrvDeviceHost *host, const char *target, XldrvStorageSlot slot)
{
    g_autofree char *process = path_of(host, target, slot, PROCESS);
    g_autofree char *nbd = path_of(host, target, slot, NBD);
    g_autofree char *qmp = path_of(host, target, slot, QMP);

    xldrv_process_end_written(process, PROGRAM, END_MS);
    unlink(nbd);
    unlink(qmp);
}

void xldrv_storage_promote(const XldrvDeviceHost *host, const char *target)
{
    static const char *const suffixes[] = {NBD, QMP, PROCESS};

    xldrv_storage_close(host, target, XLDRV_STORAGE_CURRENT);
    for (gsize i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *from = path_of(host, target, XLDRV_STORAGE_NEXT, suffixes[i]);
        g_autofree char *to = path_of(host, target, XLDRV_STORAGE_CURRENT, suffixes[i]);

        if (rename(from, to) < 0 && errno != ENOENT)
            g_warning("cannot rename '%s': %s", from, g_strerror(errno));
    }
}

static void ask_to_end(const char *path, const char *stem, gpointer uuid)
{
    g_autoptr(XldrvProcess) process = g_str_has_prefix(stem, uuid) ? xldrv_process_find_written(path) : NULL;

    if (process)
        xldrv_process_kill(process, SIGTERM);
}

static void close_one(const char *path, const char *stem, gpointer uuid)
{
    static const char *const suffixes[] = {NBD, QMP};

    if (!g_str_has_prefix(stem, uuid))
        return;
    xldrv_process_end_written(path, PROGRAM, END_MS);
    for (gsize i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *other = g_strndup(path, strlen(path) - strlen(PROCESS));
        g_autofree char *socket = g_strconcat(other, suffixes[i], NULL);

        unlink(socket);
    }
}

void xldrv_storage_close_all(XldrvDriver *driver, const char *uuid)
{
    xldrv_file_each(driver->paths->run_dir, PROCESS, ask_to_end, (gpointer)uuid); /* all at once */
    xldrv_file_each(driver->paths->run_dir, PROCESS, close_one, (gpointer)uuid);
}

/* ---- commands */

gboolean xldrv_storage_command(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *command, GError **error)
{
    g_autofree char *qmp = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, QMP);

    return xldrv_qmp_execute(qmp, command, error);
}

JsonNode *xldrv_storage_query(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *command, GError **error)
{
    g_autofree char *qmp = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, QMP);

    return xldrv_qmp_query(qmp, command, error);
}

JsonNode *xldrv_storage_nodes(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    return xldrv_storage_query(host, disk, "{\"execute\": \"query-named-block-nodes\", \"arguments\": {\"flat\": true}}", error);
}

/* ---- sizes */

static gboolean fail_resize(const XmlconfDisk *disk, const GError *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot resize image '%s' of disk '%s': %s",
                           xmlconf_disk_source(disk), disk->target, why->message);
}

/* An export that is being deleted still forbids it, for some moments. */
static gboolean resize_when_free(const char *qmp, guint64 bytes, GError **error)
{
    g_autofree char *command =
        g_strdup_printf("{\"execute\": \"block_resize\", \"arguments\": {\"node-name\": \"" XLDRV_STORAGE_NODE
                        "\", \"size\": %" G_GUINT64_FORMAT "}}",
                        bytes);

    for (guint tries = 0; tries < RESIZE_TRIES; tries++) {
        g_clear_error(error);
        if (xldrv_qmp_execute(qmp, command, error))
            return TRUE;
        g_usleep(RESIZE_RETRY_US);
    }
    return FALSE;
}

gboolean xldrv_storage_resize(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint64 bytes, GError **error)
{
    g_autofree char *qmp = path_of(host, disk->target, XLDRV_STORAGE_CURRENT, QMP);
    g_autofree char *add = export_command(disk);
    g_autoptr(GError) why = NULL;
    gboolean ok;

    if (!xldrv_qmp_execute(qmp, "{\"execute\": \"block-export-del\", \"arguments\": {\"id\": \"export\", "
                                "\"mode\": \"hard\"}}", &why))
        return fail_resize(disk, why, error);
    ok = resize_when_free(qmp, bytes, &why);
    if (!xldrv_qmp_execute(qmp, add, ok ? &why : NULL))
        ok = FALSE; /* who connects finds nothing: the daemon is started again then */
    return ok || fail_resize(disk, why, error);
}

static gboolean find_size(const char *text, guint64 *bytes)
{
    const char *key = "\"virtual-size\": ";
    const char *at = strstr(text, key);

    return at && g_ascii_isdigit(at[strlen(key)]) && (*bytes = g_ascii_strtoull(at + strlen(key), NULL, 10), TRUE);
}

gboolean xldrv_storage_measure(const XmlconfDisk *disk, guint64 *bytes, GError **error)
{
    g_autofree char *program = find_program("qemu-img", "qemu-utils", error);
    g_autofree char *out = NULL;
    g_autofree char *err = NULL;
    const char *argv[] = {program, "info", "-U", "--output=json", "-f", xldrv_storage_format(disk),
                          xmlconf_disk_source(disk), NULL};
    int status = 0;

    if (!program)
        return FALSE;
    if (g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status, error) &&
        g_spawn_check_wait_status(status, NULL) && out && find_size(out, bytes))
        return TRUE;
    g_clear_error(error);
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot read image '%s' of disk '%s': %s",
                           xmlconf_disk_source(disk), disk->target, err && *err ? g_strstrip(err) : "not understood");
}
