/* What the files about network interfaces share: connections to rtnetlink, and libnl's types as GLib's. */
#pragma once

#include <glib.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>

typedef struct nl_sock NlSock;
typedef struct nl_cache NlCache;
typedef struct nl_addr NlAddr;
typedef struct rtnl_link RtnlLink;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NlSock, nl_socket_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NlCache, nl_cache_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NlAddr, nl_addr_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RtnlLink, rtnl_link_put)

/* A connection, or NULL with an error. net.c */
NlSock *xldrv_netlink_connect(GError **error);
/* The interface of that name, or NULL with an error. net.c */
RtnlLink *xldrv_netlink_find(NlSock *socket, const char *name, GError **error);
