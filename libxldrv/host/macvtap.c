/* Macvtaps by rtnetlink and their device files. Source: libnl-route, Linux drivers/net/tap.c, <linux/if_tun.h>. */
#include "config.h"

#include "libxldrv/host/macvtap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netlink/route/link/macvtap.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libxldrv/host/netlink.h"
#include "libxldrv/rpc/rpc.h"

/* The device file is made by the kernel or by udev, some moments after the interface. */
#define DEVICE_TRIES    100
#define DEVICE_RETRY_US 20000

/* libvirt's name of the mode and the kernel's. */
static const char *kernel_mode(const char *mode)
{
    return strcmp(mode, "passthrough") == 0 ? "passthru" : mode;
}

static RtnlLink *describe(const XldrvMacvtap *macvtap, const RtnlLink *device)
{
    g_autoptr(NlAddr) mac = nl_addr_build(AF_LLC, macvtap->mac, 6);
    RtnlLink *link = rtnl_link_macvtap_alloc();

    rtnl_link_set_name(link, macvtap->name);
    rtnl_link_set_link(link, rtnl_link_get_ifindex((RtnlLink *)device));
    rtnl_link_macvtap_set_mode(link, (uint32_t)rtnl_link_macvtap_str2mode(kernel_mode(macvtap->mode)));
    if (strcmp(macvtap->mode, "passthrough") != 0)
        rtnl_link_set_addr(link, mac);
    if (macvtap->mtu)
        rtnl_link_set_mtu(link, macvtap->mtu);
    rtnl_link_set_flags(link, IFF_UP);
    return link;
}

static gboolean add_link(const XldrvMacvtap *macvtap, GError **error)
{
    g_autoptr(NlSock) socket = xldrv_netlink_connect(error);
    g_autoptr(RtnlLink) device = socket ? xldrv_netlink_find(socket, macvtap->dev, error) : NULL;
    g_autoptr(RtnlLink) link = device ? describe(macvtap, device) : NULL;
    int status;

    if (!link)
        return FALSE;
    status = rtnl_link_add(socket, link, NLM_F_CREATE | NLM_F_EXCL);
    if (status < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make macvtap '%s' on network interface '%s': %s",
                        macvtap->name, macvtap->dev, nl_geterror(status));
    return status >= 0;
}

static int open_device(const char *path)
{
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

    for (guint i = 0; fd < 0 && (errno == ENOENT || errno == EACCES) && i < DEVICE_TRIES; i++) {
        g_usleep(DEVICE_RETRY_US);
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    return fd;
}

/* Sets it up as the hypervisor needs it. A file that was there before is of another network namespace's macvtap. */
static gboolean set_up(int fd, const XldrvMacvtap *macvtap)
{
    struct ifreq request = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
                                                 (macvtap->queues > 1 ? IFF_MULTI_QUEUE : 0))};
    int header_bytes = sizeof(struct virtio_net_hdr);

    if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        ioctl(fd, TUNGETIFF, &request) < 0)
        return FALSE;
    errno = strncmp(request.ifr_name, macvtap->name, sizeof(request.ifr_name)) == 0 ? 0 : EEXIST;
    return errno == 0;
}

static gboolean open_queues(const XldrvMacvtap *macvtap, int *fds, GError **error)
{
    g_autofree char *path = g_strdup_printf("/dev/tap%u", if_nametoindex(macvtap->name));

    for (guint i = 0; i < macvtap->queues; i++) {
        fds[i] = open_device(path);
        if (fds[i] >= 0 && set_up(fds[i], macvtap))
            continue;
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s' of macvtap '%s': %s", path, macvtap->name,
                        g_strerror(errno));
        xldrv_tap_close(fds, fds[i] >= 0 ? i + 1 : i);
        return FALSE;
    }
    return TRUE;
}

gboolean xldrv_macvtap_create(const XldrvMacvtap *macvtap, int *fds, GError **error)
{
    if (!add_link(macvtap, error))
        return FALSE;
    if (open_queues(macvtap, fds, error))
        return TRUE;
    xldrv_link_delete(macvtap->name, NULL);
    return FALSE;
}

void xldrv_macvtap_delete(const char *name, const char *dev)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(NlSock) socket = xldrv_netlink_connect(NULL);
    g_autoptr(RtnlLink) link = socket ? xldrv_netlink_find(socket, name, NULL) : NULL;

    if (link && rtnl_link_is_macvtap(link) && rtnl_link_get_link(link) == (int)if_nametoindex(dev) &&
        !xldrv_link_delete(name, &why))
        g_warning("%s", why->message);
}
