/* Several disks of a running domain at rest at once: the guest's requests to all of them wait, so that what is done to each is of
 * one moment. With the domain's job. */
#pragma once

#include "libxldrv/driver/devices.h"

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    GPtrArray *targets; /* of the disks; belong to somebody else */
} XldrvStandstill;

void xldrv_standstill_init(XldrvStandstill *s, XldrvDriver *driver, XldrvJob *job);
void xldrv_standstill_clear(XldrvStandstill *s);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XldrvStandstill, xldrv_standstill_clear)
/* Before it begins. One that is there already is not added again. */
void xldrv_standstill_add(XldrvStandstill *s, const char *target);

/* All of them, or (FALSE) none. */
gboolean xldrv_standstill_begin(XldrvStandstill *s, GError **error);
/* The guest's requests go on. FALSE: not all do by now, and that is tried again and again. */
gboolean xldrv_standstill_end(XldrvStandstill *s, GError **error);
