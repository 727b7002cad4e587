/* libvirt's other daemons (networks, filters), asked through its public interface. They are reached anew each time: a
 * call is rare, and a connection that is kept would have to be watched. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

/* @what is for the error: "network". NULL with an error that has the URI. */
virConnectPtr xldrv_peer_open(const char *uri, const char *what, GError **error);
/* Passes on what libvirt said last on this thread: its code, and its text behind @format's. Always FALSE. */
gboolean xldrv_peer_error(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virConnect, virConnectClose)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNetwork, virNetworkFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNWFilterBinding, virNWFilterBindingFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNetworkPort, virNetworkPortFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStoragePool, virStoragePoolFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageVol, virStorageVolFree)
