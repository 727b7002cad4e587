/* UNIX sockets whose paths may be longer than a socket address holds. */
#pragma once

#include <glib.h>

/* Descriptors, close-on-exec; -1 with an error that names @path. @type is SOCK_STREAM or SOCK_SEQPACKET. */
int xldrv_socket_listen(const char *path, int type, GError **error);
/* The same of SOCK_STREAM at a path that a user chose: what is there already must be a socket that nobody serves. */
int xldrv_socket_listen_stream(const char *path, GError **error);
/* @timeout_ms bounds the connection and each send. */
int xldrv_socket_connect(const char *path, int type, int timeout_ms, GError **error);

/* A path for programs and libraries that connect by themselves: @path if it fits into an address, else
 * one through a descriptor of this process, which stays open. NULL with an error. */
char *xldrv_socket_short_path(const char *path, GError **error);
