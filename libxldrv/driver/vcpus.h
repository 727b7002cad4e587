/* What a vCPU does. */
#pragma once

#include "libxldrv/driver/instance.h"

gboolean xldrv_vcpu_info(XldrvInstance *instance, guint vcpu, struct domctl_vcpu_info *info, GError **error);
/* As a virVcpuState. */
int xldrv_vcpu_state(const struct domctl_vcpu_info *info);
