/* The console of a domain alone: standard input and output of this process, in raw mode; Ctrl-] quits. */
#pragma once

#include "hv/types.h"

struct hv_stdio;

/* Starts a thread that carries bytes between standard input and output and a socket; *@console_fd is the
 * console's end of that (the caller's). @quit is called on that thread when the user types Ctrl-]. */
int hv_stdio_new(void (*quit)(void *opaque), void *opaque, int *console_fd, struct hv_stdio **out) HV_MUST_CHECK;

/* Waits until what the console wrote has been written out (its end must be closed), restores the terminal. */
void hv_stdio_free(struct hv_stdio *stdio);
