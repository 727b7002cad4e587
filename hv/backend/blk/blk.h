/* The block backend: the other end of xen-blkfront (xen/io/blkif.h).
 *
 * A device has an image and up to HV_BLK_QUEUES_MAX queues; a queue has a ring and a port. A request travels: ring
 * (ring.c) -> checked and its pages mapped (request.c) -> its turn under the disk's limits (throttle.c) -> io_uring or an NBD
 * server's socket, straight from or to the guest's pages (image.h, image.c, nbd.c) -> what to do when it failed (held.c)
 * -> pages unmapped, answered (queue.c). Attaching, the handshake's part and statistics are in device.c.
 *
 * Served: reads, writes, indirect requests, flushes, barriers, discard, persistent grants, multi-page rings, several
 * queues. Refused by name: the ring layout of 32-bit x86, secure discard, requests that are not of whole sectors.
 * Answers are given when the image has the data (flushes: on stable storage), never before.
 */
#pragma once

#include "hv/domain.h"
#include "hv/hv.h"

/* Each gives 0 or a negative XEN_E*, -XEN_ENODEV where there is no such device. Loop thread. */

/* @fd is taken on success; @vbd has the answer, vbd->error on failure. */
long hv_blk_attach(struct hv_domain *d, struct domus_vbd *vbd, int fd) HV_MUST_CHECK;
long hv_blk_detach(struct hv_domain *d, uint32_t devid, bool force) HV_MUST_CHECK;
/* Makes the disk @size_bytes, or for 0 as large as its image; @size_bytes is the size afterwards. */
long hv_blk_resize(struct hv_domain *d, uint32_t devid, uint64_t *size_bytes) HV_MUST_CHECK;
long hv_blk_stats(struct hv_domain *d, struct domus_vbd_stats *stats) HV_MUST_CHECK;
/* @fd is taken on success, and closed when the image after it takes its place. */
long hv_blk_set_image(struct hv_domain *d, struct domus_vbd_image *image, int fd) HV_MUST_CHECK;
long hv_blk_set_limits(struct hv_domain *d, const struct domus_vbd_limits *limits) HV_MUST_CHECK;
/* All requests that failed and were held go to their images again. */
void hv_blk_retry(struct hv_domain *d);
