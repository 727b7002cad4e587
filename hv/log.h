/* Messages of the hypervisor: to standard error, which whoever started it sends to the domain's log.
 * What a guest can cause goes through hv_log_guest, which is rate-limited per domain.
 */
#pragma once

#include "hv/types.h"

enum hv_log_level { HV_LOG_ERROR, HV_LOG_WARNING, HV_LOG_INFO, HV_LOG_DEBUG };

void hv_log_set_level(enum hv_log_level level);
void hv_log(enum hv_log_level level, const char *format, ...) HV_PRINTF(2, 3);

/* States what our own code promised; never about guest, client or file data. On in every build. */
#define hv_assert(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            hv_assert_failed(#cond, __FILE__, __LINE__);                                           \
    } while (0)
_Noreturn void hv_assert_failed(const char *cond, const char *file, int line);
