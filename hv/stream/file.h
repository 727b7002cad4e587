/* Inside streams: files in multiples of a page, from memory at such addresses, so that they may be open for direct I/O. */
#pragma once

#include <sys/types.h>

#include "hv/stream/job.h"

/* 0 or a negative errno. */
int hv_stream_write(const struct hv_stream *s, const void *bytes, size_t count, off_t offset) HV_MUST_CHECK;
/* From any memory, with zeroes up to a multiple of a page. */
int hv_stream_write_padded(struct hv_stream *s, const void *bytes, size_t count, off_t offset) HV_MUST_CHECK;
/* Ends the stream. */
void hv_stream_cannot_write(struct hv_stream *s, int error);
/* Where the file is written from: its position, which is cleared from there on. 0, or -EINVAL for what is no such file. */
int hv_stream_file_begin(int fd, off_t *base) HV_MUST_CHECK;
/* Where the page is in a file from @base on that is the @index-th of RAM. */
off_t hv_stream_file_place(off_t base, uint64_t index);
/* The domain is frozen and its @pages pages of RAM are in the file: the rest of it, the header last. @checksums: of the record of
 * that name. 0 or a negative errno. */
int hv_stream_file_end(struct hv_stream *s, off_t base, uint64_t pages, const struct hv_encoder *checksums) HV_MUST_CHECK;
