/* Inside streams: a domain that is being sent, of which send.c has the part while it runs here, push.c that after it was switched. */
#pragma once

#include <sys/uio.h>

#include "hv/stream/handover.h"
#include "hv/stream/job.h"

struct hv_packer;
struct hv_stream_throttle;

/* Who waits for a page asks for it once, and each of them for one at a time; what does not fit comes in its turn. */
#define HV_WANTED_MAX 256u

enum hv_sending_stage { HEADER, MAP, PASS, MARK, MARKED, CODE, FREEZING, REST, MISSING, STATE, REPLY };

/* A record of pages as it goes out, but for the pages. */
struct pages_head {
    struct hv_stream_record record;
    uint64_t count, entries[HV_STREAM_PAGES_MAX];
};

struct sending {
    enum hv_sending_stage stage;
    bool first; /* pass: what is zero is zero at the other side already */
    struct domus_stream_limits limits;
    struct hv_stream_throttle *throttle;

    uint64_t *todo; /* a bit for each page that this pass sends */
    uint64_t words, gfn;
    uint64_t left, left_before; /* pages: of this pass, at the start of the one before */

    struct iovec out[2]; /* what is being sent: of one of these, */
    struct hv_stream_header header;
    struct pages_head head;
    uint8_t *data; /* its pages, */
    uint8_t *sparse; /* or this, without what is zero in them */
    struct hv_packer *packer; /* which makes them smaller; NULL: only zeroes are left out */
    struct hv_encoder state; /* or a record of something else */
    uint64_t progress_ns;    /* when something was sent last */

    uint64_t page_bytes;          /* of all pages that were sent, not packed */
    uint64_t pass_ns, pass_bytes; /* when the pass began, what had been sent then, */
    uint64_t pass_page_bytes;
    uint64_t pages_per_second;    /* bytes of pages, as is known */
    uint64_t paced_ns, paced_bytes; /* the same for the limit of speed */

    struct hv_stream_reply reply;
    size_t got;

    /* push.c: */
    bool switched;   /* the rest comes after the state */
    bool marked;     /* a mark was not answered yet */
    uint64_t *later; /* a bit for each page of that rest, until it becomes todo */
    uint64_t missing_word; /* of it, which is told next */
    struct hv_stream_word word, answer; /* that comes in; that is to go out */
    bool to_answer, ready, ended, has_all;
    uint64_t wanted[HV_WANTED_MAX]; /* pages that are asked for, the next one first */
    unsigned nr_wanted;
};

/* send.c. Sends what is in w->out. 1: all of it, 0: not now, or negative errno. */
int hv_sending_flush(struct hv_stream *s);
size_t hv_sending_left(const struct sending *w);
/* Makes a record of the next @most pages of w->todo. False: there are none left behind w->gfn. */
bool hv_sending_put_pages(struct hv_stream *s, unsigned most);
/* What the guest has changed is to be sent, too. */
void hv_sending_take_log(struct hv_stream *s);
/* Begins a pass through w->todo. */
void hv_sending_begin_pass(struct hv_stream *s);
void hv_sending_fini(struct hv_stream *s);
/* 0. The limit of speed counts from now on. */
int hv_sending_set_limits(struct hv_stream *s, const struct domus_stream_limits *limits);
size_t hv_sending_todo_bytes(const struct hv_domain *d);

/* push.c. Nothing changes any more, and w->todo and the log have what is left: w->todo becomes what the hypervisor itself looks at,
 * the rest is put off. 0 or -ENOMEM. */
int hv_push_split(struct hv_stream *s) HV_MUST_CHECK;
/* The next record of what was put off. False: that was all. */
bool hv_push_put_missing(struct hv_stream *s);
/* The state is in w->out. */
void hv_push_begin(struct hv_stream *s);
