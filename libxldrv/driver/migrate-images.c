/* Migration that copies disks: the side where they come to. */
#include "config.h"

#include "libxldrv/driver/migrate-disks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/driver/volume.h"
#include "libxldrv/host/qemu-img.h"
#include "libxldrv/host/carrier.h"
#include "libxldrv/state/files.h"

#define RECORD_MAX    (1u << 20)
#define FILE_MODE     0600
#define HELLO_SECONDS 5 /* that somebody has who connects */

typedef struct {
    XmlconfDisk *disk; /* of the images' document */
    guint64 bytes;     /* that the source's has */
    gboolean missing;  /* and is to be made */
    gboolean made;
    gboolean served;   /* by a daemon that is ours, not yet the guest's */
    XldrvCarrier *carrier; /* the server's, until that has ended */
} Image;

struct _XldrvImages {
    XldrvDriver *driver;
    char *uuid, *name;
    XldrvDeviceHost host;
    XmlconfDomain *domain;
    guint flags;     /* of the migration */
    GPtrArray *list; /* of Image */
    char word[XLDRV_COOKIE_WORD_CHARS + 1];
    int listen_fd, port;
    GThread *server;
    GMutex lock;
    gboolean stop;  /* under lock: the server is to end */
    int guest_fd;   /* under lock: who has connected and was not let in yet, a duplicate; -1: nobody */
};

static void image_free(gpointer data)
{
    xldrv_carrier_free(((Image *)data)->carrier);
    g_free(data);
}

/* ---- which ones */

static gboolean find_row(GVariant *list, const char *target, guint64 *bytes, const char **base,
                         const char **base_format)
{
    for (gsize i = 0; list && i < g_variant_n_children(list); i++) {
        const char *name;

        g_variant_get_child(list, i, "(&st&s&s)", &name, bytes, base, base_format);
        if (strcmp(name, target) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean add(XldrvImages *images, XmlconfDisk *disk, const XldrvCookie *cookie, GError **error)
{
    const char *base, *base_format;
    guint64 bytes;
    Image *image;

    xldrv_blockjob_forget(disk); /* the source's */
    if (!xldrv_volume_find(images->driver, disk, error) || !xldrv_blockjob_check_possible(disk, error))
        return FALSE;
    if (!find_row(cookie->disks, disk->target, &bytes, &base, &base_format))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the source does not copy disk '%s'", disk->target);
    image = g_new0(Image, 1);
    image->disk = disk;
    image->bytes = bytes;
    image->missing = disk->type == XMLCONF_DISK_FILE && !g_file_test(xmlconf_disk_source(disk), G_FILE_TEST_EXISTS);
    g_ptr_array_add(images->list, image);
    return TRUE;
}

static gboolean plan(XldrvImages *images, const XldrvMigration *migration, const XldrvCookie *cookie, GError **error)
{
    GPtrArray *disks = xmlconf_domain_config(images->domain)->disks;
    gsize wanted = cookie->disks ? g_variant_n_children(cookie->disks) : 0;

    for (guint i = 0; disks && i < disks->len; i++) {
        if (xldrv_migration_copies(migration, disks->pdata[i]) && !add(images, disks->pdata[i], cookie, error))
            return FALSE;
    }
    return images->list->len == wanted ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the source copies %" G_GSIZE_FORMAT " disks, of which the "
                           "domain has %u here", wanted, images->list->len);
}

/* ---- the record of what was made */

static char *record_path(const XldrvDriver *driver, const char *uuid)
{
    g_autofree char *name = g_strconcat(uuid, XLDRV_IMAGES_SUFFIX, NULL);

    return xldrv_run_path(driver, name);
}

static gboolean write_record(const XldrvImages *images, GError **error)
{
    g_autofree char *path = record_path(images->driver, images->uuid);
    g_autofree char *text = NULL;
    g_autoptr(GVariant) list = NULL;
    GVariantBuilder paths;
    gboolean any = FALSE;

    g_variant_builder_init(&paths, G_VARIANT_TYPE_BYTESTRING_ARRAY);
    for (guint i = 0; i < images->list->len; i++) {
        const Image *image = images->list->pdata[i];

        if (image->missing)
            g_variant_builder_add(&paths, "^ay", xmlconf_disk_source(image->disk));
        any |= image->missing;
    }
    list = g_variant_ref_sink(g_variant_builder_end(&paths));
    text = g_variant_print(list, TRUE);
    return !any || xldrv_file_replace_volatile(path, text, error);
}

void xldrv_images_recover(const XldrvDriver *driver, const char *uuid, gboolean keep)
{
    g_autofree char *path = record_path(driver, uuid);
    g_autofree char *text = g_file_test(path, G_FILE_TEST_EXISTS) ? xldrv_file_read(path, RECORD_MAX, NULL) : NULL;
    g_autoptr(GVariant) list = text ? g_variant_parse(G_VARIANT_TYPE_BYTESTRING_ARRAY, text, NULL, NULL, NULL) : NULL;

    for (gsize i = 0; list && !keep && i < g_variant_n_children(list); i++) {
        const char *file;

        g_variant_get_child(list, i, "^&ay", &file);
        if (unlink(file) < 0 && errno != ENOENT)
            g_warning("cannot remove '%s', which a migration left: %s", file, g_strerror(errno));
    }
    unlink(path);
}

/* ---- making them */

/* Nobody else's file becomes an image. */
static gboolean make_file(Image *image, GError **error)
{
    const char *path = xmlconf_disk_source(image->disk);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);

    if (fd < 0)
        return xldrv_set_system_error(error, errno, "cannot create image '%s' of disk '%s'", path, image->disk->target);
    close(fd);
    image->made = TRUE;
    return TRUE;
}

static gboolean write_image(const Image *image, const char *base, const char *base_format, GError **error)
{
    const char *path = xmlconf_disk_source(image->disk), *format = xldrv_storage_format(image->disk);
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, image->bytes);
    const char *plain[] = {"create", "-q", "-f", format, path, size, NULL};
    const char *based[] = {"create", "-q", "-u", "-f", format, "-b", base, "-F", base_format, path, size, NULL};
    g_autoptr(GError) why = NULL;

    return xldrv_qemu_img(base ? based : plain, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot create image '%s' of disk '%s': %s", path,
                           image->disk->target, why->message);
}

static gboolean check_base(const Image *image, const char *base, GError **error)
{
    return g_file_test(base, G_FILE_TEST_EXISTS) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                           "the backing file '%s' of disk '%s' is not there, and an incremental copy does not bring it",
                           base, image->disk->target);
}

static gboolean make(Image *image, const char *base, const char *base_format, GError **error)
{
    const char *format = image->disk->format;

    if (strcmp(format, "qcow2") != 0 && (base || strcmp(format, "raw") != 0))
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "image '%s' of disk '%s' is not there, and no image of format '%s' is made%s",
                               xmlconf_disk_source(image->disk), image->disk->target, format,
                               base ? " with a backing file" : "");
    return (!base || check_base(image, base, error)) && make_file(image, error) &&
           write_image(image, base, base_format, error);
}

/* What the guest finds below the copied image has to be what it was. */
static gboolean check_based(const Image *image, GError **error)
{
    xldrv_chain_learn(image->disk);
    return xldrv_chain_length(image->disk) > 1 ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "image '%s' of disk '%s' has no backing file, which the "
                           "source's has", xmlconf_disk_source(image->disk), image->disk->target);
}

static gboolean provide(const XldrvImages *images, const XldrvCookie *cookie, Image *image, GError **error)
{
    const char *base = "", *base_format = "", *given = xldrv_chain_path(image->disk, 1);
    gboolean based;
    guint64 bytes;

    find_row(cookie->disks, image->disk->target, &bytes, &base, &base_format);
    based = images->flags & VIR_MIGRATE_NON_SHARED_INC && *base;
    if (!image->missing)
        return !based || check_based(image, error);
    if (!based)
        return make(image, NULL, NULL, error);
    /* The document for this side may have it elsewhere. */
    return given ? make(image, given, xldrv_chain_format(image->disk, 1), error)
                 : make(image, base, base_format, error);
}

/* ---- serving them */

static gboolean serve(const XldrvImages *images, Image *image, GError **error)
{
    struct domus_vbd_source source = {0};
    int fd = xldrv_image_check(image->disk, error)
                 ? xldrv_storage_open(&images->host, image->disk, XLDRV_STORAGE_CURRENT, &source, error)
                 : -1;

    if (fd < 0)
        return FALSE;
    close(fd);
    image->served = TRUE;
    return source.size_bytes == image->bytes ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "image '%s' of disk '%s' has %" G_GUINT64_FORMAT
                           " bytes and the source's has %" G_GUINT64_FORMAT, xmlconf_disk_source(image->disk), image->disk->target,
                           (guint64)source.size_bytes, image->bytes);
}

static gboolean provide_all(const XldrvImages *images, const XldrvCookie *cookie, GError **error)
{
    for (guint i = 0; i < images->list->len; i++) {
        if (!provide(images, cookie, images->list->pdata[i], error) || !serve(images, images->list->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}

/* ---- who connects */

/* The whole of it; from a socket that waits for so long. */
static gboolean hear(int fd, XldrvDiskHello *hello)
{
    const struct timeval limit = {.tv_sec = HELLO_SECONDS};
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    do
        n = recv(fd, hello, sizeof(*hello), MSG_WAITALL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(*hello) && memcmp(hello->magic, XLDRV_DISK_HELLO_MAGIC, sizeof(hello->magic)) == 0;
}

/* Takes as long for any word. */
static gboolean knows_word(const XldrvImages *images, const XldrvDiskHello *hello)
{
    guint differs = 0;

    for (gsize i = 0; i < sizeof(hello->word); i++)
        differs |= (guint)(hello->word[i] ^ images->word[i]);
    return !differs;
}

/* The image that is meant, if nobody has come for it yet. */
static Image *image_for(const XldrvImages *images, const XldrvDiskHello *hello)
{
    char target[sizeof(hello->target) + 1] = "";

    memcpy(target, hello->target, sizeof(hello->target));
    for (guint i = 0; i < images->list->len; i++) {
        Image *image = images->list->pdata[i];

        if (!image->carrier && strcmp(image->disk->target, target) == 0)
            return image;
    }
    return NULL;
}

/* Who says nothing is disturbed by a duplicate, whatever becomes of the socket. FALSE: the server is to end. */
static gboolean begin_hearing(XldrvImages *images, int fd)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&images->lock);

    if (!images->stop)
        images->guest_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return !images->stop;
}

static void end_hearing(XldrvImages *images)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&images->lock);

    if (images->guest_fd >= 0)
        close(images->guest_fd);
    images->guest_fd = -1;
}

/* Takes @fd. */
static void let_in(XldrvImages *images, int fd)
{
    const guint8 ready = XLDRV_DISK_HELLO_READY;
    XldrvDiskHello hello;
    Image *image = hear(fd, &hello) && knows_word(images, &hello) ? image_for(images, &hello) : NULL;
    int nbd_fd = image ? xldrv_storage_connect(&images->host, image->disk, NULL) : -1;

    if (nbd_fd >= 0 && send(fd, &ready, 1, MSG_NOSIGNAL) == 1) {
        image->carrier = xldrv_carrier_new(fd, nbd_fd, FALSE);
        return;
    }
    g_warning("domain '%s': somebody is not let in who wants to write to its disks", images->name);
    if (nbd_fd >= 0)
        close(nbd_fd);
    close(fd);
}

/* Takes @fd; the socket inside of TLS, or -1. */
static int decrypt(XldrvImages *images, int fd)
{
    g_autoptr(GError) why = NULL;
    XldrvTlsEnd *end = xldrv_tls_end_new(images->driver->pki, NULL, &why);

    if (end)
        fd = xldrv_tls_end_start(end, fd, &why);
    else
        close(fd);
    if (!end || fd < 0) {
        g_warning("domain '%s': %s", images->name, why->message);
        return -1;
    }
    return fd;
}

static gboolean all_are_here(const XldrvImages *images)
{
    for (guint i = 0; i < images->list->len; i++) {
        if (!((const Image *)images->list->pdata[i])->carrier)
            return FALSE;
    }
    return TRUE;
}

/* -1: what is listened on was shut down. */
static int accept_next(const XldrvImages *images)
{
    int fd;

    do
        fd = accept4(images->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return fd;
}

static gpointer run_server(gpointer data)
{
    XldrvImages *images = data;
    int fd;

    while (!all_are_here(images) && (fd = accept_next(images)) >= 0) {
        xldrv_migration_tune_socket(fd);
        if (!begin_hearing(images, fd)) {
            close(fd);
            break;
        }
        if (images->flags & VIR_MIGRATE_TLS)
            fd = decrypt(images, fd);
        if (fd >= 0)
            let_in(images, fd);
        end_hearing(images);
    }
    return NULL;
}

static gboolean start_server(XldrvImages *images, const XldrvMigration *migration, GError **error)
{
    g_autoptr(GUri) uri = migration->disks_uri ? g_uri_parse(migration->disks_uri, G_URI_FLAGS_NONE, NULL) : NULL;
    int port = uri && g_uri_get_port(uri) > 0 ? g_uri_get_port(uri) : migration->disks_port;

    if (!images->list->len)
        return TRUE;
    if (!xldrv_cookie_make_word(images->word, error))
        return FALSE;
    images->listen_fd = xldrv_migration_listen(migration->listen_address, port, &images->port, error);
    if (images->listen_fd >= 0)
        images->server = g_thread_new("disks", run_server, images);
    return images->server != NULL;
}

/* ---- from the beginning to the end */

XldrvImages *xldrv_images_open(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *domain,
                               const XldrvMigration *migration, const XldrvCookie *cookie, GError **error)
{
    XldrvImages *images = g_new0(XldrvImages, 1);

    images->driver = driver;
    images->uuid = g_strdup(job->uuid_text);
    images->name = g_strdup(job->name);
    images->host = (XldrvDeviceHost){.driver = driver, .uuid = images->uuid, .name = images->name};
    images->domain = xmlconf_domain_copy(domain);
    images->flags = migration->flags;
    images->list = g_ptr_array_new_with_free_func(image_free);
    images->listen_fd = images->guest_fd = -1;
    g_mutex_init(&images->lock);
    if (plan(images, migration, cookie, error) && write_record(images, error) && provide_all(images, cookie, error) &&
        start_server(images, migration, error))
        return images;
    xldrv_images_free(images, FALSE);
    return NULL;
}

void xldrv_images_describe(const XldrvImages *images, XldrvCookie *cookie)
{
    cookie->port = (guint)images->port;
    g_strlcpy(cookie->word, images->word, sizeof(cookie->word));
}

gboolean xldrv_images_any(const XldrvImages *images)
{
    return images && images->list->len;
}

static void stop_server(XldrvImages *images)
{
    g_mutex_lock(&images->lock);
    images->stop = TRUE;
    if (images->listen_fd >= 0)
        shutdown(images->listen_fd, SHUT_RDWR);
    if (images->guest_fd >= 0)
        shutdown(images->guest_fd, SHUT_RDWR);
    g_mutex_unlock(&images->lock);
    if (images->server)
        g_thread_join(g_steal_pointer(&images->server));
    if (images->listen_fd >= 0)
        close(images->listen_fd);
    images->listen_fd = -1;
}

void xldrv_images_close(XldrvImages *images)
{
    stop_server(images);
    for (guint i = 0; i < images->list->len; i++) {
        Image *image = images->list->pdata[i];

        g_clear_pointer(&image->carrier, xldrv_carrier_free);
        if (image->served)
            xldrv_storage_close(&images->host, image->disk->target, XLDRV_STORAGE_CURRENT);
        image->served = FALSE;
    }
}

void xldrv_images_free(XldrvImages *images, gboolean keep)
{
    g_autofree char *record = NULL;

    if (!images)
        return;
    xldrv_images_close(images);
    for (guint i = 0; !keep && i < images->list->len; i++) {
        const Image *image = images->list->pdata[i];

        if (image->made)
            unlink(xmlconf_disk_source(image->disk));
    }
    record = record_path(images->driver, images->uuid);
    unlink(record);
    g_ptr_array_unref(images->list);
    g_mutex_clear(&images->lock);
    xmlconf_domain_unref(images->domain);
    g_free(images->uuid);
    g_free(images->name);
    g_free(images);
}
