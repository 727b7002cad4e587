/* Namespaces for a program that has to mount something and is not trusted with the right to do so. */
#pragma once

#include <glib.h>

/* In a child between fork and exec: puts it into namespaces of users, mounts and processes of its own, in which it has all
 * rights, over nothing of the host's. What returns is the first process of them, with whose end all others in it end; the
 * caller's process waits for it, and ends as it does, and it ends with that. Descriptors from 3 on stay open in the first one
 * alone. FALSE with errno. */
gboolean xldrv_namespaces_enter(void);
