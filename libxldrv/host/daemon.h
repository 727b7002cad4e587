/* Being a daemon: one per host, in the background, telling when it is ready. */
#pragma once

#include <glib.h>

/* Locks the pid file and writes our number into it. The descriptor holds the lock until it is closed; -1 with
 * an error that names who holds it. */
int xldrv_daemon_lock(const char *path, GError **error);

/* Goes on in the background: TRUE in the child, with *ready_fd for xldrv_daemon_tell_ready; FALSE in the
 * parent once the child is ready or has failed, with the exit status. Before there are threads. */
gboolean xldrv_daemon_fork(int *ready_fd, int *status);

/* In the background: sends standard error to @log_path and tells the parent (@ready_fd, taken; -1: there is
 * none) that the daemon is ready. */
void xldrv_daemon_ready(int ready_fd, const char *log_path);
/* Lets the parent know that it failed, which has been said on standard error. */
void xldrv_daemon_failed(int ready_fd);
