/* What is known of moments in domains' pasts that can be gone back to: snapshots, or (checkpoints) compared with. Here and on
 * disk: var/lib/domus/snapshot/UUID/ has for each snapshot NAME.xml, its document, and where a running domain's memory belongs
 * to an internal one NAME.mem, a saved domain (saved.h) whose disks are as the snapshot of the images has them; the file
 * "current" has the name of the current one, and "pending" says which is being taken (snapshot-pending.c). The same for checkpoints
 * is in var/lib/domus/checkpoint/UUID/ (checkpoint.h). By the UUID, so that a domain keeps them under whatever name.
 *
 * What changes them is called with the domain's job; what looks at them needs none. */
#pragma once

#include "libxldrv/driver/driver.h"

/* References to all, in the order in which they were made. */
GPtrArray *xldrv_moments_list(XldrvMomentKind kind, XldrvDomain *domain);
guint xldrv_moments_count(XldrvMomentKind kind, XldrvDomain *domain);
/* A reference; an error (VIR_ERR_NO_DOMAIN_SNAPSHOT, ..._CHECKPOINT) if there is none of that name. */
XmlconfSnapshot *xldrv_moments_find(XldrvMomentKind kind, XldrvDomain *domain, const char *name, GError **error);
/* An error if there is one of that name. */
gboolean xldrv_moments_check_free(XldrvMomentKind kind, XldrvDomain *domain, const char *name, GError **error);
/* The name of the current one, or NULL. A copy. */
char *xldrv_moments_current(XldrvMomentKind kind, XldrvDomain *domain);
/* How many of @all (xldrv_moments_list) have @name as their parent; NULL: have none. */
guint xldrv_moments_children(const GPtrArray *all, const char *name);
/* Whether @moment comes, in however many steps, from the one called @ancestor. */
gboolean xldrv_moments_descends(const GPtrArray *all, const XmlconfSnapshot *moment, const char *ancestor);
/* Sorts them by how many others they come from, of @all: the roots first, or (@reverse) last. */
void xldrv_moments_sort(GPtrArray *some, GPtrArray *all, gboolean reverse);
/* Whether @moment can have the parent that it names: one that there is, and that does not come from it. */
gboolean xldrv_moments_check_parent(XldrvMomentKind kind, XldrvDomain *domain, const XmlconfSnapshot *moment, GError **error);
/* An error unless the domain's document in a moment, if there is one, is of this domain. */
gboolean xldrv_moments_check_domain(XldrvMomentKind kind, const XldrvDomain *domain, XmlconfDomain *config, GError **error);

/* Whether one may be called that. */
gboolean xldrv_moments_check_name(XldrvMomentKind kind, const char *name, GError **error);
/* Where the memory of an internal snapshot is; NULL for a name that cannot be. */
char *xldrv_snapshots_memory_path(const XldrvDriver *driver, const XldrvDomain *domain, const char *name);
/* Makes the folder that these files are in. */
gboolean xldrv_moments_make_folder(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain, GError **error);

/* On disk and here; in the place of one of the same name. Takes a reference. */
gboolean xldrv_moments_put(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *moment, GError **error);
/* NULL: none. */
gboolean xldrv_moments_set_current(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const char *name, GError **error);
/* What is known of it, and memory that is kept here. Its children become its parent's, which becomes the current one if it
 * was. */
gboolean xldrv_moments_remove(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const char *name, GError **error);
/* What is to be known, on disk, of the one that is being made; NULL: none is. */
gboolean xldrv_moments_set_pending(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const char *text, GError **error);
/* What a daemon that ended left there; NULL: nothing. A copy. */
char *xldrv_moments_pending(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain);

/* All of them, of all kinds, because the domain is gone. */
void xldrv_moments_forget(XldrvDriver *driver, XldrvDomain *domain);
/* From disk, of all kinds, of a domain that the daemon finds when it starts. What cannot be read is warned about and left
 * alone. */
void xldrv_moments_load(XldrvDriver *driver, XldrvDomain *domain);

/* ---- looking at a tree of them: moment-query.c */

/* Argument 0 of a call, with the domain that it is of; NULL with an error, and no domain then. */
XmlconfSnapshot *xldrv_args_moment(XldrvMomentKind kind, GVariant *args, XldrvDomain **domain, GError **error);
GVariant *xldrv_reply_moment(XldrvDomain *domain, const char *name);

/* Which of them: libvirt's flags of virDomainListAllSnapshots, whose names those of other kinds are translated to. */
typedef struct {
    XldrvMomentKind kind;
    gboolean below; /* argument 0 is one of them: those below it; else a domain: all */
    guint flags;
    gboolean (*matches)(const GPtrArray *all, const XmlconfSnapshot *moment, guint flags); /* flags beyond the tree's */
} XldrvMomentQuery;
/* References to those that match; NULL with an error. */
GPtrArray *xldrv_moments_select(const XldrvMomentQuery *query, GVariant *args, XldrvDomain **domain, GError **error);
/* What procedures answer that list all (those of argument 0), whose argument 1 says whether more than their number is asked. */
GVariant *xldrv_reply_moments(const XldrvMomentQuery *query, GVariant *args, GError **error);
/* The parent of one that argument 0 names. */
GVariant *xldrv_reply_moment_parent(XldrvMomentKind kind, GVariant *args, GError **error);
/* The one that argument 1 names, of the domain that argument 0 is. */
GVariant *xldrv_reply_moment_named(XldrvMomentKind kind, GVariant *args, GError **error);

/* Deletes what argument 0 names, what comes from it, or both, as the flags say (argument 1; those of both kinds have the same
 * values), each by @delete_one: those that come from others first. */
typedef gboolean (*XldrvMomentDeleteFn)(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *moment, gboolean metadata_only,
                                        GError **error);
GVariant *xldrv_moments_delete(XldrvMomentKind kind, GVariant *args, XldrvMomentDeleteFn delete_one, const char *function,
                               GError **error);
