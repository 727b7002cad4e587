/* A domain as the driver knows it: its configurations, its state, and what runs of it.
 *
 * Locking: fields are under lock unless marked otherwise; documents (XmlconfDomain) are never changed once
 * they are here, only replaced, so a reader takes a reference under the lock and works without it. Whoever
 * changes a domain holds its job, which may be held over slow steps; queries never need it. Lock order:
 * the job, the list's lock (domains.c), the domain's lock. Nothing slow happens under the two locks.
 */
#pragma once

#include <glib.h>

#include "libxldrv/driver/instance.h"
#include "libxldrv/rpc/rpc.h"
#include "libxldrv/state/uuid.h"
#include "xmlconf/xmlconf.h"

/* Kinds of moments in a domain's past that are kept: moments.h */
typedef enum { XLDRV_SNAPSHOTS, XLDRV_CHECKPOINTS, XLDRV_N_MOMENTS } XldrvMomentKind;

typedef struct {
    gint refs;                             /* atomic */
    guint8 uuid[XLDRV_UUID_BYTES];         /* immutable */
    char uuid_text[XLDRV_UUID_CHARS + 1];  /* immutable */

    GMutex lock;
    char *name;             /* written under the list's lock as well */
    gboolean visible;       /* under the list's lock: lookups find it */
    gboolean removed;       /* no longer in the list */
    XmlconfDomain *config;  /* persistent definition; NULL: transient */
    XmlconfDomain *live;    /* as it runs; NULL: inactive */
    XldrvInstance *instance; /* what runs; NULL: inactive */
    int id;                 /* -1: inactive */
    /* Answers that are asked for over and over, for as long as what they tell of is the same: wire.c, info.c */
    GVariant *listed;       /* name, UUID and id; NULL: not asked for since one of them changed */
    GVariant *described;    /* the document of that serial number, in that format; or NULL */
    guint64 described_serial;
    guint described_format;
    int state, reason;      /* virDomainState and its reason */
    gboolean autostart;
    gboolean updated;        /* the definition changed since it was started */
    guint64 owner;           /* client whose end destroys it (auto-destroy); 0: none */
    XldrvStream *consoles[XMLCONF_MAX_CONSOLES]; /* whoever uses each console and channel */
    struct _XldrvAgent *agent; /* NULL: it has no channel for one, or does not run */
    int agent_timeout;         /* seconds, or VIR_DOMAIN_QEMU_AGENT_COMMAND_*; atomic */

    gint64 started_us;  /* with the job: when it was started */
    gint64 reconnected_us; /* with the job: when what serves its disks was last started again */
    gint64 connected_us; /* with the job: when what connects its interfaces was last started again */
    gint64 shown_us;    /* with the job: when what shows it was last started again */
    guint short_lives;  /* with the job: restarts in a row of a guest that ended soon */

    /* A job that takes long and can be asked about and aborted while it is under way. */
    int long_job;         /* virDomainJobOperation; 0: there is none */
    gint64 long_job_us;   /* when it began */
    gboolean abort_asked; /* it is to end */
    guint64 disk_total, disk_done; /* bytes of disks that it copies */
    XldrvProcess *migrator; /* what moves it to another host, which makes long jobs of it; NULL: nothing does */
    gint64 migrator_us;     /* when that was started */
    int tunnel_fd;          /* socket to it, to send the domain to; -1: none */
    guint64 sender;          /* client that had it sent, whose end settles what is open */
    gboolean leaving;        /* it is being sent: its status file says that it was, as it may be soon (job) */
    guint migrate_flags;     /* of the migration that is under way; the limits hold for the next one, too: */
    guint64 max_downtime_ms; /* 0: as libvirt's others have it */
    guint64 max_speed_mib, postcopy_speed_mib; /* in a second; 0: no limit */
    int completed_job;    /* the last that was completed; 0: none, or its statistics were taken */
    struct domus_stream_status completed;
    guint64 completed_disk_bytes; /* of that job: what was copied of disks */
    gint64 backup_us;             /* with the job: when the backup began */
    guint64 backup_bytes;         /* with the job: of its disks that are complete */

    struct {
        GPtrArray *list; /* of XmlconfSnapshot, which are never changed, only replaced */
        char *current;   /* its name; NULL: none is */
    } moments[XLDRV_N_MOMENTS]; /* moments.h */
    gint block_jobs_watched; /* atomic: somebody looks at its block jobs every now and then: blockjob.h */

    GCond job_ended;
    const char *job; /* what is being done; NULL: nothing */
} XldrvDomain;

XldrvDomain *xldrv_domain_new(const guint8 uuid[XLDRV_UUID_BYTES], const char *name);
XldrvDomain *xldrv_domain_ref(XldrvDomain *domain);
void xldrv_domain_unref(XldrvDomain *domain);

/* The running configuration, or the persistent one where it does not run; @inactive: the other way round.
 * A reference, never NULL for a domain that lookups find. */
XmlconfDomain *xldrv_domain_get_config(XldrvDomain *domain, gboolean inactive);

/* What runs of the domain, or NULL with the error "domain is not running". A reference. */
XldrvInstance *xldrv_domain_get_instance(XldrvDomain *domain, GError **error);

/* A copy of the name. */
char *xldrv_domain_get_name(XldrvDomain *domain);

gboolean xldrv_domain_is_active(XldrvDomain *domain);
void xldrv_domain_set_state(XldrvDomain *domain, int state, int reason);

/* Waits for the right to change the domain. NULL with an error: it did not become free in time, or is gone.
 * @what names the operation for the error of those who wait. The job holds a reference to its domain. */
typedef XldrvDomain XldrvJob;
XldrvJob *xldrv_job_begin(XldrvDomain *domain, const char *what, GError **error);
/* As above, but waits @seconds at most. */
XldrvJob *xldrv_job_begin_within(XldrvDomain *domain, guint seconds, const char *what, GError **error);
/* As above, without limit of time: for what must happen. NULL: the domain is gone. */
XldrvJob *xldrv_job_begin_waiting(XldrvDomain *domain, const char *what);
void xldrv_job_end(XldrvJob *job);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvDomain, xldrv_domain_unref)

typedef XldrvJob XldrvJobGuard; /* g_autoptr(XldrvJobGuard) ends the job */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvJobGuard, xldrv_job_end)
