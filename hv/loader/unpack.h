/* Decompression with a bounded result, for every format a Linux bzImage may be packed with. Private to the
 * loader.
 */
#pragma once

#include "hv/types.h"

/* Where unpacked bytes go: grows as they come, never past cap. */
struct hv_unpacked {
    uint8_t *bytes; /* free() when done, also after failure */
    size_t used;
    size_t allocated;
    size_t cap;
};

/* Unpacks the stream at the start of @in; bytes after its end are ignored. *@format is the name of the format
 * that was recognized, or NULL. 0, -EINVAL damaged or cut short, -ENOSPC more than cap bytes, -ENOTSUP a
 * format that is recognized but not done, or not recognized at all, -ENOMEM. */
int hv_unpack(const uint8_t *in, size_t bytes, struct hv_unpacked *out, const char **format) HV_MUST_CHECK;
