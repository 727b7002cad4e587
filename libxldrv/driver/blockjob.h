/* Block jobs: copying, committing and pulling images while the guest uses them.
 *
 * The storage daemon of a disk does them, one at a time; a raw image, which the hypervisor has open itself, is given to such
 * a daemon for as long as the job lasts, or a threshold is set (disk->routed). The document of the running domain says what
 * is under way (disk->job and disk->mirror), so a new domusd knows it, and somebody looks every now and then how far it is.
 * A job that ends in the disk being elsewhere does so while the guest's requests wait.
 *
 *   blockjobs.c      following jobs, and their ends
 *   blockjob-start.c, blockjob-query.c  procedures
 */
#pragma once

#include "libxldrv/driver/devices.h"

#define XLDRV_BLOCKJOB_PULL   "pull"
#define XLDRV_BLOCKJOB_COMMIT "commit"
#define XLDRV_BLOCKJOB_ACTIVE "active-commit"
#define XLDRV_BLOCKJOB_COPY   "copy"
#define XLDRV_BLOCKJOB_BACKUP "backup"
/* Which images: as xldrv_blockjob_commit has it. */
#define XLDRV_BLOCKJOB_COMMIT_FORMAT XLDRV_BLOCKJOB_COMMIT " %u %u"
/* A copy to where the domain migrates to; ended where no migration is under way: migrate-disks.h. */
#define XLDRV_BLOCKJOB_MIGRATE "migrate"
/* After the kind of a commit: images that are not needed any more are to be removed. */
#define XLDRV_BLOCKJOB_DELETE " delete"

#define XLDRV_BLOCKJOB_NODE "target" /* of what is copied to */
#define XLDRV_BLOCKJOB_BITMAP "domus-backup" /* of what is, by an incremental backup */

/* virDomainBlockJobType of a disk's job; 0: it has none. */
int xldrv_blockjob_type(const XmlconfDisk *disk);
/* Whether it mirrors the disk and waits for a decision. */
gboolean xldrv_blockjob_is_ready(const XmlconfDisk *disk);
/* Takes out of a disk's document what is left there of jobs of another run. */
void xldrv_blockjob_forget(XmlconfDisk *disk);
/* An error if the disk has one, or (domain) any disk of what runs. */
gboolean xldrv_blockjob_check_disk(const XmlconfDisk *disk, GError **error);
gboolean xldrv_blockjob_check_domain(const XldrvJob *job, GError **error);

typedef struct {
    char status[16]; /* of QEMU's JobStatus; "": there is no job */
    char *error;     /* why it failed; or NULL */
    guint64 current, total, speed;
} XldrvBlockJobState;
void xldrv_blockjob_state_clear(XldrvBlockJobState *state);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XldrvBlockJobState, xldrv_blockjob_state_clear)

/* How far the job of a disk is. Needs no job of the domain's. */
gboolean xldrv_blockjob_look(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvBlockJobState *state, GError **error);

/* One command (storage.h) about the job of a disk of the running domain; its error names the disk. */
gboolean xldrv_blockjob_command(const XldrvDeviceHost *host, XldrvJob *job, const char *target, const char *command,
                                GError **error);
/* Makes bytes a second of what a client gave, which may (@bytes) be that already. */
gboolean xldrv_blockjob_speed(guint64 *speed, gboolean bytes, GError **error);

/* Whether the disk is of a kind that block jobs are possible for, and has none. */
gboolean xldrv_blockjob_check_possible(const XmlconfDisk *disk, GError **error);
/* The command by which the daemon opens what the disk is copied to, as XLDRV_BLOCKJOB_NODE, on top of the node @backing or (NULL)
 * of nothing. */
char *xldrv_blockjob_target_command(const XmlconfDisk *disk, gboolean block, const char *path, const char *format,
                                    const char *backing);
/* The command by which it closes that. */
#define XLDRV_BLOCKJOB_CLOSE_TARGET                                                                \
    "{\"execute\": \"blockdev-del\", \"arguments\": {\"node-name\": \"" XLDRV_BLOCKJOB_NODE "\"}}"

/* The backup of a disk has ended by itself, and its job is marked so. backup.c */
void xldrv_backup_disk_ended(XldrvDriver *driver, XldrvJob *job, gboolean ok, guint64 bytes);
/* Takes back what a daemon that ended had begun. */
void xldrv_backup_recover(XldrvDriver *driver, XldrvJob *job);
/* Removes what a domain that has ended leaves of a backup. */
void xldrv_backup_clean_up(XldrvDriver *driver, XldrvJob *job);
/* How far the domain's backup is; FALSE: there is none. Needs no job of the domain's. */
gboolean xldrv_backup_progress(XldrvDomain *domain, guint64 *total, guint64 *done);
/* Ends it. FALSE without an error: there is none. */
gboolean xldrv_backup_cancel(XldrvDomain *domain, GError **error);

/* What of a disk's document is changed when a job begins. */
typedef struct {
    const char *target; /* which disk */
    const char *kind;   /* XLDRV_BLOCKJOB_*, maybe with DELETE; NULL: there is no job any more */
    struct {
        const char *type, *job, *ready, *format, *file, *dev;
    } mirror; /* as XmlconfMirror */
    gboolean routed;
} XldrvBlockJobMark;
gboolean xldrv_blockjob_mark(XldrvDriver *driver, XldrvJob *job, const XldrvBlockJobMark *mark, GError **error);

/* Gives a raw image to a storage daemon; does nothing for one that has one. The disk of job->live is another afterwards. */
gboolean xldrv_blockjob_route(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error);
/* Takes it back, if there is neither a job nor a threshold. */
void xldrv_blockjob_unroute(XldrvDriver *driver, XldrvJob *job, const char *target);
/* Does so with all of the domain's disks: after copies of them, or what a daemon that ended did not come to. */
void xldrv_blockjobs_unroute_all(XldrvDriver *driver, XldrvJob *job);
/* The name of the daemon's node of the image at @path in the disk's chain; NULL with an error. */
char *xldrv_blockjob_node(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *path, GError **error);

/* ---- threshold.c: telling when an image is written up to some place of its file */

/* Whether any disk of the running domain has one. */
gboolean xldrv_threshold_is_set(XldrvJob *job);
/* Tells of those that were exceeded. */
void xldrv_threshold_look(XldrvDriver *driver, XldrvJob *job);

/* Looks at the domain's jobs and thresholds every now and then from now on, until it has none. Any thread. */
void xldrv_blockjobs_watch(XldrvDriver *driver, XldrvDomain *domain);
/* The disk goes on where the job took it: a ready copy's destination, or what it was committed into. With the domain's job. */
gboolean xldrv_blockjob_pivot(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error);
/* Ends the job without that. */
gboolean xldrv_blockjob_cancel(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error);
/* Waits for a job without a decision, or for the readiness of one with. FALSE with the error that it had. */
gboolean xldrv_blockjob_wait(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error);
/* Completes what a daemon that ended had begun, of a domain that is found again, and watches. */
void xldrv_blockjobs_recover(XldrvDriver *driver, XldrvJob *job);

/* Starts a commit of the images from @top to the one above @base, as their indices in the disk's chain (chain.h).
 * blockjob-start.c */
gboolean xldrv_blockjob_commit(XldrvDriver *driver, XldrvJob *job, const char *target, guint top, guint base, gboolean remove,
                               guint64 speed, GError **error);
