/* Taps by ioctl, links by rtnetlink. Source: Linux Documentation/networking/tuntap.rst, libnl-route. */
#include "config.h"

#include "libxldrv/host/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libxldrv/host/netlink.h"
#include "libxldrv/rpc/rpc.h"

/* ------------------------------------------------------------------ links */

NlSock *xldrv_netlink_connect(GError **error)
{
    g_autoptr(NlSock) socket = nl_socket_alloc();
    int status = socket ? nl_connect(socket, NETLINK_ROUTE) : -NLE_NOMEM;

    if (status == 0)
        return g_steal_pointer(&socket);
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot connect to netlink: %s", nl_geterror(status));
    return NULL;
}

RtnlLink *xldrv_netlink_find(NlSock *socket, const char *name, GError **error)
{
    RtnlLink *link = NULL;
    int status = rtnl_link_get_kernel(socket, 0, name, &link);

    if (status == 0)
        return link;
    if (status == -NLE_OBJ_NOTFOUND || status == -NLE_NODEV)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "there is no network interface '%s'", name);
    else
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot look up network interface '%s': %s", name,
                        nl_geterror(status));
    return NULL;
}

typedef gboolean (*ChangeFn)(NlSock *socket, RtnlLink *change, gconstpointer value, GError **error);

/* Changes what @set puts into the change; @what is for the message. */
static gboolean change_link(const char *name, const char *what, ChangeFn set, gconstpointer value, GError **error)
{
    g_autoptr(NlSock) socket = xldrv_netlink_connect(error);
    g_autoptr(RtnlLink) link = socket ? xldrv_netlink_find(socket, name, error) : NULL;
    g_autoptr(RtnlLink) change = rtnl_link_alloc();
    int status;

    if (!link || !set(socket, change, value, error))
        return FALSE;
    status = rtnl_link_change(socket, link, change, 0);
    if (status < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s of network interface '%s': %s", what, name,
                        nl_geterror(status));
    return status >= 0;
}

static gboolean put_up(NlSock *socket G_GNUC_UNUSED, RtnlLink *change, gconstpointer value,
                       GError **error G_GNUC_UNUSED)
{
    if (GPOINTER_TO_INT(value))
        rtnl_link_set_flags(change, IFF_UP);
    else
        rtnl_link_unset_flags(change, IFF_UP);
    return TRUE;
}

static gboolean put_mtu(NlSock *socket G_GNUC_UNUSED, RtnlLink *change, gconstpointer value,
                        GError **error G_GNUC_UNUSED)
{
    rtnl_link_set_mtu(change, GPOINTER_TO_UINT(value));
    return TRUE;
}

/* The guest's address with another first byte: a bridge takes the lowest address of its ports for its own, and must
 * not take a guest's. */
static gboolean put_mac(NlSock *socket G_GNUC_UNUSED, RtnlLink *change, gconstpointer value,
                        GError **error G_GNUC_UNUSED)
{
    guint8 mac[6];
    struct nl_addr *address;

    memcpy(mac, value, sizeof(mac));
    mac[0] = 0xfe;
    address = nl_addr_build(AF_LLC, mac, sizeof(mac));
    rtnl_link_set_addr(change, address);
    nl_addr_put(address);
    return TRUE;
}

static gboolean put_bridge(NlSock *socket, RtnlLink *change, gconstpointer value, GError **error)
{
    const char *name = value;
    g_autoptr(RtnlLink) bridge = NULL;

    if (!name) {
        rtnl_link_set_master(change, 0);
        return TRUE;
    }
    bridge = xldrv_netlink_find(socket, name, error);
    if (!bridge)
        return FALSE;
    if (g_strcmp0(rtnl_link_get_type(bridge), "bridge") != 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "network interface '%s' is not a bridge", name);
    rtnl_link_set_master(change, rtnl_link_get_ifindex(bridge));
    return TRUE;
}

/* libnl has no call for this attribute of a port. Source: <linux/if_link.h>. */
static gboolean isolate(const char *name, GError **error)
{
    g_autoptr(NlSock) socket = xldrv_netlink_connect(error);
    struct nl_msg *message = socket ? nlmsg_alloc_simple(RTM_SETLINK, NLM_F_REQUEST) : NULL;
    const struct ifinfomsg about = {.ifi_family = AF_BRIDGE, .ifi_index = (int)if_nametoindex(name)};
    struct nlattr *port;
    int status;

    if (!message)
        return FALSE;
    nlmsg_append(message, (void *)&about, sizeof(about), NLMSG_ALIGNTO);
    port = nla_nest_start(message, IFLA_PROTINFO | NLA_F_NESTED);
    nla_put_u8(message, IFLA_BRPORT_ISOLATED, 1);
    nla_nest_end(message, port);
    status = nl_send_sync(socket, message); /* which takes the message */
    return status >= 0 || xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot isolate network interface '%s': %s",
                                          name, nl_geterror(status));
}

gboolean xldrv_link_set_up(const char *name, gboolean up, GError **error)
{
    return change_link(name, up ? "set the state" : "clear the state", put_up, GINT_TO_POINTER(up), error);
}

gboolean xldrv_link_set_mtu(const char *name, guint mtu, GError **error)
{
    return change_link(name, "set the MTU", put_mtu, GUINT_TO_POINTER(mtu), error);
}

gboolean xldrv_link_set_bridge(const char *name, const char *bridge, GError **error)
{
    return change_link(name, "change the bridge", put_bridge, bridge, error);
}

gboolean xldrv_link_delete(const char *name, GError **error)
{
    g_autoptr(NlSock) socket = xldrv_netlink_connect(error);
    g_autoptr(RtnlLink) link = socket ? xldrv_netlink_find(socket, name, error) : NULL;
    int status;

    if (!link)
        return FALSE;
    status = rtnl_link_delete(socket, link);
    if (status < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot delete network interface '%s': %s", name,
                        nl_geterror(status));
    return status >= 0;
}

gboolean xldrv_link_exists(const char *name)
{
    return if_nametoindex(name) != 0;
}

/* ------------------------------------------------------------------ taps */

void xldrv_tap_close(int *fds, guint n_fds)
{
    for (guint i = 0; i < n_fds; i++)
        close(fds[i]);
}

static gboolean check_tap(const XldrvTap *tap, GError **error)
{
    if (!tap->name[0] || strlen(tap->name) >= IFNAMSIZ || strchr(tap->name, '/'))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "'%s' cannot be the name of a network interface", tap->name);
    if (tap->queues < 1 || tap->queues > XLDRV_TAP_QUEUES_MAX)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "network interface '%s' can have 1 to %d queues, not %u", tap->name,
                               XLDRV_TAP_QUEUES_MAX, tap->queues);
    if (tap->existing && !xldrv_link_exists(tap->name))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "there is no network interface '%s'", tap->name);
    return TRUE;
}

/* One more descriptor for the tap that @request names. */
static int open_queue(struct ifreq *request, GError **error)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    int header_bytes = sizeof(struct virtio_net_hdr);

    if (fd < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '/dev/net/tun' for network interface '%s': %s",
                        request->ifr_name, g_strerror(errno));
        return -1;
    }
    if (ioctl(fd, TUNSETIFF, request) == 0 && ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) == 0)
        return fd;
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s tap '%s': %s",
                    request->ifr_flags & IFF_TUN_EXCL ? "create" : "open", request->ifr_name, g_strerror(errno));
    close(fd);
    return -1;
}

static gboolean open_queues(const XldrvTap *tap, struct ifreq *request, int *fds, GError **error)
{
    int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (tap->queues > 1 ? IFF_MULTI_QUEUE : 0);

    for (guint i = 0; i < tap->queues; i++) {
        request->ifr_flags = (short)(flags | (i == 0 && !tap->existing ? IFF_TUN_EXCL : 0));
        fds[i] = open_queue(request, error);
        if (fds[i] >= 0)
            continue;
        xldrv_tap_close(fds, i);
        return FALSE;
    }
    return TRUE;
}

static guint mtu_of_bridge(const char *name)
{
    g_autoptr(NlSock) socket = xldrv_netlink_connect(NULL);
    g_autoptr(RtnlLink) link = socket ? xldrv_netlink_find(socket, name, NULL) : NULL;

    return link && g_strcmp0(rtnl_link_get_type(link), "bridge") == 0 ? rtnl_link_get_mtu(link) : 0;
}

static gboolean configure(const XldrvTap *tap, const char *name, GError **error)
{
    /* A bridge has the least MTU of its ports, so a port with another would change it for all. */
    guint mtu = tap->mtu || !tap->bridge ? tap->mtu : mtu_of_bridge(tap->bridge);

    if (tap->mac && !tap->existing && !change_link(name, "set the address", put_mac, tap->mac, error))
        return FALSE;
    if (mtu && !xldrv_link_set_mtu(name, mtu, error))
        return FALSE;
    if (tap->bridge && !xldrv_link_set_bridge(name, tap->bridge, error))
        return FALSE;
    if (tap->bridge && tap->isolated && !isolate(name, error))
        return FALSE;
    return !tap->up || xldrv_link_set_up(name, TRUE, error);
}

void xldrv_tap_drop_carrier(int fd)
{
    const int off = 0;

    if (ioctl(fd, TUNSETCARRIER, &off) < 0)
        g_debug("a tap keeps its carrier: %s", g_strerror(errno));
}

gboolean xldrv_tap_create(const XldrvTap *tap, int *fds, char **name, GError **error)
{
    struct ifreq request = {0};

    if (!check_tap(tap, error))
        return FALSE;
    g_strlcpy(request.ifr_name, tap->name, sizeof(request.ifr_name));
    if (!open_queues(tap, &request, fds, error))
        return FALSE;
    if (!configure(tap, request.ifr_name, error)) {
        xldrv_tap_close(fds, tap->queues);
        return FALSE;
    }
    *name = g_strdup(request.ifr_name);
    return TRUE;
}

/* ------------------------------------------------------------------ neighbours */

/* States in which the address is not known to be the neighbour's. */
#define NOT_ANSWERED (NUD_INCOMPLETE | NUD_FAILED | NUD_NOARP)

GPtrArray *xldrv_neighbour_addresses(const char *mac, GError **error)
{
    g_autoptr(NlSock) socket = xldrv_netlink_connect(error);
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(NlCache) cache = NULL;
    g_autoptr(NlAddr) wanted = NULL;
    int status;

    if (!socket)
        return NULL;
    status = nl_addr_parse(mac, AF_LLC, &wanted);
    if (status == 0)
        status = rtnl_neigh_alloc_cache(socket, &cache);
    if (status < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot look up the neighbour '%s': %s", mac,
                        nl_geterror(status));
        return NULL;
    }
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
        struct rtnl_neigh *neighbour = (struct rtnl_neigh *)o;
        struct nl_addr *lladdr = rtnl_neigh_get_lladdr(neighbour), *ip = rtnl_neigh_get_dst(neighbour);
        char text[64];

        if (lladdr && ip && nl_addr_cmp(lladdr, wanted) == 0 && !(rtnl_neigh_get_state(neighbour) & NOT_ANSWERED))
            g_ptr_array_add(found, g_strdup(nl_addr2str(ip, text, sizeof(text))));
    }
    return g_steal_pointer(&found);
}
