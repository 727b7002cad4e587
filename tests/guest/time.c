/* Time: it only goes forward, is the same on all CPUs, and sleeps and timers keep it. */
#include "check.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <time.h>
#include <x86intrin.h>

#define MS 1000000ull

/* ------------------------------------------------------------------ across CPUs */

static struct {
    uint64_t ns, tsc; /* the latest that anyone saw; atomic */
    uint64_t ns_back, tsc_back, reads;
    pthread_barrier_t barrier;
} t;

static uint64_t publish(uint64_t *latest, uint64_t now)
{
    uint64_t old = __atomic_load_n(latest, __ATOMIC_SEQ_CST);

    while (old < now && !__atomic_compare_exchange_n(latest, &old, now, false, __ATOMIC_SEQ_CST,
                                                     __ATOMIC_SEQ_CST))
        ;
    return old;
}

/* What another CPU has read before is never ahead of what is read now. */
static void *watch_clocks(void *arg)
{
    uint64_t end;

    pin((unsigned)(uintptr_t)arg);
    pthread_barrier_wait(&t.barrier);
    end = now_ns() + 400 * MS;
    for (;;) {
        uint64_t before = __atomic_load_n(&t.ns, __ATOMIC_SEQ_CST), ns = now_ns(), tsc_before, tsc;

        if (ns < before)
            __atomic_add_fetch(&t.ns_back, 1, __ATOMIC_SEQ_CST);
        publish(&t.ns, ns);
        tsc_before = __atomic_load_n(&t.tsc, __ATOMIC_SEQ_CST);
        _mm_lfence();
        tsc = __rdtsc();
        if (tsc < tsc_before)
            __atomic_add_fetch(&t.tsc_back, 1, __ATOMIC_SEQ_CST);
        publish(&t.tsc, tsc);
        __atomic_add_fetch(&t.reads, 1, __ATOMIC_SEQ_CST);
        if (ns > end)
            return NULL;
    }
}

static void check_monotonic(void)
{
    unsigned count = cpus() > 4 ? 4 : cpus();
    pthread_t threads[4];

    pthread_barrier_init(&t.barrier, NULL, count);
    for (uintptr_t i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, watch_clocks, (void *)i);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    equal(t.ns_back, 0, "CLOCK_MONOTONIC never goes back on %u CPUs", count);
    equal(t.tsc_back, 0, "the TSC neither");
    ok(t.reads > 100, "both were read often (%lu times)", t.reads);
}

/* ------------------------------------------------------------------ rates */

/* All clocks at one moment: again if something came between. */
struct moment {
    uint64_t ns, real_ns, tsc, cpu_ns;
};

static struct moment moment(void)
{
    struct moment m;
    struct timespec real, cpu;

    do {
        m.ns = now_ns();
        m.tsc = __rdtsc();
        clock_gettime(CLOCK_REALTIME, &real);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    } while (now_ns() - m.ns > MS / 10);
    m.real_ns = (uint64_t)real.tv_sec * 1000 * MS + (uint64_t)real.tv_nsec;
    m.cpu_ns = (uint64_t)cpu.tv_sec * 1000 * MS + (uint64_t)cpu.tv_nsec;
    return m;
}

static bool within(uint64_t a, uint64_t b, uint64_t tolerance)
{
    return a <= b + tolerance && b <= a + tolerance;
}

static void check_rates(void)
{
    struct moment m[3];
    uint64_t rate[2];

    m[0] = moment();
    for (unsigned i = 0; i < 2; i++) {
        while (now_ns() - m[i].ns < 200 * MS)
            ;
        m[i + 1] = moment();
        rate[i] = (m[i + 1].tsc - m[i].tsc) * 1000 / (m[i + 1].ns - m[i].ns);
    }
    note("TSC: %lu and %lu MHz", rate[0], rate[1]);
    ok(within(rate[0], rate[1], rate[0] / 100), "the TSC has one rate");
    ok(within(m[2].real_ns - m[0].real_ns, m[2].ns - m[0].ns, 10 * MS),
       "CLOCK_REALTIME goes as fast as CLOCK_MONOTONIC");
    ok(m[2].cpu_ns - m[0].cpu_ns < m[2].ns - m[0].ns + 10 * MS, "CPU time is no more than time");
}

/* ------------------------------------------------------------------ sleeps and timers */

static void check_sleep(void)
{
    static const unsigned ms[] = {1, 5, 20, 100, 250};
    unsigned early = 0, late = 0;

    for (unsigned i = 0; i < ARRAY_LEN(ms); i++) {
        uint64_t start = now_ns(), passed;

        usleep(ms[i] * 1000);
        passed = now_ns() - start;
        early += passed < ms[i] * MS;
        late += passed > ms[i] * MS + 400 * MS; /* the host may be busy */
    }
    equal(early, 0, "no sleep ends early");
    equal(late, 0, "none ends late");
}

static void check_timer(void)
{
    struct itimerspec every = {{0, 5 * MS}, {0, 5 * MS}};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    uint64_t start = now_ns(), fired = 0, count, due;

    timerfd_settime(fd, 0, &every, NULL);
    while (now_ns() - start < 500 * MS)
        if (read(fd, &count, 8) == 8)
            fired += count;
    due = (now_ns() - start) / (5 * MS);
    ok(fired <= due && fired + 10 >= due, "a timer fires as often as it is due (%lu of %lu)", fired,
       due);
    close(fd);
}

static volatile sig_atomic_t expired;

static void on_timer(int signal)
{
    (void)signal;
    expired++;
}

static void check_signal_timer(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct itimerspec once = {{0, 0}, {0, 30 * MS}};
    uint64_t start = now_ns();
    timer_t timer;

    signal(SIGRTMIN, on_timer);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &once, NULL);
    while (!expired && now_ns() - start < 5000 * MS)
        ; /* busy: the interrupt has to break in */
    ok(expired == 1 && now_ns() - start >= 30 * MS, "a timer interrupts a busy loop");
    timer_delete(timer);
}

/* For whoever reads the console: it compares the stretch with its own clock. Half is idle, half is
 * busy. */
static void tell_stretch(void)
{
    struct timespec wall;
    uint64_t start;

    clock_gettime(CLOCK_REALTIME, &wall);
    start = now_ns();
    note("stretch begins: %lu ns, %lu s of the epoch", start, (uint64_t)wall.tv_sec);
    usleep(1000000);
    while (now_ns() - start < 2000 * MS)
        ;
    note("stretch ends: %lu ns", now_ns());
}

void check_time(void)
{
    check_monotonic();
    check_rates();
    check_sleep();
    check_timer();
    check_signal_timer();
    tell_stretch();
}
