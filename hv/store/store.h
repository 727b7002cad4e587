/* The store, for domus-hv: one for a domain alone, when there is no domus-xenstored. */
#pragma once

#include <sys/types.h>

#include "hv/types.h"

/* A virtual disk's nodes, as struct domus_vbd needs them. */
struct hv_store_disk {
    uint32_t devid;
    bool read_only;
};

/* A network interface's nodes, as struct domus_vif needs them. */
struct hv_store_nic {
    uint32_t devid;
    uint8_t mac[6];
    uint32_t mtu;
};

/* What the toolstack's nodes of a domain say. */
struct hv_store_domain {
    uint16_t domid;
    const char *name;
    uint8_t uuid[16];
    uint64_t memory_kib;
    unsigned nr_vcpus;
    uint64_t store_gfn, console_gfn;
    uint32_t store_port, console_port; /* event channels */
    const char *console_tty;           /* NULL: none */
    const struct hv_store_disk *disks;
    unsigned nr_disks;
    const struct hv_store_nic *nics;
    unsigned nr_nics;
};

/* Starts a process that serves a store in memory with the nodes of one domain, to two connections which speak for
 * that domain: give @connection_fds to domctl_store_attach, the guest's first. The process ends when the first is
 * closed, or with its parent; *@pid is to be waited for. Before it reads what the guest sent it gives up its
 * privileges with @confine, which gives 0 or the process ends. 0 or negative errno.
 *
 * Call it before there are other threads. */
int hv_store_spawn(const struct hv_store_domain *domain, int (*confine)(void), int connection_fds[2],
                   pid_t *pid) HV_MUST_CHECK;
