/* error: what a GError is to a libvirt client. */
#pragma once

#include "libxldrv/rpc/rpc.h"

/* Signature of the error structure of a failed reply, and the GVariant type it becomes. */
#define XLDRV_ERROR_SIGNATURE "iimsimDmsmsmsiimN"

/* The error structure for @error, not floating. @convert may be NULL; it is asked for errors of
 * other domains than XLDRV_ERROR. */
GVariant *xldrv_error_to_variant(const GError *error, XldrvErrorCodeFn convert);
