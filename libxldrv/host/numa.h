/* On which of the host's NUMA nodes a process has its memory: set_mempolicy(2). */
#pragma once

#include "xmlconf/xmlconf.h"

#define XLDRV_MAX_NODES 1024 /* as kernels are built at most */

typedef struct {
    int mode; /* MPOL_* */
    gulong nodes[XLDRV_MAX_NODES / (8 * sizeof(gulong))];
} XldrvMemoryPolicy;

/* What @tune, which names nodes, asks for. An error that names the node when one of them is not there. */
gboolean xldrv_memory_policy_init(XldrvMemoryPolicy *policy, const XmlconfNumatune *tune, GError **error);
/* Makes it the policy of this thread and of what it starts from then on, also after exec. Sets errno. May be called
 * between fork and exec. */
gboolean xldrv_memory_policy_apply(const XldrvMemoryPolicy *policy);
