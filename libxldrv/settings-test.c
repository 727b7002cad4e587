/* Settings: the defaults, every kind of value, and that what is wrong is refused by name. */
#include "config.h"

#include <glib/gstdio.h>
#include <string.h>

#include "libxldrv/settings.h"

static gboolean load(XldrvSettings *settings, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "domusd-test-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    gboolean ok;

    g_assert_cmpint(fd, >=, 0);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    ok = xldrv_settings_load(settings, path, TRUE, error);
    g_unlink(path);
    return ok;
}

static void test_defaults(void)
{
    XldrvSettings settings;

    g_assert_true(xldrv_settings_load(&settings, "/nonexistent/domusd.conf", FALSE, NULL));
    g_assert_cmpuint(settings.socket_mode, ==, 0666);
    g_assert_true(load(&settings, "[authentication]\nauth_unix_rw=none\n", NULL));
    g_assert_cmpuint(settings.socket_mode, ==, 0600);
    g_assert_cmpuint(settings.limits.max_clients, ==, xldrv_default_limits.max_clients);
    g_assert_cmpuint(settings.log_level, ==, 3);
    g_assert_null(settings.backup_cert_dir);
    g_assert_true(settings.backup_verify);
    g_assert_null(settings.engine);
    g_assert_cmpuint(settings.console_log_bytes, ==, 2097152);
    g_assert_cmpuint(settings.console_log_backups, ==, 3);
}

static void test_values(void)
{
    XldrvSettings settings;
    g_autoptr(GError) why = NULL;

    g_assert_true(load(&settings,
                       "[hypervisor]\nengine = interp\n[sockets]\nunix_sock_rw_perms = \"0666\"\nlisten_tls=1\ntls_port = \"17\"\n"
                       "[authentication]\nauth_tls=\"sasl\"\n[tls]\ntls_allowed_dn_list = [ \"CN=a,O=b\", \"CN=c*\" ]\n"
                       "[clients]\nmax_clients=7\nkeepalive_interval=-1\n[log]\nverbosity=2\nlog_level=4\nlog_filters=\"1:rpc\"\n",
                       &why));
    g_assert_no_error(why);
    g_assert_cmpstr(settings.engine, ==, "interp");
    g_assert_cmpuint(settings.socket_mode, ==, 0666);
    g_assert_true(settings.listen_tls);
    g_assert_false(settings.listen_tcp);
    g_assert_cmpuint(settings.tls_port, ==, 17);
    g_assert_cmpint(settings.auth_tls, ==, XLDRV_AUTH_SASL);
    g_assert_cmpuint(g_strv_length(settings.tls_allowed_names), ==, 2);
    g_assert_cmpstr(settings.tls_allowed_names[0], ==, "CN=a,O=b");
    g_assert_cmpuint(settings.limits.max_clients, ==, 7);
    g_assert_cmpint(settings.limits.keepalive_interval, ==, -1);
    g_assert_cmpint(settings.verbosity, ==, 2);
    g_assert_cmpuint(settings.log_level, ==, 4);
    g_assert_cmpstr(settings.log_filters, ==, "1:rpc");
    xldrv_settings_clear(&settings);
}

static void test_bad(void)
{
    static const struct {
        const char *text, *culprit;
    } rows[] = {
        {"[hypervisor]\nengin=interp\n", "engin"}, {"[teapot]\nx=1\n", "teapot"},
        {"[clients]\nmax_clients=many\n", "many"}, {"[clients]\nmax_clients=0\n", "max_clients"},
        {"[sockets]\nunix_sock_rw_perms=999\n", "999"},
        {"[workers]\nmin_workers=9\nmax_workers=3\n", "above max_workers"},
        {"[authentication]\nauth_tcp=polkit\n", "polkit"},
        {"[authentication]\naccess_drivers=[ \"polkit\", \"teapot\" ]\n", "teapot"},
        {"[tls]\ntls_allowed_dn_list=CN=a\n", "CN=a"},
        {"[console_logs]\nmax_size=10\n", "max_size in [console_logs] is '10'"},
        {"nonsense\n", "nonsense"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        XldrvSettings settings;
        g_autoptr(GError) why = NULL;
        g_assert_false(load(&settings, rows[i].text, &why));
        g_assert_nonnull(strstr(why->message, rows[i].culprit));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/settings/defaults", test_defaults);
    g_test_add_func("/settings/values", test_values);
    g_test_add_func("/settings/bad", test_bad);
    return g_test_run();
}
