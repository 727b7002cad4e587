/* Block devices: attaching, the handshake, resizing, statistics. Source: xen/io/blkif.h. */
#include "config.h"

#include "hv/backend/blk/blk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/blk/device.h"
#include "hv/control/server.h"
#include "hv/loop.h"

#define RING_ORDER_MAX     4u /* HV_BLK_RING_PAGES_MAX pages */
#define SECTOR_MAX         4096u
#define PHYSICAL_MAX       65536u
#define DEFAULT_QUEUES_MAX 4u

_Static_assert(1u << RING_ORDER_MAX == HV_BLK_RING_PAGES_MAX, "pages of a ring");

static struct hv_blk_device *blk_of(struct hv_xenbus_device *dev)
{
    return HV_CONTAINER_OF(dev, struct hv_blk_device, xenbus);
}

/* ------------------------------------------------------------------ what is published */

static void publish(struct hv_xenbus_device *dev)
{
    const struct hv_blk_device *blk = blk_of(dev);
    bool discard = blk->flags & DOMUS_VBD_DISCARD && !blk->read_only;
    const struct {
        const char *key;
        unsigned value;
    } rows[] = {
        {"max-ring-page-order", RING_ORDER_MAX},
        {"multi-queue-max-queues", blk->max_queues},
        {"feature-max-indirect-segments", HV_BLK_SEGMENTS_MAX},
        {"feature-flush-cache", !blk->read_only},
        {"feature-barrier", !blk->read_only},
        {"feature-persistent", !!(blk->flags & DOMUS_VBD_PERSISTENT)},
        {"feature-discard", discard},
        {"discard-secure", 0},
        {"discard-alignment", 0},
        {"discard-granularity", blk->physical_sector_bytes > 4096 ? blk->physical_sector_bytes : 4096},
        {"removable", !!(blk->flags & (DOMUS_VBD_REMOVABLE | DOMUS_VBD_CDROM))},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        hv_xenbus_write(dev, rows[i].key, "%u", rows[i].value);
}

static unsigned info_of(const struct hv_blk_device *blk)
{
    return (blk->flags & DOMUS_VBD_CDROM ? VDISK_CDROM : 0) | (blk->flags & DOMUS_VBD_REMOVABLE ? VDISK_REMOVABLE : 0) |
           (blk->read_only ? VDISK_READONLY : 0);
}

/* The number of sectors is one of 512 bytes, whatever sector-size says. */
static void publish_size(struct hv_blk_device *blk)
{
    hv_xenbus_write(&blk->xenbus, "sectors", "%" PRIu64, blk->size_bytes / HV_BLK_SECTOR);
}

static void publish_disk(struct hv_blk_device *blk)
{
    publish_size(blk);
    hv_xenbus_write(&blk->xenbus, "info", "%u", info_of(blk));
    hv_xenbus_write(&blk->xenbus, "sector-size", "%u", blk->sector_bytes);
    hv_xenbus_write(&blk->xenbus, "physical-sector-size", "%u", blk->physical_sector_bytes);
}

/* ------------------------------------------------------------------ connecting */

/* The frontend's number @key, or @absent where it has none. */
static int read_number(struct hv_blk_device *blk, const char *key, uint64_t max, uint64_t absent, uint64_t *out)
{
    int error = hv_xenbus_number(&blk->xenbus, key, max, out);

    if (error == -ENOENT) {
        *out = absent;
        return 0;
    }
    if (error)
        hv_xenbus_fail(&blk->xenbus, "the frontend's %s is not a number up to %" PRIu64, key, max);
    return error;
}

/* A key of a queue that must be there; @other is another name for it, or NULL. */
static int read_needed(struct hv_blk_device *blk, const char *prefix, const char *name, const char *other, uint32_t *out)
{
    uint64_t value;
    char key[64];
    int error;

    snprintf(key, sizeof(key), "%s%s", prefix, name);
    error = hv_xenbus_number(&blk->xenbus, key, UINT32_MAX, &value);
    if (error == -ENOENT && other)
        return read_needed(blk, prefix, other, NULL, out);
    if (error)
        hv_xenbus_fail(&blk->xenbus, "the frontend's %s is missing or not a number", key);
    else
        *out = (uint32_t)value;
    return error;
}

static int read_refs(struct hv_blk_device *blk, const char *prefix, unsigned nr_pages, uint32_t *refs)
{
    int error = 0;

    for (unsigned i = 0; !error && i < nr_pages; i++) {
        char name[20];

        snprintf(name, sizeof(name), "ring-ref%u", i);
        error = read_needed(blk, prefix, name, nr_pages == 1 ? "ring-ref" : NULL, &refs[i]);
    }
    return error;
}

static int connect_queue(struct hv_blk_device *blk, unsigned index, bool alone, unsigned nr_pages)
{
    uint32_t refs[HV_BLK_RING_PAGES_MAX] = {0}, port = 0;
    char prefix[20] = "";
    int error;

    blk->queues[index].blk = blk; /* before anything can fail: what is undone goes by it */
    if (!alone)
        snprintf(prefix, sizeof(prefix), "queue-%u/", index);
    error = read_refs(blk, prefix, nr_pages, refs);
    if (!error)
        error = read_needed(blk, prefix, "event-channel", NULL, &port);
    if (error)
        return error;
    error = hv_blk_queue_init(blk, &blk->queues[index], refs, nr_pages, port);
    if (error)
        hv_xenbus_fail(&blk->xenbus, "queue %u: ring reference %u, event channel %u: %s", index, refs[0], port,
                       strerror(-error));
    return error;
}

static int check_protocol(struct hv_blk_device *blk)
{
    const char *protocol = hv_xenbus_key(&blk->xenbus, "protocol");

    if (!protocol || !strcmp(protocol, XEN_IO_PROTO_ABI_X86_64))
        return 0;
    hv_xenbus_fail(&blk->xenbus, "the ring layout '%s' is not supported, only " XEN_IO_PROTO_ABI_X86_64, protocol);
    return -EPROTONOSUPPORT;
}

void hv_blk_drop_queues(struct hv_blk_device *blk)
{
    hv_blk_queue_drop_barrier(blk);
    for (unsigned i = 0; i < blk->nr_queues; i++)
        hv_blk_queue_fini(&blk->queues[i]);
    blk->nr_queues = 0;
    hv_blk_persist_fini(blk->xenbus.domain, &blk->persist);
}

static int connect_queues(struct hv_blk_device *blk)
{
    uint64_t queues, order, persistent;
    int error = read_number(blk, "multi-queue-num-queues", blk->max_queues, 1, &queues);

    if (!error)
        error = read_number(blk, "ring-page-order", RING_ORDER_MAX, 0, &order);
    if (!error)
        error = read_number(blk, "feature-persistent", 1, 0, &persistent);
    if (!error && !queues)
        error = -EINVAL;
    if (error)
        return error;
    blk->persistent = persistent && blk->flags & DOMUS_VBD_PERSISTENT;
    while (!error && blk->nr_queues < queues)
        error = connect_queue(blk, blk->nr_queues++, queues == 1, 1u << order);
    return error;
}

static int connect(struct hv_xenbus_device *dev)
{
    struct hv_blk_device *blk = blk_of(dev);
    int error = check_protocol(blk);

    if (!error)
        error = connect_queues(blk);
    if (error)
        hv_blk_drop_queues(blk);
    else
        publish_disk(blk);
    return error;
}

/* ------------------------------------------------------------------ disconnecting */

void hv_blk_stopped(struct hv_blk_device *blk)
{
    hv_blk_drop_queues(blk);
    blk->stopping = false;
    if (blk->next_image.driver)
        hv_blk_change_image(blk);
    hv_xenbus_disconnected(&blk->xenbus);
}

static void disconnect(struct hv_xenbus_device *dev)
{
    struct hv_blk_device *blk = blk_of(dev);

    blk->stopping = true;
    if (!blk->in_flight) {
        hv_blk_stopped(blk);
        return;
    }
    if (blk->image.driver->hurry)
        blk->image.driver->hurry(&blk->image);
    hv_blk_let_go(blk);
}

static void stop(struct hv_xenbus_device *dev)
{
    struct hv_blk_device *blk = blk_of(dev);

    blk->stopping = blk->waited_for = true;
    hv_blk_let_go(blk);
    while (blk->in_flight)
        blk->image.driver->wait(&blk->image);
    hv_blk_stopped(blk);
}

static void remove_timers(struct hv_blk_device *blk)
{
    if (blk->throttle_timer)
        hv_loop_remove(blk->throttle_timer);
    if (blk->give_up_timer)
        hv_loop_remove(blk->give_up_timer);
}

static void free_device(struct hv_xenbus_device *dev)
{
    struct hv_blk_device *blk = blk_of(dev);

    remove_timers(blk);
    hv_blk_image_fini(&blk->next_image);
    hv_blk_image_fini(&blk->image);
    free(blk);
}

static const struct hv_xenbus_class class = {
    .name = "vbd",
    .number = DOMUS_DEVICE_VBD,
    .publish = publish,
    .connect = connect,
    .disconnect = disconnect,
    .free = free_device,
    .stop = stop,
    .idle = hv_blk_is_idle,
    .thaw = hv_blk_thaw,
    .encode = hv_blk_encode,
    .decode = hv_blk_decode,
};

/* ------------------------------------------------------------------ attaching */

static bool is_power_of_2(unsigned n)
{
    return n && !(n & (n - 1));
}

static const char *find_mistake(const struct domus_vbd *vbd)
{
    const uint32_t known = DOMUS_VBD_READ_ONLY | DOMUS_VBD_CDROM | DOMUS_VBD_REMOVABLE | DOMUS_VBD_DISCARD |
                           DOMUS_VBD_NO_FLUSH | DOMUS_VBD_PERSISTENT;

    if (vbd->flags & ~known || vbd->reserved)
        return "an unknown flag is set";
    if (vbd->write_policy > DOMUS_VBD_ENOSPC || vbd->read_policy > DOMUS_VBD_IGNORE)
        return "an unknown error policy";
    if (vbd->source.kind == DOMUS_VBD_PARKED || vbd->source.kind == DOMUS_VBD_STAY)
        return "a disk starts with an image";
    if (vbd->source.kind == DOMUS_VBD_EMPTY && !(vbd->flags & (DOMUS_VBD_CDROM | DOMUS_VBD_REMOVABLE)))
        return "only a drive with a removable medium can be without one";
    if (vbd->sector_bytes && vbd->sector_bytes != HV_BLK_SECTOR && vbd->sector_bytes != SECTOR_MAX)
        return "sectors have 512 or 4096 bytes";
    if (vbd->physical_sector_bytes &&
        (!is_power_of_2(vbd->physical_sector_bytes) || vbd->physical_sector_bytes < HV_BLK_SECTOR ||
         vbd->physical_sector_bytes < vbd->sector_bytes || vbd->physical_sector_bytes > PHYSICAL_MAX))
        return "physical sectors have a power of two of bytes, at least a sector's, at most 65536";
    if (vbd->max_queues > HV_BLK_QUEUES_MAX)
        return "a disk has at most 16 queues";
    return NULL;
}

static unsigned default_queues(const struct hv_domain *d)
{
    return d->nr_vcpus < 1 ? 1 : d->nr_vcpus > DEFAULT_QUEUES_MAX ? DEFAULT_QUEUES_MAX : d->nr_vcpus;
}

static int measure(const struct hv_blk_device *blk, const struct hv_blk_image *image, uint64_t *bytes)
{
    int error = image->driver->size(image, bytes);

    if (!error)
        *bytes -= *bytes % blk->sector_bytes;
    return error;
}

/* The disk's sectors stay what they are, whatever the image prefers. */
static int fit_sectors(const struct hv_blk_device *blk, struct hv_blk_image *image)
{
    if (image->block_bytes <= blk->sector_bytes)
        return 0;
    return image->driver->allow_small ? image->driver->allow_small(image) : -EINVAL;
}

/* Sectors as asked, or as the image is best used: with 4096 where it cannot do less. */
static int choose_sectors(struct hv_blk_device *blk, const struct domus_vbd *vbd)
{
    unsigned image = blk->image.block_bytes > HV_BLK_SECTOR ? SECTOR_MAX : HV_BLK_SECTOR;

    blk->sector_bytes = vbd->sector_bytes ? vbd->sector_bytes : image;
    blk->physical_sector_bytes =
        vbd->physical_sector_bytes > blk->sector_bytes ? vbd->physical_sector_bytes : blk->sector_bytes;
    return fit_sectors(blk, &blk->image);
}

/* The server is gone. */
static void image_lost(void *opaque)
{
    struct hv_blk_device *blk = opaque;

    hv_loop_arm(blk->give_up_timer, hv_loop_now() + blk->image.reconnect_seconds * 1000000000ull);
    hv_control_notify(blk->xenbus.domain, HV_EVENT_IMAGE_LOST, (uint64_t)DOMUS_DEVICE_VBD << 32 | blk->xenbus.devid);
}

static struct hv_blk_host host_of(struct hv_domain *d, struct hv_blk_device *blk)
{
    return (struct hv_blk_host){.loop = d->loop, .uring = d->uring, .lost = image_lost, .opaque = blk};
}

static int add_timers(struct hv_loop *loop, struct hv_blk_device *blk)
{
    blk->throttle_timer = hv_loop_add_timer(loop, hv_blk_throttle_timer, blk);
    blk->give_up_timer = hv_loop_add_timer(loop, hv_blk_give_up_timer, blk);
    return blk->throttle_timer && blk->give_up_timer ? 0 : -ENOMEM;
}

static int add_device(struct hv_domain *d, struct hv_blk_device *blk, const struct domus_vbd *vbd)
{
    int error = choose_sectors(blk, vbd);

    if (!error)
        error = measure(blk, &blk->image, &blk->size_bytes);
    if (!error)
        error = add_timers(d->loop, blk);
    if (!error)
        error = hv_xenbus_add(d, &class, vbd->devid, &blk->xenbus);
    if (error)
        remove_timers(blk);
    return error;
}

static int init_device(struct hv_domain *d, struct hv_blk_device *blk, struct domus_vbd *vbd, int fd)
{
    const struct hv_blk_host host = host_of(d, blk);
    int error = hv_blk_image_open(&blk->image, &host, &vbd->source, fd, vbd->error, sizeof(vbd->error));

    if (error)
        return error;
    blk->flags = vbd->flags;
    if (!blk->image.can_discard)
        blk->flags &= ~(uint32_t)DOMUS_VBD_DISCARD;
    blk->read_only = vbd->flags & DOMUS_VBD_READ_ONLY || !blk->image.writable;
    blk->max_queues = vbd->max_queues ? vbd->max_queues : default_queues(d);
    blk->write_policy = vbd->write_policy;
    blk->read_policy = vbd->read_policy;
    error = add_device(d, blk, vbd);
    if (error) {
        snprintf(vbd->error, sizeof(vbd->error), "%s",
                 error == -EEXIST ? "there is a disk with that number" : strerror(-error));
        hv_blk_image_give_back(&blk->image);
    }
    return error;
}

long hv_blk_attach(struct hv_domain *d, struct domus_vbd *vbd, int fd)
{
    const char *mistake = find_mistake(vbd);
    struct hv_blk_device *blk;
    int error;

    snprintf(vbd->error, sizeof(vbd->error), "%s", mistake ? mistake : "");
    if (mistake)
        return -XEN_EINVAL;
    blk = calloc(1, sizeof(*blk));
    if (!blk)
        return -XEN_ENOMEM;
    error = init_device(d, blk, vbd, fd);
    if (error) {
        free(blk);
        return error;
    }
    vbd->sector_bytes = blk->sector_bytes;
    vbd->physical_sector_bytes = blk->physical_sector_bytes;
    vbd->max_queues = blk->max_queues;
    vbd->size_bytes = blk->size_bytes;
    return 0;
}

/* ------------------------------------------------------------------ what can be done with it */

static struct hv_blk_device *find(struct hv_domain *d, uint32_t devid)
{
    struct hv_xenbus_device *dev = hv_xenbus_find(d, &class, devid);

    return dev ? blk_of(dev) : NULL;
}

long hv_blk_detach(struct hv_domain *d, uint32_t devid, bool force)
{
    struct hv_blk_device *blk = find(d, devid);

    return blk ? hv_xenbus_detach(&blk->xenbus, force) : -XEN_ENODEV;
}

long hv_blk_resize(struct hv_domain *d, uint32_t devid, uint64_t *size_bytes)
{
    struct hv_blk_device *blk = find(d, devid);
    uint64_t all;
    int error;

    if (!blk)
        return -XEN_ENODEV;
    error = measure(blk, &blk->image, &all);
    if (error)
        return error;
    if (!*size_bytes)
        *size_bytes = all;
    if (*size_bytes > all || *size_bytes % blk->sector_bytes)
        return -XEN_EINVAL;
    blk->size_bytes = *size_bytes;
    if (blk->nr_queues) { /* else it is told with the rest, when there is a frontend */
        publish_size(blk);
        hv_xenbus_changed(&blk->xenbus);
    }
    return 0;
}

static void go_on(struct hv_blk_device *blk)
{
    blk->changing = false;
    hv_blk_throttle_timer(blk);
    if (blk->retry_later)
        hv_blk_retry_held(blk);
    hv_blk_run_all(blk);
}

void hv_blk_change_image(struct hv_blk_device *blk)
{
    if (blk->unsynced && hv_blk_image_is_lost(&blk->image))
        blk->forgot = true;
    hv_blk_image_fini(&blk->image);
    blk->image = blk->next_image;
    memset(&blk->next_image, 0, sizeof(blk->next_image));
    blk->given_up = false;
    if (hv_blk_image_is_lost(&blk->image)) /* while it waited for its turn, when nobody asked */
        image_lost(blk);
    if (blk->parked)
        return;
    if (measure(blk, &blk->image, &blk->size_bytes))
        blk->size_bytes = 0;
    if (blk->nr_queues) {
        publish_size(blk);
        hv_xenbus_changed(&blk->xenbus);
    }
    go_on(blk);
}

static bool is_parking(const struct hv_blk_device *blk)
{
    return blk->parked && blk->next_image.driver;
}

static long stay(struct hv_blk_device *blk)
{
    if (!is_parking(blk))
        return -XEN_ENOENT;
    hv_blk_image_fini(&blk->next_image);
    blk->parked = false;
    go_on(blk);
    return 0;
}

/* What the next image must have in common with what the guest was told. */
static const char *find_misfit(const struct hv_blk_device *blk, struct hv_blk_image *next, uint32_t kind)
{
    if (kind == DOMUS_VBD_PARKED)
        return NULL;
    if (kind == DOMUS_VBD_EMPTY && !(blk->flags & (DOMUS_VBD_CDROM | DOMUS_VBD_REMOVABLE)))
        return "only a drive with a removable medium can be without one";
    if (!blk->read_only && !next->writable && kind != DOMUS_VBD_EMPTY)
        return "the image cannot be written and the disk can";
    if (fit_sectors(blk, next))
        return "the image has larger blocks than the disk has sectors";
    return NULL;
}

long hv_blk_set_image(struct hv_domain *d, struct domus_vbd_image *image, int fd)
{
    struct hv_blk_device *blk = find(d, image->devid);
    struct hv_blk_host host = host_of(d, blk);
    struct hv_blk_image next;
    const char *misfit;
    int error;

    image->error[0] = '\0';
    if (!blk)
        return -XEN_ENODEV;
    if (image->reserved)
        return -XEN_EINVAL;
    if (image->source.kind == DOMUS_VBD_STAY)
        return stay(blk);
    error = hv_blk_image_open(&next, &host, &image->source, fd, image->error, sizeof(image->error));
    if (error)
        return error;
    misfit = find_misfit(blk, &next, image->source.kind);
    error = misfit ? -EINVAL : measure(blk, &next, &image->size_bytes);
    if (error) {
        snprintf(image->error, sizeof(image->error), "%s", misfit ? misfit : strerror(-error));
        hv_blk_image_give_back(&next);
        return error;
    }
    hv_blk_image_fini(&blk->next_image);
    blk->next_image = next;
    blk->changing = true;
    blk->parked = image->source.kind == DOMUS_VBD_PARKED;
    if (blk->in_flight == blk->waiting)
        hv_blk_change_image(blk);
    else if (blk->image.driver->hurry && !blk->parked) /* which can be taken back */
        blk->image.driver->hurry(&blk->image);
    return 0;
}

long hv_blk_set_limits(struct hv_domain *d, const struct domus_vbd_limits *limits)
{
    struct hv_blk_device *blk = find(d, limits->devid);
    int error;

    if (!blk)
        return -XEN_ENODEV;
    error = limits->reserved ? -EINVAL : hv_blk_throttle_set(&blk->throttle, limits);
    if (!error)
        hv_blk_throttle_timer(blk);
    return error;
}

void hv_blk_retry(struct hv_domain *d)
{
    for (struct hv_xenbus_device *dev = hv_xenbus_next(d, &class, NULL); dev; dev = hv_xenbus_next(d, &class, dev))
        hv_blk_retry_held(blk_of(dev));
}

long hv_blk_stats(struct hv_domain *d, struct domus_vbd_stats *stats)
{
    const struct hv_blk_device *blk = find(d, stats->devid);

    if (!blk)
        return -XEN_ENODEV;
    *stats = blk->stats;
    stats->devid = blk->xenbus.devid;
    stats->state = (uint32_t)blk->xenbus.state;
    stats->size_bytes = blk->size_bytes;
    stats->parked = blk->parked ? 1 + is_parking(blk) : 0;
    stats->lost = hv_blk_image_is_lost(&blk->image);
    return 0;
}
