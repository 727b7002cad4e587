/* A domain's picture for VNC clients, and their keys for the domain. By libvncserver.
 *
 * The main thread has the channels; each client is served by threads of its own, so that one that is slow, or sends half a
 * message, holds up nobody else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "libxldrv/vnc/keys.h"
#include "libxldrv/vnc/protocol.h"

/* Most clients at once; more are turned away. */
#define VNC_CLIENTS_MAX 64

enum vnc_share { VNC_SHARE_ALLOW_EXCLUSIVE, VNC_SHARE_FORCE_SHARED, VNC_SHARE_IGNORE };

struct vnc_screen_config {
    const char *name; /* what clients see */
    enum vnc_share share;
    const struct vnc_keys *keys;
    int display_fd;
    /* A client came, was let in, or went: called on any thread, one at a time. */
    void (*event)(const struct xldrv_vnc_message *event);
};

/* There is one. 0, or -1 with the reason on standard error. */
int vnc_screen_init(const struct vnc_screen_config *config);

/* A picture of that size in the file @fd (taken), or 0, 0, -1: none. */
void vnc_screen_set_surface(uint32_t width, uint32_t height, int fd);
void vnc_screen_damage(int32_t x, int32_t y, int32_t width, int32_t height);

/* NULL: none is asked for. @valid_to in seconds since 1970, 0: always. */
void vnc_screen_set_password(const char *password, int64_t valid_to);
/* Serves the client at @fd (taken). */
void vnc_screen_add_client(int fd, bool without_password);
