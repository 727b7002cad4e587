/* Control groups: where they are found, what is written where. The files are those of a folder that stands for the
 * mounted controller; that the kernel takes what is written there is for tests/tune.t. */
#include "config.h"

#include "libxldrv/host/cgroup.h"

#include <glib/gstdio.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

typedef struct {
    char *root;
    XldrvCgroups *groups;
} Fixture;

static char *file_of(const Fixture *f, const char *name)
{
    g_autofree char *path = g_build_filename(f->root, name, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("nothing");
}

static void expect(const Fixture *f, const char *name, const char *wanted)
{
    g_autofree char *text = file_of(f, name);

    g_assert_cmpstr(text, ==, wanted);
}

/* The kernel makes these with the folder. */
static void make_group(const Fixture *f, const char *group, const char *const *files)
{
    g_autofree char *dir = g_build_filename(f->root, group, NULL);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    for (; *files; files++) {
        g_autofree char *path = g_build_filename(dir, *files, NULL);
        g_assert_true(g_file_set_contents(path, "", 0, NULL));
    }
}

static const char *const v1_files[] = {"cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "tasks", NULL};

static void find(Fixture *f, gconstpointer line, XldrvCgroupController controller)
{
    g_autofree char *controllers = NULL;
    g_autofree char *mountinfo = NULL;
    g_autoptr(GError) error = NULL;

    f->root = g_dir_make_tmp("cgroup test-XXXXXX", NULL);
    controllers = g_build_filename(f->root, "cgroup.controllers", NULL);
    g_assert_true(g_file_set_contents(controllers, "cpuset cpu io\n", -1, NULL));
    g_auto(GStrv) parts = g_strsplit(f->root, " ", 2);
    g_autofree char *escaped = g_strjoinv("\\040", parts);
    mountinfo = g_strdup_printf(line, escaped);
    f->groups = xldrv_cgroups_find_in(mountinfo, controller, &error);
    g_assert_no_error(error);
}

static void setup(Fixture *f, gconstpointer line)
{
    find(f, line, XLDRV_CGROUP_CPU);
}

static void setup_memory(Fixture *f, gconstpointer line)
{
    find(f, line, XLDRV_CGROUP_MEMORY);
}

static void teardown(Fixture *f, gconstpointer line G_GNUC_UNUSED)
{
    const char *argv[] = {"rm", "-rf", f->root, NULL};

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    xldrv_cgroups_free(f->groups);
    g_free(f->root);
}

#define V1 "22 1 0:20 / /proc rw - proc proc rw\n30 25 0:28 / %s rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
#define V1_MEMORY "30 25 0:28 / %s rw,relatime - cgroup cgroup rw,memory\n"
#define V2 "30 25 0:28 / %s rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

static void test_v1(Fixture *f, gconstpointer line G_GNUC_UNUSED)
{
    const XldrvCgroupLimits limits = {.shares = 512, .global = {50000, 100000}, .emulator = {0, -1}};
    g_autofree char *thread = g_strdup_printf("%d", (int)getpid());
    g_autoptr(GError) error = NULL;

    make_group(f, "domus.slice/d", v1_files);
    make_group(f, "domus.slice/d/emulator", v1_files);
    g_assert_true(xldrv_cgroups_exists(f->groups, "d") && !xldrv_cgroups_exists(f->groups, "e"));
    g_assert_true(xldrv_cgroups_apply(f->groups, "d", getpid(), &limits, &error));
    expect(f, "domus.slice/d/cpu.shares", "512");
    expect(f, "domus.slice/d/cpu.cfs_period_us", "50000");
    expect(f, "domus.slice/d/cpu.cfs_quota_us", "100000");
    expect(f, "domus.slice/d/emulator/cpu.cfs_quota_us", "-1");
    expect(f, "domus.slice/d/emulator/cpu.cfs_period_us", "");
    expect(f, "domus.slice/d/emulator/tasks", thread);
}

static const char *const v2_files[] = {"cgroup.subtree_control", "cgroup.procs", "cgroup.threads", "cgroup.type",
                                       "cpu.weight", "cpu.max", NULL};

static void test_v2(Fixture *f, gconstpointer line G_GNUC_UNUSED)
{
    const XldrvCgroupLimits limits = {.shares = 200, .global = {50000, -1}, .emulator = {20000, 10000}};
    g_autofree char *thread = g_strdup_printf("%d", (int)getpid());
    g_autoptr(GError) error = NULL;

    make_group(f, "domus.slice/d", v2_files);
    make_group(f, "domus.slice/d/emulator", v2_files);
    g_assert_true(xldrv_cgroups_apply(f->groups, "d", getpid(), &limits, &error));
    expect(f, "domus.slice/d/cpu.weight", "200");
    expect(f, "domus.slice/d/cpu.max", "max 50000");
    expect(f, "domus.slice/d/emulator/cpu.max", "10000 20000");
    expect(f, "domus.slice/d/emulator/cgroup.threads", thread);
}

/* A new group cannot be made where there is no control group file system: the error names the file. */
static void test_refused(Fixture *f, gconstpointer line G_GNUC_UNUSED)
{
    const XldrvCgroupLimits limits = {.shares = 2};
    g_autoptr(GError) error = NULL;

    g_assert_false(xldrv_cgroups_apply(f->groups, "d", getpid(), &limits, &error));
    g_assert_nonnull(strstr(error->message, f->root));
}

/* The folder that stands for the controller lacks the files that a new group would have. */
static void test_half_made(Fixture *f, gconstpointer line G_GNUC_UNUSED)
{
    const XldrvCgroupLimits limits = {.shares = 2};
    g_autoptr(GError) error = NULL;

    make_group(f, "", v2_files);
    make_group(f, "domus.slice", v2_files);
    g_assert_false(xldrv_cgroups_apply(f->groups, "d", getpid(), &limits, &error));
    g_assert_nonnull(strstr(error->message, "domus.slice/d/cgroup.procs"));
    g_assert_false(xldrv_cgroups_exists(f->groups, "d"));
}

static void test_whole(Fixture *f, gconstpointer line G_GNUC_UNUSED)
{
    static const char *const files[] = {"cgroup.subtree_control", "cgroup.procs", "memory.limit_in_bytes", "memory.max", NULL};
    const XldrvCgroupValue values[] = {{{"memory.max", "memory.limit_in_bytes"}, (char *)"4096"}};
    const XldrvCgroupValue absent[] = {{{"memory.none", NULL}, (char *)"1"}};
    g_autofree char *thread = g_strdup_printf("%d", (int)getpid());
    g_autoptr(GError) error = NULL;

    g_assert_false(xldrv_cgroups_is_unified(f->groups));
    make_group(f, "domus.slice/m", files);
    g_assert_true(xldrv_cgroups_set(f->groups, "m", getpid(), values, 1, &error));
    expect(f, "domus.slice/m/memory.max", "4096");
    expect(f, "domus.slice/m/memory.limit_in_bytes", "");
    expect(f, "domus.slice/m/cgroup.procs", thread);
    g_assert_false(xldrv_cgroups_set(f->groups, "m", getpid(), absent, 1, &error));
    g_assert_nonnull(strstr(error->message, "domus.slice/m/memory.none"));
}

static void test_absent(void)
{
    static const char *const texts[] = {
        "", "\n\n", "1 2 3", "30 25 0:28 / /x rw - cgroup cgroup rw,memory", "30 25 0:28 / /nowhere rw - cgroup2 x rw",
        "30 25 0:28 / /x rw -", "- - - - - - - - -", "30 25 0:28 / /x rw - tmpfs cgroup rw,cpu",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(xldrv_cgroups_find_in(texts[i], XLDRV_CGROUP_CPU, &error));
        g_assert_nonnull(strstr(error->message, "controller 'cpu'"));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/cgroup/v1", Fixture, V1, setup, test_v1, teardown);
    g_test_add("/cgroup/v2", Fixture, V2, setup, test_v2, teardown);
    g_test_add("/cgroup/refused", Fixture, V2, setup, test_refused, teardown);
    g_test_add("/cgroup/half-made", Fixture, V2, setup, test_half_made, teardown);
    g_test_add("/cgroup/whole", Fixture, V1_MEMORY, setup_memory, test_whole, teardown);
    g_test_add_func("/cgroup/absent", test_absent);
    return g_test_run();
}
