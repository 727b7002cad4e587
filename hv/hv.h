/* hv: the hypervisor of one domain, seen from outside.
 *
 * A domain is a process, domus-hv. It is driven over a control channel: a UNIX SOCK_SEQPACKET socket on
 * which each request is one hypercall. Where Xen has the operation, number and structures are Xen's
 * (domctl, memory_op, hvm_op, evtchn_op: see <xen/...>); what Xen leaves to dom0's kernel and user space
 * is one family of our own, __HYPERVISOR_domus_op below. libdomctl (the domctl_* functions) is the client
 * side.
 *
 * How a domain is built: start `domus-hv --control-fd N` with a listening socket as descriptor N,
 * domctl_connect, domctl_create, domctl_max_vcpus, domctl_max_mem, domctl_build, domctl_console_attach,
 * domctl_store_attach, domctl_unpause. It lives on when the connection closes. When the guest shuts
 * down, the process stays with its last state until domctl_destroy, as a Xen domain does.
 *
 * This header and the Xen public headers are all that other rooms include of this one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------ wire format of the channel */

#define HV_CONTROL_MAGIC        0x316d6f44u /* "Dom1" */
#define HV_CONTROL_DATA_ADDRESS 0x10000u    /* caller address of the first byte of the data area */
#define HV_CONTROL_DATA_MAX     (96u * 1024)
#define HV_CONTROL_FDS_MAX      8u

enum hv_control_type {
    HV_CONTROL_CALL = 1,
    HV_CONTROL_REPLY = 2,
    HV_CONTROL_EVENT = 3,
};

/* Every message: this, then data_bytes of data. A reply carries the data area back, as the hypercall
 * left it. Descriptors go with a call as SCM_RIGHTS. Host byte order: both ends are one machine. */
struct hv_control_message {
    uint32_t magic;
    uint32_t type;
    uint32_t serial; /* of the call, copied to the reply; 0 in events */
    uint32_t data_bytes;
    uint64_t number;  /* call: hypercall number; event: enum hv_event */
    uint64_t args[5]; /* call: arguments, pointers being caller addresses; reply: args[0] is the
                         result, 0 or above, or a negative XEN_E*; event: see enum hv_event */
};

/* Sent to connections that asked with DOMUS_OP_subscribe. */
enum hv_event {
    HV_EVENT_SHUTDOWN = 1, /* args[0]: SHUTDOWN_* code */
    HV_EVENT_STORE_LOST = 2, /* the connection to domus-xenstored broke: attach a new one */
    /* args[0]: enum domus_device_class << 32 | device number. Several may be told as the last one: to be sure, ask for
     * the device's statistics, which fails with -ENODEV once it is gone. */
    HV_EVENT_DEVICE_GONE = 3, /* a device was detached: its nodes can be removed */
    HV_EVENT_DEVICE_KEPT = 4, /* the guest did not let go of a device in time: it stays */
    /* args[0] as above. A disk's image failed and the disk's policy is to wait: the domain is paused, and tries again when
     * it is unpaused. Ask for the disks' statistics (held). */
    HV_EVENT_IO_ERROR = 5,
    /* args[0] as above. The connection to a disk's NBD server broke: pass another image. Ask for the statistics (lost). */
    HV_EVENT_IMAGE_LOST = 6,
    HV_EVENT_MEMORY = 7, /* args[0]: pages that the guest has now, after it gave or took some */
    /* args[0]: a console's number, or DOMUS_LOG_OWN. Its log has grown by the limit that it was given, and goes on: pass
     * another file. Told again when it has doubled. Several may be told as the last one. */
    HV_EVENT_LOG_FULL = 8,
    /* args[0]: a device as above. The other end of an interface's stream socket is gone: pass another. Ask for the
     * statistics (port_lost). */
    HV_EVENT_PORT_LOST = 9,
};
#define HV_NR_EVENTS 10

/* ------------------------------------------------------------------ our own hypercall family */

/* Xen keeps __HYPERVISOR_arch_7 free on x86; args[0] is the operation, args[1] its argument. */
#define __HYPERVISOR_domus_op 55

enum domus_op {
    DOMUS_OP_build = 1,     /* args[1] -> struct domus_build, fds: kernel[, ramdisk] */
    DOMUS_OP_console_attach = 2, /* args[1]: console number, fds: tty master or socket[, log file]; a listening socket
                                    serves one peer at a time. From 1 on a console is a device, whose nodes of class
                                    "console" are in the store before */
    DOMUS_OP_store_attach = 3,   /* fds: connections to domus-xenstored that speak for this domain: the
                                    guest's[, the backends'] */
    DOMUS_OP_subscribe = 4,      /* this connection gets events from now on */
    DOMUS_OP_info = 5,           /* args[1] -> struct domus_info */
    DOMUS_OP_memory_options = 6, /* args[1]: set of enum domus_memory_options, before there is memory */
    DOMUS_OP_console_detach = 7, /* args[1] -> struct domus_console_detach */
    DOMUS_OP_console_info = 8,   /* args[1] -> struct domus_console_info */
    DOMUS_OP_set_log = 9,        /* args[1]: console number, or DOMUS_LOG_OWN; args[2]: bytes of the log after which
                                    HV_EVENT_LOG_FULL is told, 0: never; fds: a file, in the place of the one before */
    DOMUS_OP_vbd_attach = 16,    /* args[1] -> struct domus_vbd, fds: image, unless source.kind is DOMUS_VBD_EMPTY */
    DOMUS_OP_vbd_detach = 17,    /* args[1] -> struct domus_vbd_detach */
    DOMUS_OP_vbd_resize = 18,    /* args[1] -> struct domus_vbd_resize */
    DOMUS_OP_vbd_stats = 19,     /* args[1] -> struct domus_vbd_stats */
    DOMUS_OP_vbd_set_image = 20, /* args[1] -> struct domus_vbd_image, fds: image, as in attaching */
    DOMUS_OP_vbd_set_limits = 21, /* args[1] -> struct domus_vbd_limits */
    DOMUS_OP_vif_attach = 24,    /* args[1] -> struct domus_vif, fds: one per queue */
    DOMUS_OP_vif_detach = 25,    /* args[1] -> struct domus_vif_detach */
    DOMUS_OP_vif_set_link = 26,  /* args[1] -> struct domus_vif_link */
    DOMUS_OP_vif_stats = 27,     /* args[1] -> struct domus_vif_stats */
    DOMUS_OP_vif_set_limits = 28, /* args[1] -> struct domus_vif_limits */
    DOMUS_OP_vif_set_port = 29,  /* args[1]: devid of an interface on a stream; fds: a stream socket in place of its own */
    DOMUS_OP_save = 32,          /* fds: a file, written from where it is on */
    DOMUS_OP_restore = 33,       /* args[1] -> struct domus_restore, fds: the same */
    DOMUS_OP_send = 34,          /* args[1] -> struct domus_stream_limits, fds: a stream socket to one that receives */
    DOMUS_OP_receive = 35,       /* fds: a stream socket */
    DOMUS_OP_stream_status = 36, /* args[1] -> struct domus_stream_status */
    DOMUS_OP_stream_limits = 37, /* args[1] -> struct domus_stream_limits */
    DOMUS_OP_stream_end = 38,    /* what is saved or sent goes on running here */
    DOMUS_OP_stream_claim = 39,  /* what was received is asked for: enum domus_stream_owner */
    DOMUS_OP_vfb_attach = 40,    /* args[1] -> struct domus_vfb */
    DOMUS_OP_vkbd_attach = 41,   /* no argument: a keyboard and a pointer */
    DOMUS_OP_vkbd_send = 42,     /* args[1] -> struct domus_vkbd_keys */
    DOMUS_OP_display_attach = 43, /* fds: a connected SOCK_SEQPACKET socket: struct hv_display_message */
    DOMUS_OP_display_write = 44, /* args[1] -> struct domus_picture, fds: a file, for its pixels */
    DOMUS_OP_stream_keep = 45,   /* what was sent stays here: -EBUSY when it was given up, -EPERM when it was taken */
    DOMUS_OP_stream_recall = 46, /* the same even when it was given up: the other side is known not to run it */
    DOMUS_OP_dump = 47,          /* args[1] -> struct domus_dump, fds: a file, written from where it is on */
    DOMUS_OP_peek = 48,          /* args[1] -> struct domus_peek */
    DOMUS_OP_dirty_rate_start = 49, /* args[1] -> struct domus_dirty_rate: measure for so many seconds */
    DOMUS_OP_dirty_rate = 50,    /* args[1] -> struct domus_dirty_rate: the last measurement */
    DOMUS_OP_stream_switch = 51, /* what is sent goes on at the receiver before all of it is there: DOMUS_STREAM_POSTCOPY */
    DOMUS_OP_save_live = 52,     /* as save, but the domain runs on until the rest takes but a moment */
};

/* What the hypervisor itself has to say: its standard output and error. */
#define DOMUS_LOG_OWN 0xffffffffu

enum domus_memory_options {
    DOMUS_MEMORY_LOCKED = 1u << 0,    /* never paged out; the process must be allowed to lock so much */
    DOMUS_MEMORY_IMMEDIATE = 1u << 1, /* taken from the host at once, not when the guest first touches it */
    DOMUS_MEMORY_HUGE = 1u << 2,      /* huge pages of 2 MiB from the host's pool, all but the first 2 MiB */
};

enum domus_device_class { DOMUS_DEVICE_VBD = 1, DOMUS_DEVICE_VIF = 2, DOMUS_DEVICE_CONSOLE = 3,
                          DOMUS_DEVICE_VFB = 4, DOMUS_DEVICE_VKBD = 5 };

struct domus_build {
    uint64_t cmdline;       /* IN: caller address of a NUL-terminated string, or 0 */
    uint32_t cmdline_bytes; /* IN: with the NUL; at most 4096 */
    uint32_t has_ramdisk;   /* IN: fds[1] is a ramdisk */
    uint64_t store_gfn;     /* OUT: xenstore ring, for XS_INTRODUCE */
    uint32_t store_evtchn;  /* OUT */
    uint32_t console_evtchn; /* OUT */
    uint64_t console_gfn;   /* OUT */
    char error[256];        /* OUT: on failure, what is wrong with which file */
};

enum domus_vbd_flags {
    DOMUS_VBD_READ_ONLY = 1u << 0, /* also when the image is only open for reading */
    DOMUS_VBD_CDROM = 1u << 1,
    DOMUS_VBD_REMOVABLE = 1u << 2,
    DOMUS_VBD_DISCARD = 1u << 3,    /* what the guest discards is given back to the host */
    DOMUS_VBD_NO_FLUSH = 1u << 4,   /* flushes are answered at once: data may be lost with the host */
    DOMUS_VBD_PERSISTENT = 1u << 5, /* offer persistent grants: the guest then copies all data once */
};

enum domus_vbd_source_kind {
    DOMUS_VBD_FILE = 0,  /* fd: a file or block device, open for reading or for both */
    DOMUS_VBD_NBD = 1,   /* fd: a socket to an NBD server in the transmission phase, simple replies negotiated */
    DOMUS_VBD_EMPTY = 2, /* no fd: a drive without a medium */
    DOMUS_VBD_PARKED = 3, /* vbd_set_image only, no fd: nothing for now; the guest's requests wait for the next image */
    DOMUS_VBD_STAY = 4,   /* the same: the image that there is after all, as parking has not taken effect; or -XEN_ENOENT */
};

/* What a disk is kept in. */
struct domus_vbd_source {
    uint32_t kind;        /* enum domus_vbd_source_kind */
    uint32_t nbd_flags;   /* NBD: the export's transmission flags */
    uint32_t block_bytes; /* NBD: the server's minimum block size */
    uint32_t reconnect_seconds; /* NBD: when the server is gone, requests wait so long for another image before they fail */
    uint64_t size_bytes;  /* NBD: of the export */
};

/* What happens when the image fails. */
enum domus_vbd_policy {
    DOMUS_VBD_REPORT = 0, /* the guest is told; of a flush, which guests cannot be told of, as STOP */
    DOMUS_VBD_STOP = 1,   /* the domain is paused, and the request is tried again when it is unpaused */
    DOMUS_VBD_IGNORE = 2, /* the guest is told that all went well */
    DOMUS_VBD_ENOSPC = 3, /* as STOP when there is no space, else as REPORT; writes only */
};

/* A virtual disk. The nodes of both ends must be in the store before, the backend's writable for the domain:
 * device/vbd/DEVID (backend, backend-id, state 1, virtual-device, device-type) of the domain and
 * /local/domain/0/backend/vbd/DOMID/DEVID (frontend, frontend-id, online 1, state 1) with `b DOMID` permission. */
struct domus_vbd {
    uint32_t devid;        /* IN: Xen's virtual device number: 51712 is xvda, 51728 xvdb */
    uint32_t flags;        /* IN: set of enum domus_vbd_flags */
    uint32_t sector_bytes; /* IN: 512 or 4096, or 0 for what the image needs; OUT: as chosen */
    uint32_t physical_sector_bytes; /* IN: a power of two from sector_bytes to 64 KiB, or 0: sector_bytes */
    uint32_t max_queues;   /* IN: at most 16, or 0: the number of vCPUs, at most 4 */
    uint8_t write_policy, read_policy; /* IN: enum domus_vbd_policy; writes are all but reads */
    uint16_t reserved;     /* IN: 0 */
    struct domus_vbd_source source; /* IN */
    uint64_t size_bytes;   /* OUT */
    char error[128];       /* OUT: on failure, what is wrong */
};

/* Another image in the place of what a disk has: another medium, none, or the same after the server was started again.
 * Takes effect when nothing is going on with the image before; requests that wait for an unpause go to the new one. */
struct domus_vbd_image {
    uint32_t devid;      /* IN */
    uint32_t reserved;   /* IN: 0 */
    struct domus_vbd_source source; /* IN */
    uint64_t size_bytes; /* OUT */
    char error[128];     /* OUT: on failure, what is wrong; the disk has what it had */
};

/* What may pass in a second; 0 for no limit. A total excludes limits of its parts. */
struct domus_vbd_limits {
    uint32_t devid;    /* IN, as all of it */
    uint32_t reserved; /* 0 */
    uint64_t total_bytes, read_bytes, write_bytes;
    uint64_t total_iops, read_iops, write_iops;
    /* What may pass at once after a pause, at least the limit; 0 for a tenth of it. */
    uint64_t total_bytes_burst, read_bytes_burst, write_bytes_burst;
    uint64_t total_iops_burst, read_iops_burst, write_iops_burst;
};

struct domus_vbd_detach {
    uint32_t devid; /* IN */
    uint32_t force; /* IN: 0 asks the guest to let go and returns; 1 takes the device away as soon as no I/O is going on */
};

struct domus_vbd_resize {
    uint32_t devid;      /* IN */
    uint32_t reserved;   /* IN: 0 */
    uint64_t size_bytes; /* IN: new size, at most the image's, or 0: all of the image; OUT: the size now */
};

struct domus_vbd_stats {
    uint32_t devid; /* IN */
    uint32_t state; /* OUT: enum xenbus_state of the backend */
    uint64_t size_bytes; /* OUT, as all below; times are from a request's arrival to its end, added up */
    uint64_t rd_req, rd_bytes, rd_ns;
    uint64_t wr_req, wr_bytes, wr_ns;
    uint64_t flush_req, flush_ns;
    uint64_t discard_req, discard_bytes;
    uint64_t errors;  /* of the image */
    uint64_t refused; /* requests that made no sense */
    uint32_t held;       /* requests that failed and wait for the domain to be unpaused */
    uint32_t held_error; /* why the first of them failed: an errno */
    uint32_t lost;       /* 1: the connection to the NBD server broke */
    uint32_t parked;     /* 1: there is no image, because DOMUS_VBD_PARKED has taken effect; 2: it will, after what is going on */
};

/* Of consoles that are devices: the first is not. */
struct domus_console_detach {
    uint32_t devid; /* IN */
    uint32_t force; /* IN: 0 asks the guest to let go and returns; 1 takes the device away at once */
};

struct domus_console_info {
    uint32_t devid;     /* IN */
    uint32_t connected; /* OUT: 1 while the guest's driver uses the device */
};

struct domus_info {
    char engine[16];          /* OUT */
    uint64_t resident_bytes;  /* OUT: of the whole process */
    uint64_t code_cache_bytes; /* OUT: 0 for interp */
};

#define DOMUS_VIF_QUEUES_MAX HV_CONTROL_FDS_MAX

enum domus_vif_port {
    DOMUS_VIF_TAP = 0,    /* a tap opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR (| IFF_MULTI_QUEUE) */
    DOMUS_VIF_STREAM = 1, /* a connected UNIX stream socket: frames after a 32-bit big-endian length (passt) */
};

/* A limit in one direction; 0 for none, and no peak or burst without an average, or peak below it. */
struct domus_vif_rate {
    uint64_t average; /* bytes in a second */
    uint64_t peak;    /* likewise, while there is a burst; 0: as fast as it comes */
    uint64_t burst;   /* bytes that go beyond the average at once; 0: what passes in a tenth of a second */
};

/* A network interface as the other side of xen-netfront. The nodes of both ends must be in the store before, the
 * backend's writable for the domain: device/vif/DEVID (backend, backend-id, state 1, handle, mac, mtu) of the domain and
 * /local/domain/0/backend/vif/DOMID/DEVID (frontend, frontend-id, online 1, state 1) with `b DOMID` permission. */
struct domus_vif {
    uint32_t devid;          /* IN: N of device/vif/N */
    uint32_t port;           /* IN: enum domus_vif_port */
    uint32_t queues;         /* IN: number of descriptors passed, at most DOMUS_VIF_QUEUES_MAX; 1 for a stream */
    uint32_t mtu;            /* IN: 68 to 65521, 0 for 1500 */
    uint8_t mac[6];          /* IN: of the guest's interface */
    uint8_t link_down;       /* IN: starts with no carrier */
    uint8_t zero;            /* IN */
    struct domus_vif_rate from_guest, to_guest; /* IN */
    char error[256];         /* OUT: on failure, what is wrong */
};

struct domus_vif_detach {
    uint32_t devid; /* IN */
    uint32_t force; /* IN: 0 asks the guest to let go and returns; 1 takes the device away at once */
};

struct domus_vif_link {
    uint32_t devid; /* IN */
    uint32_t up;    /* IN */
};

struct domus_vif_limits {
    uint32_t devid; /* IN */
    uint32_t zero;  /* IN */
    struct domus_vif_rate from_guest, to_guest; /* IN: in place of those that it has */
};

/* Directions as libvirt and `ip -s link show vifD.N` tell them, from the host's side: rx is what the guest sent. */
struct domus_vif_stats {
    uint32_t devid;     /* IN */
    uint32_t connected; /* OUT: 1 while the guest's driver uses the device */
    uint32_t port_lost; /* OUT: 1: the other end of its stream socket is gone */
    uint32_t zero;      /* OUT */
    uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped; /* OUT */
    uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped; /* OUT */
};

/* The framebuffer, as the other side of xen-fbfront, with nodes as of a struct domus_vbd at device/vfb/0, and of the
 * backend also what a frontend reads before it says anything: videoram in MiB; width and height, or neither. */
struct domus_vfb {
    uint32_t video_kib; /* IN: the most memory of a framebuffer, at most 256 MiB */
    uint32_t reserved;  /* IN: 0 */
};

/* Keyboard and pointer, as the other side of xen-kbdfront, have their nodes at device/vkbd/0, those of the backend with
 * feature-abs-pointer, feature-raw-pointer, feature-disable-keyboard, feature-disable-pointer; width and height as above. */

#define DOMUS_VKBD_KEYS_MAX 16u

/* Keys to be pressed in that order and, some time later, released. -ENOTCONN when the guest does not listen. */
struct domus_vkbd_keys {
    uint32_t count;   /* IN: at most DOMUS_VKBD_KEYS_MAX */
    uint32_t hold_ms; /* IN: at most 60000; 0: released at once */
    uint16_t keys[DOMUS_VKBD_KEYS_MAX]; /* IN: Linux's numbers, of <linux/input-event-codes.h> */
};

/* What is to be seen at this moment: -ENODATA when there is nothing. The file has @height rows of @width pixels, each of
 * 4 bytes: red, green, blue, 0. */
struct domus_picture {
    uint32_t width, height; /* OUT */
};

/* The channel of who shows a domain to people. Each message is one packet. */
enum hv_display_type {
    /* From the hypervisor. value: width, height; with a descriptor of a file of that many pixels, as above, sealed
     * in its size and against writing; or 0, 0, and none: there is nothing to be seen. What was before is gone. */
    HV_DISPLAY_SURFACE = 1,
    HV_DISPLAY_DAMAGE = 2, /* value: x, y, width, height of a part of the surface that changed */
    /* To the hypervisor. */
    HV_DISPLAY_WATCH = 16, /* value: 1: the surface is to be kept up to date; 0, as it begins: it need not */
    HV_DISPLAY_KEY = 17,   /* value: key or button, Linux's number; 1 pressed, 0 released */
    HV_DISPLAY_MOVE = 18,  /* value: x, y of the pointer in the surface; -1 wheel up, 1 down, 0 */
};

struct hv_display_message {
    uint32_t type; /* enum hv_display_type */
    int32_t value[4];
};

/* Streams: a domain into a file and back, or to another process. save, send and receive are begun, and go on by themselves:
 * ask for the status. What has been saved or sent stays frozen (no vCPU runs, no backend touches the guest's memory), until
 * destroydomain or stream_end, which also ends one that is under way, or failed; a domain whose stream failed goes on by
 * itself. restore and receive are for a domain that has its vCPUs and a limit of memory, in place of build; its devices and
 * consoles are then attached as at a start, with the store's nodes as they were, and it goes on with unpausedomain, which
 * fails with -ENODEV while a device is missing. */
enum domus_stream_phase {
    DOMUS_STREAM_NONE = 0,
    DOMUS_STREAM_ACTIVE = 1, /* memory is being copied; the guest runs meanwhile when it is sent */
    DOMUS_STREAM_FROZEN = 2, /* what is left is being copied */
    DOMUS_STREAM_DONE = 3,   /* all of it is in the file, or the other side has all of it and can go on */
    DOMUS_STREAM_FAILED = 4, /* error and text say why */
    DOMUS_STREAM_POSTCOPY = 5, /* after stream_switch: the other side has all but a part of memory, and can go on; the rest comes */
};

/* After a domain was sent both sides have it, and agree on who may run it: the sender until it gives it up, which it does when
 * the receiver asks (stream_claim). unpausedomain fails with -EACCES for what is the sender's still, stream_end with -EBUSY for
 * what was given up.
 *
 * After stream_switch this is agreed on in the same way while memory still comes. When that ends early (FAILED) with the domain
 * given up, it is lost: neither side can run it, and who received it never lets its vCPUs go on. */
enum domus_stream_owner {
    DOMUS_OWNER_SENDER = 0,   /* as long as nothing else was agreed on */
    DOMUS_OWNER_ASKED = 1,    /* at the receiver: it has asked, and waits for the answer */
    DOMUS_OWNER_GIVEN = 2,    /* at the sender: it was given up, and nobody has said yet that it was taken */
    DOMUS_OWNER_RECEIVER = 3, /* it was given up, and taken */
};

enum domus_restore_flags {
    DOMUS_RESTORE_COPY = 1u << 0, /* memory is read at once; else it is mapped, and the file must not become shorter */
};

struct domus_restore {
    uint32_t flags;    /* IN: set of enum domus_restore_flags */
    uint32_t reserved; /* IN: 0 */
    char error[256];   /* OUT: on failure, what is wrong */
};

/* An ELF core of the guest's memory and registers; the guest goes on when it is DONE. */
enum domus_dump_flags {
    DOMUS_DUMP_LIVE = 1u << 0, /* the guest is stopped for its registers alone */
};

struct domus_dump {
    uint32_t flags;    /* IN: set of enum domus_dump_flags */
    uint32_t reserved; /* IN: 0 */
};

/* A look into the guest's RAM. -EFAULT: not all of it is there. */
enum domus_peek_flags {
    DOMUS_PEEK_VIRTUAL = 1u << 0, /* by the page tables of the first vCPU; else by guest physical address */
};

struct domus_peek {
    uint64_t address; /* IN */
    uint64_t buffer;  /* IN: address of where it goes to */
    uint32_t bytes;   /* IN */
    uint32_t flags;   /* IN: set of enum domus_peek_flags */
};

/* How many different pages the guest writes to in a time. A migration needs what counts them, and ends a measurement. */
enum domus_dirty_rate_state {
    DOMUS_DIRTY_RATE_NONE = 0, /* was never begun, or was broken off */
    DOMUS_DIRTY_RATE_MEASURING = 1,
    DOMUS_DIRTY_RATE_MEASURED = 2,
};
#define DOMUS_DIRTY_RATE_SECONDS_MAX 60u
#define DOMUS_DIRTY_RATE_PAGE_BYTES  UINT64_C(4096)

struct domus_dirty_rate {
    uint32_t seconds;  /* IN, at the start: 1 to DOMUS_DIRTY_RATE_SECONDS_MAX; OUT */
    uint32_t state;    /* OUT: enum domus_dirty_rate_state */
    uint64_t start_s;  /* OUT: when it began, since the host booted */
    uint64_t pages;    /* OUT: of DOMUS_DIRTY_RATE_PAGE_BYTES, when it is measured */
};

enum domus_stream_flags {
    DOMUS_STREAM_CONVERGE = 1u << 0, /* slows the guest down where it changes memory faster than that is sent */
    DOMUS_STREAM_COMPRESS = 1u << 1, /* pages are sent packed; as it is when sending begins */
    DOMUS_STREAM_SWITCHABLE = 1u << 2, /* stream_switch may come; not with COMPRESS */
};

struct domus_stream_limits {
    uint32_t flags;            /* IN: set of enum domus_stream_flags */
    uint32_t reserved;         /* IN: 0 */
    uint64_t max_downtime_ns;  /* IN: sending: the guest is stopped when no more than this is expected; 0: 300 ms */
    uint64_t bytes_per_second; /* IN: sending: at most; 0: no limit */
    uint64_t postcopy_bytes_per_second; /* IN: the same after stream_switch, but for pages that are asked for */
};

struct domus_stream_status {
    uint32_t phase;             /* OUT: enum domus_stream_phase */
    uint32_t error;             /* OUT: an errno, when FAILED */
    uint64_t elapsed_ns;        /* OUT, as all below: since it began, until it ended */
    uint64_t frozen_ns;         /* since the guest was stopped, until it ended */
    uint64_t memory_bytes;      /* of the guest */
    uint64_t remaining_bytes;   /* of it, to be copied */
    uint64_t transferred_bytes; /* of everything */
    uint64_t pages, zero_pages; /* that were copied, counting again those that were copied again; of zeroes */
    uint64_t passes;            /* through memory, the first one included */
    uint64_t bytes_per_second;  /* lately */
    uint64_t dirty_pages_per_second; /* changed by the guest during the last pass */
    uint64_t requests;          /* pages that the receiver asked for after stream_switch */
    uint32_t throttle_percent;  /* of time that vCPUs are kept from running */
    uint32_t owner;             /* enum domus_stream_owner, when DONE */
    char text[256];
};

/* ------------------------------------------------------------------ libdomctl */

struct domctl; /* one connection; not for two threads at once */

struct domctl_info {
    uint16_t domid;
    uint8_t uuid[16];
    bool paused;  /* by the toolstack */
    bool blocked; /* no vCPU wants to run */
    bool dying;
    bool shutdown;
    unsigned shutdown_code; /* SHUTDOWN_*, when shutdown */
    uint64_t memory_pages; /* that the guest has of what it was given: rings and ACPI tables come on top */
    uint64_t max_pages;
    uint64_t cpu_time_ns;
    unsigned online_vcpus, max_vcpus;
};

struct domctl_vcpu_info {
    bool online, blocked, running;
    uint64_t cpu_time_ns;
    unsigned cpu; /* host CPU it ran on last */
};

/* Called after each control hypercall, for a log. */
typedef void domctl_log_fn(void *opaque, const char *name, long result);

/* Connects to the control socket at @path, or takes the connected socket @fd. Calls made with the
 * connection fail with -ETIMEDOUT after @timeout_ms without a reply (and the connection is then
 * useless). All functions below give 0 or a negative errno (Xen's numbers are Linux's here), -EPIPE when
 * the domain's process is gone. */
int domctl_connect(const char *path, int timeout_ms, struct domctl **out);
int domctl_connect_fd(int fd, int timeout_ms, struct domctl **out);
void domctl_free(struct domctl *ctl);
void domctl_set_log(struct domctl *ctl, domctl_log_fn *fn, void *opaque);

/* Any hypercall: @data (may be NULL) is the data area, in and out. *@result is its result if 0 is returned. */
int domctl_hypercall(struct domctl *ctl, uint64_t number, const uint64_t args[5], void *data,
                     size_t data_bytes, const int *fds, size_t nr_fds, long *result);

int domctl_create(struct domctl *ctl, uint16_t domid, const uint8_t uuid[16], unsigned max_vcpus);
int domctl_max_mem(struct domctl *ctl, uint64_t kib); /* also populates, before domctl_build */
/* How the host holds the memory that domctl_max_mem makes: @options is a set of enum domus_memory_options. -EBUSY when
 * there is some already. */
int domctl_memory_options(struct domctl *ctl, unsigned options);
/* What the guest may have from now on; takes nothing from it, for which it has its balloon. */
int domctl_limit_mem(struct domctl *ctl, uint64_t kib);
int domctl_max_vcpus(struct domctl *ctl, unsigned vcpus);
/* Loads a kernel; *@build has the OUT fields, build->error too on failure. @ramdisk_fd may be -1. */
int domctl_build(struct domctl *ctl, int kernel_fd, int ramdisk_fd, const char *cmdline,
                 struct domus_build *build);
int domctl_console_attach(struct domctl *ctl, unsigned console, int tty_fd, int log_fd);
/* @log_fd, a file, becomes the log of @console, or with DOMUS_LOG_OWN of the process; it is duplicated. @limit_bytes: see
 * HV_EVENT_LOG_FULL; 0: none. -ENODEV: there is no such console. */
int domctl_log_file(struct domctl *ctl, unsigned console, int log_fd, uint64_t limit_bytes);
/* Consoles from 1 on. 0 when the guest has been asked: HV_EVENT_DEVICE_GONE or _KEPT tells how that ends; -ENODEV,
 * -EALREADY. */
int domctl_console_detach(struct domctl *ctl, unsigned console, bool force);
int domctl_console_info(struct domctl *ctl, unsigned console, struct domus_console_info *info);
/* @guest_fd carries the guest's requests; @backend_fd those of the domain's backends: a second connection of the same
 * kind, or -1 for a domain without devices. */
int domctl_store_attach(struct domctl *ctl, int guest_fd, int backend_fd);
/* See struct domus_vbd; its OUT fields are set, vbd->error too on failure. The image is duplicated. */
int domctl_vbd_attach(struct domctl *ctl, int image_fd, struct domus_vbd *vbd);
/* 0 when the guest has been asked: HV_EVENT_DEVICE_GONE or _KEPT tells how that ends; -ENODEV, -EALREADY. */
int domctl_vbd_detach(struct domctl *ctl, unsigned devid, bool force);
/* @size_bytes: 0 for all of the image. *@now_bytes (may be NULL) is the size that the guest sees from now on. */
int domctl_vbd_resize(struct domctl *ctl, unsigned devid, uint64_t size_bytes, uint64_t *now_bytes);
int domctl_vbd_stats(struct domctl *ctl, unsigned devid, struct domus_vbd_stats *stats);
/* @image_fd is -1 for DOMUS_VBD_EMPTY, here and in domctl_vbd_attach. image->error is set on failure. */
int domctl_vbd_set_image(struct domctl *ctl, int image_fd, struct domus_vbd_image *image);
int domctl_vbd_set_limits(struct domctl *ctl, struct domus_vbd_limits *limits);
int domctl_pause(struct domctl *ctl);
int domctl_unpause(struct domctl *ctl);
int domctl_inject_nmi(struct domctl *ctl); /* into every vCPU */
int domctl_destroy(struct domctl *ctl); /* the process ends after the reply */
int domctl_get_info(struct domctl *ctl, struct domctl_info *info);
int domctl_get_vcpu_info(struct domctl *ctl, unsigned vcpu, struct domctl_vcpu_info *info);
/* The host CPUs that a vCPU may run on: CPU n is bit n % 8 of byte n / 8; @bytes of them. -EINVAL: none of them is there. */
int domctl_set_vcpu_affinity(struct domctl *ctl, unsigned vcpu, const uint8_t *map, size_t bytes);
int domctl_get_vcpu_affinity(struct domctl *ctl, unsigned vcpu, uint8_t *map, size_t bytes);
/* The leaves of CPUID that carry features, and what a guest sees of them. get: *@count is the room, then how many there
 * are; set, before the domain runs: features that are not among those of a leaf are kept from the guest; -EINVAL for one
 * that there is not. The domain has its vCPUs. */
struct domctl_features {
    uint32_t leaf, subleaf;
    uint32_t regs[4]; /* EAX to EDX */
};
#define DOMCTL_FEATURES_MAX 64u
int domctl_get_features(struct domctl *ctl, struct domctl_features *leaves, unsigned *count);
int domctl_set_features(struct domctl *ctl, const struct domctl_features *leaves, unsigned count);
/* The NUMA nodes that the guest sees, of a domain that has its vCPUs and was not built. Memory is theirs in their order, as
 * domctl_max_mem lays it out. -EINVAL where it makes no sense; -EBUSY: too late. */
#define DOMCTL_VNUMA_NODES_MAX 64u
struct domctl_vnuma {
    unsigned nodes, vcpus;      /* all vCPUs of the domain */
    const uint64_t *memory_kib; /* of each node: whole pages */
    const unsigned *vcpu_node;  /* of each vCPU */
    const unsigned *distances;  /* from each node to each: 10 to itself, 11 to 255 to others */
};
int domctl_set_vnuma(struct domctl *ctl, const struct domctl_vnuma *vnuma);
int domctl_get_domus_info(struct domctl *ctl, struct domus_info *info);

/* Network interfaces: see struct domus_vif; @fds, vif->queues of them, are duplicated. */
int domctl_vif_attach(struct domctl *ctl, struct domus_vif *vif, const int *fds);
/* 0 when the guest has been asked: HV_EVENT_DEVICE_GONE or _KEPT tells how that ends; -ENODEV, -EALREADY. */
int domctl_vif_detach(struct domctl *ctl, uint32_t devid, bool force);
int domctl_vif_set_link(struct domctl *ctl, uint32_t devid, bool up);
/* @fd, which stays the caller's, takes the place of the stream socket of an interface. -ENODEV; -EINVAL: it has none, or @fd is none. */
int domctl_vif_set_port(struct domctl *ctl, uint32_t devid, int fd);
int domctl_vif_set_limits(struct domctl *ctl, const struct domus_vif_limits *limits);
int domctl_vif_stats(struct domctl *ctl, uint32_t devid, struct domus_vif_stats *stats);

/* Framebuffer, keyboard, and who shows them: see struct domus_vfb and what follows. Descriptors are duplicated. */
int domctl_vfb_attach(struct domctl *ctl, const struct domus_vfb *vfb);
int domctl_vkbd_attach(struct domctl *ctl);
int domctl_vkbd_send(struct domctl *ctl, const struct domus_vkbd_keys *keys);
int domctl_display_attach(struct domctl *ctl, int fd);
int domctl_display_write(struct domctl *ctl, int fd, struct domus_picture *picture);

/* Streams: see enum domus_stream_phase. Descriptors are duplicated. */
int domctl_save(struct domctl *ctl, int fd);
int domctl_save_live(struct domctl *ctl, int fd);
int domctl_dump(struct domctl *ctl, int fd, uint32_t flags);
/* Copies @bytes at @address of the guest's memory to @buffer; @flags is a set of enum domus_peek_flags. */
int domctl_peek(struct domctl *ctl, uint64_t address, void *buffer, size_t bytes, uint32_t flags);
int domctl_dirty_rate_start(struct domctl *ctl, unsigned seconds);
int domctl_dirty_rate(struct domctl *ctl, struct domus_dirty_rate *rate);
int domctl_restore(struct domctl *ctl, int fd, struct domus_restore *restore);
int domctl_send(struct domctl *ctl, int fd, const struct domus_stream_limits *limits);
int domctl_receive(struct domctl *ctl, int fd);
int domctl_stream_status(struct domctl *ctl, struct domus_stream_status *status);
int domctl_stream_limits(struct domctl *ctl, const struct domus_stream_limits *limits);
int domctl_stream_end(struct domctl *ctl);
int domctl_stream_claim(struct domctl *ctl);
int domctl_stream_keep(struct domctl *ctl);
int domctl_stream_recall(struct domctl *ctl);
int domctl_stream_switch(struct domctl *ctl);
/* The OUT fields of *@build but the error, of a domain that was built, or came out of a stream. */
int domctl_get_rings(struct domctl *ctl, struct domus_build *build);

/* Events: subscribe, then poll domctl_fd and call domctl_next_event, which does not block: 1 and *event,
 * *arg; 0 when there is none; -EPIPE at the end. A connection with events is best used for nothing else. */
int domctl_subscribe(struct domctl *ctl);
int domctl_fd(const struct domctl *ctl);
int domctl_next_event(struct domctl *ctl, enum hv_event *event, uint64_t *arg);
