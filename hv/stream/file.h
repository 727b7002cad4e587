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
