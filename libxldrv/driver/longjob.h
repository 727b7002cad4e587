/* Jobs that take long: saving and migrating. Whoever does one has the domain's job as well; others can ask how far it is, and
 * ask it to end. */
#pragma once

#include "libxldrv/driver/driver.h"

/* One is under way from begin to end; @completed is what it came to, NULL if it failed. */
void xldrv_longjob_begin(XldrvJob *job, virDomainJobOperation operation);
void xldrv_longjob_end(XldrvDriver *driver, XldrvJob *job, const struct domus_stream_status *completed);
/* A backup, which is under way without the domain's job, was completed. */
void xldrv_longjob_backup_ended(XldrvDriver *driver, XldrvJob *job, guint64 disk_bytes);
/* Whether somebody asked for its end. */
gboolean xldrv_longjob_is_aborted(XldrvJob *job);

/* Waits until the hypervisor has written or sent the domain, or has switched to post-copy: *status's phase. FALSE with an error when it failed or was aborted, which leaves
 * the domain going on. *@status is the last that was heard. */
gboolean xldrv_stream_wait(XldrvJob *job, const char *what, struct domus_stream_status *status, GError **error);
/* The same, and @look is asked every now and then whether it is to go on: FALSE with an error ends it. */
typedef gboolean (*XldrvStreamLookFn)(gpointer data, GError **error);
gboolean xldrv_stream_wait_while(XldrvJob *job, const char *what, XldrvStreamLookFn look, gpointer data,
                                 struct domus_stream_status *status, GError **error);
/* Makes a domain that was received this host's, so that it can run here. TRUE also for one that was not received. */
gboolean xldrv_stream_claim(XldrvInstance *instance, const char *name, GError **error);
/* Lets a domain go on whose stream is over or under way. */
void xldrv_stream_end(XldrvInstance *instance);
