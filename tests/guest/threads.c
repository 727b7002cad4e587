/* Threads: atomics that lose nothing, futexes that wake, and the memory order that x86 promises. */
#include "check.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#define THREADS 4
#define ROUNDS  20000u
#define SPLIT_ROUNDS 2000u /* hosts may make them slow on purpose */

static pthread_barrier_t barrier;

static void run_threads(unsigned count, void *(*fn)(void *))
{
    pthread_t threads[THREADS];

    pthread_barrier_init(&barrier, NULL, count);
    for (uintptr_t i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, fn, (void *)i);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
}

/* ------------------------------------------------------------------ locked instructions */

static struct {
    uint64_t add, xadd, sub, inc, dec, cmpxchg, plain;
    uint32_t inc4, cmpxchg8[2];
    uint16_t add2;
    uint8_t add1, toggled;
    uint32_t lock;
    uint64_t wide[2] __attribute__((aligned(16)));
    uint64_t bits[4];
    uint64_t taken[THREADS];
} a;

static void exchange_lock(void)
{
    uint32_t one;

    do {
        one = 1;
        __asm__ volatile("xchg %0, %1" : "+r"(one), "+m"(a.lock) : : "memory");
        if (one)
            sched_yield();
    } while (one);
    a.plain++;
    __asm__ volatile("movl $0, %0" : "=m"(a.lock) : : "memory");
}

static void add_wide(void)
{
    uint64_t low = a.wide[0], high = a.wide[1];
    bool done;

    do
        __asm__ volatile("lock cmpxchg16b %1"
                         : "=@ccz"(done), "+m"(a.wide), "+a"(low), "+d"(high)
                         : "b"(low + 1), "c"(high - 1)
                         : "memory");
    while (!done);
}

static void *use_atomics(void *arg)
{
    uintptr_t me = (uintptr_t)arg;

    pin((unsigned)me);
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t one = 1, old = a.cmpxchg;
        uint8_t got;

        __asm__ volatile("lock addq $3, %0" : "+m"(a.add) : : "memory");
        __asm__ volatile("lock xaddq %1, %0" : "+m"(a.xadd), "+r"(one) : : "memory");
        __asm__ volatile("lock subq $1, %0" : "+m"(a.sub) : : "memory");
        __asm__ volatile("lock incq %0" : "+m"(a.inc) : : "memory");
        __asm__ volatile("lock decq %0" : "+m"(a.dec) : : "memory");
        __asm__ volatile("lock incl %0" : "+m"(a.inc4) : : "memory");
        __asm__ volatile("lock addw $1, %0" : "+m"(a.add2) : : "memory");
        __asm__ volatile("lock addb $1, %0" : "+m"(a.add1) : : "memory");
        __asm__ volatile("lock xorb $1, %0" : "+m"(a.toggled) : : "memory");
        while (!__atomic_compare_exchange_n(&a.cmpxchg, &old, old + 1, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST))
            ;
        add_wide();
        /* Every bit belongs to one thread; who sets it finds it clear. */
        __asm__ volatile("lock btsq %2, %1; setc %0"
                         : "=q"(got), "+m"(a.bits)
                         : "r"(64 * (i % 4) + 8 * me + i % 8)
                         : "memory");
        a.taken[me] += got;
        __asm__ volatile("lock btrq %2, %1; setnc %0"
                         : "=q"(got), "+m"(a.bits)
                         : "r"(64 * (i % 4) + 8 * me + i % 8)
                         : "memory");
        a.taken[me] += got;
        exchange_lock();
    }
    return NULL;
}

static void check_atomics(void)
{
    const uint64_t all = THREADS * ROUNDS;

    memset(&a, 0, sizeof(a));
    run_threads(THREADS, use_atomics);
    equal(a.add, 3 * all, "lock add");
    equal(a.xadd, all, "lock xadd");
    equal(a.sub, -all, "lock sub");
    equal(a.inc, all, "lock inc");
    equal(a.dec, -all, "lock dec");
    equal(a.inc4, (uint32_t)all, "lock inc of 4 bytes");
    equal(a.add2, (uint16_t)all, "lock add of 2 bytes");
    equal(a.add1, (uint8_t)all, "lock add of 1 byte");
    equal(a.toggled, all & 1, "lock xor");
    equal(a.cmpxchg, all, "lock cmpxchg");
    ok(a.wide[0] == all && a.wide[1] == -all, "lock cmpxchg16b");
    ok(!a.taken[0] && !a.taken[1] && !a.taken[2] && !a.taken[3],
       "lock bts and btr see what is theirs");
    ok(!a.bits[0] && !a.bits[1] && !a.bits[2] && !a.bits[3], "and leave other bits alone");
    equal(a.plain, all, "a lock made of xchg");
}

/* ------------------------------------------------------------------ memory order */

static struct {
    uint64_t data __attribute__((aligned(64)));
    uint64_t flag __attribute__((aligned(64)));
    uint64_t x __attribute__((aligned(64)));
    uint64_t y __attribute__((aligned(64)));
    uint64_t seen[2], reordered, stale;
} m;

/* Stores of one CPU are seen in order by another. */
static void *pass_messages(void *arg)
{
    pin((unsigned)(uintptr_t)arg);
    pthread_barrier_wait(&barrier);
    for (uint64_t i = 1; i < 200000; i++) {
        if (arg) {
            *(volatile uint64_t *)&m.data = i;
            *(volatile uint64_t *)&m.flag = i;
        } else {
            uint64_t flag = *(volatile uint64_t *)&m.flag;

            m.stale += *(volatile uint64_t *)&m.data < flag;
        }
    }
    return NULL;
}

/* With a fence between its store and its load, one of two CPUs sees the other's store. */
static void *store_then_load(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;
    volatile uint64_t *mine = me ? &m.y : &m.x, *other = me ? &m.x : &m.y;

    pin(me);
    for (unsigned i = 0; i < 1500; i++) {
        pthread_barrier_wait(&barrier);
        *mine = 1;
        if (i & 1)
            __asm__ volatile("mfence" : : : "memory");
        else
            __asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
        m.seen[me] = *other;
        pthread_barrier_wait(&barrier);
        if (me == 0) {
            m.reordered += !m.seen[0] && !m.seen[1];
            m.x = m.y = 0;
        }
    }
    return NULL;
}

static void check_order(void)
{
    memset(&m, 0, sizeof(m));
    run_threads(2, pass_messages);
    equal(m.stale, 0, "stores are seen in order");
    run_threads(2, store_then_load);
    equal(m.reordered, 0, "fences order a store and a load");
}

/* ------------------------------------------------------------------ futexes */

static uint32_t turn;

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

static void *ping_pong(void *arg)
{
    uint32_t me = (uint32_t)(uintptr_t)arg;

    pin(me);
    for (unsigned i = 0; i < 500; i++) {
        uint32_t now;

        while ((now = __atomic_load_n(&turn, __ATOMIC_SEQ_CST)) % 2 != me)
            futex(&turn, FUTEX_WAIT, now, NULL);
        __atomic_add_fetch(&turn, 1, __ATOMIC_SEQ_CST);
        futex(&turn, FUTEX_WAKE, 1, NULL);
    }
    return NULL;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static unsigned in_queue, consumed;
static uint64_t protected_sum;

/* Two produce, two consume, through one condition variable. */
static void *queue(void *arg)
{
    bool producer = (uintptr_t)arg % 2 == 0;

    for (unsigned i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (producer ? in_queue >= 4 : in_queue == 0)
            pthread_cond_wait(&condition, &mutex);
        if (producer) {
            in_queue++;
            protected_sum += i;
        } else {
            in_queue--;
            consumed++;
        }
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

/* ------------------------------------------------------------------ a word in two pages */

static struct {
    uint8_t pages[4][4096] __attribute__((aligned(4096)));
    uint64_t guarded;
} split;

static void *use_split(void *arg)
{
    uint64_t *sum = (uint64_t *)(split.pages[1] - 3);
    uint32_t *lock = (uint32_t *)(split.pages[3] - 2), one;

    pin((unsigned)(uintptr_t)arg);
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < SPLIT_ROUNDS; i++) {
        __asm__ volatile("lock addq $1, %0" : "+m"(*sum) : : "memory");
        do {
            one = 1;
            __asm__ volatile("xchg %0, %1" : "+r"(one), "+m"(*lock) : : "memory");
        } while (one);
        split.guarded++;
        __asm__ volatile("movl $0, %0" : "=m"(*lock) : : "memory");
    }
    return NULL;
}

static void check_split(void)
{
    uint64_t sum;

    memset(&split, 0, sizeof(split));
    run_threads(2, use_split);
    memcpy(&sum, split.pages[1] - 3, sizeof(sum));
    equal(sum, 2 * SPLIT_ROUNDS, "locked additions to a word in two pages");
    equal(split.guarded, 2 * SPLIT_ROUNDS, "a lock in two pages");
}

static void *count_local(void *arg)
{
    static __thread uint64_t local;

    for (unsigned i = 0; i < 1000; i++)
        local += (uintptr_t)arg + 1;
    return (void *)local;
}

static void check_many(void)
{
    unsigned bad = 0;

    for (uintptr_t i = 0; i < 100; i++) {
        pthread_t thread;
        void *result = NULL;

        bad += pthread_create(&thread, NULL, count_local, (void *)i) != 0;
        pthread_join(thread, &result);
        bad += (uint64_t)result != 1000 * (i + 1);
    }
    equal(bad, 0, "100 threads with storage of their own");
}

void check_threads(void)
{
    struct timespec timeout = {0, 20000000};
    uint32_t word = 5;
    uint64_t start;

    check_atomics();
    check_split();
    check_order();
    run_threads(2, ping_pong);
    equal(turn, 1000, "two threads take turns by futex");
    run_threads(THREADS, queue);
    ok(consumed == 1000 && in_queue == 0 && protected_sum == 2 * 124750,
       "a queue with mutex and condition");
    ok(futex(&word, FUTEX_WAIT, 4, NULL) < 0 && errno == EAGAIN,
       "a futex that changed does not wait");
    start = now_ns();
    ok(futex(&word, FUTEX_WAIT, 5, &timeout) < 0 && errno == ETIMEDOUT &&
           now_ns() - start >= 20000000,
       "a futex wait ends in time");
    check_many();
}
