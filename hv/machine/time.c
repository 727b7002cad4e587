/* Time of the domain.
 *
 * System time is computed from the host's TSC with the very multiplier that the guest is given, so
 * host and guest always agree on it to the nanosecond, whatever small error the measured frequency
 * has; only when the host sleeps is it turned into CLOCK_MONOTONIC, by the difference to now.
 *
 * The frequency is measured against CLOCK_MONOTONIC_RAW, from the creation of the domain to the
 * start of its vCPUs: a kernel is loaded in between, so usually nobody waits for it. Until then a
 * short measurement does.
 */
#include "config.h"

#include "hv/machine/time.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

#include "hv/machine/machine.h"
#include "hv/stream/codec.h"

#define NS_PER_S          1000000000ull
#define CALIBRATION_NS    20000000ull /* 20 ns of error in a reading are 1 ppm of this */
#define FIRST_ESTIMATE_NS 1000000ull
#define SAMPLES           16
#define TOLERANCE         1000ull /* a frequency that differs by less than a part of so many is the same */
#define PASS_MAX_NS       (600 * NS_PER_S) /* wall clocks that are further apart than a migration takes are not to be trusted */

struct sample {
    uint64_t tsc;
    uint64_t raw_ns;
};

struct hv_time {
    struct sample start; /* immutable: system time 0, guest TSC 0 */
    bool stable;         /* immutable: the TSC is invariant */
    bool stopped;        /* out of a stream, and not resumed: system time is stopped_ticks; main thread, as the next three */
    uint64_t stopped_ticks;
    uint64_t stopped_real_ns; /* the wall clock then */
    bool passes;              /* it is to have passed since */

    uint64_t hz;  /* this and the rest immutable once a vCPU runs */
    uint32_t mul; /* ns = ((ticks << shift) * mul) >> 32, a negative shift being to the right */
    int8_t shift;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Reads both clocks at one moment: the best of several tries, in case this thread is interrupted.
 */
static struct sample take_sample(void)
{
    struct sample best = {0};
    uint64_t best_width = UINT64_MAX;

    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t before = __rdtsc();
        uint64_t raw_ns = clock_ns(CLOCK_MONOTONIC_RAW);
        uint64_t width = __rdtsc() - before;

        if (width < best_width) {
            best_width = width;
            best = (struct sample){.tsc = before + width / 2, .raw_ns = raw_ns};
        }
    }
    return best;
}

static bool tsc_is_invariant(void)
{
    uint32_t a, b, c, d;

    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8));
}

/* The largest multiplier below 2^32 that the format can express for @hz. */
static void set_scale(struct hv_time *time, uint64_t hz)
{
    uint64_t ns = NS_PER_S;
    int8_t shift = 0;

    while (ns >= hz) { /* below 1 GHz: more than one nanosecond a tick */
        hz <<= 1;
        shift++;
    }
    while (ns <= hz / 2) {
        ns <<= 1;
        shift--;
    }
    time->mul = (uint32_t)(((unsigned __int128)ns << 32) / hz);
    time->shift = shift;
}

static uint64_t measure_hz(const struct sample *from, const struct sample *to)
{
    uint64_t ns = to->raw_ns - from->raw_ns;

    return (uint64_t)(((unsigned __int128)(to->tsc - from->tsc) * NS_PER_S + ns / 2) / ns);
}

/* Waits until at least @window_ns have passed since the start, then measures over all of that time.
 */
static void measure(struct hv_time *time, uint64_t window_ns)
{
    uint64_t passed = clock_ns(CLOCK_MONOTONIC_RAW) - time->start.raw_ns;
    struct timespec rest = {.tv_nsec = (long)(window_ns - passed)};
    struct sample now;

    if (passed < window_ns)
        while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
            ;
    now = take_sample();
    time->hz = measure_hz(&time->start, &now);
    set_scale(time, time->hz);
}

int hv_time_init(struct hv_domain *d)
{
    struct hv_time *time = calloc(1, sizeof(*time));

    if (!time)
        return -ENOMEM;
    time->stable = tsc_is_invariant();
    time->start = take_sample();
    measure(time, FIRST_ESTIMATE_NS);
    d->time = time;
    return 0;
}

void hv_time_settle(struct hv_domain *d)
{
    measure(d->time, CALIBRATION_NS);
}

void hv_time_fini(struct hv_domain *d)
{
    free(d->time);
    d->time = NULL;
}

static uint64_t ticks_to_ns(const struct hv_time *time, uint64_t ticks)
{
    unsigned __int128 scaled = ticks;

    scaled = time->shift >= 0 ? scaled << time->shift : scaled >> -time->shift;
    return (uint64_t)((scaled * time->mul) >> 32);
}

uint64_t hv_time_system_ns(struct hv_domain *d)
{
    const struct hv_time *time = d->time;

    return ticks_to_ns(time, __rdtsc() - time->start.tsc);
}

uint64_t hv_time_to_monotonic(struct hv_domain *d, uint64_t system_ns)
{
    uint64_t now = hv_time_system_ns(d);
    uint64_t monotonic = clock_ns(CLOCK_MONOTONIC);

    if (system_ns <= now)
        return now - system_ns < monotonic ? monotonic - (now - system_ns) : 1;
    if (system_ns - now > INT64_MAX - monotonic)
        return INT64_MAX;
    return monotonic + (system_ns - now);
}

uint64_t hv_time_tsc_khz(const struct hv_domain *d)
{
    return (d->time->hz + 500) / 1000;
}

uint64_t hv_time_initial_tsc_offset(const struct hv_domain *d)
{
    return -d->time->start.tsc;
}

uint64_t hv_time_tsc_to_system_ns(struct hv_vcpu *v, uint64_t guest_tsc)
{
    const struct hv_time *time = v->domain->time;
    uint64_t ticks = guest_tsc - v->cpu.tsc_offset - time->start.tsc;

    return (int64_t)ticks < 0 ? 0 : ticks_to_ns(time, ticks);
}

uint64_t hv_tsc_read(struct hv_vcpu *v)
{
    return __rdtsc() + v->cpu.tsc_offset;
}

void hv_time_scale(const struct hv_domain *d, uint32_t *mul, int8_t *shift)
{
    const struct hv_time *time = d->time;

    *mul = time->mul;
    *shift = time->shift;
}

bool hv_time_tsc_is_stable(const struct hv_domain *d)
{
    return d->time->stable;
}

/* The version is odd while the rest is written; guests that read in between try again. */
static uint32_t begin_update(uint32_t *version)
{
    uint32_t old = __atomic_load_n(version, __ATOMIC_RELAXED);

    __atomic_store_n(version, (old | 1), __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release);
    return old | 1;
}

static void end_update(uint32_t *version, uint32_t odd)
{
    __atomic_store_n(version, odd + 1, __ATOMIC_RELEASE);
}

void hv_time_fill_vcpu(struct hv_vcpu *v, struct vcpu_time_info *info)
{
    const struct hv_time *time = v->domain->time;
    uint32_t odd = begin_update(&info->version);

    info->tsc_timestamp = time->start.tsc + v->cpu.tsc_offset;
    info->system_time = 0;
    info->tsc_to_system_mul = time->mul;
    info->tsc_shift = time->shift;
    info->flags = time->stable ? XEN_PVCLOCK_TSC_STABLE_BIT : 0;
    end_update(&info->version, odd);
}

void hv_time_fill_wallclock(struct hv_domain *d)
{
    struct shared_info *shared = d->shared_info;
    uint64_t at_zero = clock_ns(CLOCK_REALTIME) - hv_time_system_ns(d);
    uint32_t odd = begin_update(&shared->wc_version);

    shared->wc_sec = (uint32_t)(at_zero / NS_PER_S);
    shared->wc_sec_hi = (uint32_t)(at_zero / NS_PER_S >> 32);
    shared->wc_nsec = (uint32_t)(at_zero % NS_PER_S);
    end_update(&shared->wc_version, odd);
}

/* ---------------------------------------------------------------- streams */

/* Time as it stands still. */
struct time_state {
    uint64_t ticks; /* of the TSC, since system time 0 */
    uint64_t hz, real_ns;
    uint32_t mul;
    int8_t shift;
};

static const struct hv_field state_fields[] = {
    HV_FIELD(1, struct time_state, ticks), HV_FIELD(2, struct time_state, hz),
    HV_FIELD(3, struct time_state, real_ns), HV_FIELD(4, struct time_state, mul),
    HV_FIELD(5, struct time_state, shift),
};

void hv_time_encode(const struct hv_domain *d, struct hv_encoder *e)
{
    const struct hv_time *time = d->time;
    const struct time_state state = {
        .ticks = time->stopped ? time->stopped_ticks : __rdtsc() - time->start.tsc,
        .hz = time->hz,
        .real_ns = clock_ns(CLOCK_REALTIME),
        .mul = time->mul,
        .shift = time->shift,
    };

    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), &state);
}

static bool is_same_frequency(uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) <= b / TOLERANCE;
}

static int check_state(const struct hv_time *time, const struct time_state *state, struct hv_decoder *dec)
{
    if (!is_same_frequency(state->hz, time->hz))
        return hv_decode_fail(dec, "the guest's TSC runs at %llu kHz, and this host's at %llu kHz",
                              (unsigned long long)state->hz / 1000, (unsigned long long)time->hz / 1000);
    if (!state->mul || state->shift < -31 || state->shift > 31 || state->ticks >> 62)
        return hv_decode_fail(dec, "its numbers make no sense");
    return 0;
}

int hv_time_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    struct hv_time *time = d->time;
    struct time_state state;
    int error = hv_decode_fields(dec, state_fields, HV_ARRAY_LEN(state_fields), &state);

    if (!error)
        error = check_state(time, &state, dec);
    if (error)
        return error;
    time->hz = state.hz; /* what the guest was told */
    time->mul = state.mul;
    time->shift = state.shift;
    time->stopped = true;
    time->stopped_ticks = state.ticks;
    time->stopped_real_ns = state.real_ns;
    time->start.tsc = __rdtsc() - state.ticks;
    return 0;
}

void hv_time_let_pass(struct hv_domain *d)
{
    d->time->passes = true;
}

uint64_t hv_time_tsc_at_zero(const struct hv_vcpu *v)
{
    return v->domain->time->start.tsc + v->cpu.tsc_offset;
}

void hv_time_set_tsc_at_zero(struct hv_vcpu *v, uint64_t tsc)
{
    v->cpu.tsc_offset = tsc - v->domain->time->start.tsc;
}

static uint64_t ticks_passed(const struct hv_time *time)
{
    uint64_t now = clock_ns(CLOCK_REALTIME);
    uint64_t ns = now > time->stopped_real_ns ? now - time->stopped_real_ns : 0;

    if (!time->passes || ns > PASS_MAX_NS)
        return 0;
    return (uint64_t)((unsigned __int128)ns * time->hz / NS_PER_S);
}

bool hv_time_resume(struct hv_domain *d)
{
    struct hv_time *time = d->time;
    uint64_t by;

    if (!time->stopped)
        return false;
    by = __rdtsc() - (time->stopped_ticks + ticks_passed(time)) - time->start.tsc;
    time->start.tsc += by;
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        d->vcpus[i]->cpu.tsc_offset -= by;
    time->stopped = false;
    return true;
}
