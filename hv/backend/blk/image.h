/* What a virtual disk is kept in, behind one small interface with two implementations: a raw file or a block device
 * through io_uring (image.c), and an export of an NBD server on a connected socket (nbd.c), which is what every other
 * format comes through. Either way a passed descriptor, and memory of the guest that is read and written in place.
 * Private to the block backend; loop thread.
 */
#pragma once

#include "hv/hv.h"
#include "hv/types.h"
#include "hv/uring.h"

enum hv_blk_io_kind { HV_BLK_READ, HV_BLK_WRITE, HV_BLK_SYNC, HV_BLK_DISCARD };

/* An operation on an image; embedded in what it belongs to, and ended before the image is. */
struct hv_blk_io {
    enum hv_blk_io_kind kind;
    bool fua;                /* WRITE: on stable storage when it ends; only with image->can_fua */
    const struct iovec *iov; /* READ, WRITE: good until the end */
    unsigned nr_iov;
    uint64_t offset, bytes;  /* bytes: of all of iov, or to be discarded */
    /* Called from the loop, never from the driver's start(): a number of bytes (of a WRITE or READ, perhaps not all) or 0,
     * or a negative errno. May free the image. */
    void (*done)(struct hv_blk_io *io, int result);

    union { /* the driver's own */
        struct {
            struct hv_uring_op op;
            struct hv_blk_image *image;
            struct hv_blk_io *next; /* WRITE: the one that came after it */
        } file;
        struct {
            struct hv_blk_io *next;
            uint64_t done_bytes; /* DISCARD: of the pieces before this one */
            uint64_t now_bytes;  /* of this piece */
        } nbd;
    };
};

struct hv_blk_image;

struct hv_blk_driver {
    void (*start)(struct hv_blk_image *image, struct hv_blk_io *io); /* at the latest with the next flush */
    void (*flush)(struct hv_blk_image *image);
    /* Blocks until one operation or more have ended; something must be going on. */
    void (*wait)(struct hv_blk_image *image);
    /* Nobody wants to wait long any more: what is going on ends within HV_BLK_HURRY_NS, done or failed. May be NULL. */
    void (*hurry)(struct hv_blk_image *image);
    int (*size)(const struct hv_blk_image *image, uint64_t *bytes);
    int (*allow_small)(struct hv_blk_image *image); /* single 512-byte sectors; NULL: that is not possible */
    void (*release)(struct hv_blk_image *image); /* leaves the descriptor alone */
};

#define HV_BLK_HURRY_NS 5000000000ull

struct hv_blk_image {
    const struct hv_blk_driver *driver; /* NULL: there is none */
    bool writable, can_fua, can_discard;
    unsigned block_bytes; /* what I/O must be aligned to */
    unsigned reconnect_seconds; /* how long its user waits for another one when its server is gone */

    int fd;
    struct hv_uring *uring; /* files */
    bool writes_in_turn;            /* merge.c: the host's kernel does one write at a time */
    unsigned writing;               /* given to it and not ended */
    struct hv_blk_io *first, *last; /* not given to it */
    struct hv_blk_nbd *nbd; /* nbd.c */
};

/* What an image needs of its surroundings. */
struct hv_blk_host {
    struct hv_loop *loop;
    struct hv_uring *uring; /* NULL: files are refused */
    void (*lost)(void *opaque); /* the connection to the server broke: all fails from here on */
    void *opaque;
};

/* Looks at @fd (borrowed until it succeeds, then taken; -1 for DOMUS_VBD_EMPTY) as @source says. 0, or a negative errno
 * with @error saying what is wrong. */
int hv_blk_image_open(struct hv_blk_image *image, const struct hv_blk_host *host, const struct domus_vbd_source *source,
                      int fd, char *error, size_t error_bytes) HV_MUST_CHECK;
void hv_blk_image_fini(struct hv_blk_image *image);
/* The same, but the descriptor is its opener's again. */
void hv_blk_image_give_back(struct hv_blk_image *image);
/* Whether it was served by a server that is gone. nbd.c */
bool hv_blk_image_is_lost(const struct hv_blk_image *image);

/* Inside: merge.c. As in a driver. */
void hv_blk_merge_start(struct hv_blk_image *image, struct hv_blk_io *io);
void hv_blk_merge_flush(struct hv_blk_image *image);

/* Inside: nbd.c. @fd is -1 for a drive without a medium. */
int hv_blk_nbd_open(struct hv_blk_image *image, const struct hv_blk_host *host, const struct domus_vbd_source *source,
                    int fd, char *error, size_t error_bytes) HV_MUST_CHECK;
