/* The filters of virConnectListAllDomains, which bulk statistics have too. */
#pragma once

#include "libxldrv/driver/domain.h"

extern const guint xldrv_list_filters; /* all that are known */
gboolean xldrv_list_filter_matches(XldrvDomain *domain, guint filter);
