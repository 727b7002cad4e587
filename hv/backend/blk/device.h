/* Inside the block backend: devices, queues, requests. All of it belongs to the loop thread. */
#pragma once

#include "hv/backend/blk/image.h"
#include "hv/backend/blk/persist.h"
#include "hv/backend/blk/ring.h"
#include "hv/backend/blk/throttle.h"
#include "hv/backend/xenbus.h"

#define HV_BLK_QUEUES_MAX   16u
#define HV_BLK_SEGMENTS_MAX 128u /* of an indirect request: 512 KiB */
#define HV_BLK_SECTOR       512u /* the unit of blkif, whatever the disk's sectors are */
#define HV_BLK_DEPTH        64u  /* requests that a queue has in flight; more wait in the ring */

struct hv_blk_device;

struct hv_blk_segment {
    struct hv_grant_map map;
    uint16_t offset, bytes;
    bool lasting; /* a persistent grant: stays mapped */
};

enum hv_blk_stage { HV_BLK_BEFORE, HV_BLK_MAIN, HV_BLK_AFTER }; /* the flush before, the thing itself, the flush after */

struct hv_blk_request {
    struct hv_blk_io io;
    struct hv_blk_queue *queue;
    struct hv_blk_request *next; /* among the free ones, or those that wait */
    struct blkif_request guest;  /* our copy */
    uint8_t kind;                /* BLKIF_OP_READ, _WRITE, _FLUSH_DISKCACHE or _DISCARD: what is to be done */
    bool barrier;                /* runs alone */
    bool flush;                  /* data with a flush before and after it */
    enum hv_blk_stage stage;
    uint64_t offset, bytes, done_bytes;
    uint64_t start_ns;
    unsigned nr_segs, nr_iov, first_iov;
    struct iovec iov[HV_BLK_SEGMENTS_MAX];
    struct hv_blk_segment segs[HV_BLK_SEGMENTS_MAX];
};

struct hv_blk_queue {
    struct hv_blk_device *blk;
    struct hv_blk_ring ring;
    uint32_t port; /* 0: not bound */
    struct hv_loop_source *wakeup;
    unsigned in_flight;
    struct hv_blk_request *free;
};

struct hv_blk_list {
    struct hv_blk_request *first, *last;
};

struct hv_blk_device {
    struct hv_xenbus_device xenbus;
    struct hv_blk_image image;
    struct hv_blk_image next_image; /* while changing: takes its place when nothing is going on with it */
    bool changing, parked; /* parked: what takes its place is nothing, and it stays changing until there is another */
    bool retry_later;      /* when it does not any more */
    uint32_t flags; /* enum domus_vbd_flags */
    bool read_only;
    unsigned sector_bytes, physical_sector_bytes, max_queues;
    uint64_t size_bytes;

    struct hv_blk_queue queues[HV_BLK_QUEUES_MAX];
    unsigned nr_queues;
    unsigned in_flight; /* of all queues; */
    unsigned waiting;   /* of those, in the lists below and not with the image */
    struct hv_blk_throttle throttle;
    struct hv_loop_source *throttle_timer;
    struct hv_blk_list throttled[2]; /* reads, writes */
    struct hv_blk_list held;         /* failed */
    struct hv_blk_list stranded;     /* their server is gone, and there may soon be another */
    struct hv_loop_source *give_up_timer;
    bool given_up; /* there was no other in time */
    uint8_t write_policy, read_policy; /* enum domus_vbd_policy */
    struct hv_blk_request *barrier; /* waits until nothing is in flight, or is what is in flight; none is taken then */
    bool stopping;      /* takes no more; disconnected when nothing is in flight */
    bool waited_for;    /* that is waited for, by stop() */
    bool unsynced;      /* something was written since the last flush began */
    bool forgot;        /* an image was lost with something unsynced, of which the guest has not been told */
    bool persistent;    /* both ends want it */
    struct hv_blk_persist persist;
    struct domus_vbd_stats stats;
};

/* request.c: reads request->guest, maps and sets all the rest. 0 or a negative errno (nothing is mapped): -EOPNOTSUPP, or
 * -EINVAL and the like for a request that makes no sense. */
int hv_blk_request_prepare(struct hv_blk_request *request) HV_MUST_CHECK;
/* Unmaps; after a read, tells that guest memory was written. */
void hv_blk_request_release(struct hv_blk_request *request);

/* queue.c: gives the request, or what is left of it, to the image; at the latest with the image's next flush. */
void hv_blk_request_begin(struct hv_blk_request *request);
/* Answers: @result is 0 or a negative errno. The device may be freed when it returns. */
void hv_blk_request_finish(struct hv_blk_request *request, int result);
/* The image failed with @error, a negative errno: held or answered, as the disk's policy says. The same. */
void hv_blk_request_fail(struct hv_blk_request *request, int error);

/* held.c: begins the request when the disk's limits let it pass. */
void hv_blk_admit(struct hv_blk_request *request);
void hv_blk_throttle_timer(void *blk);
/* True when the image failed because its server is gone, and the request waits for another image. */
bool hv_blk_strand(struct hv_blk_request *request, int error);
void hv_blk_give_up_timer(void *blk);
/* The image failed. True when the request is held; else it goes on with *@error, which the policy may have made 0. */
bool hv_blk_hold(struct hv_blk_request *request, int *error);
void hv_blk_retry_held(struct hv_blk_device *blk);
/* The connection ends: what waits for its turn goes, what was held fails. The device may be freed when it returns. */
void hv_blk_let_go(struct hv_blk_device *blk);

/* queue.c: takes what is in the ring. The device may be freed when it returns. */
void hv_blk_queue_run(struct hv_blk_queue *queue);
/* With nothing in flight: drops a barrier that has not started; unbinds and frees what a queue has. */
void hv_blk_queue_drop_barrier(struct hv_blk_device *blk);
void hv_blk_queue_fini(struct hv_blk_queue *queue);
/* Maps the ring granted as @refs and binds @port; queue->blk is set. 0 or negative errno (hv_blk_queue_fini undoes what was done). */
int hv_blk_queue_init(struct hv_blk_device *blk, struct hv_blk_queue *queue, const uint32_t *refs, unsigned nr_pages,
                      uint32_t port) HV_MUST_CHECK;
/* Wakes all queues, or launches the barrier that they wait for. */
void hv_blk_run_all(struct hv_blk_device *blk);
/* device.c: nothing is in flight any more and @stopping is set. The device may be freed when it returns. */
void hv_blk_stopped(struct hv_blk_device *blk);
/* Nothing is with the image any more and @changing is set: the next one takes its place. */
void hv_blk_change_image(struct hv_blk_device *blk);

/* state.c: streams. */
void hv_blk_thaw(struct hv_xenbus_device *dev);
bool hv_blk_is_idle(struct hv_xenbus_device *dev);
void hv_blk_encode(struct hv_xenbus_device *dev, struct hv_encoder *e);
int hv_blk_decode(struct hv_xenbus_device *dev, struct hv_decoder *d) HV_MUST_CHECK;
/* device.c: undoes hv_blk_queue_init of all queues. */
void hv_blk_drop_queues(struct hv_blk_device *blk);
/* queue.c: a request that was taken from the ring of a queue before, in another process: it is looked at anew and begins
 * when the domain does. */
int hv_blk_queue_resume(struct hv_blk_queue *queue, const struct blkif_request *guest) HV_MUST_CHECK;
