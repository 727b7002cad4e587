/* Messages of the hypervisor: to standard error, which whoever started it sends to the domain's
 * log. What a guest can cause goes through hv_log_guest, which is rate-limited per domain.
 */
#pragma once

#include <stdatomic.h>

#include "hv/types.h"

struct hv_domain;

enum hv_log_level { HV_LOG_ERROR, HV_LOG_WARNING, HV_LOG_INFO, HV_LOG_DEBUG };

/* Messages above @level are not written; HV_LOG_INFO at first. */
void hv_log_set_level(enum hv_log_level level);
/* Writes one line (without a newline in @format; cut at 1 KiB). Any thread. */
void hv_log(enum hv_log_level level, const char *format, ...) HV_PRINTF(2, 3);
/* The same for what a guest can cause: names the domain, and only so many a second come through. */
void hv_log_guest(struct hv_domain *d, enum hv_log_level level, const char *format, ...)
    HV_PRINTF(3, 4);

/* What hv_log_guest remembers of a domain. */
struct hv_log_rate {
    _Atomic uint64_t second;
    _Atomic uint32_t count;
};

/* States what our own code promised; never about guest, client or file data. On in every build. */
#define hv_assert(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            hv_assert_failed(#cond, __FILE__, __LINE__);                                           \
    } while (0)
_Noreturn void hv_assert_failed(const char *cond, const char *file, int line);
