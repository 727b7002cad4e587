/* Network interfaces of the host: the taps of domains and what they are plugged into. All of it through netlink and
 * the tun device; every error names the interface that it is about.
 */
#pragma once

#include <glib.h>

#define XLDRV_TAP_QUEUES_MAX 8

typedef struct {
    const char *name;   /* "vif3.0"; with a %d in it the kernel chooses a number */
    gboolean existing;  /* the tap is somebody's already (persistent): it is opened, and must not be created */
    guint queues;       /* 1 to XLDRV_TAP_QUEUES_MAX; above 1 the tap is a multi-queue one */
    const guint8 *mac;  /* 6 bytes: the guest's address, from which the host's side is made; NULL: any */
    guint mtu;          /* 0: that of the bridge, or as it is */
    const char *bridge; /* to be plugged into; NULL: none */
    gboolean isolated;  /* there, from other ports that are */
    gboolean up;
} XldrvTap;

/* Makes a tap, with virtio-net headers, as a domain's hypervisor needs it, and opens @tap->queues of @fds. It goes away
 * when the last of them is closed. *@name is what it is called. On failure nothing is left of it. */
gboolean xldrv_tap_create(const XldrvTap *tap, int *fds, char **name, GError **error);
/* The host takes it for unplugged, until whoever has it says otherwise. */
void xldrv_tap_drop_carrier(int fd);
void xldrv_tap_close(int *fds, guint n_fds);

/* On an interface that exists, by name. */
gboolean xldrv_link_set_up(const char *name, gboolean up, GError **error);
gboolean xldrv_link_set_mtu(const char *name, guint mtu, GError **error);
/* Plugs it into @bridge, or unplugs it (NULL). */
gboolean xldrv_link_set_bridge(const char *name, const char *bridge, GError **error);
gboolean xldrv_link_delete(const char *name, GError **error);
gboolean xldrv_link_exists(const char *name);

/* The IP addresses, as text, that the host has seen in use by @mac ("00:16:3e:..."): its neighbour table, by ARP and
 * NDP. NULL on failure. */
GPtrArray *xldrv_neighbour_addresses(const char *mac, GError **error);
