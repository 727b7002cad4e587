/* Processes that are started: what becomes of one that cannot be watched, or run. */
#include "config.h"

#include "libxldrv/host/process.h"

#include <errno.h>
#include <glib.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void test_starts(void)
{
    const char *const argv[] = {"/bin/true", NULL};
    const XldrvSpawn spawn = {.argv = argv};
    g_autoptr(GError) why = NULL;
    g_autoptr(XldrvProcess) process = xldrv_process_spawn(&spawn, &why);

    g_assert_no_error(why);
    g_assert_true(xldrv_process_wait(process, 10000));
}

static void test_no_program(void)
{
    const char *const argv[] = {"/nonexistent/program", NULL};
    const XldrvSpawn spawn = {.argv = argv};
    g_autoptr(GError) why = NULL;

    g_assert_null(xldrv_process_spawn(&spawn, &why));
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why->message, "/nonexistent/program"));
}

/* As of a kernel without it, or one that is short of descriptors at that moment. */
static void refuse(guint32 call, guint32 error)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {G_N_ELEMENTS(rules), rules};

    g_assert_cmpint(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
    g_assert_cmpint(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), ==, 0);
}

static void test_unwatched(void)
{
    const char *const argv[] = {"/bin/sleep", "100", NULL};
    const XldrvSpawn spawn = {.argv = argv};
    g_autoptr(GError) why = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    refuse(SYS_pidfd_open, EMFILE);
    g_assert_null(xldrv_process_spawn(&spawn, &why));
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why->message, "/bin/sleep"));
    g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1); /* no child is left */
    g_assert_cmpint(errno, ==, ECHILD);
}

/* A host that forbids user namespaces says that there is no space for more (user_namespaces(7)). */
static void test_no_namespaces(void)
{
    const char *const argv[] = {"/bin/sleep", "100", NULL};
    const XldrvSpawn spawn = {.argv = argv, .confine = TRUE, .may_mount = TRUE};
    g_autoptr(GError) why = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    refuse(SYS_unshare, ENOSPC);
    g_assert_null(xldrv_process_spawn(&spawn, &why));
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why->message, "namespaces of its own, which this host must allow"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/process/starts", test_starts);
    g_test_add_func("/process/no-program", test_no_program);
    g_test_add_func("/process/unwatched", test_unwatched);
    g_test_add_func("/process/no-namespaces", test_no_namespaces);
    return g_test_run();
}
