/* Inside streams: the checksums of a saved domain's memory, by all processors. */
#pragma once

#include <sys/types.h>

#include "hv/stream/stream.h"

struct hv_verify {
    int fd; /* what is read aside for it; -1: the guest's memory is looked at, which has been read */
    off_t offset;           /* of the first page in the file */
    const uint8_t *present; /* a bit for each page of RAM, set for those that */
    const uint8_t *sums;    /* have a checksum, 4 bytes each */
    uint64_t nr_sums;
};

/* Looks at all pages. -EBADMSG with the reason in @dec: one is not what it was, cannot be read, or there are more or fewer
 * checksums than pages. */
int hv_stream_verify(struct hv_domain *d, const struct hv_verify *what, struct hv_decoder *dec) HV_MUST_CHECK;
/* All @count bytes; 0, a negative errno, or -ENODATA at the end of the file. */
int hv_stream_read(int fd, void *bytes, size_t count, off_t offset) HV_MUST_CHECK;
