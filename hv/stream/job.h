/* Inside streams: one that is under way. It is a machine on the event loop, whose step() is called until it is done or failed:
 * soon again when it asks for it, when its descriptor is ready, or at a time. Loop thread.
 */
#pragma once

#include "hv/hv.h"
#include "hv/stream/stream.h"

struct hv_stream_ops {
    void (*step)(struct hv_stream *s);
    void (*fini)(struct hv_stream *s); /* frees s->own */
    int (*set_limits)(struct hv_stream *s, const struct domus_stream_limits *limits); /* NULL: it has none */
    void (*look)(struct hv_stream *s); /* brings s->status up to date; NULL: it is */
};

enum hv_stream_side { HV_SIDE_NONE, HV_SIDE_SENT, HV_SIDE_RECEIVED };

struct hv_stream {
    struct hv_domain *domain;
    const struct hv_stream_ops *ops;
    int fd; /* owned */
    struct hv_loop_source *wakeup, *timer, *source;
    uint32_t events; /* that source waits for */
    uint64_t start_ns, frozen_at_ns, end_ns; /* 0: not yet */
    bool froze; /* the domain, and has not let it go on */
    enum hv_stream_side side; /* of what has a state at both sides: handover.h */
    struct domus_stream_status status;
    void *own;
};

/* A new job of @d; @fd is taken on success. 0, -EBUSY while there is another that is not over, -ENOMEM. */
int hv_stream_begin(struct hv_domain *d, const struct hv_stream_ops *ops, int fd, void *own) HV_MUST_CHECK;
/* Ends it, whatever it is doing; a domain that it froze goes on. 0, also without any, or -EBUSY: the domain is not ours to run
 * (handover.h). */
int hv_stream_end(struct hv_domain *d) HV_MUST_CHECK;
/* The domain goes away: frees what there is. */
void hv_stream_free(struct hv_domain *d);
void hv_stream_get_status(struct hv_domain *d, struct domus_stream_status *status);

/* In step(): what it comes back for. */
void hv_stream_again(struct hv_stream *s);
void hv_stream_at(struct hv_stream *s, uint64_t when_ns);
int hv_stream_wait(struct hv_stream *s, uint32_t events) HV_MUST_CHECK; /* 0: for nothing */
/* It goes on as something else. */
void hv_stream_change(struct hv_stream *s, const struct hv_stream_ops *ops, void *own);
/* In step(): it is done, but its socket is of use to @ops, whose @own it gets. */
void hv_stream_go_over(struct hv_stream *s, const struct hv_stream_ops *ops, void *own);
/* After that: it is of no more use. */
void hv_stream_hang_up(struct hv_stream *s);
/* In step(): the end. */
void hv_stream_done(struct hv_stream *s);
void hv_stream_fail(struct hv_stream *s, int error, const char *format, ...) HV_PRINTF(3, 4);
/* The same for a domain that may be at the other side by now: it stays frozen. */
void hv_stream_lose(struct hv_stream *s, int error, const char *format, ...) HV_PRINTF(3, 4);

/* freeze.c. Stops vCPUs, and what of the backends touches memory, as soon as nothing is in flight. */
void hv_stream_freeze(struct hv_stream *s);
/* In step(), after that: whether all stands still. If not, it comes back for it, or has failed since a disk does not come to rest:
 * a guest is not kept waiting for that. */
bool hv_stream_stands_still(struct hv_stream *s);
void hv_stream_thaw(struct hv_stream *s);
/* A domain out of a stream is frozen from the beginning, and goes on with its first vCPU: 0, or -ENODEV while a device that it
 * had is missing, or -EACCES: it is the sender's still. */
int hv_stream_start(struct hv_domain *d) HV_MUST_CHECK;
/* Whether a domain can be written: it lives, and has what it is made of. */
int hv_stream_check(const struct hv_domain *d) HV_MUST_CHECK;

/* page.c */
bool hv_stream_page_is_zero(const void *page);

/* save.c, restore.c, send.c, receive.c. @fd is taken on success. */
int hv_stream_save(struct hv_domain *d, int fd) HV_MUST_CHECK;
/* save-live.c: the same, but the domain is frozen for the end alone. */
int hv_stream_save_live(struct hv_domain *d, int fd) HV_MUST_CHECK;
/* dump.c: @flags is a set of enum domus_dump_flags. */
int hv_stream_dump(struct hv_domain *d, int fd, unsigned flags) HV_MUST_CHECK;
int hv_stream_restore(struct hv_domain *d, int fd, unsigned flags, char error[HV_STREAM_ERROR_BYTES]) HV_MUST_CHECK;
int hv_stream_send(struct hv_domain *d, int fd, const struct domus_stream_limits *limits) HV_MUST_CHECK;
int hv_stream_receive(struct hv_domain *d, int fd) HV_MUST_CHECK;
/* What is sent is switched: 0, -ENOENT: nothing is, or -EINVAL: it cannot be, or was. */
int hv_stream_switch(struct hv_domain *d) HV_MUST_CHECK;
