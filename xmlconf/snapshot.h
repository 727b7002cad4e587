/* snapshot: what the documents of snapshots and checkpoints share. */
#pragma once

#include "xmlconf/fields.h"

extern const XmlconfRecord xmlconf_checkpoint_record;           /* XmlconfSnapshot at <domaincheckpoint> */
extern const XmlconfRecord *const xmlconf_checkpoint_disk_record; /* XmlconfSnapshotDisk at <disk> in it */
/* What the rows cannot say. */
gboolean xmlconf_checkpoint_complete(XmlconfSnapshot *checkpoint, GError **error);
