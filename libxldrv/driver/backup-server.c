/* The server of a backup of mode pull: a storage daemon of its own, which clients connect to where the backup's document says.
 *
 * It has no image: it reads each disk from the disk's storage daemon, which exports the scratch image on top of the disk's under
 * a name of its own, and so shows what the disk was. Which parts were written since a checkpoint it knows from a qcow2 image in the
 * run directory that has nothing but a bitmap.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/driver/backup.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/export.h"
#include "libxldrv/host/process.h"
#include "libxldrv/host/qemu-img.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/host/tcp.h"
#include "libxldrv/host/tls-pipe.h"
#include "libxldrv/state/files.h"

#define PROGRAM    "qemu-storage-daemon"
#define CONNECT_MS 5000
#define EXPORT     "backup" /* of a disk's storage daemon */
#define NODE       "bitmap" /* there, while the bitmap's image is filled */
#define LISTEN_FD  3        /* in the server; those to the disks come next, in their order */
#define ADDRESS    "addr.type=fd,addr.str=" G_STRINGIFY(LISTEN_FD)
#define TLS        "tls" /* there, the certificates */
#define GONE_TRIES 500
#define GONE_US    10000

/* Its name in the run directory is of the kind that ends with the domain in any case (xldrv_storage_close_all). */
static char *process_path(const XldrvDriver *driver, const char *uuid)
{
    g_autofree char *name = g_strconcat(uuid, ".backup.storage", NULL);

    return xldrv_run_path(driver, name);
}

void xldrv_backup_server_close(const XldrvDriver *driver, const char *uuid)
{
    g_autofree char *path = process_path(driver, uuid);

    xldrv_process_end_written(path, PROGRAM, XLDRV_PROCESS_END_MS);
}

/* ---- a disk's daemon */

static gboolean is_exported(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    g_autoptr(JsonNode) exports = xldrv_storage_query(host, disk, "{\"execute\": \"query-block-exports\"}", NULL);
    JsonArray *list = exports && JSON_NODE_HOLDS_ARRAY(exports) ? json_node_get_array(exports) : NULL;

    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *one = json_array_get_object_element(list, i);

        if (g_strcmp0(xldrv_json_string(one, "id"), EXPORT) == 0)
            return TRUE;
    }
    return FALSE;
}

void xldrv_backup_unexport(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    if (!is_exported(host, disk))
        return;
    xldrv_storage_command(host, disk,
                          "{\"execute\": \"block-export-del\", \"arguments\": {\"id\": \"" EXPORT "\", \"mode\": \"hard\"}}",
                          NULL);
    for (guint tries = 0; tries < GONE_TRIES && is_exported(host, disk); tries++)
        g_usleep(GONE_US);
}

static gboolean add_export(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    return xldrv_storage_command(host, disk,
                                 "{\"execute\": \"block-export-add\", \"arguments\": {\"type\": \"nbd\", \"id\": \"" EXPORT
                                 "\", \"name\": \"" EXPORT "\", \"node-name\": \"" XLDRV_BLOCKJOB_NODE
                                 "\", \"writable\": false}}",
                                 error);
}

/* One after the other; the node goes in any case. */
static gboolean fill_bitmap(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autoptr(GString) add = g_string_new("{\"execute\": \"block-dirty-bitmap-add\", \"arguments\": {\"node\": \"" NODE
                                          "\", \"persistent\": true, \"disabled\": true, \"name\": ");
    g_autoptr(GString) merge = g_string_new("{\"execute\": \"block-dirty-bitmap-merge\", \"arguments\": {\"node\": \"" NODE
                                            "\", \"bitmaps\": [{\"node\": \"" XLDRV_STORAGE_NODE
                                            "\", \"name\": \"" XLDRV_BLOCKJOB_BITMAP "\"}], \"target\": ");

    xldrv_json_append_string(add, name);
    xldrv_json_append_string(merge, name);
    g_string_append(add, "}}");
    g_string_append(merge, "}}");
    return xldrv_storage_command(host, disk, add->str, error) && xldrv_storage_command(host, disk, merge->str, error);
}

static gboolean store_bitmap(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *path, const char *name,
                             GError **error)
{
    g_autoptr(GString) open = g_string_new("{\"execute\": \"blockdev-add\", \"arguments\": {\"node-name\": \"" NODE
                                           "\", \"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": ");
    gboolean ok;

    xldrv_json_append_string(open, path);
    g_string_append(open, "}}}");
    if (!xldrv_storage_command(host, disk, open->str, error))
        return FALSE;
    ok = fill_bitmap(host, disk, name, error);
    return xldrv_storage_command(host, disk,
                                 "{\"execute\": \"blockdev-del\", \"arguments\": {\"node-name\": \"" NODE "\"}}",
                                 ok ? error : NULL) &&
           ok;
}

static gboolean make_bitmap(const XldrvBackup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *path = xldrv_backup_bitmap_path(b->driver, b->job->uuid_text, to->name);
    g_autofree char *size = NULL;
    XldrvImageInfo info;

    if (!xldrv_disk_measure(b->host.instance, disk, &info, error))
        return FALSE;
    size = g_strdup_printf("%" G_GUINT64_FORMAT, info.capacity);
    const char *argv[] = {"create", "-q", "-f", "qcow2", path, size, NULL};
    return xldrv_qemu_img(argv, NULL, error) && store_bitmap(&b->host, disk, path, to->export_bitmap, error);
}

/* ---- the server */

typedef struct {
    GPtrArray *argv;
    GArray *fds;
} Server;

static void server_clear(Server *s)
{
    for (guint i = 0; i < s->fds->len; i++)
        close(g_array_index(s->fds, int, i));
    g_array_unref(s->fds);
    g_ptr_array_unref(s->argv);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Server, server_clear)

static gboolean add_fd(Server *s, int fd)
{
    if (fd >= 0)
        g_array_append_val(s->fds, fd);
    return fd >= 0;
}

static void add_argument(Server *s, const char *option, GString *value)
{
    g_ptr_array_add(s->argv, g_strdup(option));
    g_ptr_array_add(s->argv, g_string_free(value, FALSE));
}

static void add_bitmap_argument(Server *s, const XldrvBackup *b, guint index, const XmlconfBackupDisk *to)
{
    GString *json = g_string_new(NULL);
    g_autofree char *path = xldrv_backup_bitmap_path(b->driver, b->job->uuid_text, to->name);

    g_string_append_printf(json, "{\"driver\": \"qcow2\", \"node-name\": \"bitmap%u\", \"read-only\": true, \"file\": "
                           "{\"driver\": \"file\", \"read-only\": true, \"filename\": ", index);
    xldrv_json_append_string(json, path);
    g_string_append(json, "}}");
    add_argument(s, "--blockdev", json);
}

static void add_export_argument(Server *s, guint index, const XmlconfBackupDisk *to)
{
    GString *json = g_string_new(NULL);

    g_string_append_printf(json, "{\"type\": \"nbd\", \"id\": \"export%u\", \"node-name\": \"disk%u\", \"name\": ", index, index);
    xldrv_json_append_string(json, to->export_name);
    if (to->incremental) {
        g_string_append_printf(json, ", \"bitmaps\": [{\"node\": \"bitmap%u\", \"name\": ", index);
        xldrv_json_append_string(json, to->export_bitmap);
        g_string_append(json, "}]");
    }
    g_string_append_c(json, '}');
    add_argument(s, "--export", json);
}

static gboolean add_disk(Server *s, XldrvBackup *b, guint index, GError **error)
{
    const XmlconfBackupDisk *to = b->plan.disks->pdata[index];
    const XmlconfDisk *disk = xldrv_find_disk(b->job->live, to->name, error);
    GString *json;

    if (!disk || !add_export(&b->host, disk, error) || (to->incremental && !make_bitmap(b, to, disk, error)) ||
        !add_fd(s, xldrv_storage_connect(&b->host, disk, error)))
        return FALSE;
    json = g_string_new(NULL);
    g_string_append_printf(json,
                           "{\"driver\": \"nbd\", \"node-name\": \"disk%u\", \"read-only\": true, \"export\": \"" EXPORT
                           "\", \"server\": {\"type\": \"fd\", \"str\": \"%u\"}}",
                           index, LISTEN_FD + 1 + index);
    add_argument(s, "--blockdev", json);
    if (to->incremental)
        add_bitmap_argument(s, b, index, to);
    return TRUE;
}

static int listen_on(const XmlconfBackup *plan, GError **error)
{
    return plan->server.socket ? xldrv_socket_listen_stream(plan->server.socket, error)
                               : xldrv_tcp_open(plan->server.name, plan->server.port, TRUE, CONNECT_MS, error);
}

static gboolean spawn(const Server *s, const XldrvBackup *b, const char *log, GError **error)
{
    g_autofree char *path = process_path(b->driver, b->job->uuid_text);
    const XldrvSpawn spawn = {.argv = (const char *const *)s->argv->pdata,
                              .fds = (const int *)(gconstpointer)s->fds->data,
                              .n_fds = s->fds->len,
                              .log_path = log,
                              .pid_path = path,
                              .confine = TRUE};
    g_autoptr(XldrvProcess) process = xldrv_process_spawn(&spawn, error);

    return process != NULL;
}

static gboolean is_tls(const XmlconfBackup *plan)
{
    return g_strcmp0(plan->server.tls, "yes") == 0;
}

/* QEMU says less of what is not there. */
static gboolean check_certificates(const XldrvPki *pki, GError **error)
{
    static const char *const names[] = {"ca-cert.pem", "server-cert.pem", "server-key.pem"};

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(pki->backup_dir, names[i], NULL);

        if (access(path, R_OK) < 0)
            return xldrv_set_system_error(error, errno, "TLS needs '%s'", path);
    }
    return TRUE;
}

static gboolean add_certificates(Server *s, const XldrvPki *pki, GError **error)
{
    GString *json;

    if (!check_certificates(pki, error))
        return FALSE;
    json = g_string_new("{\"qom-type\": \"tls-creds-x509\", \"id\": \"" TLS "\", \"endpoint\": \"server\", \"dir\": ");
    xldrv_json_append_string(json, pki->backup_dir);
    g_string_append_printf(json, ", \"verify-peer\": %s}", pki->backup_verify ? "true" : "false");
    add_argument(s, "--object", json);
    return TRUE;
}

/* As a client: by when it answers it serves. */
static gboolean try_it(const XmlconfBackup *plan, GError **error)
{
    const XmlconfBackupDisk *first = plan->disks->pdata[0];
    struct domus_vbd_source source;
    int fd = -1;

    if (is_tls(plan)) {
        fd = xldrv_tcp_open(plan->server.name, plan->server.port, FALSE, CONNECT_MS, error);
        return fd >= 0 && xldrv_export_greets(fd, first->export_name, error);
    }
    if (plan->server.socket) {
        fd = xldrv_socket_connect(plan->server.socket, SOCK_STREAM, CONNECT_MS, error);
        fd = fd < 0 ? -1 : xldrv_export_open(fd, first->export_name, plan->server.socket, &source, error);
    } else {
        fd = xldrv_export_open_tcp(plan->server.name, plan->server.port, first->export_name, plan->server.name, &source, error);
    }
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static gboolean start(Server *s, XldrvBackup *b, GError **error)
{
    const XmlconfBackup *plan = &b->plan;
    g_autofree char *log = xldrv_file_path(b->driver->paths->log_dir, b->job->name, ".storage.log", error), *complaint = NULL;
    goffset log_start = log ? xldrv_storage_log_size(log) : 0;
    g_autoptr(GError) why = NULL;

    if (!log)
        return FALSE;
    add_argument(s, "--nbd-server", g_string_new(is_tls(plan) ? ADDRESS ",tls-creds=" TLS : ADDRESS));
    for (guint i = 0; i < plan->disks->len; i++)
        add_export_argument(s, i, plan->disks->pdata[i]);
    g_ptr_array_add(s->argv, NULL);
    if (!spawn(s, b, log, error))
        return FALSE;
    for (guint i = 0; i < s->fds->len; i++) /* so that a server that ends takes its connections with it */
        close(g_array_index(s->fds, int, i));
    g_array_set_size(s->fds, 0);
    if (try_it(plan, &why))
        return TRUE;
    complaint = xldrv_storage_complaint(log, log_start);
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "%s", complaint ? complaint : why->message);
}

gboolean xldrv_backup_serve(XldrvBackup *b, GError **error)
{
    g_auto(Server) s = {g_ptr_array_new_with_free_func(g_free), g_array_new(FALSE, FALSE, sizeof(int))};
    char *program = g_find_program_in_path(PROGRAM);
    g_autoptr(GError) why = NULL;
    gboolean ok = program != NULL;

    g_ptr_array_add(s.argv, program);
    ok = ok && (!is_tls(&b->plan) || add_certificates(&s, b->driver->pki, &why)) && add_fd(&s, listen_on(&b->plan, &why));
    for (guint i = 0; ok && i < b->plan.disks->len; i++)
        ok = add_disk(&s, b, i, &why);
    return (ok && start(&s, b, &why)) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot serve the backup: %s", why ? why->message : "no " PROGRAM);
}
