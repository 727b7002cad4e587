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

/* How much was written to a file, and how much is to be told of. */
struct hv_log_meter {
    _Atomic uint64_t limit; /* 0: none */
    _Atomic uint64_t written;
};
/* For file @fd, from what is in it on. */
void hv_log_meter_start(struct hv_log_meter *meter, int fd, uint64_t limit);
/* @bytes more were written: true when the limit is reached, and twice, four times ... that. Any thread. */
bool hv_log_meter_add(struct hv_log_meter *meter, size_t bytes);

/* Called on any thread when the meter says so. */
typedef void hv_log_full_fn(void *opaque);
struct hv_log_watch {
    struct hv_log_meter meter;
    hv_log_full_fn *full;
    void *opaque;
};
/* Messages are counted in @watch from now on; NULL: nowhere. What was set before must stay until no other thread writes. */
void hv_log_set_watch(struct hv_log_watch *watch);
/* Messages go to @fd (borrowed), a file, in the place of the one before. 0 or negative errno. */
int hv_log_redirect(int fd) HV_MUST_CHECK;

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
