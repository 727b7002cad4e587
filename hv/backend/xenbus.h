/* What all PV backends share: the xenbus handshake with a frontend, its keys in the store, and the life of a device.
 *
 * The toolstack makes both halves' nodes, then attaches the device by its class's own control operation, which calls
 * hv_xenbus_add. From there on (backend states in capitals):
 *
 *      INITIALISING -> publish() -> INITWAIT -> [frontend Initialised or Connected: its keys are read] -> connect()
 *      -> CONNECTED -> [frontend Closing] -> CLOSING -> [frontend Closed] -> disconnect() -> CLOSED
 *      -> [frontend Initialising again: module loaded anew, kexec] -> publish() -> INITWAIT ...
 *
 * Detaching asks the guest (online 0, CLOSING) and ends at CLOSED, or is taken back when the guest does not answer in
 * time; by force it does not wait for the guest. Whatever a frontend writes where, the worst that it gets is its own
 * device in state CLOSED.
 *
 * This process speaks to the store as its own domain, and the toolstack lets the domain write the backend's nodes in
 * /local/domain/0/backend/CLASS/DOMID/DEVID. So a guest can write there too, and that is safe: nothing but this process
 * and the guest's own drivers acts on those nodes, and this process reads none of them back. What it knows of a device
 * comes by the control channel. The toolstack never believes what it reads there (it asks by the control channel, too).
 *
 * A backend's functions run on the loop thread, as all functions here do.
 */
#pragma once

#include "hv/domain.h"
#include "hv/hv.h"
#include "hv/hypercall/grant-map.h"

struct hv_decoder;
struct hv_encoder;
struct hv_store_client;
struct hv_xenbus;        /* all devices of a domain */
struct hv_xenbus_device; /* embedded in the backend's own structure */

struct hv_xenbus_class {
    const char *name; /* as in the store: vbd, vif */
    enum domus_device_class number;

    /* Writes what the frontend must know before it sets up its side (features, limits). */
    void (*publish)(struct hv_xenbus_device *dev);
    /* The frontend is there: its keys can be read. Maps its rings, binds its ports, writes what it must know after. 0, or
     * a negative errno with everything undone (hv_xenbus_fail said why): the device is closed then. */
    int (*connect)(struct hv_xenbus_device *dev);
    /* The frontend is gone, or has to go: ends what is in flight, unbinds, unmaps; then (at once or later) calls
     * hv_xenbus_disconnected. Only while connected. */
    void (*disconnect)(struct hv_xenbus_device *dev);
    /* Frees the device, which is not connected and in no list any more. */
    void (*free)(struct hv_xenbus_device *dev);
    /* Ends what is in flight without returning to the loop: the domain goes away. Then disconnected, as above. */
    void (*stop)(struct hv_xenbus_device *dev);

    /* For streams. A domain that is frozen (domain->frozen) has backends that take nothing from the guest, and touch none of
     * its memory once they are idle. May be NULL: always idle, nothing to do. */
    void (*freeze)(struct hv_xenbus_device *dev);
    bool (*idle)(struct hv_xenbus_device *dev);
    void (*thaw)(struct hv_xenbus_device *dev);
    /* What is to be known of it beside xenbus's own state. Decoding, in hv_xenbus_add, makes it what it was: 0, or a negative
     * errno with all undone. Connected devices have hv_xenbus_resumes_connected. */
    void (*encode)(struct hv_xenbus_device *dev, struct hv_encoder *e);
    int (*decode)(struct hv_xenbus_device *dev, struct hv_decoder *d);
};

enum hv_xenbus_phase {
    HV_XENBUS_IDLE,       /* no frontend */
    HV_XENBUS_READING,    /* its keys are on their way */
    HV_XENBUS_CONNECTED,
    HV_XENBUS_DRAINING,   /* until hv_xenbus_disconnected */
};

/* All but the first three fields are private to xenbus.c and xenbus-keys.c. */
struct hv_xenbus_device {
    struct hv_domain *domain; /* immutable after hv_xenbus_add, as the next two */
    const struct hv_xenbus_class *class;
    uint32_t devid;

    struct hv_xenbus *bus;
    struct hv_xenbus_device *next;
    struct hv_store_watch *watch; /* on the frontend's state */
    struct hv_loop_source *detach_timer;
    struct hv_xenbus_key *keys; /* of the frontend, while it connects */
    unsigned nr_keys, keys_pending;
    enum hv_xenbus_phase phase;
    int state;    /* enum xenbus_state, as published */
    int frontend; /* the last that was seen */
    bool detaching, forced, failed, keys_failed;
};

/* hv_domain_new and hv_domain_free call these; the latter frees all devices. */
int hv_xenbus_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_xenbus_fini(struct hv_domain *d);
/* The store's connection for backends (taken; replaces the one before). */
int hv_xenbus_attach_store(struct hv_domain *d, int fd) HV_MUST_CHECK;

/* Starts the handshake of @dev (zeroed but for what the class owns around it; its nodes exist). 0, -EEXIST for a second
 * one of that class and number, -ENOMEM; on failure the caller still owns it. */
int hv_xenbus_add(struct hv_domain *d, const struct hv_xenbus_class *class, uint32_t devid,
                  struct hv_xenbus_device *dev) HV_MUST_CHECK;
/* NULL when there is none. */
struct hv_xenbus_device *hv_xenbus_find(struct hv_domain *d, const struct hv_xenbus_class *class, uint32_t devid);

/* The device of that class after @dev, or the first for NULL; NULL at the end. */
struct hv_xenbus_device *hv_xenbus_next(struct hv_domain *d, const struct hv_xenbus_class *class,
                                        struct hv_xenbus_device *dev);

/* Asks the guest to let go of the device; HV_EVENT_DEVICE_GONE tells when it is freed, HV_EVENT_DEVICE_KEPT when the
 * guest did not answer within HV_XENBUS_DETACH_NS and the device stays. With @force, it goes as soon as nothing is in
 * flight. -EALREADY when the guest is being asked already. */
#define HV_XENBUS_DETACH_NS 10000000000ull
int hv_xenbus_detach(struct hv_xenbus_device *dev, bool force) HV_MUST_CHECK;

/* Writes key @key of the backend. What does not work (the nodes were removed) is logged. */
void hv_xenbus_write(struct hv_xenbus_device *dev, const char *key, const char *format, ...) HV_PRINTF(3, 4);
/* Tells the frontend that what is published changed (a new size): it looks at the keys again. */
void hv_xenbus_changed(struct hv_xenbus_device *dev);

/* In connect(): the frontend's key ("ring-ref", "queue-0/event-channel"), or NULL; and the same as a number: 0, -ENOENT,
 * -EINVAL for no number or one above @max. */
const char *hv_xenbus_key(const struct hv_xenbus_device *dev, const char *key);
int hv_xenbus_number(const struct hv_xenbus_device *dev, const char *key, uint64_t max, uint64_t *out) HV_MUST_CHECK;

/* Whether it is a number other than 0, as features that a frontend has or asks for are. */
bool hv_xenbus_is_set(const struct hv_xenbus_device *dev, const char *key);

/* Notes why the device cannot be served: in the log and in the store's "error" key. Outside connect(), also disconnects
 * and closes it (@dev may be freed when this returns); a frontend that starts anew is served again. */
void hv_xenbus_fail(struct hv_xenbus_device *dev, const char *format, ...) HV_PRINTF(2, 3);
/* disconnect() or stop() is complete. @dev may be freed when this returns. */
void hv_xenbus_disconnected(struct hv_xenbus_device *dev);

/* Inside xenbus: xenbus-keys.c. */
void hv_xenbus_read_keys(struct hv_xenbus_device *dev); /* calls hv_xenbus_keys_read in the end */
void hv_xenbus_keys_read(struct hv_xenbus_device *dev, bool ok);
void hv_xenbus_drop_keys(struct hv_xenbus_device *dev);
struct hv_store_client *hv_xenbus_store(const struct hv_xenbus_device *dev);
#define HV_XENBUS_PATH_MAX 256
void hv_xenbus_frontend_path(const struct hv_xenbus_device *dev, const char *key, char path[HV_XENBUS_PATH_MAX]);

/* ---- streams: xenbus-state.c */
/* The domain was frozen, or is not any more. */
void hv_xenbus_freeze(struct hv_domain *d);
void hv_xenbus_thaw(struct hv_domain *d);
/* A device that cannot be written, by name, or NULL. */
const char *hv_xenbus_unwritable(const struct hv_domain *d, char name[64]);
/* All devices are idle, and what was written to the store is there. */
bool hv_xenbus_is_idle(struct hv_domain *d);
/* Appends number, class, length and state of all devices. */
void hv_xenbus_encode(struct hv_domain *d, struct hv_encoder *e);
/* Keeps a copy of that for the devices that are going to be added. */
int hv_xenbus_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
/* A device that was not added, by name ("vbd 51712"); NULL: there is none. */
const char *hv_xenbus_missing(struct hv_domain *d, char name[64]);
/* In class->decode: the frontend was connected. */
bool hv_xenbus_resumes_connected(const struct hv_xenbus_device *dev);
/* Inside: what a stream has of a device that is being added. 0 also when it has nothing. */
int hv_xenbus_resume(struct hv_xenbus_device *dev) HV_MUST_CHECK;
void hv_xenbus_forget_pending(struct hv_xenbus *bus);
/* Looks at the frontend's state again. */
void hv_xenbus_look(struct hv_xenbus_device *dev);

struct hv_xenbus {
    struct hv_store_client *store;
    struct hv_xenbus_device *devices;
    struct hv_xenbus_pending *pending; /* out of a stream, not added yet */
    bool stopping; /* the domain goes away: there is nobody to tell */
};
