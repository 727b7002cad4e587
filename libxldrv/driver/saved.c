/* Saved domains as files. */
#include "config.h"

#include "libxldrv/driver/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/store.h"
#include "libxldrv/rpc/rpc.h"

#define MAGIC        "DomusSavedDomain" /* without its NUL */
#define VERSION      1u
#define PAGE         4096u
#define XML_SLACK    16384u   /* for who edits it */
#define XML_MAX      (8u << 20)
#define STORE_ROOM   (1u << 20) /* what is not used is a hole in the file */
#define DIGEST_BYTES 32u

typedef struct {
    char magic[16];
    guint32 version, running, id, reserved;
    guint32 xml_bytes, xml_room, store_bytes, head_bytes;
    guint8 digest[DIGEST_BYTES]; /* of all but itself, up to the end of the store's nodes */
} Head;

void xldrv_saved_clear(XldrvSaved *saved)
{
    if (saved->fd >= 0)
        close(saved->fd);
    saved->fd = -1;
    g_clear_pointer(&saved->xml, g_free);
    g_clear_pointer(&saved->store, g_variant_unref);
}

static gsize round_up(gsize bytes)
{
    return (bytes + PAGE - 1) & ~(gsize)(PAGE - 1);
}

static gsize xml_room(const char *xml)
{
    return round_up(strlen(xml) + XML_SLACK);
}

gsize xldrv_saved_head_bytes(const char *xml)
{
    return round_up(sizeof(Head)) + xml_room(xml) + STORE_ROOM;
}

static void make_digest(const Head *head, const char *xml, const void *store, guint8 digest[DIGEST_BYTES])
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    gsize bytes = DIGEST_BYTES;
    Head bare = *head;

    memset(bare.digest, 0, sizeof(bare.digest));
    g_checksum_update(sum, (const guchar *)&bare, sizeof(bare));
    g_checksum_update(sum, (const guchar *)xml, head->xml_bytes);
    g_checksum_update(sum, store, head->store_bytes);
    g_checksum_get_digest(sum, digest, &bytes);
}

/* ---- writing */

static gboolean write_all(int fd, const guint8 *bytes, gsize count, GError **error)
{
    off_t at = 0;

    while (count) {
        ssize_t done = pwrite(fd, bytes, count, at);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return xldrv_set_system_error(error, done < 0 ? errno : EIO, "cannot write the saved domain");
        bytes += done;
        at += done;
        count -= (gsize)done;
    }
    return TRUE;
}

/* In whole pages of such memory, for files that are open for direct I/O. */
static gboolean write_head(int fd, Head *head, const char *xml, GVariant *store, GError **error)
{
    gsize at_store = round_up(sizeof(*head)) + head->xml_room, bytes = round_up(at_store + head->store_bytes);
    gconstpointer nodes = g_variant_get_data(store);
    void *page;
    gboolean ok;

    make_digest(head, xml, nodes, head->digest);
    if (posix_memalign(&page, PAGE, bytes))
        return xldrv_set_system_error(error, ENOMEM, "cannot write the saved domain");
    memset(page, 0, bytes);
    memcpy(page, head, sizeof(*head));
    memcpy((guint8 *)page + round_up(sizeof(*head)), xml, head->xml_bytes);
    memcpy((guint8 *)page + at_store, nodes, head->store_bytes);
    ok = write_all(fd, page, bytes, error);
    free(page);
    return ok;
}

gboolean xldrv_saved_write_head(int fd, const XldrvSaved *saved, GError **error)
{
    Head head = {
        .version = VERSION,
        .running = saved->running != 0,
        .id = (guint32)saved->id,
        .xml_bytes = (guint32)strlen(saved->xml),
        .xml_room = (guint32)xml_room(saved->xml),
        .store_bytes = (guint32)g_variant_get_size(saved->store),
        .head_bytes = (guint32)xldrv_saved_head_bytes(saved->xml),
    };

    memcpy(head.magic, MAGIC, sizeof(head.magic));
    if (head.store_bytes > STORE_ROOM || head.xml_bytes > XML_MAX)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the domain has too much in the store to be saved");
    return write_head(fd, &head, saved->xml, saved->store, error);
}

/* ---- reading */

static gboolean damaged(const char *path, const char *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot use '%s' as a saved domain: %s", path, why);
}

static gboolean read_at(int fd, void *to, gsize count, off_t at)
{
    ssize_t got;

    do
        got = pread(fd, to, count, at);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)count;
}

static const char *check_head(const Head *head)
{
    if (memcmp(head->magic, MAGIC, sizeof(head->magic)))
        return "it is none";
    if (head->version != VERSION)
        return "it was made by another version";
    if (!head->xml_bytes || head->xml_bytes > head->xml_room || head->xml_room > XML_MAX + 2 * XML_SLACK ||
        head->xml_room % PAGE || head->store_bytes > STORE_ROOM || head->running > 1 ||
        head->head_bytes != round_up(sizeof(*head)) + head->xml_room + STORE_ROOM)
        return "it is damaged";
    return NULL;
}

/* Reads what is before the stream; NULL: it is well. */
static const char *read_parts(int fd, Head *head, XldrvSaved *saved)
{
    guint8 digest[DIGEST_BYTES];
    const char *wrong = read_at(fd, head, sizeof(*head), 0) ? check_head(head) : "it is too short";
    g_autofree guint8 *store = NULL;
    guint8 *bytes;

    if (wrong)
        return wrong;
    saved->xml = g_malloc0(head->xml_bytes + 1);
    store = g_malloc0(head->store_bytes + 1);
    if (!read_at(fd, saved->xml, head->xml_bytes, (off_t)round_up(sizeof(*head))) ||
        !read_at(fd, store, head->store_bytes, (off_t)(round_up(sizeof(*head)) + head->xml_room)))
        return "it is cut short";
    make_digest(head, saved->xml, store, digest);
    if (memcmp(digest, head->digest, sizeof(digest)))
        return "it is damaged";
    saved->running = head->running;
    saved->id = (int)head->id;
    bytes = store;
    saved->store = g_variant_ref_sink(g_variant_new_from_data(XLDRV_STORE_TREE_TYPE, g_steal_pointer(&store),
                                                              head->store_bytes, FALSE, g_free, bytes));
    return NULL;
}

static int open_file(const char *path, int flags, GError **error)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open saved domain '%s': %s", path, g_strerror(errno));
    return fd;
}

/* What comes before the stream is read by way of the cache, whose alignment does not matter. */
gboolean xldrv_saved_open(const char *path, gboolean direct, XldrvSaved *saved, GError **error)
{
    const char *wrong;
    Head head;

    *saved = (XldrvSaved){.fd = open_file(path, O_RDONLY, error)};
    if (saved->fd < 0)
        return FALSE;
    wrong = read_parts(saved->fd, &head, saved);
    if (!wrong && direct && fcntl(saved->fd, F_SETFL, O_DIRECT) < 0)
        wrong = "its file system has no direct access";
    if (!wrong && lseek(saved->fd, (off_t)head.head_bytes, SEEK_SET) < 0)
        wrong = "it is no file";
    if (!wrong)
        return TRUE;
    xldrv_saved_clear(saved);
    return damaged(path, wrong, error);
}

gboolean xldrv_saved_change(const char *path, const char *xml, gboolean running, GError **error)
{
    g_auto(XldrvSaved) saved = {.fd = open_file(path, O_RDWR, error)};
    const char *wrong;
    Head head;

    if (saved.fd < 0)
        return FALSE;
    wrong = read_parts(saved.fd, &head, &saved);
    if (!wrong && strlen(xml) > head.xml_room)
        wrong = "the new XML does not fit into it";
    if (wrong)
        return damaged(path, wrong, error);
    head.xml_bytes = (guint32)strlen(xml);
    head.running = running != 0;
    if (!write_head(saved.fd, &head, xml, saved.store, error))
        return FALSE;
    return fsync(saved.fd) == 0 || xldrv_set_system_error(error, errno, "cannot write '%s'", path);
}
