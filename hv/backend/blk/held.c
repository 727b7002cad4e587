/* Requests that wait: for their turn under the disk's limits; for another image, after their server went; or, after the
 * image failed, for the domain to be unpaused.
 * They count as in flight, so that barriers and the end of a connection wait for them as for all others. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/blk/device.h"
#include "hv/control/server.h"
#include "hv/loop.h"

#define FROZEN_NS 1000000000ull

static void list_add(struct hv_blk_list *list, struct hv_blk_request *r)
{
    r->next = NULL;
    if (list->last)
        list->last->next = r;
    else
        list->first = r;
    list->last = r;
}

static struct hv_blk_request *list_take(struct hv_blk_list *list)
{
    struct hv_blk_request *r = list->first;

    list->first = r->next;
    if (!list->first)
        list->last = NULL;
    return r;
}

/* ------------------------------------------------------------------ under limits */

static bool is_write(const struct hv_blk_request *r)
{
    return r->kind != BLKIF_OP_READ;
}

static void pass(struct hv_blk_request *r, uint64_t now)
{
    hv_blk_throttle_pass(&r->queue->blk->throttle, is_write(r), r->kind == BLKIF_OP_DISCARD ? 0 : r->bytes, now);
    hv_blk_request_begin(r);
}

static void arm(struct hv_blk_device *blk)
{
    uint64_t next = UINT64_MAX;

    for (unsigned write = 0; write < 2; write++) {
        uint64_t due = blk->throttled[write].first ? hv_blk_throttle_due_ns(&blk->throttle, write) : UINT64_MAX;

        if (due < next)
            next = due;
    }
    if (next != UINT64_MAX)
        hv_loop_arm(blk->throttle_timer, next ? next : 1);
}

void hv_blk_admit(struct hv_blk_request *r)
{
    struct hv_blk_device *blk = r->queue->blk;
    struct hv_blk_list *list = &blk->throttled[is_write(r)];
    uint64_t now;

    if ((r->kind == BLKIF_OP_FLUSH_DISKCACHE || blk->stopping) && !blk->xenbus.domain->frozen) {
        hv_blk_request_begin(r);
        return;
    }
    now = hv_loop_now();
    if (!list->first && !blk->xenbus.domain->frozen && hv_blk_throttle_due_ns(&blk->throttle, is_write(r)) <= now) {
        pass(r, now);
        return;
    }
    list_add(list, r);
    blk->waiting++;
    arm(blk);
}

static void begin_all(struct hv_blk_device *blk, struct hv_blk_list *list)
{
    while (list->first) {
        blk->waiting--;
        hv_blk_request_begin(list_take(list));
    }
}

/* Those whose turn has come, or all of them. */
static void release(struct hv_blk_device *blk, bool all)
{
    uint64_t now = hv_loop_now();

    if ((blk->changing || blk->xenbus.domain->frozen) && !all)
        return; /* when the other image is there, or the domain goes on */
    if (!hv_blk_image_is_lost(&blk->image))
        begin_all(blk, &blk->stranded);
    for (unsigned write = 0; write < 2; write++) {
        while (blk->throttled[write].first &&
               (all || hv_blk_throttle_due_ns(&blk->throttle, write) <= now)) {
            blk->waiting--;
            pass(list_take(&blk->throttled[write]), now);
        }
    }
    blk->image.driver->flush(&blk->image);
    arm(blk);
}

void hv_blk_throttle_timer(void *opaque)
{
    release(opaque, false);
}

/* ------------------------------------------------------------------ without a server */

bool hv_blk_strand(struct hv_blk_request *r, int error)
{
    struct hv_blk_device *blk = r->queue->blk;

    if (error != -EIO || !blk->image.reconnect_seconds || !hv_blk_image_is_lost(&blk->image) || blk->given_up || blk->stopping)
        return false;
    list_add(&blk->stranded, r);
    blk->waiting++;
    return true;
}

static struct hv_blk_request *take_all(struct hv_blk_device *blk, struct hv_blk_list *list)
{
    struct hv_blk_request *first = list->first;

    for (const struct hv_blk_request *r = first; r; r = r->next)
        blk->waiting--;
    memset(list, 0, sizeof(*list));
    return first;
}

void hv_blk_give_up_timer(void *opaque)
{
    struct hv_blk_device *blk = opaque;
    struct hv_blk_request *r, *next;

    if (!hv_blk_image_is_lost(&blk->image))
        return;
    if (blk->xenbus.domain->frozen) { /* no answer may come now */
        hv_loop_arm(blk->give_up_timer, hv_loop_now() + FROZEN_NS);
        return;
    }
    blk->given_up = true;
    for (r = take_all(blk, &blk->stranded); r; r = next) {
        next = r->next;
        hv_blk_request_fail(r, -EIO);
    }
}

/* ------------------------------------------------------------------ after an error */

/* No guest can be told of a failed flush: Linux's driver takes it for one that is not supported, says that all is safe,
 * and never flushes again (drivers/block/xen-blkfront.c, blkif_interrupt). */
static enum domus_vbd_policy policy_of(const struct hv_blk_request *r, int error)
{
    const struct hv_blk_device *blk = r->queue->blk;
    uint8_t policy = is_write(r) ? blk->write_policy : blk->read_policy;

    if (policy == DOMUS_VBD_ENOSPC)
        policy = error == -ENOSPC ? DOMUS_VBD_STOP : DOMUS_VBD_REPORT;
    return policy == DOMUS_VBD_REPORT && r->kind == BLKIF_OP_FLUSH_DISKCACHE ? DOMUS_VBD_STOP : policy;
}

bool hv_blk_hold(struct hv_blk_request *r, int *error)
{
    struct hv_blk_device *blk = r->queue->blk;
    struct hv_domain *d = blk->xenbus.domain;

    if (blk->stopping)
        return false;
    switch (policy_of(r, *error)) {
    case DOMUS_VBD_IGNORE:
        *error = 0;
        return false;
    case DOMUS_VBD_STOP:
    case DOMUS_VBD_ENOSPC:
        break;
    case DOMUS_VBD_REPORT:
        return false;
    }
    list_add(&blk->held, r);
    blk->waiting++;
    blk->stats.held++;
    if (!blk->stats.held_error)
        blk->stats.held_error = (uint32_t)-*error;
    hv_control_pause(d);
    hv_control_notify(d, HV_EVENT_IO_ERROR, (uint64_t)DOMUS_DEVICE_VBD << 32 | blk->xenbus.devid);
    return true;
}

void hv_blk_retry_held(struct hv_blk_device *blk)
{
    blk->retry_later = blk->changing;
    if (!blk->held.first || blk->changing || blk->xenbus.domain->frozen)
        return;
    blk->stats.held = blk->stats.held_error = 0;
    begin_all(blk, &blk->held);
    blk->image.driver->flush(&blk->image);
}

/* The device may be freed with the last of them. */
static void finish_all(struct hv_blk_request *r)
{
    struct hv_blk_request *next;

    for (; r; r = next) {
        next = r->next;
        hv_blk_request_finish(r, -EIO);
    }
}

void hv_blk_let_go(struct hv_blk_device *blk)
{
    struct hv_blk_request *stranded, *held;

    release(blk, true);
    stranded = take_all(blk, &blk->stranded);
    held = take_all(blk, &blk->held);
    blk->stats.held = blk->stats.held_error = 0;
    finish_all(stranded);
    finish_all(held);
}
