/* Kernels and ramdisks, and the boot loaders that find them.
 *
 * A boot loader is run as libxl runs it (xl.cfg(5), "bootloader"): it gets a disk of the guest, copies the kernel and
 * the ramdisk out of it into a directory, and says where they are and what the command line is in a file of lines that
 * end in NUL ("kernel PATH", "ramdisk PATH", "args WORDS": format simple0). It reads a file system that a guest has
 * written, so it runs without privileges and with limits, what it says is checked, and the directory is not used any
 * longer than it runs. */
#include "config.h"

#include "libxldrv/driver/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/run.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/process.h"
#include "libxldrv/host/qmp.h"
#include "libxldrv/state/files.h"

#define LOADER         "pygrub"
#define LOADER_PATTERN "/usr/lib/xen-*/bin/" LOADER /* where Debian keeps it: of each version of Xen */
#define RESULT         "result"
#define DISK           "disk" /* what an image that is not raw is shown as */
#define RUN_MS         60000
#define RESULT_MAX     16384
#define FILE_MAX       ((guint64)256 << 20) /* a kernel or a ramdisk */

/* ---- files */

static gboolean open_file(const char *path, const char *what, int flags, int *fd, GError **error)
{
    if (!path)
        return TRUE;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags);
    return *fd >= 0 || xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open %s '%s': %s", what, path,
                                       g_strerror(errno));
}

void xldrv_boot_clear(XldrvBoot *boot)
{
    if (boot->kernel_fd >= 0)
        close(boot->kernel_fd);
    if (boot->ramdisk_fd >= 0)
        close(boot->ramdisk_fd);
    g_free(boot->kernel);
    g_free(boot->ramdisk);
    g_free(boot->cmdline);
    *boot = (XldrvBoot)XLDRV_BOOT_NONE;
}

/* ---- the boot loader */

/* "pygrub", and "/usr/bin/pygrub" where many definitions have it, is Xen's, wherever that is; of several the last. */
static char *find_loader(const char *name, GError **error)
{
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *path = g_file_test(name, G_FILE_TEST_IS_EXECUTABLE) ? g_strdup(name) : g_find_program_in_path(base);
    glob_t found;

    if (path && path[0] == '/')
        return g_steal_pointer(&path);
    if (strcmp(base, LOADER) == 0 && glob(LOADER_PATTERN, 0, NULL, &found) == 0) {
        char *last = g_strdup(found.gl_pathv[found.gl_pathc - 1]);
        globfree(&found);
        return last;
    }
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot find boot loader '%s'", name);
    return NULL;
}

static gboolean check_disk(const XmlconfDomainConfig *config, const XmlconfDisk *disk, GError **error)
{
    return !disk->encryption ||
           xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                           "boot loader '%s' cannot read an encrypted disk: '%s' of domain '%s' is one",
                           xmlconf_bootloader(config), disk->target, config->name);
}

static void add_option(GPtrArray *argv, const char *option, const char *value)
{
    if (value)
        g_ptr_array_add(argv, g_strconcat(option, value, NULL));
}

/* In the order of libxl. The menu of pygrub is left out, for there is no terminal. */
static GPtrArray *arguments_of(const XmlconfDomainConfig *config, const char *program, const char *dir, const char *disk,
                               GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *base = g_path_get_basename(program);
    g_auto(GStrv) more = NULL;
    g_autoptr(GError) why = NULL;

    if (config->bootloader_args && !g_shell_parse_argv(config->bootloader_args, NULL, &more, &why) &&
        !g_error_matches(why, G_SHELL_ERROR, G_SHELL_ERROR_EMPTY_STRING)) {
        xldrv_set_error(error, VIR_ERR_XML_ERROR, "bootloader_args '%s': %s", config->bootloader_args, why->message);
        return NULL;
    }
    g_ptr_array_add(argv, g_strdup(program));
    if (strcmp(base, LOADER) == 0)
        g_ptr_array_add(argv, g_strdup("--quiet"));
    add_option(argv, "--kernel=", config->kernel);
    add_option(argv, "--ramdisk=", config->initrd);
    add_option(argv, "--args=", config->cmdline);
    g_ptr_array_add(argv, g_strdup_printf("--output=%s/" RESULT, dir));
    g_ptr_array_add(argv, g_strdup("--output-format=simple0"));
    g_ptr_array_add(argv, g_strdup_printf("--output-directory=%s", dir));
    for (gsize i = 0; more && more[i]; i++)
        g_ptr_array_add(argv, g_strdup(more[i]));
    g_ptr_array_add(argv, g_strdup(disk));
    g_ptr_array_add(argv, NULL);
    return g_steal_pointer(&argv);
}

/* ---- images that are not raw: it sees a file that a storage daemon makes of one, in a place that nobody else sees */

#define STORAGE "qemu-storage-daemon"
static const char show_script[] =
    ": > \"$1\" && " STORAGE " --daemonize --blockdev \"$2\" --export \"$3\" && shift 3 && exec \"$@\"";

static char *export_to(const char *path)
{
    GString *json = g_string_new("{\"type\": \"fuse\", \"id\": \"disk\", \"node-name\": \"" XLDRV_STORAGE_NODE
                                 "\", \"writable\": false, \"allow-other\": \"off\", \"mountpoint\": ");

    xldrv_json_append_string(json, path);
    g_string_append(json, "}");
    return g_string_free(json, FALSE);
}

/* The command that shows @disk as a file at @path, and then is @argv, which is taken. */
static GPtrArray *show_image(const XmlconfDisk *disk, const char *path, GPtrArray *argv)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
    const char *const shell[] = {"/bin/sh", "-c", show_script, "sh", path};

    for (gsize i = 0; i < G_N_ELEMENTS(shell); i++)
        g_ptr_array_add(all, g_strdup(shell[i]));
    g_ptr_array_add(all, xldrv_storage_blockdev(disk));
    g_ptr_array_add(all, export_to(path));
    g_ptr_array_extend_and_steal(all, argv);
    return all;
}

/* What it said before it ended, which is why. */
static char *last_line(const char *log_path)
{
    g_autofree char *text = NULL;
    char *line;

    if (!g_file_get_contents(log_path, &text, NULL, NULL) || !*g_strchomp(text))
        return g_strdup("it found nothing to boot");
    line = strrchr(text, '\n');
    return g_utf8_make_valid(line ? line + 1 : text, -1);
}

static gboolean run_loader(const XmlconfDomainConfig *config, const XmlconfDisk *disk, GPtrArray *argv, const char *log_path,
                           GError **error)
{
    const XldrvSpawn spawn = {.argv = (const char *const *)argv->pdata,
                              .log_path = log_path,
                              .confine = TRUE,
                              .may_mount = xmlconf_disk_is_served(disk),
                              .max_file_bytes = FILE_MAX};
    g_autoptr(XldrvProcess) process = NULL;

    unlink(log_path);
    process = xldrv_process_spawn(&spawn, error);
    if (!process)
        return FALSE;
    if (xldrv_process_wait(process, RUN_MS))
        return TRUE;
    xldrv_process_kill(process, SIGKILL);
    xldrv_process_wait(process, -1);
    return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "boot loader '%s' of domain '%s' did not end in %u seconds",
                           xmlconf_bootloader(config), config->name, RUN_MS / 1000);
}

/* ---- what it says */

/* The value of the line of @result that begins with @word. */
static char *find_line(const char *result, gsize bytes, const char *word)
{
    gsize length = strlen(word);

    for (const char *line = result; line < result + bytes; line += strlen(line) + 1) {
        if (strncmp(line, word, length) == 0 && (line[length] == ' ' || line[length] == '='))
            return g_strdup(line + length + 1);
    }
    return NULL;
}

/* A file of its directory and no other: it was told so by what is in the guest's disk. */
static gboolean open_copy(const char *dir, const char *path, const char *what, int *fd, GError **error)
{
    g_autofree char *name = path ? g_path_get_basename(path) : NULL;
    g_autofree char *copy = name ? g_build_filename(dir, name, NULL) : NULL;
    struct stat st;

    if (!open_file(copy, what, O_NOFOLLOW, fd, error))
        return FALSE;
    return !copy || (fstat(*fd, &st) == 0 && S_ISREG(st.st_mode)) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "'%s', which a boot loader names as its %s, is no file", path, what);
}

static gboolean take_result(const XmlconfDomainConfig *config, const char *dir, const char *log_path, XldrvBoot *boot,
                            GError **error)
{
    g_autofree char *path = g_build_filename(dir, RESULT, NULL);
    g_autofree char *text = NULL, *kernel = NULL, *ramdisk = NULL, *why = NULL;
    struct stat st;
    gsize bytes = 0;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= RESULT_MAX &&
        g_file_get_contents(path, &text, &bytes, NULL))
        kernel = find_line(text, bytes, "kernel");
    if (!kernel) {
        why = last_line(log_path);
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "boot loader '%s' of domain '%s' failed: %s",
                               xmlconf_bootloader(config), config->name, why);
    }
    ramdisk = find_line(text, bytes, "ramdisk");
    if (!open_copy(dir, kernel, "kernel", &boot->kernel_fd, error) ||
        !open_copy(dir, ramdisk, "ramdisk", &boot->ramdisk_fd, error))
        return FALSE;
    boot->cmdline = find_line(text, bytes, "args");
    boot->kernel = g_strdup_printf("found by %s", xmlconf_bootloader(config));
    boot->ramdisk = ramdisk ? g_strdup(boot->kernel) : NULL;
    return TRUE;
}

/* ---- its directory */

static void remove_directory(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        unlink(file);
    }
    if (dir)
        g_dir_close(dir);
    rmdir(path);
}

/* The loader opens the file of its result, and does not make it. */
static gboolean make_directory(const char *path, GError **error)
{
    g_autofree char *result = g_build_filename(path, RESULT, NULL);
    int fd = -1;

    remove_directory(path); /* of a daemon that was killed */
    if (mkdir(path, 0700) == 0)
        fd = open(result, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make '%s': %s", result, g_strerror(errno));
    close(fd);
    return TRUE;
}

static GPtrArray *command_of(const XmlconfDomainConfig *config, const XmlconfDisk *disk, const char *dir, GError **error)
{
    g_autofree char *program = check_disk(config, disk, error) ? find_loader(xmlconf_bootloader(config), error) : NULL;
    g_autofree char *shown = g_build_filename(dir, DISK, NULL);
    gboolean served = xmlconf_disk_is_served(disk);
    GPtrArray *argv = program ? arguments_of(config, program, dir, served ? shown : xmlconf_disk_source(disk), error) : NULL;

    return argv && served ? show_image(disk, shown, argv) : argv;
}

static gboolean load_from(const XmlconfDomainConfig *config, const XmlconfDisk *disk, const char *dir, const char *log_path,
                          XldrvBoot *boot, GError **error)
{
    g_autoptr(GPtrArray) argv = command_of(config, disk, dir, error);
    gboolean ok = argv && make_directory(dir, error) && run_loader(config, disk, argv, log_path, error) &&
                  take_result(config, dir, log_path, boot, error);

    if (argv)
        remove_directory(dir);
    if (!ok)
        xldrv_boot_clear(boot);
    return ok;
}

/* From the first disk that has something to boot; if none has, why the first has not. */
static gboolean load(const XmlconfDomainConfig *config, const char *dir, const char *log_path, XldrvBoot *boot,
                     GError **error)
{
    g_autoptr(GPtrArray) disks = xmlconf_boot_disks(config);

    if (disks->len == 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "boot loader '%s' needs an image or block device: domain '%s' has none to boot from",
                               xmlconf_bootloader(config), config->name);
    for (guint i = 0; i < disks->len; i++) {
        if (load_from(config, disks->pdata[i], dir, log_path, boot, i == 0 ? error : NULL)) {
            if (i > 0)
                g_clear_error(error);
            return TRUE;
        }
    }
    return FALSE;
}

gboolean xldrv_boot_open(XldrvDriver *driver, const char *uuid, const XmlconfDomainConfig *config, XldrvBoot *boot,
                         GError **error)
{
    g_autofree char *dir = NULL, *name = NULL, *log_path = NULL;

    if (!xmlconf_bootloader(config)) {
        boot->kernel = g_strdup(config->kernel);
        boot->ramdisk = g_strdup(config->initrd);
        boot->cmdline = g_strdup(config->cmdline);
        return open_file(config->kernel, "kernel", 0, &boot->kernel_fd, error) &&
               open_file(config->initrd, "ramdisk", 0, &boot->ramdisk_fd, error);
    }
    name = g_strconcat(uuid, ".boot", NULL);
    dir = xldrv_run_path(driver, name);
    log_path = xldrv_file_path(driver->paths->log_dir, config->name, ".boot.log", error);
    return log_path && load(config, dir, log_path, boot, error);
}
