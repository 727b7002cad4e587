/* What a process that strangers speak to may do. */
#pragma once

/* Becomes @user ("UID:GID"; NULL: stays who it is) without any capability, and gives up all system calls but those that
 * serving its descriptors takes; others fail with EPERM. 0, or -1 with the reason on standard error. */
int vnc_sandbox_enter(const char *user);
