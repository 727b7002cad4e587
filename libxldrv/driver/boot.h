/* What a guest is booted with: files that its definition names, or that a boot loader finds in its disk. */
#pragma once

#include "libxldrv/driver/driver.h"

typedef struct {
    int kernel_fd, ramdisk_fd; /* the latter may be -1: none */
    char *kernel, *ramdisk;    /* what they are, for messages */
    char *cmdline;             /* or NULL */
} XldrvBoot;

#define XLDRV_BOOT_NONE {.kernel_fd = -1, .ramdisk_fd = -1}

/* Opens what @config, a domain of @uuid, is booted with. Where it has a <bootloader>, that program is run, which may
 * take a minute; what it made is gone when this returns, but for the descriptors. */
gboolean xldrv_boot_open(XldrvDriver *driver, const char *uuid, const XmlconfDomainConfig *config, XldrvBoot *boot,
                         GError **error);
/* Closes and frees; @boot is XLDRV_BOOT_NONE afterwards. */
void xldrv_boot_clear(XldrvBoot *boot);
