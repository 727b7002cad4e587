/* Managed saves: the file that a domain is started from, if there is one. All with the domain's job, but for has. */
#pragma once

#include "libxldrv/driver/run.h"
#include "libxldrv/driver/saved.h"

typedef struct {
    const char *path;
    const char *xml;  /* of XMLCONF_PARSE_LIVE, to be kept in the place of the running domain's; or NULL */
    gboolean running; /* it is to run when it is restored */
    gboolean direct;  /* without the host's cache */
    gboolean live;    /* the guest runs on while its memory is written, and stops for the end */
} XldrvSaveTo;

/* Writes a running domain, memory and all, to a file (saved.h). After success it stands still, until xldrv_stream_end lets it
 * go on or it is stopped; after a failure it goes on, and there is no file. Inside a long job (longjob.h), which can abort it.
 * With the domain's job. */
gboolean xldrv_save_memory(XldrvDriver *driver, XldrvJob *job, const XldrvSaveTo *to, struct domus_stream_status *status,
                           GError **error);
/* The running domain that such a file has. */
XmlconfDomain *xldrv_saved_parse(const char *xml, GError **error);

char *xldrv_managed_path(const XldrvDriver *driver, const char *name);
gboolean xldrv_managed_has(const XldrvDriver *driver, const char *name);
gboolean xldrv_managed_remove(const XldrvDriver *driver, const char *name, GError **error);
/* Follows a domain that gets another name. */
void xldrv_managed_rename(const XldrvDriver *driver, const char *from, const char *to);
/* Starts the domain as its definition says, or goes on from its managed save, which is then gone; @force_boot removes that
 * instead. */
gboolean xldrv_managed_start(XldrvDriver *driver, XldrvJob *job, const XldrvStartOptions *options, gboolean force_boot,
                             gboolean direct, GError **error);
