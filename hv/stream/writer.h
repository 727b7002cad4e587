/* Inside streams: a thread that writes pages to a file, so that the loop never waits for the disk. */
#pragma once

#include <sys/types.h>

#include "hv/loop.h"
#include "hv/types.h"

#define HV_WRITER_PAGES 256u

struct hv_writer;

/* Pages, and where in the file each of them belongs. Those that follow each other there are written as one. None: what
 * was written before is to be on the disk. */
struct hv_writer_chunk {
    unsigned count;
    off_t places[HV_WRITER_PAGES];
    uint8_t *pages;
};

/* @fd is duplicated; @wakeup is woken when a chunk was written. 0 or a negative errno. Loop thread, as all of these. */
int hv_writer_new(int fd, struct hv_loop_source *wakeup, struct hv_writer **out) HV_MUST_CHECK;
/* What is not written yet is dropped. Does not wait: a write that hangs ends in its own time, and wakes nobody. NULL is
 * fine. */
void hv_writer_free(struct hv_writer *w);
/* One to be filled; the same again until it is put; NULL: all are still to be written. */
struct hv_writer_chunk *hv_writer_get(struct hv_writer *w);
/* The one that was got is filled: it is written after those before it. */
void hv_writer_put(struct hv_writer *w);
bool hv_writer_is_idle(struct hv_writer *w);
/* 0, or the negative errno of the first write that failed, after which nothing is written any more. */
int hv_writer_error(struct hv_writer *w);
