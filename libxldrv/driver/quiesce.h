/* A guest's file systems at rest while something is made of its disks, by its agent. */
#pragma once

#include "libxldrv/driver/agent-command.h"

typedef struct _XldrvQuiesce XldrvQuiesce;

/* Freezes them, for this call alone. No job is held. NULL with an error: as of the agent. */
XldrvQuiesce *xldrv_quiesce_begin(XldrvCall *call, XldrvDomain *domain, GError **error);
/* Thaws them. A guest that does not run any more has nobody to be told. */
void xldrv_quiesce_end(XldrvQuiesce *quiesce);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvQuiesce, xldrv_quiesce_end)
