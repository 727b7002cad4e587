/* Backups: copies of disks as they were at one moment, made while the guest goes on; all of a disk, or what was written to it
 * since a checkpoint. A block job of each disk. The guest's requests to all of them wait until each has begun, and until each
 * bitmap that says what belongs to the backup, or to the checkpoint that is made with it, is what it is to be.
 *
 * Mode push: the job copies to the target. Mode pull: the job keeps in a scratch image what the guest is about to overwrite, and
 * the disk as it was then is read through that by clients of another storage daemon, the domain's backup server (backup-server.c).
 *
 * The file UUID.backup in the run directory has the document of a backup from before anything is done until after all is undone
 * again; with it a new domusd takes back what one that ended had begun, and knows of what is under way.
 *
 *   backup.c         procedures: what is asked for
 *   backup-run.c     beginning and ending it
 *   backup-server.c  mode pull
 *   backup-state.c   the file
 */
#pragma once

#include "libxldrv/driver/blockjob.h"

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    XldrvDeviceHost host;
    XmlconfBackup plan;          /* those that are backed up, by their targets */
    gboolean reuse;              /* targets, or scratch images, are there already, and stay */
    guint made;                  /* so many targets were made for it */
    XmlconfSnapshot *checkpoint; /* that is made with it; or NULL */
} XldrvBackup;
void xldrv_backup_clear(XldrvBackup *backup);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XldrvBackup, xldrv_backup_clear)

/* Where a disk's goes, or what is overwritten of it. */
const char *xldrv_backup_path(const XmlconfBackupDisk *to);
/* Whether the disk's job is a backup. */
gboolean xldrv_backup_has(const XmlconfDisk *disk);

/* Begins what is planned. All or nothing. */
gboolean xldrv_backup_run(XldrvBackup *backup, GError **error);
/* Ends it, as far as it is; targets stay, unless @undo. */
gboolean xldrv_backup_end(XldrvBackup *backup, gboolean undo, GError **error);

/* ---- backup-state.c */

/* @begun: it is being begun, or else goes on. */
gboolean xldrv_backup_save(const XldrvBackup *backup, gboolean begun, GError **error);
/* What is there of it, for the domain with the job; FALSE: nothing. */
gboolean xldrv_backup_load(XldrvBackup *backup, gboolean *begun, XldrvDriver *driver, XldrvJob *job);
/* The document alone, without a job; NULL: there is none. */
char *xldrv_backup_document(const XldrvDriver *driver, const char *uuid);
/* The file goes, and what a backup of mode pull has beside it: scratch images unless they are reused, bitmaps, the server's
 * socket. */
void xldrv_backup_forget(const XldrvBackup *backup);
/* Where the bitmap is kept that clients of the server see. */
char *xldrv_backup_bitmap_path(const XldrvDriver *driver, const char *uuid, const char *target);

/* ---- backup-server.c: mode pull */

/* Serves the disks, whose jobs have begun. */
gboolean xldrv_backup_serve(XldrvBackup *backup, GError **error);
/* Ends the server. That there is none is fine. */
void xldrv_backup_server_close(const XldrvDriver *driver, const char *uuid);
/* Takes a disk's image away from it, once it has ended. */
void xldrv_backup_unexport(const XldrvDeviceHost *host, const XmlconfDisk *disk);
