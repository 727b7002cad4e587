/* xmlconf: domain XML and the typed configuration read from it.
 *
 * The XML document is the truth and is kept whole, so that what a user wrote comes back. A typed
 * configuration is read from it through one table of paths (fields.c) and checked; defaults that libvirt
 * fills in (uuid, clock, lifecycle actions, console type and target ...) are written back into the document.
 * What Domus cannot do is refused by name, never ignored. What only a running domain has (id, tty paths,
 * aliases) is laid over the document when it is formatted.
 *
 * Knows nothing of the driver or the hypervisor.
 */
#pragma once

#include <glib.h>

#define XMLCONF_ERROR (xmlconf_error_quark())
GQuark xmlconf_error_quark(void);

typedef enum {
    XMLCONF_ERROR_XML,         /* an element or value is missing or wrong */
    XMLCONF_ERROR_SYNTAX,      /* not well-formed; the message is whole ("(domain_definition):3: ...") */
    XMLCONF_ERROR_SCHEMA,      /* violates libvirt's schema (XMLCONF_VALIDATE) */
    XMLCONF_ERROR_UNSUPPORTED, /* fine, but Domus cannot do it */
    XMLCONF_ERROR_OS_TYPE,     /* os type, architecture or machine that nobody here runs */
    XMLCONF_ERROR_NO_DEVICE,   /* the domain has no such device */
    XMLCONF_ERROR_INTERNAL,
} XmlconfError;

typedef enum {
    XMLCONF_VALIDATE = 1 << 0,   /* against libvirt's RNG schema first */
    XMLCONF_PARSE_LIVE = 1 << 1, /* the driver's own file: take id, tty and alias, which others may not set */
} XmlconfParseFlags;

typedef enum {
    XMLCONF_FORMAT_SECURE = 1 << 0,   /* passwords too */
    XMLCONF_FORMAT_INACTIVE = 1 << 1, /* without what only a running domain has */
    XMLCONF_FORMAT_STATUS = 1 << 2,   /* for the driver's own files: everything */
    XMLCONF_FORMAT_NO_DOMAIN = 1 << 3, /* of a snapshot or checkpoint: without the domain */
} XmlconfFormatFlags;

/* Least and most memory of a domain; page numbers of 32 bits end at 16 TiB. */
#define XMLCONF_MIN_MEMORY_KIB ((guint64)4096)
#define XMLCONF_MAX_MEMORY_KIB ((guint64)16 << 30)

/* Most virtual CPUs of a domain: what the hypervisor can do. */
#define XMLCONF_MAX_VCPUS 64

typedef enum { XMLCONF_OS_PVH, XMLCONF_OS_PV, XMLCONF_OS_HVM } XmlconfOsType;

typedef enum { XMLCONF_BOOT_HD, XMLCONF_BOOT_CDROM } XmlconfBootDevice;

typedef struct {
    XmlconfBootDevice device;
} XmlconfBoot;

typedef enum {
    XMLCONF_ACTION_DESTROY,
    XMLCONF_ACTION_RESTART,
    XMLCONF_ACTION_PRESERVE,
    XMLCONF_ACTION_RENAME_RESTART,
    XMLCONF_ACTION_COREDUMP_DESTROY,
    XMLCONF_ACTION_COREDUMP_RESTART,
} XmlconfAction;

typedef enum {
    XMLCONF_CHAR_PTY,
    XMLCONF_CHAR_FILE,
    XMLCONF_CHAR_NULL,
    XMLCONF_CHAR_UNIX,
    XMLCONF_CHAR_TCP,
} XmlconfCharType;

/* Most consoles and channels of a domain. */
#define XMLCONF_MAX_CONSOLES 16

typedef struct {
    XmlconfCharType type;
    char *path;      /* file, unix; or NULL */
    char *mode;      /* unix, tcp: "bind" or "connect"; NULL: connect */
    char *host, *service; /* tcp; or NULL */
    guint port;      /* number of the device; no two consoles or channels have the same */
    gboolean append; /* to the file; else it is emptied first */
    char *log_path;  /* <log file=.../>; or NULL */
    gboolean log_append;
    char *name;  /* channel: what programs in the guest look for; NULL: a console */
    char *tty;   /* running domain: the pty, set by the driver */
    char *state; /* running domain's channel: "connected" or "disconnected", where somebody knows; or NULL */
    char *alias; /* running domain */
} XmlconfConsole;

/* Most disks and network interfaces of a domain. */
#define XMLCONF_MAX_DISKS      64
#define XMLCONF_MAX_INTERFACES 16

/* Most queues of a network interface. */
#define XMLCONF_MAX_QUEUES 8

typedef enum { XMLCONF_DISK_FILE, XMLCONF_DISK_BLOCK, XMLCONF_DISK_NETWORK, XMLCONF_DISK_VOLUME } XmlconfDiskType;
typedef enum { XMLCONF_DISK_DISK, XMLCONF_DISK_CDROM } XmlconfDiskDevice;
typedef enum {
    XMLCONF_CACHE_DEFAULT, /* not said */
    XMLCONF_CACHE_NONE,
    XMLCONF_CACHE_WRITETHROUGH,
    XMLCONF_CACHE_WRITEBACK,
    XMLCONF_CACHE_DIRECTSYNC,
    XMLCONF_CACHE_UNSAFE,
} XmlconfCache;
typedef enum { XMLCONF_DISCARD_DEFAULT, XMLCONF_DISCARD_UNMAP, XMLCONF_DISCARD_IGNORE } XmlconfDiscard;

/* What happens when an image cannot be read or written. */
typedef enum {
    XMLCONF_POLICY_DEFAULT, /* not said */
    XMLCONF_POLICY_STOP,
    XMLCONF_POLICY_REPORT,
    XMLCONF_POLICY_IGNORE,
    XMLCONF_POLICY_ENOSPACE,
} XmlconfErrorPolicy;

/* Limits by libvirt's names; 0: none. */
#define XMLCONF_IOTUNE_MAX 1000000000000000 /* as libvirt has it */
typedef struct {
    guint64 total_bytes_sec, read_bytes_sec, write_bytes_sec;
    guint64 total_iops_sec, read_iops_sec, write_iops_sec;
    guint64 total_bytes_sec_max, read_bytes_sec_max, write_bytes_sec_max;
    guint64 total_iops_sec_max, read_iops_sec_max, write_iops_sec_max;
} XmlconfIotune;

#define XMLCONF_NBD_PORT "10809"

/* Where a snapshot of a disk or of memory is. */
typedef enum {
    XMLCONF_SNAPSHOT_DEFAULT, /* not said */
    XMLCONF_SNAPSHOT_NO,
    XMLCONF_SNAPSHOT_INTERNAL,
    XMLCONF_SNAPSHOT_EXTERNAL,
    XMLCONF_SNAPSHOT_BITMAP, /* of a checkpoint */
} XmlconfSnapshotLocation;

/* <mirror>: where a disk goes. */
typedef struct {
    char *type; /* "file" or "block"; NULL: there is none */
    char *job;  /* "copy" or "active-commit" */
    char *ready; /* "yes", "pivot", "abort"; or NULL */
    char *format, *file, *dev;
} XmlconfMirror;

typedef struct {
    XmlconfDiskType type;
    XmlconfDiskDevice device;
    char *driver; /* <driver name=...>: whose it would be elsewhere; or NULL */
    char *format; /* "raw", "qcow2" ... */
    XmlconfCache cache;
    XmlconfErrorPolicy error_policy, rerror_policy;
    char *io; /* "io_uring", "native", "threads"; or NULL */
    XmlconfDiscard discard;
    char *file, *dev; /* one of them, or what follows, by type: xmlconf_disk_source; all NULL: no medium */
    char *protocol, *export_name;          /* network: "nbd"; the latter may be NULL */
    char *host, *port, *transport, *socket; /* network: by transport "tcp" (or NULL) or "unix" */
    guint64 reconnect_delay; /* network: seconds that requests wait for a server that is gone; 0: they fail */
    char *pool, *volume, *volume_mode;     /* volume: the latter "host", or NULL */
    char *volume_file, *volume_dev;        /* running domain, volume: what it is, one of them; set by the driver */
    char *encryption;                      /* "luks"; or NULL */
    char *secret_uuid, *secret_usage;      /* encryption: one of them */
    char *target;                          /* "xvda" */
    char *bus;                             /* "xen", or "ide" for "hda", "scsi" for "sda" */
    gboolean tray_open;                    /* running domain */
    XmlconfIotune iotune;
    gboolean readonly, shareable;
    XmlconfSnapshotLocation snapshot; /* what a snapshot that says nothing of it does with the disk */
    guint64 boot_order; /* 0: none */
    char *serial; /* or NULL */
    char *alias;  /* running domain */
    GPtrArray *backing; /* running domain: one XmlconfBacking, what the image is based on; NULL: not known */
    XmlconfMirror mirror; /* running domain: of a job that copies the disk or commits what it is on */
    gboolean routed; /* running domain: a raw image that a storage daemon serves nevertheless; set by the driver */
    char *job;       /* running domain: the kind of block job that is under way, or NULL; set by the driver */
    guint64 threshold; /* running domain: it is told when the image's file is written so far, in bytes; 0: it is not */
} XmlconfDisk;

/* An image that another is based on; one without a type ends the chain. */
typedef struct {
    char *type;   /* "file", "block" or "network" */
    char *format; /* "qcow2" ... */
    char *file, *dev, *name; /* one of them, by type */
    GPtrArray *backing;      /* one XmlconfBacking; or NULL */
} XmlconfBacking;

typedef enum {
    XMLCONF_INTERFACE_BRIDGE,
    XMLCONF_INTERFACE_ETHERNET,
    XMLCONF_INTERFACE_NETWORK,
    XMLCONF_INTERFACE_DIRECT,
    XMLCONF_INTERFACE_USER,
} XmlconfInterfaceType;
#define XMLCONF_MAX_FILTER_PARAMETERS 64
typedef struct {
    char *name, *value;
} XmlconfFilterParameter;

typedef struct {
    char *address, *family; /* "ipv4" or "ipv6"; or NULL */
    guint prefix;           /* 0: not said */
} XmlconfNicIp;

/* Ports of the host that are the guest's. */
typedef struct {
    char *proto;         /* "tcp" or "udp" */
    char *address, *dev; /* of the host; NULL: any */
    GPtrArray *ranges;   /* of XmlconfPortRange; NULL: all ports */
} XmlconfPortForward;

typedef struct {
    guint start, end, to; /* the latter two: 0 for start */
    gboolean exclude;
} XmlconfPortRange;

/* How much passes an interface in one direction; 0: not said. */
typedef struct {
    guint average_kib, peak_kib; /* in a second */
    guint burst_kib;
} XmlconfRate;

typedef struct {
    XmlconfRate inbound, outbound; /* as the guest sees it */
} XmlconfBandwidth;

/* Whether its parts fit together. */
gboolean xmlconf_bandwidth_check(const XmlconfBandwidth *bandwidth, GError **error);

typedef enum { XMLCONF_LINK_DEFAULT, XMLCONF_LINK_UP, XMLCONF_LINK_DOWN } XmlconfLink;

typedef struct {
    XmlconfInterfaceType type;
    XmlconfInterfaceType actual; /* running domain: what its network comes to; as type for the others */
    char *mac;    /* 17 characters, lower case */
    char *network, *portgroup; /* type network; the latter may be NULL */
    char *port_id;             /* running domain, type network: UUID of its port there */
    char *bridge; /* type bridge, and of a running domain type network */
    char *dev;    /* type direct, likewise: the host's interface; type user: or NULL */
    char *mode;   /* type direct, likewise: "vepa", "bridge", "private" or "passthrough" */
    guint queues; /* 0: not said, one */
    char *backend, *log_file;  /* type user: "passt", and where it logs; or NULL */
    GPtrArray *ips, *forwards; /* type user: of XmlconfNicIp and XmlconfPortForward; NULL: none */
    char *target; /* name of the tap; NULL: vifD.N, which a running domain has here */
    XmlconfLink link;
    guint mtu;   /* 0: not said */
    XmlconfBandwidth bandwidth;
    char *filter;                 /* libvirt's, by its name; or NULL */
    GPtrArray *filter_parameters; /* of XmlconfFilterParameter; NULL: none */
    gboolean isolated;            /* from other isolated ports of its bridge */
    char *alias; /* running domain */
    guint64 boot_order; /* 0: none */
} XmlconfInterface;

/* Most of each. */
#define XMLCONF_MAX_GRAPHICS 1
#define XMLCONF_MAX_VIDEOS   1
#define XMLCONF_MAX_INPUTS   3
#define XMLCONF_MAX_VRAM_KIB (256 * 1024)

typedef enum { XMLCONF_YES_NO_DEFAULT, XMLCONF_YES, XMLCONF_NO } XmlconfYesNo;
typedef enum {
    XMLCONF_LISTEN_DEFAULT, /* until it was read: one of the others is chosen then */
    XMLCONF_LISTEN_ADDRESS,
    XMLCONF_LISTEN_SOCKET,
    XMLCONF_LISTEN_NONE,
} XmlconfListen;
typedef enum {
    XMLCONF_SHARE_DEFAULT, /* as allow-exclusive */
    XMLCONF_SHARE_ALLOW_EXCLUSIVE,
    XMLCONF_SHARE_FORCE_SHARED,
    XMLCONF_SHARE_IGNORE,
} XmlconfSharePolicy;

typedef struct {
    int type; /* VNC; there is no other */
    XmlconfListen listen;
    XmlconfYesNo autoport;
    int port;            /* listen address: 0: to be found; the driver writes what was found */
    int websocket;       /* another port, for browsers: 0: none; -1: to be found */
    int websocket_port;  /* running domain: what it is */
    char *address;       /* listen address: NULL: the loopback, which a running domain has here */
    char *socket;        /* listen socket: NULL: of the driver's choice, likewise */
    char *keymap;        /* or NULL */
    XmlconfSharePolicy share_policy;
    char *passwd;          /* NULL: none is asked for; "": nobody gets in */
    char *passwd_valid_to; /* or NULL */
} XmlconfGraphics;

typedef struct {
    char *model; /* "xen" */
    guint vram_kib;
    guint width, height; /* 0: the guest chooses */
    char *alias;         /* running domain */
} XmlconfVideo;

typedef enum { XMLCONF_INPUT_MOUSE, XMLCONF_INPUT_TABLET, XMLCONF_INPUT_KEYBOARD } XmlconfInputType;

typedef struct {
    XmlconfInputType type;
    char *bus;   /* "xen" */
    char *alias; /* running domain */
} XmlconfInput;

/* Limits of what the host gives a domain of memory, in KiB; 0: not said. The last is of memory and swap together. */
#define XMLCONF_MAX_LIMIT_KIB ((guint64)9007199254740991) /* as libvirt has it: more is no limit */
typedef struct {
    guint64 hard_limit_kib, soft_limit_kib, swap_hard_limit_kib;
} XmlconfMemtune;

/* Whether they fit together. */
gboolean xmlconf_memtune_check(const XmlconfMemtune *tune, GError **error);

/* A domain's part of the host's block devices, against others; 0: not said, here and below. */
#define XMLCONF_MIN_WEIGHT 100
#define XMLCONF_MAX_WEIGHT 1000
typedef struct {
    char *path; /* of the block device */
    guint64 weight, read_bytes_sec, write_bytes_sec, read_iops_sec, write_iops_sec;
} XmlconfBlkioDevice;

typedef struct {
    guint64 weight;
    GPtrArray *devices; /* of XmlconfBlkioDevice, no path twice; NULL: none */
} XmlconfBlkiotune;

/* The device of that path, or NULL; _get adds it. _prune removes those that say nothing. */
XmlconfBlkioDevice *xmlconf_blkiotune_find(const XmlconfBlkiotune *tune, const char *path);
XmlconfBlkioDevice *xmlconf_blkiotune_get(XmlconfBlkiotune *tune, const char *path);
void xmlconf_blkiotune_prune(XmlconfBlkiotune *tune);
void xmlconf_blkiotune_copy(XmlconfBlkiotune *to, const XmlconfBlkiotune *from); /* @to holds nothing before */
void xmlconf_blkiotune_clear(XmlconfBlkiotune *tune);

/* Huge pages of the host's pool that guests can have. */
#define XMLCONF_HUGEPAGE_KIB ((guint64)2048)

/* When the host gives a domain its memory: as it touches it, or all at the start. */
typedef enum { XMLCONF_ALLOCATION_DEFAULT, XMLCONF_ALLOCATION_ONDEMAND, XMLCONF_ALLOCATION_IMMEDIATE } XmlconfAllocation;

/* Which host CPUs one vCPU may run on. */
typedef struct {
    guint vcpu;
    char *cpuset;
} XmlconfVcpuPin;

/* How much of the host's CPUs a part of a domain may use: @quota us in each @period us, -1 for no limit. 0: not said. */
typedef struct {
    guint64 period;
    gint64 quota;
} XmlconfCpuLimit;

typedef struct {
    guint64 shares; /* against other domains; 0: not said */
    XmlconfCpuLimit vcpu, global, emulator; /* of each vCPU, the whole domain, and its other threads */
    GPtrArray *pins;     /* of XmlconfVcpuPin, no vCPU twice; NULL: none */
    char *emulator_pin;  /* a CPU list for what is not a vCPU; or NULL */
} XmlconfCputune;

typedef enum {
    XMLCONF_CPU_DEFAULT, /* nothing said */
    XMLCONF_CPU_CUSTOM,
    XMLCONF_CPU_HOST_MODEL,
    XMLCONF_CPU_HOST_PASSTHROUGH,
    XMLCONF_CPU_MAXIMUM,
} XmlconfCpuMode;
typedef enum { XMLCONF_MATCH_DEFAULT, XMLCONF_MATCH_EXACT, XMLCONF_MATCH_MINIMUM, XMLCONF_MATCH_STRICT } XmlconfCpuMatch;
typedef enum { XMLCONF_CHECK_DEFAULT, XMLCONF_CHECK_NONE, XMLCONF_CHECK_PARTIAL, XMLCONF_CHECK_FULL } XmlconfCpuCheck;
typedef enum {
    XMLCONF_POLICY_REQUIRE,
    XMLCONF_POLICY_FORCE,
    XMLCONF_POLICY_OPTIONAL,
    XMLCONF_POLICY_DISABLE,
    XMLCONF_POLICY_FORBID,
} XmlconfCpuPolicy;

typedef struct {
    XmlconfCpuPolicy policy;
    char *name;
} XmlconfCpuFeature;

/* Nodes of a guest: their memory is that of the domain, and each vCPU is in one of them. A cell's place is its id. */
#define XMLCONF_MAX_NUMA_CELLS 64
#define XMLCONF_PAGE_KIB       4u
typedef struct {
    guint id, value; /* of the other cell; how far it is */
} XmlconfNumaDistance;
typedef struct {
    guint number; /* id + 1 */
    char *cpus;   /* a list of vCPUs; or NULL */
    guint64 memory_kib;
    GPtrArray *distances; /* of XmlconfNumaDistance, no cell twice; NULL: none said */
} XmlconfNumaCell;

/* How far @to is from @from, whether that is said or not. */
guint xmlconf_numa_distance(const GPtrArray *cells, guint from, guint to);
/* Whether each of so many vCPUs is in one of them; no cells are fine. */
gboolean xmlconf_numa_check_vcpus(const GPtrArray *cells, guint max_vcpus, GError **error);

/* On which of the host's nodes a domain's memory is. */
typedef enum {
    XMLCONF_NUMA_DEFAULT, /* nothing said */
    XMLCONF_NUMA_STRICT,
    XMLCONF_NUMA_PREFERRED,
    XMLCONF_NUMA_INTERLEAVE,
    XMLCONF_NUMA_RESTRICTIVE,
} XmlconfNumaMode;
typedef struct {
    XmlconfNumaMode mode; /* default only without a nodeset */
    char *nodeset;        /* a list like one of CPUs; or NULL */
} XmlconfNumatune;

/* Gives a nodeset a mode, and says whether they fit together. */
gboolean xmlconf_numatune_complete(XmlconfNumatune *tune, GError **error);

/* <cpu> of a domain, or a CPU that a client describes. */
typedef struct {
    XmlconfCpuMode mode;
    XmlconfCpuMatch match;
    XmlconfCpuCheck check;
    char *model, *fallback, *vendor, *migratable; /* or NULL */
    GPtrArray *features;                          /* of XmlconfCpuFeature; NULL: none */
    GPtrArray *cells;                             /* of XmlconfNumaCell; NULL: none */
} XmlconfCpu;

typedef struct {
    char *name;
    char *uuid; /* 36 characters, lower case */
    char *title, *description;
    int id; /* -1 when not running; set by the driver */

    XmlconfOsType os_type;
    char *bootloader;                /* finds what follows in a disk: xmlconf_boot_disks; or NULL: xmlconf_bootloader */
    char *bootloader_args;           /* or NULL */
    char *kernel, *initrd, *cmdline; /* for a boot loader names in the disk; or NULL */
    GPtrArray *boot;                 /* of XmlconfBoot: classes of disks in the order in which they are tried; NULL: none */

    guint64 memory_kib;         /* <memory>: maximum */
    guint64 current_memory_kib; /* <currentMemory> */
    gboolean memory_locked;     /* never paged out by the host */
    gboolean hugepages;         /* from the host's pool */
    guint64 hugepage_kib;       /* their size; 0: not said */
    XmlconfMemtune memtune;
    XmlconfBlkiotune blkiotune;
    XmlconfAllocation allocation;
    guint max_vcpus, current_vcpus;
    char *cpuset; /* <vcpu cpuset=...>; or NULL */
    XmlconfCputune cputune;
    XmlconfNumatune numatune;
    XmlconfCpu cpu;

    XmlconfAction on_poweroff, on_reboot, on_crash;
    GPtrArray *consoles; /* of XmlconfConsole; at least one */
    GPtrArray *channels; /* of XmlconfConsole; NULL: none */
    GPtrArray *disks;      /* of XmlconfDisk; NULL: none */
    GPtrArray *interfaces; /* of XmlconfInterface; NULL: none */
    GPtrArray *inputs;     /* of XmlconfInput; NULL: none */
    GPtrArray *graphics;   /* of XmlconfGraphics; NULL: none */
    GPtrArray *videos;     /* of XmlconfVideo; NULL: none */
    char *clock_offset;  /* "utc" */
    char *emulator;      /* path of the hypervisor program asked for; or NULL */
} XmlconfDomainConfig;

typedef struct _XmlconfDomain XmlconfDomain; /* a document and its configuration; reference-counted */

/* Parses, checks and fills in defaults. */
XmlconfDomain *xmlconf_domain_parse(const char *xml, XmlconfParseFlags flags, GError **error);
/* A deep copy that can be changed apart from @domain (the live copy of a definition). */
XmlconfDomain *xmlconf_domain_copy(XmlconfDomain *domain);
XmlconfDomain *xmlconf_domain_ref(XmlconfDomain *domain);
void xmlconf_domain_unref(XmlconfDomain *domain);

/* The typed configuration; strings belong to the domain. The driver writes the fields marked so. */
XmlconfDomainConfig *xmlconf_domain_config(XmlconfDomain *domain);

/* A number that no other domain of this process has, nor had: for whoever keeps what it made of one. */
guint64 xmlconf_domain_serial(const XmlconfDomain *domain);

/* The XML text of a domain. */
char *xmlconf_domain_format(XmlconfDomain *domain, XmlconfFormatFlags flags, GError **error);

/* The domain that a configuration file of xl describes; see xl.cfg(5). Relative paths are refused, as everywhere. */
XmlconfDomain *xmlconf_xlcfg_parse(const char *text, GError **error);
/* The same the other way. What describes a domain only is left out; what xl.cfg cannot say is an error. */
char *xmlconf_xlcfg_format(XmlconfDomain *domain, GError **error);

/* A CPU list such as "0-3,^2" as a bitmap: CPU n is bit n%8 of byte n/8, the last byte is not 0. NULL: it is none,
 * or says no CPU at all. */
GByteArray *xmlconf_cpuset_parse(const char *text);

/* The CPU list of a bitmap: "0-3,8". */
char *xmlconf_cpuset_format(const guint8 *map, gsize bytes);

/* What <cputune> or <vcpu cpuset> says of @vcpu; NULL: nothing. Belongs to @config. */
const char *xmlconf_vcpu_cpuset(const XmlconfDomainConfig *config, guint vcpu);
/* Binds @vcpu to @cpuset, or with NULL to nothing of its own. */
void xmlconf_domain_set_vcpu_pin(XmlconfDomain *domain, guint vcpu, const char *cpuset);

/* Title, description and <metadata> elements, as virDomainSetMetadata changes them. @uri and @key are for
 * elements; @value NULL removes. get: NULL without an error when absent. */
typedef enum { XMLCONF_METADATA_DESCRIPTION, XMLCONF_METADATA_TITLE, XMLCONF_METADATA_ELEMENT } XmlconfMetadata;
char *xmlconf_domain_get_metadata(XmlconfDomain *domain, XmlconfMetadata type, const char *uri, GError **error);
gboolean xmlconf_domain_set_metadata(XmlconfDomain *domain, XmlconfMetadata type, const char *value,
                                     const char *key, const char *uri, GError **error);

/* Whether others come to a console's socket, not it to them. */
gboolean xmlconf_console_listens(const XmlconfConsole *console);
/* The terminal of a running domain's console or channel of type pty; NULL: none. The setter copies @tty. */
const char *xmlconf_console_tty(const XmlconfConsole *console);
void xmlconf_console_set_tty(XmlconfConsole *console, const char *tty);
/* "console1", "channel2": by its number. */
char *xmlconf_console_alias(const XmlconfConsole *console);
/* Numbers them in order: those of a definition after one came or went, of a domain before it starts. */
void xmlconf_consoles_renumber(XmlconfDomainConfig *config);
/* The lowest number that no console or channel has: XMLCONF_MAX_CONSOLES when all are taken. */
guint xmlconf_console_free_port(const XmlconfDomainConfig *config);

/* The image or block device of a disk; NULL: none. Of a volume its name, until the driver has found what it is. */
const char *xmlconf_disk_source(const XmlconfDisk *disk);
/* The boot loader of a guest, the usual one if neither one nor a kernel is named; NULL: it is booted from its kernel. */
const char *xmlconf_bootloader(const XmlconfDomainConfig *config);
/* The disks that have something in them which a boot loader is to try, in this order: those with a <boot order>, those of the
 * classes of <os>, or the first of all. The array, of XmlconfDisk, is to be freed; they belong to @config. */
GPtrArray *xmlconf_boot_disks(const XmlconfDomainConfig *config);
/* What it is on; a volume is a file or a block device. */
XmlconfDiskType xmlconf_disk_actual_type(const XmlconfDisk *disk);
/* The source for messages: a network disk's address. */
char *xmlconf_disk_describe(const XmlconfDisk *disk);
/* Whether a program has to stand between the image and the hypervisor, which by itself knows raw images and NBD servers. */
gboolean xmlconf_disk_is_served(const XmlconfDisk *disk);
/* Whether its limits fit together. */
gboolean xmlconf_disk_check_iotune(const XmlconfDisk *disk, GError **error);
/* The number that Xen knows a disk's target by, as libxl counts: "xvda", "sdb", "hdc", "xvda1". FALSE: no such name. */
gboolean xmlconf_disk_vdev(const char *target, guint *vdev);
/* The name of the tap of interface @index where its configuration has none: "vif3.0", for a running domain. */
char *xmlconf_interface_tap(int domid, guint index);
/* Whether a tap's name is of that kind. */
gboolean xmlconf_interface_is_generated(const char *tap);

/* What libvirt's filter daemon is told of an interface. */
typedef struct {
    char *owner_name, *owner_uuid;
    char *port, *link; /* the tap, and what it is on top of; the latter may be NULL */
    char *mac, *filter;
    GPtrArray *parameters; /* of XmlconfFilterParameter; or NULL */
} XmlconfFilterBinding;
/* Its <filterbinding>. */
char *xmlconf_filter_binding_format(const XmlconfFilterBinding *binding);

/* A port of one of libvirt's virtual networks, as its network daemon takes and tells it. */
typedef enum { XMLCONF_PLUG_NONE, XMLCONF_PLUG_NETWORK, XMLCONF_PLUG_BRIDGE, XMLCONF_PLUG_DIRECT } XmlconfPlug;
typedef struct {
    char *uuid, *owner_name, *owner_uuid, *group, *mac;
    XmlconfPlug plug; /* what the daemon says the interface is to be plugged into; none: it is to say so */
    char *bridge;     /* plug network, bridge */
    char *dev, *mode; /* plug direct */
    gboolean isolated;
    XmlconfBandwidth bandwidth;
} XmlconfNetworkPort;

/* Its <networkport>. */
char *xmlconf_network_port_format(const XmlconfNetworkPort *port);
/* Fills @port, which holds nothing before; what Domus cannot do is refused by name. */
gboolean xmlconf_network_port_parse(XmlconfNetworkPort *port, const char *xml, GError **error);
void xmlconf_network_port_clear(XmlconfNetworkPort *port);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XmlconfNetworkPort, xmlconf_network_port_clear)

/* ---- snapshots and checkpoints: snapshot.c, checkpoint.c */

/* libvirt's states of a domain, by the words of its snapshots' documents; the numbers are those of virDomainState. */
typedef enum {
    XMLCONF_SNAPSHOT_RUNNING = 1,
    XMLCONF_SNAPSHOT_BLOCKED = 2,
    XMLCONF_SNAPSHOT_PAUSED = 3,
    XMLCONF_SNAPSHOT_SHUTDOWN = 4,
    XMLCONF_SNAPSHOT_SHUTOFF = 5,
    XMLCONF_SNAPSHOT_CRASHED = 6,
    XMLCONF_SNAPSHOT_PMSUSPENDED = 7,
    XMLCONF_SNAPSHOT_DISK_ONLY = 8, /* of a running domain, without its memory */
} XmlconfSnapshotState;

typedef struct {
    char *name; /* the disk's target; of one that a client wrote maybe its source */
    XmlconfSnapshotLocation location;
    char *type;   /* external: "file" or "block" */
    char *format; /* external: of the overlay; or NULL */
    char *file, *dev; /* external: the overlay; or NULL */
    char *bitmap;     /* of a checkpoint: of what was written since; or NULL */
    char *size;       /* of a checkpoint: how many bytes those are, in digits; NULL: not known */
} XmlconfSnapshotDisk;

/* A <domainsnapshot>, or a <domaincheckpoint>, which has neither state, memory nor inactive. Reference-counted, and not changed
 * any more once others see it. */
typedef struct {
    gatomicrefcount refs;
    gboolean checkpoint;
    char *name; /* or NULL: none given */
    char *description;
    XmlconfSnapshotState state; /* 0: not said */
    char *parent;               /* its name; or NULL */
    guint64 creation_time;      /* seconds since 1970; 0: not said */
    XmlconfSnapshotLocation memory;
    char *memory_file; /* external */
    GPtrArray *disks;  /* of XmlconfSnapshotDisk; NULL: none */
    XmlconfDomain *domain;   /* as it was, without what only a running domain has; or NULL */
    XmlconfDomain *inactive; /* its definition, where that was another; or NULL */
} XmlconfSnapshot;

XmlconfSnapshot *xmlconf_snapshot_new(void);
/* @flags: XMLCONF_VALIDATE. What Domus cannot do is refused by name. */
XmlconfSnapshot *xmlconf_snapshot_parse(const char *xml, XmlconfParseFlags flags, GError **error);
XmlconfSnapshot *xmlconf_checkpoint_parse(const char *xml, XmlconfParseFlags flags, GError **error);
/* @flags: XMLCONF_FORMAT_SECURE, and NO_DOMAIN. */
char *xmlconf_snapshot_format(XmlconfSnapshot *snapshot, XmlconfFormatFlags flags, GError **error);
XmlconfSnapshot *xmlconf_snapshot_ref(XmlconfSnapshot *snapshot);
void xmlconf_snapshot_unref(XmlconfSnapshot *snapshot);
/* A copy that can be changed; it shares the domains. */
XmlconfSnapshot *xmlconf_snapshot_copy(const XmlconfSnapshot *snapshot);
/* A new element of snapshot->disks; belongs to it. */
XmlconfSnapshotDisk *xmlconf_snapshot_add_disk(XmlconfSnapshot *snapshot, const char *name);
/* Whether its memory or any disk of it is in files of their own. */
gboolean xmlconf_snapshot_is_external(const XmlconfSnapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XmlconfSnapshot, xmlconf_snapshot_unref)

/* <disk> of a block copy's destination: a target-less disk. Only its source and format are read. */
gboolean xmlconf_disk_destination_parse(const char *xml, XmlconfSnapshotDisk *disk, GError **error);
void xmlconf_snapshot_disk_clear(XmlconfSnapshotDisk *disk);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XmlconfSnapshotDisk, xmlconf_snapshot_disk_clear)

/* A <domainbackup>. */
typedef enum { XMLCONF_BACKUP_DEFAULT, XMLCONF_BACKUP_FULL, XMLCONF_BACKUP_INCREMENTAL } XmlconfBackupMode;
typedef struct {
    char *name;    /* target or source of the disk */
    gboolean excluded;
    char *type;    /* "file" or "block"; or NULL */
    XmlconfBackupMode mode;
    char *incremental; /* the checkpoint since which; or NULL */
    char *export_name, *export_bitmap; /* pull: what clients find; or NULL */
    char *format;  /* or NULL */
    char *file, *dev; /* push: where it goes; or NULL */
    char *scratch_file, *scratch_dev; /* pull: where what the guest overwrites meanwhile is kept; or NULL */
} XmlconfBackupDisk;
typedef struct {
    gboolean pull; /* clients read it from a server; else it is pushed */
    char *incremental; /* of disks that say nothing; or NULL */
    struct {
        char *transport;   /* "tcp" or "unix"; NULL: there is none */
        char *tls;         /* "yes" (tcp) or "no"; or NULL */
        char *name, *port; /* tcp */
        char *socket;      /* unix */
    } server;
    GPtrArray *disks; /* of XmlconfBackupDisk; NULL: all */
} XmlconfBackup;
gboolean xmlconf_backup_parse(XmlconfBackup *backup, const char *xml, GError **error);
char *xmlconf_backup_format(const XmlconfBackup *backup);
XmlconfBackupDisk *xmlconf_backup_add_disk(XmlconfBackup *backup, const char *name);
void xmlconf_backup_clear(XmlconfBackup *backup);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XmlconfBackup, xmlconf_backup_clear)

/* The chain below a disk: the image that the last one added is based on. Belongs to the disk or @above. */
XmlconfBacking *xmlconf_backing_add(GPtrArray **list);
void xmlconf_backing_clear(GPtrArray **list);

/* When the password ends, in seconds since 1970. FALSE: never. */
gboolean xmlconf_graphics_valid_to(const XmlconfGraphics *graphics, gint64 *seconds);
/* XKB's layout, "ch(fr)", of a keymap; NULL: no such keymap. */
const char *xmlconf_keymap_layout(const char *keymap);
/* Whether a domain has a keyboard, or a pointer. */
gboolean xmlconf_has_input(const XmlconfDomainConfig *config, gboolean keyboard);

/* One device on its own, as it is attached and detached: a <disk>, <interface>, <console>, <channel> or
 * <graphics>. */
typedef struct _XmlconfDevice XmlconfDevice;
typedef enum {
    XMLCONF_DEVICE_DISK,
    XMLCONF_DEVICE_INTERFACE,
    XMLCONF_DEVICE_CONSOLE,
    XMLCONF_DEVICE_CHANNEL,
    XMLCONF_DEVICE_GRAPHICS,
} XmlconfDeviceType;

XmlconfDevice *xmlconf_device_parse(const char *xml, GError **error);
XmlconfDevice *xmlconf_device_copy(const XmlconfDevice *device);
void xmlconf_device_free(XmlconfDevice *device);
XmlconfDeviceType xmlconf_device_type(const XmlconfDevice *device);
/* What it is, by its type; the others give NULL where it is of another. Belongs to @device; the driver may write it. */
gpointer xmlconf_device_item(const XmlconfDevice *device);
XmlconfDisk *xmlconf_device_disk(const XmlconfDevice *device);
XmlconfInterface *xmlconf_device_interface(const XmlconfDevice *device);
XmlconfConsole *xmlconf_device_console(const XmlconfDevice *device); /* or channel */
XmlconfGraphics *xmlconf_device_graphics(const XmlconfDevice *device);

/* The devices of a type; NULL: none. Belongs to @domain. */
GPtrArray *xmlconf_domain_devices(XmlconfDomain *domain, XmlconfDeviceType type);
/* The alias of one of them; NULL: it has none. */
const char *xmlconf_device_alias(XmlconfDeviceType type, gconstpointer item);

/* Adds a copy of @device to @domain. An error, and nothing done, if it does not fit what is there. */
gboolean xmlconf_domain_add_device(XmlconfDomain *domain, const XmlconfDevice *device, GError **error);
/* The device of @domain that @device names: a disk by its target, an interface by its MAC address, a console by its
 * port, a channel by its name. -1 with an error: none, or more than one. The index is into the list of its type. */
int xmlconf_domain_find_device(XmlconfDomain *domain, const XmlconfDevice *device, GError **error);
/* A copy of the device that has that alias in a running domain. NULL with an error: none has. */
XmlconfDevice *xmlconf_domain_copy_device(XmlconfDomain *domain, const char *alias, GError **error);
/* Puts a copy of @device in the place of the one at @index. */
void xmlconf_domain_replace_device(XmlconfDomain *domain, const XmlconfDevice *device, guint index);
void xmlconf_domain_remove_device(XmlconfDomain *domain, XmlconfDeviceType type, guint index);

/* ---- CPUs: cpu-map.c, cpu.c */

/* libvirt's names of CPU models and features: the files of its cpu_map folder. Immutable once loaded. */
typedef struct _XmlconfCpuMap XmlconfCpuMap;
XmlconfCpuMap *xmlconf_cpu_map_load(const char *folder, GError **error);
void xmlconf_cpu_map_free(XmlconfCpuMap *map);
/* The names of all models; the array is the caller's, the names are the map's. */
GPtrArray *xmlconf_cpu_map_models(const XmlconfCpuMap *map);

/* A leaf of CPUID: EAX to EDX. */
typedef struct {
    guint32 leaf, subleaf;
    guint32 regs[4];
} XmlconfCpuidLeaf;

/* A set of the map's features. */
#define XMLCONF_CPU_MAX_FEATURES 1024
typedef struct {
    guint64 bits[XMLCONF_CPU_MAX_FEATURES / 64];
} XmlconfCpuFeatures;

/* What there is: of the host, or of what a guest can have. */
typedef struct {
    const XmlconfCpuMap *map;
    char *vendor; /* libvirt's name; NULL: it has none */
    XmlconfCpuFeatures features;
} XmlconfCpuHave;

/* @signature is that of leaf 0, of 12 characters. */
void xmlconf_cpu_have_init(XmlconfCpuHave *have, const XmlconfCpuMap *map, const char *signature,
                           const XmlconfCpuidLeaf *leaves, guint n);
void xmlconf_cpu_have_clear(XmlconfCpuHave *have);

/* What a guest with @cpu gets of @have. An error names what it must have and there is not. */
gboolean xmlconf_cpu_resolve(const XmlconfCpuHave *have, const XmlconfCpu *cpu, XmlconfCpuFeatures *features,
                             GError **error);
/* Clears in @leaves what is not in @features; what the map has no name for stays. */
void xmlconf_cpu_mask(const XmlconfCpuMap *map, const XmlconfCpuFeatures *features, XmlconfCpuidLeaf *leaves, guint n);

/* How a described CPU compares: numbers as libvirt's virCPUCompareResult. */
typedef enum {
    XMLCONF_CPU_ERROR = -1,
    XMLCONF_CPU_INCOMPATIBLE = 0,
    XMLCONF_CPU_IDENTICAL = 1,
    XMLCONF_CPU_SUPERSET = 2,
} XmlconfCpuComparison;
/* @xml is a <cpu>; of an incompatible one *@why (new) says what is missing. */
XmlconfCpuComparison xmlconf_cpu_compare(const XmlconfCpuHave *have, const char *xml, gboolean validate, char **why,
                                         GError **error);
/* The richest guest CPU that all of @xmls, and @limit unless NULL, can provide. @expand: name each feature. @migratable:
 * none that a domain cannot take along. */
char *xmlconf_cpu_baseline(const XmlconfCpuMap *map, const XmlconfCpuHave *limit, const char *const *xmls, guint n,
                           gboolean expand, gboolean migratable, GError **error);
/* <model>, <vendor> and <feature> elements of @have, each on a line indented by @indent: with policies for a guest. */
char *xmlconf_cpu_format(const XmlconfCpuHave *have, guint indent, gboolean guest);
/* Whether a guest can have all features of the model. */
gboolean xmlconf_cpu_model_usable(const XmlconfCpuHave *have, const char *model);

/* The host's and the hypervisor's side: capabilities and domain capabilities XML. */
typedef struct {
    guint id, socket, die, core;
    char *siblings; /* "0-1"; or NULL: the three before are not known */
} XmlconfHostCpu;

typedef struct {
    guint id;
    guint64 memory_kib;
    XmlconfHostCpu *cpus;
    guint n_cpus;
} XmlconfHostCell; /* a NUMA node */

typedef struct {
    char *host_uuid;
    char *cpu_model, *cpu_vendor;
    char *cpu_xml; /* instead of them: what xmlconf_cpu_format says of the host; or NULL */
    guint nodes, sockets, cores, threads, cpus;
    guint64 memory_kib;
    guint64 page_kib;
    const char *emulator; /* path of domus-hv */
    guint max_vcpus;
    guint64 hugepages_kib; /* size of one; 0: none */
    XmlconfHostCell *cells;
    guint n_cells; /* 0: the topology is not known and not told */
} XmlconfHost;
char *xmlconf_capabilities_format(const XmlconfHost *host);
/* NULL arguments mean the default; an unknown one is an error. @guest is what a guest can have; NULL: not known. */
char *xmlconf_domain_capabilities_format(const XmlconfHost *host, const XmlconfCpuHave *guest, const char *emulator,
                                         const char *arch, const char *machine, const char *virttype, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XmlconfDomain, xmlconf_domain_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XmlconfCpuMap, xmlconf_cpu_map_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XmlconfDevice, xmlconf_device_free)
