/* Network interfaces of a domain: xenbus devices of class vif, each with up to DOMUS_VIF_QUEUES_MAX queues. Loop
 * thread only.
 */
#pragma once

#include "hv/domain.h"
#include "hv/hv.h"

/* Serves interface @config->devid. @fds, config->queues of them, are taken on success. 0 or negative errno, with
 * config->error saying what is wrong. */
int hv_vif_attach(struct hv_domain *d, struct domus_vif *config, const int *fds) HV_MUST_CHECK;
/* 0, -ENODEV, -EALREADY: see hv_xenbus_detach. */
int hv_vif_detach(struct hv_domain *d, uint32_t devid, bool force) HV_MUST_CHECK;
/* 0 or -ENODEV. With the link down nothing is sent or received. */
int hv_vif_set_link(struct hv_domain *d, uint32_t devid, bool up) HV_MUST_CHECK;
/* A stream socket in place of the one that it has; @fd is taken on success. 0, -ENODEV, -EINVAL: one of the two is none. */
int hv_vif_set_port(struct hv_domain *d, uint32_t devid, int fd) HV_MUST_CHECK;
/* 0, -ENODEV, or -EINVAL for limits that contradict each other. */
int hv_vif_set_limits(struct hv_domain *d, const struct domus_vif_limits *limits) HV_MUST_CHECK;
/* Of stats->devid: 0 or -ENODEV. */
int hv_vif_stats(struct hv_domain *d, struct domus_vif_stats *stats) HV_MUST_CHECK;
