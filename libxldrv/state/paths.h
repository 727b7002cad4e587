/* Where things are on disk, on the host itself or below a private root. */
#pragma once

#include <glib.h>

typedef struct {
    char *root;        /* "" on the host itself */
    char *config_dir;  /* etc/domus: domusd.conf */
    char *define_dir;  /* etc/domus/xen: one NAME.xml for each persistent domain */
    char *autostart_dir; /* etc/domus/xen/autostart: links to those */
    char *state_dir;   /* var/lib/domus: what outlives a restart of the host */
    char *channel_dir; /* var/lib/domus/channel/target: sockets of channels that name none */
    char *log_dir;     /* var/log/domus: one NAME.log for each domain */
    char *run_dir;     /* run/domus: what only running domains have */
    char *socket_dir;  /* run/libvirt: the sockets of clients */
    char *store_dir;   /* run/xenstored: the store's socket */
} XldrvPaths;

/* @root NULL or "" means the host's own places. A relative @root is made absolute. */
XldrvPaths *xldrv_paths_new(const char *root);
void xldrv_paths_free(XldrvPaths *paths);

/* The daemon's pid file. */
char *xldrv_paths_pid_file(const XldrvPaths *paths);

/* Makes all directories. Definitions and run-time files are readable by their owner only. */
gboolean xldrv_paths_create(const XldrvPaths *paths, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvPaths, xldrv_paths_free)
