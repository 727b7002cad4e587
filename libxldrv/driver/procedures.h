/* The one table of program REMOTE: every procedure of libvirt's protocol, implemented or not. */
#pragma once

#include "libxldrv/rpc/rpc.h"

/* Number of the program and its version, from libvirt's remote_protocol. */
#define XLDRV_REMOTE_PROGRAM 0x20008086
#define XLDRV_REMOTE_VERSION 1

extern const XldrvProgram xldrv_remote_program;

/* libvirt's program for what only QEMU has, from its qemu_protocol. guest-command.c */
#define XLDRV_QEMU_PROGRAM 0x20008087
#define XLDRV_QEMU_VERSION 1

extern const XldrvProgram xldrv_qemu_program;
