/* Files: write aside, sync, rename. */
#include "config.h"

#include "libxldrv/state/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

/* With the longest suffix of any of a domain's files, it fits the 255 bytes of a file name. */
#define NAME_BYTES_MAX 235

static gboolean fail(GError **error, const char *what, const char *path)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s '%s': %s", what, path,
                           g_strerror(errno));
}

char *xldrv_file_path(const char *dir, const char *name, const char *suffix, GError **error)
{
    g_autofree char *file = g_strconcat(name, suffix, NULL);

    if (!*name || strchr(name, '/') || strlen(name) > NAME_BYTES_MAX) {
        xldrv_set_error(error, VIR_ERR_XML_ERROR,
                        "name '%.300s' cannot be used: it is empty, too long or has a '/'", name);
        return NULL;
    }
    return g_build_filename(dir, file, NULL);
}

static gboolean sync_parent(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean ok = fd >= 0 && fsync(fd) == 0;

    if (!ok)
        fail(error, "sync directory", dir);
    if (fd >= 0)
        close(fd);
    return ok;
}

static gboolean write_all(int fd, const char *text)
{
    gsize left = strlen(text);

    while (left > 0) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FALSE;
        text += n;
        left -= n;
    }
    return TRUE;
}

/* Where there is nothing to lose the name may come first: one sync makes both it and the text safe, for the name is in the
 * inode's last transaction (of ext4, XFS and btrfs). What a crash leaves before that is no document and is ignored. */
static gboolean put_in_place(int fd, const char *temp, const char *path, GError **error)
{
    gboolean fresh = renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_NOREPLACE) == 0;

    if (fsync(fd) < 0) {
        fail(error, "write", temp);
        if (fresh)
            unlink(path);
        return FALSE;
    }
    if (fresh)
        return TRUE;
    return rename(temp, path) == 0 ? sync_parent(path, error) : fail(error, "replace", path);
}

static gboolean replace(const char *path, const char *text, gboolean sync, GError **error)
{
    g_autofree char *temp = g_strconcat(path, XLDRV_FILE_NEW, NULL);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    gboolean ok;

    if (fd < 0)
        return fail(error, "create", temp);
    ok = write_all(fd, text) || fail(error, "write", temp);
    if (ok && sync)
        ok = put_in_place(fd, temp, path, error);
    else if (ok)
        ok = rename(temp, path) == 0 || fail(error, "replace", path);
    close(fd);
    if (!ok)
        unlink(temp);
    return ok;
}

gboolean xldrv_file_replace(const char *path, const char *text, GError **error)
{
    return replace(path, text, TRUE, error);
}

gboolean xldrv_file_replace_volatile(const char *path, const char *text, GError **error)
{
    return replace(path, text, FALSE, error);
}

gboolean xldrv_file_remove(const char *path, GError **error)
{
    return unlink(path) == 0 || errno == ENOENT || fail(error, "remove", path);
}

gboolean xldrv_file_move(const char *from, const char *to, GError **error)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0)
        return fail(error, "make", to);
    return sync_parent(to, error);
}

char *xldrv_file_read(const char *path, gsize max, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    gsize length = 0;
    struct stat st;

    if (stat(path, &st) == 0 && (!S_ISREG(st.st_mode) || (guint64)st.st_size > max)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                        "'%s' is not a file of at most %" G_GSIZE_FORMAT " bytes", path, max);
        return NULL;
    }
    if (!g_file_get_contents(path, &text, &length, &why)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot read '%s': %s", path, why->message);
        return NULL;
    }
    if (memchr(text, 0, length)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "'%s' is not text", path);
        return NULL;
    }
    return g_steal_pointer(&text);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void xldrv_file_each(const char *dir, const char *suffix, XldrvFileFn fn, gpointer user_data)
{
    g_autoptr(GDir) handle = g_dir_open(dir, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while (handle && (name = g_dir_read_name(handle))) {
        if (g_str_has_suffix(name, suffix) && strlen(name) > strlen(suffix))
            g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_sort(names, compare_names);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *path = g_build_filename(dir, names->pdata[i], NULL);
        char *stem = names->pdata[i];

        stem[strlen(stem) - strlen(suffix)] = '\0';
        fn(path, stem, user_data);
    }
}
