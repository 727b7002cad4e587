/* Memory for generated code: one memory file mapped twice, writable and executable, so that no page
 * is ever both. The address space is reserved once; pages come as they are used, with no system
 * call later.
 */
#pragma once

#include "hv/types.h"

struct hv_code_memory {
    uint8_t *write; /* for the generator */
    uint8_t *exec;  /* the same bytes, for the processor */
    size_t bytes;
};

/* 0 or negative errno (nothing is left behind then). */
int hv_code_memory_init(struct hv_code_memory *code, size_t bytes) HV_MUST_CHECK;
void hv_code_memory_fini(struct hv_code_memory *code);
