/* Messages of the hypervisor, one write per line so that those of several threads do not mix. */
#include "config.h"

#include "hv/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hv/domain.h"

/* A guest may cause this many messages per second; the rest are counted. */
#define GUEST_MESSAGES_PER_SECOND 20u

static const char *const level_names[] = {"error", "warning", "info", "debug"};

/* Set once while the process starts; no domain owns the standard error stream. */
static _Atomic int max_level = HV_LOG_INFO;

/* The same. */
static struct hv_log_watch *_Atomic watched;

void hv_log_set_level(enum hv_log_level level)
{
    atomic_store(&max_level, level);
}

static bool enabled(enum hv_log_level level)
{
    return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

void hv_log_meter_start(struct hv_log_meter *meter, int fd, uint64_t limit)
{
    struct stat st;

    atomic_store(&meter->written, fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
    atomic_store(&meter->limit, limit);
}

/* How often it would have been told of. Who has not come after the first time may be busy, and a guest that floods its
 * console must not make more for him to do. */
static unsigned times_told(uint64_t written, uint64_t limit)
{
    uint64_t times = written / limit;

    return times ? 64 - (unsigned)__builtin_clzll(times) : 0;
}

bool hv_log_meter_add(struct hv_log_meter *meter, size_t bytes)
{
    uint64_t limit = atomic_load(&meter->limit);
    uint64_t before = atomic_fetch_add(&meter->written, bytes);

    return limit && times_told(before, limit) != times_told(before + bytes, limit);
}

void hv_log_set_watch(struct hv_log_watch *watch)
{
    atomic_store(&watched, watch);
}

int hv_log_redirect(int fd)
{
    return dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ? -errno : 0;
}

static void count(size_t bytes)
{
    struct hv_log_watch *watch = atomic_load(&watched);

    if (watch && hv_log_meter_add(&watch->meter, bytes))
        watch->full(watch->opaque);
}

static void write_all(const char *text, size_t bytes)
{
    count(bytes);
    while (bytes) {
        ssize_t done = write(STDERR_FILENO, text, bytes);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return; /* nobody is left to tell */
        text += done;
        bytes -= (size_t)done;
    }
}

static size_t clip(int wanted, size_t room)
{
    if (wanted < 0)
        return 0;
    return (size_t)wanted < room ? (size_t)wanted : room - 1;
}

static void write_message(enum hv_log_level level, const char *prefix, const char *format,
                          va_list args)
{
    char line[1024];
    size_t used;

    used = clip(snprintf(line, sizeof(line) - 1, "%s: %s: %s", program_invocation_short_name,
                         level_names[level], prefix),
                sizeof(line) - 1);
    used += clip(vsnprintf(line + used, sizeof(line) - 1 - used, format, args),
                 sizeof(line) - 1 - used);
    line[used++] = '\n';
    write_all(line, used);
}

void hv_log(enum hv_log_level level, const char *format, ...)
{
    va_list args;

    if (!enabled(level))
        return;
    va_start(args, format);
    write_message(level, "", format, args);
    va_end(args);
}

/* True when the message may go out; *@dropped is how many did not in the seconds before. */
static bool rate_allows(struct hv_log_rate *rate, uint32_t *dropped)
{
    struct timespec now;
    uint64_t second;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    second = atomic_load(&rate->second);
    *dropped = 0;
    if (second != (uint64_t)now.tv_sec &&
        atomic_compare_exchange_strong(&rate->second, &second, (uint64_t)now.tv_sec)) {
        uint32_t count = atomic_exchange(&rate->count, 0);

        if (count > GUEST_MESSAGES_PER_SECOND)
            *dropped = count - GUEST_MESSAGES_PER_SECOND;
    }
    return atomic_fetch_add(&rate->count, 1) < GUEST_MESSAGES_PER_SECOND;
}

void hv_log_guest(struct hv_domain *d, enum hv_log_level level, const char *format, ...)
{
    char prefix[32];
    uint32_t dropped;
    va_list args;

    if (!enabled(level) || !rate_allows(&d->log_rate, &dropped))
        return;
    if (dropped)
        hv_log(level, "d%u: %u messages dropped", d->domid, dropped);
    snprintf(prefix, sizeof(prefix), "d%u: ", d->domid);
    va_start(args, format);
    write_message(level, prefix, format, args);
    va_end(args);
}

void hv_assert_failed(const char *cond, const char *file, int line)
{
    hv_log(HV_LOG_ERROR, "%s:%d: broken promise: %s", file, line, cond);
    abort();
}
