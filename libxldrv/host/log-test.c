/* Logs that are put aside when they are full. */
#include "config.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "libxldrv/host/log-file.h"

static const XldrvLogLimits limits = {10, 2};

static char *folder;

static char *path_of(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void assert_file(const char *name, const char *text)
{
    g_autofree char *path = path_of(name);
    g_autofree char *found = NULL;

    g_file_get_contents(path, &found, NULL, NULL);
    g_assert_cmpstr(found, ==, text);
}

static void add(int fd, const char *text)
{
    g_assert_cmpint(write(fd, text, strlen(text)), ==, strlen(text));
    close(fd);
}

/* PATH, PATH.0, PATH.1; what is older goes. */
static void test_rotation(void)
{
    static const char *const texts[] = {"first line", "second line", "third line", "fourth line"};
    g_autofree char *path = path_of("log");
    g_autoptr(GError) error = NULL;

    add(xldrv_log_file_open(path, FALSE, &limits, &error), "short");
    g_assert_false(xldrv_log_file_is_full(path, &limits));
    add(xldrv_log_file_open(path, FALSE, &limits, &error), texts[0]);
    assert_file("log", texts[0]);
    for (gsize i = 1; i < G_N_ELEMENTS(texts); i++) {
        g_assert_true(xldrv_log_file_is_full(path, &limits));
        add(xldrv_log_file_rotate(path, &limits, &error), texts[i]);
    }
    g_assert_no_error(error);
    assert_file("log", texts[3]);
    assert_file("log.0", texts[2]);
    assert_file("log.1", texts[1]);
    assert_file("log.2", NULL);
    assert_file("log.new", NULL);
}

/* To append to one that is full is to begin the next; to begin anew leaves nothing of the earlier ones. */
static void test_append(void)
{
    g_autofree char *path = path_of("log");
    g_autoptr(GError) error = NULL;

    add(xldrv_log_file_open(path, TRUE, &limits, &error), "fifth");
    assert_file("log", "fifth");
    assert_file("log.0", "fourth line");
    add(xldrv_log_file_open(path, TRUE, &limits, &error), " and on");
    assert_file("log", "fifth and on");
    add(xldrv_log_file_open(path, FALSE, &limits, &error), "anew");
    assert_file("log", "anew");
    assert_file("log.0", NULL);
    assert_file("log.1", NULL);
    g_assert_no_error(error);
}

/* None is kept; and where nothing can be made, all stays as it is. */
static void test_limits(void)
{
    const XldrvLogLimits none = {10, 0};
    g_autofree char *path = path_of("log"), *backup = path_of("log.0"), *inside = path_of("log.0/x"), *nowhere = path_of("no/log");
    g_autoptr(GError) error = NULL;

    add(xldrv_log_file_rotate(path, &none, &error), "only one left");
    g_assert_no_error(error);
    assert_file("log", "only one left");
    assert_file("log.0", NULL);
    g_assert_cmpint(g_mkdir_with_parents(inside, 0700), ==, 0);
    g_assert_cmpint(xldrv_log_file_rotate(path, &(XldrvLogLimits){10, 1}, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "cannot rename"));
    assert_file("log", "only one left");
    assert_file("log.new", NULL);
    g_clear_error(&error);
    g_assert_cmpint(xldrv_log_file_rotate(nowhere, &limits, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, nowhere));
    g_rmdir(inside);
    g_rmdir(backup);
}

/* What is no file is never full. */
static void test_others(void)
{
    g_assert_false(xldrv_log_file_is_regular("/dev/null"));
    g_assert_false(xldrv_log_file_is_full("/dev/null", &(XldrvLogLimits){0, 1}));
    g_assert_false(xldrv_log_file_is_full("/proc/self/exe", &limits)); /* a link */
}

int main(int argc, char **argv)
{
    g_autofree char *path = NULL;
    int status;

    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("domus-log-XXXXXX", NULL);
    path = path_of("log");
    g_test_add_func("/log/rotation", test_rotation);
    g_test_add_func("/log/append", test_append);
    g_test_add_func("/log/limits", test_limits);
    g_test_add_func("/log/others", test_others);
    status = g_test_run();
    unlink(path);
    g_rmdir(folder);
    g_free(folder);
    return status;
}
