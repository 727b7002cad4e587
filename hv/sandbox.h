/* What this process can do once guest code may run: nothing but what is on a list. */
#pragma once

#include <sys/types.h>

#include "hv/types.h"

/* Gives up all privileges for good: supplementary groups, user and group (when @change_user), capabilities, and
 * gaining any by exec. 0 or negative errno; after a failure the process must not go on. */
int hv_drop_privileges(bool change_user, uid_t uid, gid_t gid) HV_MUST_CHECK;

/* Lets this process and its threads make the system calls of the table in sandbox.c only: another one ends the
 * process with a message. Does nothing in builds with AddressSanitizer, whose run-time needs more. */
int hv_sandbox_enter(void) HV_MUST_CHECK;
