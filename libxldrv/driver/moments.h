/* What is known of domains' snapshots, here and on disk: var/lib/domus/snapshot/UUID/ has for each snapshot NAME.xml, its
 * document, and where a running domain's memory belongs to an internal one NAME.mem, a saved domain (saved.h) whose disks
 * are as the snapshot of the images has them; the file "current" has the name of the current one. By the UUID, so that a
 * domain keeps them under whatever name.
 *
 * What changes them is called with the domain's job; what looks at them needs none. */
#pragma once

#include "libxldrv/driver/driver.h"

/* References to all, in the order in which they were made. */
GPtrArray *xldrv_snapshots_list(XldrvDomain *domain);
guint xldrv_snapshots_count(XldrvDomain *domain);
/* A reference; VIR_ERR_NO_DOMAIN_SNAPSHOT if there is none of that name. */
XmlconfSnapshot *xldrv_snapshots_find(XldrvDomain *domain, const char *name, GError **error);
/* The name of the current one, or NULL. A copy. */
char *xldrv_snapshots_current(XldrvDomain *domain);
/* How many of @all (xldrv_snapshots_list) have @name as their parent; NULL: have none. */
guint xldrv_snapshots_children(const GPtrArray *all, const char *name);
/* Whether @snapshot comes, in however many steps, from the one called @ancestor. */
gboolean xldrv_snapshots_descends(const GPtrArray *all, const XmlconfSnapshot *snapshot, const char *ancestor);

/* Whether a snapshot may be called that. */
gboolean xldrv_snapshots_check_name(const char *name, GError **error);
/* Where the memory of an internal snapshot is; NULL for a name that cannot be. */
char *xldrv_snapshots_memory_path(const XldrvDriver *driver, const XldrvDomain *domain, const char *name);
/* Makes the folder that these files are in. */
gboolean xldrv_snapshots_make_folder(const XldrvDriver *driver, const XldrvDomain *domain, GError **error);

/* On disk and here; in the place of one of the same name. Takes a reference. */
gboolean xldrv_snapshots_put(XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *snapshot, GError **error);
/* NULL: none. */
gboolean xldrv_snapshots_set_current(XldrvDriver *driver, XldrvJob *job, const char *name, GError **error);
/* What is known of it, and memory that is kept here. Its children become its parent's, which becomes the current one if it
 * was. */
gboolean xldrv_snapshots_remove(XldrvDriver *driver, XldrvJob *job, const char *name, GError **error);
/* All of them, because the domain is gone. */
void xldrv_snapshots_forget(XldrvDriver *driver, XldrvDomain *domain);
/* From disk, of a domain that the daemon finds when it starts. What cannot be read is warned about and left alone. */
void xldrv_snapshots_load(XldrvDriver *driver, XldrvDomain *domain);
