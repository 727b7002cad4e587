/* fields: the table of everything that a domain document may hold. */
#pragma once

#include "xmlconf/value.h"

typedef enum {
    XMLCONF_FIELD_REQUIRED = 1 << 0,
    XMLCONF_FIELD_LIVE = 1 << 1,   /* only a running domain has it: skipped in definitions */
    XMLCONF_FIELD_KEEP = 1 << 2,   /* checked where it stands, but not added or written */
    XMLCONF_FIELD_OPAQUE = 1 << 3, /* what is below is the user's own */
    XMLCONF_FIELD_ELIDE = 1 << 4,  /* not written where it equals same_as */
    XMLCONF_FIELD_LIST = 1 << 5, /* may be repeated, max times: a GPtrArray of records. With LIVE: an empty element may be
                                    in definitions */
    XMLCONF_FIELD_SECRET = 1 << 6, /* for those who may see passwords */
} XmlconfFieldFlags;

/* One row: an element ("os/kernel"), an attribute ("vcpu@current"), or the attribute of the element that
 * carries the rows ("@type"). A row without a type is an element that says something by being there. Containers need no row. The order of rows is the order of output. */
struct _XmlconfField {
    const char *path;
    const XmlconfValueType *type;
    gsize offset;
    guint flags;
    const char *fallback; /* text of the default; NULL: none */
    const XmlconfChoice *choices;
    guint64 min, max;
    gsize same_as;       /* offset of the value that is the default; 0: none */
    XmlconfError code;   /* of an unknown value; 0 is XMLCONF_ERROR_XML */
    const XmlconfRecord *record; /* what a list holds */
};

/* A row of what is known and cannot be done. */
/* The element of a device that has what only the driver's own files tell. */
#define XMLCONF_PRIVATE "privateData"

/* The rows of an XmlconfBandwidth that is @start bytes from the start of its record. */
#define XMLCONF_RATE_ROW(which, name, start)                                                     \
    {"bandwidth/" #which "@" #name, &xmlconf_value_nonzero,                                      \
     .offset = (start) + G_STRUCT_OFFSET(XmlconfBandwidth, which.name##_kib), .min = 1, .max = G_MAXUINT32}
#define XMLCONF_BANDWIDTH_ROWS(start)                                                            \
    XMLCONF_RATE_ROW(inbound, average, start), XMLCONF_RATE_ROW(inbound, peak, start),           \
    XMLCONF_RATE_ROW(inbound, burst, start),                                                     \
    XMLCONF_REFUSED("bandwidth/inbound@floor", "no part of a network's bandwidth can be reserved"), \
    XMLCONF_RATE_ROW(outbound, average, start), XMLCONF_RATE_ROW(outbound, peak, start),         \
    XMLCONF_RATE_ROW(outbound, burst, start)

#define XMLCONF_REFUSED(where, why) {.path = where, .type = &xmlconf_value_refused, .fallback = why}

/* A structure and the rows that fill it. */
struct _XmlconfRecord {
    const char *element; /* that carries it */
    gsize size;
    const XmlconfField *fields;
    guint n_fields;
};

extern const XmlconfRecord xmlconf_domain_record;  /* XmlconfDomainConfig at <domain> */
extern const XmlconfRecord xmlconf_console_record; /* XmlconfConsole at <console> */
extern const XmlconfRecord xmlconf_channel_record; /* XmlconfConsole at <channel> */
extern const XmlconfRecord xmlconf_cpu_feature_record; /* XmlconfCpuFeature at <feature> */
extern const XmlconfRecord xmlconf_numa_cell_record; /* XmlconfNumaCell at <cell> */
extern const XmlconfRecord xmlconf_vcpu_pin_record;  /* XmlconfVcpuPin at <vcpupin> */
extern const XmlconfRecord xmlconf_blkio_device_record; /* XmlconfBlkioDevice at <device> in <blkiotune> */
extern const XmlconfRecord xmlconf_disk_record;      /* XmlconfDisk at <disk> */
extern const XmlconfRecord xmlconf_backing_record;   /* XmlconfBacking at <backingStore> */
extern const XmlconfRecord xmlconf_interface_record; /* XmlconfInterface at <interface> */
extern const XmlconfRecord xmlconf_graphics_record;  /* XmlconfGraphics at <graphics> */
extern const XmlconfRecord xmlconf_video_record;     /* XmlconfVideo at <video> */
extern const XmlconfRecord xmlconf_input_record;     /* XmlconfInput at <input> */

extern const XmlconfRecord xmlconf_filter_parameter_record; /* XmlconfFilterParameter at <parameter> */
extern const XmlconfChoice xmlconf_macvtap_modes[]; /* interface.c */

/* record.c: rows applied to a tree and a structure. */

/* Fills @base, which must be zeroed, from @element. On failure @base holds what was read so far: clear it.
 * @live reads what only a running domain has, too. */
gboolean xmlconf_record_read(const XmlconfRecord *record, xmlNode *element, gpointer base, gboolean live,
                             GError **error);
/* Brings @element and all below it in line with @base. */
void xmlconf_record_write(const XmlconfRecord *record, xmlNode *element, gconstpointer base, gboolean live);
/* A document of its own, as text. */
char *xmlconf_record_format(const XmlconfRecord *record, gconstpointer base);
/* Takes what is secret out of @element and what is below it. */
void xmlconf_record_strip_secrets(const XmlconfRecord *record, xmlNode *element);
/* Frees what @base owns and zeroes it. */
void xmlconf_record_clear(const XmlconfRecord *record, gpointer base);
/* Makes @to a deep copy of @from; @to owns nothing before. */
void xmlconf_record_copy(const XmlconfRecord *record, gpointer to, gconstpointer from);
/* An array for a list of records, which it clears and frees; and a new zeroed record at its end. */
GPtrArray *xmlconf_record_list_new(void);
gpointer xmlconf_record_list_add(GPtrArray *list, const XmlconfRecord *record);

/* check.c: what no single row can say. */
/* Fills in what depends on other values (uuid, console) and refuses what does not fit together. @live: it is of a
 * running domain. */
gboolean xmlconf_config_complete(XmlconfDomainConfig *config, gboolean live, GError **error);

/* cpu.c: the same for a CPU. */
gboolean xmlconf_cpu_complete(XmlconfCpu *cpu, GError **error);
/* cputune.c: what its rows cannot say, for so many vCPUs. */
gboolean xmlconf_cputune_check(const XmlconfCputune *tune, guint max_vcpus, GError **error);

/* tuning.c: amounts of memory (guint64 in KiB) that need not be there, 0 being as absent, and their attribute 'unit'. */
extern const XmlconfValueType xmlconf_value_amount, xmlconf_value_amount_unit;
/* What the rows cannot say of limits, and of huge pages. */
gboolean xmlconf_blkiotune_check(const XmlconfBlkiotune *tune, GError **error);
gboolean xmlconf_memory_backing_check(const XmlconfDomainConfig *config, GError **error);

/* value.c: a wrong value, in words. FALSE. */
gboolean xmlconf_fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* boot.c: <boot> in <os>; what the rows cannot say of what is booted. */
extern const XmlconfRecord xmlconf_boot_record;
gboolean xmlconf_boot_check(const XmlconfDomainConfig *config, GError **error);

/* numa.c: words of <numatune>; the same for cells and <numatune>; a distance that was not said before. */
extern const XmlconfChoice xmlconf_numa_modes[], xmlconf_numa_placements[];
gboolean xmlconf_numa_complete(XmlconfDomainConfig *config, GError **error);
void xmlconf_numa_set_distance(XmlconfNumaCell *cell, guint to, guint value);

/* disk-check.c, interface.c, console.c: the same for one device. */
gboolean xmlconf_disk_complete(XmlconfDisk *disk, GError **error);
gboolean xmlconf_interface_complete(XmlconfInterface *interface, gboolean live, GError **error);
/* graphics.c; video.c, which calls it for each. */
gboolean xmlconf_graphics_complete(XmlconfGraphics *graphics, gboolean live, GError **error);
gboolean xmlconf_video_complete(XmlconfDomainConfig *config, gboolean live, GError **error);
/* No two disks at one target. */
gboolean xmlconf_disks_check(const GPtrArray *disks, GError **error);
gboolean xmlconf_console_complete(XmlconfConsole *console, gboolean live, GError **error);
/* All consoles and channels of a domain. @live: their numbers are what they are; else they are given here. */
gboolean xmlconf_consoles_complete(XmlconfDomainConfig *config, gboolean live, GError **error);
/* Not too many, and no two channels of one name. */
gboolean xmlconf_consoles_check(const XmlconfDomainConfig *config, GError **error);
