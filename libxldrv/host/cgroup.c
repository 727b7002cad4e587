/* Control groups of domains: found, made, filled, removed. Source: Linux Documentation/admin-guide/cgroup-v1 and
 * cgroup-v2.rst. */
#include "config.h"

#include "libxldrv/host/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define SLICE          "domus.slice"
#define EMULATOR       "emulator"
#define VCPU_THREADS   "vcpu" /* and the number: the name of a vCPU's thread is that of its group */

struct _XldrvCgroups {
    char *root;
    XldrvCgroupController controller;
    gboolean unified; /* cgroup v2 */
};

static const struct {
    const char *v1, *v2, *what;
} controllers[XLDRV_N_CGROUP_CONTROLLERS] = {
    [XLDRV_CGROUP_CPU] = {"cpu", "cpu", "CPU shares and quotas need"},
    [XLDRV_CGROUP_MEMORY] = {"memory", "memory", "limits of memory need"},
    [XLDRV_CGROUP_BLOCK_IO] = {"blkio", "io", "limits of block I/O need"},
};

/* ---- finding */

static gboolean has_word(const char *list, const char *separators, const char *word)
{
    g_auto(GStrv) words = g_strsplit_set(list, separators, -1);

    return g_strv_contains((const char *const *)words, word);
}

static gboolean unified_has(const char *root, const char *controller)
{
    g_autofree char *path = g_build_filename(root, "cgroup.controllers", NULL);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) && has_word(text, " \n", controller);
}

/* One line: "36 35 98:0 /root /mount/point options... - type source super-options". */
static XldrvCgroups *try_mount(const char *line, XldrvCgroupController controller)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    guint n = g_strv_length(words), dash = 0;
    g_autofree char *root = NULL;
    XldrvCgroups *groups;
    gboolean unified;

    while (dash < n && strcmp(words[dash], "-") != 0)
        dash++;
    if (dash < 6 || n < dash + 4)
        return NULL;
    root = g_strcompress(words[4]); /* spaces are \040 */
    unified = strcmp(words[dash + 1], "cgroup2") == 0;
    if (unified ? !unified_has(root, controllers[controller].v2)
                : strcmp(words[dash + 1], "cgroup") != 0 || !has_word(words[dash + 3], ",", controllers[controller].v1))
        return NULL;
    groups = g_new0(XldrvCgroups, 1);
    groups->root = g_steal_pointer(&root);
    groups->controller = controller;
    groups->unified = unified;
    return groups;
}

XldrvCgroups *xldrv_cgroups_find_in(const char *mountinfo, XldrvCgroupController controller, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(mountinfo, "\n", -1);

    for (char **line = lines; *line; line++) {
        XldrvCgroups *groups = try_mount(*line, controller);
        if (groups)
            return groups;
    }
    xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                    "%s the cgroup controller '%s', which is not mounted on this host", controllers[controller].what,
                    controllers[controller].v1);
    return NULL;
}

XldrvCgroups *xldrv_cgroups_find(XldrvCgroupController controller, GError **error)
{
    g_autofree char *text = NULL;

    g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL);
    return xldrv_cgroups_find_in(text ? text : "", controller, error);
}

gboolean xldrv_cgroups_is_unified(const XldrvCgroups *groups)
{
    return groups->unified;
}

void xldrv_cgroups_free(XldrvCgroups *groups)
{
    if (!groups)
        return;
    g_free(groups->root);
    g_free(groups);
}

/* ---- files of a group */

static gboolean fail(GError **error, const char *what, const char *path)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s '%s': %s", what, path, g_strerror(errno));
}

static gboolean write_file(const char *group, const char *file, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(group, file, NULL);
    g_autofree char *what = g_strdup_printf("write '%s' to", text);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    gboolean ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int why = errno;

    if (fd >= 0)
        close(fd);
    errno = why;
    return ok || fail(error, what, path);
}

static gboolean write_number(const char *group, const char *file, gint64 value, GError **error)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, value);

    return write_file(group, file, text, error);
}

static gboolean make(const char *group, GError **error)
{
    return mkdir(group, 0755) == 0 || errno == EEXIST || fail(error, "make the control group", group);
}

/* In cgroup v2 a group hands the controller on to those in it only if told to. */
static gboolean hand_on(const XldrvCgroups *groups, const char *group, GError **error)
{
    g_autofree char *word = g_strconcat("+", controllers[groups->controller].v2, NULL);

    return !groups->unified || write_file(group, "cgroup.subtree_control", word, error);
}

static char *group_path(const XldrvCgroups *groups, const char *name)
{
    return g_build_filename(groups->root, SLICE, name, NULL);
}

gboolean xldrv_cgroups_exists(const XldrvCgroups *groups, const char *name)
{
    g_autofree char *group = group_path(groups, name);

    return g_file_test(group, G_FILE_TEST_IS_DIR);
}

/* ---- limits */

static gboolean set_limit_v1(const char *group, const XldrvCgroupLimit *limit, GError **error)
{
    if (limit->period && !write_number(group, "cpu.cfs_period_us", limit->period, error))
        return FALSE;
    return !limit->quota || write_number(group, "cpu.cfs_quota_us", limit->quota, error);
}

/* "QUOTA PERIOD", of which the kernel keeps the second where only the first is written, but not the other way. */
static gboolean set_limit_v2(const char *group, const XldrvCgroupLimit *limit, GError **error)
{
    g_autofree char *path = g_build_filename(group, "cpu.max", NULL);
    g_autofree char *before = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) words = NULL;

    if (!limit->period && !limit->quota)
        return TRUE;
    if (g_file_get_contents(path, &before, NULL, NULL))
        words = g_strsplit(g_strchomp(before), " ", -1);
    text = limit->quota > 0   ? g_strdup_printf("%" G_GINT64_FORMAT, limit->quota)
           : limit->quota < 0 ? g_strdup("max")
                              : g_strdup(words && words[0] ? words[0] : "max");
    if (limit->period) {
        char *with_period = g_strdup_printf("%s %" G_GUINT64_FORMAT, text, limit->period);
        g_free(text);
        text = with_period;
    }
    return write_file(group, "cpu.max", text, error);
}

static gboolean set_limit(const XldrvCgroups *groups, const char *group, const XldrvCgroupLimit *limit, GError **error)
{
    return groups->unified ? set_limit_v2(group, limit, error) : set_limit_v1(group, limit, error);
}

/* The number is that of the controller: a share of v1, whose default is 1024, or a weight of v2, 100. */
static gboolean set_shares(const XldrvCgroups *groups, const char *group, guint64 shares, GError **error)
{
    return !shares || write_number(group, groups->unified ? "cpu.weight" : "cpu.shares", shares, error);
}

/* ---- threads */

/* The group of a thread by its name. */
static char *thread_group(int pid, const char *thread)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%s/comm", pid, thread);
    char *name = NULL;

    if (!g_file_get_contents(path, &name, NULL, NULL))
        return NULL;
    g_strchomp(name);
    if (g_str_has_prefix(name, VCPU_THREADS) &&
        g_ascii_string_to_unsigned(name + strlen(VCPU_THREADS), 10, 0, G_MAXUINT16, NULL, NULL))
        return name;
    g_free(name);
    return g_strdup(EMULATOR);
}

static gboolean make_thread_group(const XldrvCgroups *groups, const char *path, GError **error)
{
    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return TRUE;
    if (make(path, error) && (!groups->unified || write_file(path, "cgroup.type", "threaded", error)))
        return TRUE;
    rmdir(path);
    return FALSE;
}

static gboolean place_thread(const XldrvCgroups *groups, const char *group, int pid, const char *thread,
                             const XldrvCgroupLimits *limits, GError **error)
{
    g_autofree char *name = thread_group(pid, thread);
    g_autofree char *path = name ? g_build_filename(group, name, NULL) : NULL;
    const XldrvCgroupLimit *limit;

    if (!name)
        return TRUE;
    limit = strcmp(name, EMULATOR) == 0 ? &limits->emulator : &limits->vcpu;
    return make_thread_group(groups, path, error) && set_limit(groups, path, limit, error) &&
           write_file(path, groups->unified ? "cgroup.threads" : "tasks", thread, error);
}

static gboolean thread_exists(int pid, const char *thread)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%s", pid, thread);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* A thread that has ended meanwhile is no failure. */
static gboolean place_threads(const XldrvCgroups *groups, const char *group, int pid, const XldrvCgroupLimits *limits,
                              GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", pid);
    g_autoptr(GDir) threads = g_dir_open(path, 0, NULL);
    const char *thread;

    while (threads && (thread = g_dir_read_name(threads))) {
        g_autoptr(GError) why = NULL;
        if (!place_thread(groups, group, pid, thread, limits, &why) && thread_exists(pid, thread)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
    }
    return TRUE;
}

/* In cgroup v2 threads stay within the group of their process, which goes first; it may then be split, when there is a
 * part that is for threads. */
static gboolean make_groups(const XldrvCgroups *groups, const char *group, int pid, GError **error)
{
    g_autofree char *slice = g_path_get_dirname(group);
    g_autofree char *emulator = g_build_filename(group, EMULATOR, NULL);

    if (!hand_on(groups, groups->root, error) || !make(slice, error) || !hand_on(groups, slice, error) ||
        !make(group, error) || (groups->unified && !write_number(group, "cgroup.procs", pid, error)))
        return FALSE;
    return make_thread_group(groups, emulator, error) && hand_on(groups, group, error);
}

/* With those in it. */
static gboolean remove_group(const char *group)
{
    g_autoptr(GDir) entries = g_dir_open(group, 0, NULL);
    const char *entry;

    while (entries && (entry = g_dir_read_name(entries))) {
        g_autofree char *path = g_build_filename(group, entry, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            rmdir(path);
    }
    return rmdir(group) == 0 || errno == ENOENT;
}

gboolean xldrv_cgroups_apply(const XldrvCgroups *groups, const char *name, int pid, const XldrvCgroupLimits *limits,
                             GError **error)
{
    g_autofree char *group = group_path(groups, name);
    g_autofree char *emulator = g_build_filename(group, EMULATOR, NULL);

    /* In cgroup v2 a group cannot be removed while the process is in it: what says that all was made is the last. */
    if (!g_file_test(emulator, G_FILE_TEST_IS_DIR) && !make_groups(groups, group, pid, error)) {
        remove_group(group);
        return FALSE;
    }
    return set_shares(groups, group, limits->shares, error) && set_limit(groups, group, &limits->global, error) &&
           place_threads(groups, group, pid, limits, error);
}

/* ---- whole domains */

static const char *file_there(const char *group, const XldrvCgroupValue *value)
{
    g_autofree char *path = value->files[1] ? g_build_filename(group, value->files[0], NULL) : NULL;

    return path && !g_file_test(path, G_FILE_TEST_EXISTS) ? value->files[1] : value->files[0];
}

static gboolean write_all(const char *group, const XldrvCgroupValue *values, guint n, gboolean backwards, GError **error)
{
    for (guint i = 0; i < n; i++) {
        const XldrvCgroupValue *value = &values[backwards ? n - 1 - i : i];
        if (!write_file(group, file_there(group, value), value->text, error))
            return FALSE;
    }
    return TRUE;
}

/* Of cgroup v2 it may be there with its threads for the CPU's sake, and then the process is in it. */
static gboolean make_whole(const XldrvCgroups *groups, const char *group, int pid, GError **error)
{
    g_autofree char *slice = g_path_get_dirname(group);
    gboolean there = g_file_test(group, G_FILE_TEST_IS_DIR);

    if (!hand_on(groups, groups->root, error) || !make(slice, error) || !hand_on(groups, slice, error) ||
        !make(group, error))
        return FALSE;
    if ((there && groups->unified) || write_number(group, "cgroup.procs", pid, error))
        return TRUE;
    if (!there)
        remove_group(group);
    return FALSE;
}

/* Limits that depend on each other (memory, and memory with swap) are taken in one order when they grow and in the other
 * when they shrink. */
gboolean xldrv_cgroups_set(const XldrvCgroups *groups, const char *name, int pid, const XldrvCgroupValue *values, guint n,
                           GError **error)
{
    g_autofree char *group = group_path(groups, name);
    g_autoptr(GError) why = NULL;

    if (!make_whole(groups, group, pid, error))
        return FALSE;
    if (write_all(group, values, n, FALSE, &why) || write_all(group, values, n, TRUE, NULL))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* ---- the end */

void xldrv_cgroups_remove(const XldrvCgroups *groups, const char *name)
{
    g_autofree char *slice = g_build_filename(groups->root, SLICE, NULL);
    g_autofree char *group = group_path(groups, name);

    if (!remove_group(group))
        g_warning("cannot remove the control group '%s': %s", group, g_strerror(errno));
    rmdir(slice); /* if it was the last */
}
