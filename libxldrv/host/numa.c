/* Memory policies of the kernel. */
#include "config.h"

#include "libxldrv/host/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libxldrv/host/sysfs.h"
#include "libxldrv/rpc/rpc.h"

#define WORD_BITS (8 * sizeof(gulong))

/* Memory from these nodes and no others is what both words for "no others" come to: libvirt says the second where control
 * groups are to see to it. */
static const int modes[] = {
    [XMLCONF_NUMA_DEFAULT] = MPOL_DEFAULT,
    [XMLCONF_NUMA_STRICT] = MPOL_BIND,
    [XMLCONF_NUMA_PREFERRED] = MPOL_PREFERRED,
    [XMLCONF_NUMA_INTERLEAVE] = MPOL_INTERLEAVE,
    [XMLCONF_NUMA_RESTRICTIVE] = MPOL_BIND,
};

/* A kernel without NUMA has one node. */
static GArray *online_nodes(void)
{
    GArray *nodes = xldrv_sysfs_list(XLDRV_SYSFS_NODE "/online");
    const guint first = 0;

    if (nodes->len == 0)
        g_array_append_val(nodes, first);
    return nodes;
}

static gboolean is_online(const GArray *nodes, guint node)
{
    for (guint i = 0; i < nodes->len; i++) {
        if (g_array_index(nodes, guint, i) == node)
            return node < XLDRV_MAX_NODES;
    }
    return FALSE;
}

gboolean xldrv_memory_policy_init(XldrvMemoryPolicy *policy, const XmlconfNumatune *tune, GError **error)
{
    g_autoptr(GArray) online = online_nodes();
    g_autoptr(GByteArray) wanted = xmlconf_cpuset_parse(tune->nodeset);

    *policy = (XldrvMemoryPolicy){.mode = modes[tune->mode]};
    for (guint node = 0; wanted && node < wanted->len * 8; node++) {
        if (!(wanted->data[node / 8] >> node % 8 & 1))
            continue;
        if (!is_online(online, node))
            return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                   "NUMA node %u of nodeset '%s' is unavailable: this host has %u of them, the last is %u", node,
                                   tune->nodeset, online->len, g_array_index(online, guint, online->len - 1));
        policy->nodes[node / WORD_BITS] |= (gulong)1 << node % WORD_BITS;
    }
    return TRUE;
}

gboolean xldrv_memory_policy_apply(const XldrvMemoryPolicy *policy)
{
    /* The kernel counts one bit less than it is told. */
    return syscall(SYS_set_mempolicy, policy->mode, policy->nodes, (gulong)XLDRV_MAX_NODES + 1) == 0;
}
