/* What a virtual disk is kept in: a raw file or a block device, passed as a descriptor. Private to the block backend. */
#pragma once

#include "hv/types.h"

struct hv_blk_image {
    int fd;
    bool writable;
    unsigned block_bytes; /* what I/O must be aligned to: above 512 only with O_DIRECT */
};

/* Looks at @fd (borrowed until it succeeds, then taken). -EINVAL, with @error saying what is wrong with it. */
int hv_blk_image_init(struct hv_blk_image *image, int fd, char *error, size_t error_bytes) HV_MUST_CHECK;
void hv_blk_image_fini(struct hv_blk_image *image);

/* The size now. 0 or negative errno. */
int hv_blk_image_size(const struct hv_blk_image *image, uint64_t *bytes) HV_MUST_CHECK;
/* Lets I/O of single 512-byte sectors pass, by way of the host's page cache where the image cannot do it directly. */
int hv_blk_image_allow_small(struct hv_blk_image *image) HV_MUST_CHECK;
