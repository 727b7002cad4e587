/* The picture of a domain and the way of keys to it: what is between the devices and whoever shows them.
 *
 * A source (vfb.c) says what there is to see and where it changed. While somebody looks, changed parts are copied into
 * the surface, a memory file that the peer of the channel (hv/hv.h, struct hv_display_message) maps for reading, and the
 * peer is told. Keys and pointer come back and go to the input (vkbd.c). The guest's memory is never shared, so neither
 * the peer nor its clients have anything of the guest but the picture.
 *
 * Loop thread only.
 */
#pragma once

#include "hv/domain.h"

#define HV_DISPLAY_SIDE_MAX 8192u /* pixels: more than any guest has, and fits what VNC can say */

/* What is to be seen. @read_row gives pixels [@x, @x + @width) of row @y, each of bytes red, green, blue, 0. */
struct hv_display_source {
    uint32_t width, height; /* 0: nothing */
    void (*read_row)(void *opaque, uint32_t x, uint32_t y, uint32_t width, uint32_t *out);
    void *opaque;
};

/* Who wants keys. Codes are Linux's; @key is below KEY_CNT; x and y are within the picture; @wheel is positive downwards. */
struct hv_display_input {
    void (*key)(void *opaque, uint32_t key, bool pressed);
    void (*move)(void *opaque, int32_t x, int32_t y, int32_t wheel);
    void *opaque;
};

/* hv_domain_new and hv_domain_free call these; devices are gone before the latter. */
int hv_display_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_display_fini(struct hv_domain *d);

/* The channel: @fd (taken; replaces the one before) is a connected SOCK_SEQPACKET socket. On failure nothing is taken. */
int hv_display_attach(struct hv_domain *d, int fd) HV_MUST_CHECK;

/* Another picture. -ENOMEM: there is none now. */
int hv_display_set_source(struct hv_domain *d, const struct hv_display_source *source) HV_MUST_CHECK;
/* There is nothing to be seen any more. */
void hv_display_clear_source(struct hv_domain *d);
/* A part of it, which may reach beyond it, changed. */
void hv_display_damage(struct hv_domain *d, int32_t x, int32_t y, int32_t width, int32_t height);
/* NULL for none. */
void hv_display_set_input(struct hv_domain *d, const struct hv_display_input *input);
/* Its size; 0 when there is none. */
void hv_display_size(const struct hv_domain *d, uint32_t *width, uint32_t *height);

/* Writes the picture, rows of 4 * width bytes, to @fd from its position on. -ENODATA when there is none, -EIO. */
int hv_display_write(struct hv_domain *d, int fd) HV_MUST_CHECK;
