/* Taps, links and bridges, in a network namespace of our own; skipped where one cannot be had. */
#include "config.h"

#include "libxldrv/host/net.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const guint8 mac[6] = {0x00, 0x16, 0x3e, 0x01, 0x02, 0x03};

static gboolean namespace_made;

static gboolean skip_without_namespace(void)
{
    if (namespace_made && access("/dev/net/tun", R_OK | W_OK) == 0)
        return FALSE;
    g_test_skip("needs a network namespace and /dev/net/tun");
    return TRUE;
}

static void make_bridge(const char *name)
{
    struct nl_sock *socket = nl_socket_alloc();

    g_assert_cmpint(nl_connect(socket, NETLINK_ROUTE), ==, 0);
    g_assert_cmpint(rtnl_link_bridge_add(socket, name), ==, 0);
    nl_socket_free(socket);
}

/* A look of our own at an interface. */
static struct rtnl_link *look(const char *name)
{
    struct nl_sock *socket = nl_socket_alloc();
    struct rtnl_link *link = NULL;

    g_assert_cmpint(nl_connect(socket, NETLINK_ROUTE), ==, 0);
    rtnl_link_get_kernel(socket, 0, name, &link);
    nl_socket_free(socket);
    return link;
}

static void test_create(void)
{
    const XldrvTap tap = {.name = "vif3.0", .queues = 2, .mac = mac, .mtu = 9000, .bridge = "br-test", .up = TRUE};
    g_autoptr(GError) error = NULL;
    g_autofree char *name = NULL;
    struct rtnl_link *link;
    struct ifreq about = {0};
    char address[64];
    int fds[2];

    if (skip_without_namespace())
        return;
    make_bridge("br-test");
    xldrv_tap_create(&tap, fds, &name, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(name, ==, "vif3.0");
    link = look("vif3.0");
    g_assert_nonnull(link);
    g_assert_cmpuint(rtnl_link_get_mtu(link), ==, 9000);
    g_assert_cmpint(rtnl_link_get_master(link), ==, (int)if_nametoindex("br-test"));
    g_assert_true(rtnl_link_get_flags(link) & IFF_UP);
    g_assert_cmpstr(nl_addr2str(rtnl_link_get_addr(link), address, sizeof(address)), ==, "fe:16:3e:01:02:03");
    rtnl_link_put(link);
    g_assert_cmpint(ioctl(fds[1], TUNGETIFF, &about), ==, 0);
    g_assert_cmpint(about.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE), ==,
                    IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE);
    g_assert_true(xldrv_link_set_bridge("vif3.0", NULL, &error));
    g_assert_true(xldrv_link_set_up("vif3.0", FALSE, &error));
    link = look("vif3.0");
    g_assert_cmpint(rtnl_link_get_master(link), ==, 0);
    g_assert_false(rtnl_link_get_flags(link) & IFF_UP);
    rtnl_link_put(link);
    xldrv_tap_close(fds, 2);
    g_assert_false(xldrv_link_exists("vif3.0"));
    g_assert_true(xldrv_link_delete("br-test", &error));
    g_assert_false(xldrv_link_exists("br-test"));
}

static void test_numbered(void)
{
    const XldrvTap tap = {.name = "vnet%d", .queues = 1};
    g_autoptr(GError) error = NULL;
    g_autofree char *first = NULL, *second = NULL;
    int fds[2];

    if (skip_without_namespace())
        return;
    g_assert_true(xldrv_tap_create(&tap, fds, &first, &error));
    g_assert_true(xldrv_tap_create(&tap, fds + 1, &second, &error));
    g_assert_cmpstr(first, ==, "vnet0");
    g_assert_cmpstr(second, ==, "vnet1");
    xldrv_tap_close(fds, 2);
}

static void test_refused(void)
{
    static const struct {
        XldrvTap tap;
        const char *message;
    } rows[] = {
        {{.name = "", .queues = 1}, "'' cannot be the name"},
        {{.name = "a-name-too-long-for-one", .queues = 1}, "'a-name-too-long-for-one' cannot be the name"},
        {{.name = "a/b", .queues = 1}, "'a/b' cannot be the name"},
        {{.name = "t0", .queues = 9}, "'t0' can have 1 to 8 queues, not 9"},
        {{.name = "t0", .queues = 1, .existing = TRUE}, "there is no network interface 't0'"},
        {{.name = "lo", .queues = 1}, "cannot create tap 'lo'"},
        {{.name = "t0", .queues = 1, .bridge = "br-none"}, "there is no network interface 'br-none'"},
        {{.name = "t0", .queues = 1, .bridge = "lo"}, "network interface 'lo' is not a bridge"},
        {{.name = "t0", .queues = 1, .mtu = 1000000}, "cannot set the MTU of network interface 't0'"},
    };

    if (skip_without_namespace())
        return;
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *name = NULL;
        int fds[XLDRV_TAP_QUEUES_MAX];

        g_assert_false(xldrv_tap_create(&rows[i].tap, fds, &name, &error));
        g_assert_nonnull(error);
        if (!strstr(error->message, rows[i].message))
            g_error("row %zu: \"%s\"", i, error->message);
        g_assert_null(name);
        g_assert_false(xldrv_link_exists("t0"));
    }
}

static void test_missing(void)
{
    g_autoptr(GError) error = NULL;

    if (skip_without_namespace())
        return;
    g_assert_false(xldrv_link_delete("t9", &error));
    g_assert_nonnull(strstr(error->message, "'t9'"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    namespace_made = unshare(CLONE_NEWNET) == 0; /* before there are threads */
    g_test_add_func("/net/create", test_create);
    g_test_add_func("/net/numbered", test_numbered);
    g_test_add_func("/net/refused", test_refused);
    g_test_add_func("/net/missing", test_missing);
    return g_test_run();
}
