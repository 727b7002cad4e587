/* Two threads: atomics, mutexes, parallel work, TLB shoot-downs. */
#include "guestbench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

int w_atom_1t(struct res *r, unsigned long n)
{
    static _Atomic uint64_t c, d;
    c = d = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        atomic_fetch_add(&c, i);
        uint64_t o = atomic_load_explicit(&d, memory_order_relaxed);
        atomic_compare_exchange_strong(&d, &o, o + 3);
    }
    r->sec = now() - t;
    r->ops = 2 * n;
    r->sum = mix(c, d);
    return 0;
}

static _Atomic uint64_t shared_a, shared_b;
static uint64_t plain_c;
static pthread_mutex_t mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t bar;
static unsigned long thr_n;

static void *t_atomics(void *a)
{
    (void)a;
    pthread_barrier_wait(&bar);
    for (unsigned long i = 0; i < thr_n; i++) {
        atomic_fetch_add(&shared_a, 1);
        uint64_t o = atomic_load(&shared_b);
        while (!atomic_compare_exchange_weak(&shared_b, &o, o + 3))
            ;
    }
    return NULL;
}

static void *t_mutex(void *a)
{
    (void)a;
    pthread_barrier_wait(&bar);
    for (unsigned long i = 0; i < thr_n; i++) {
        pthread_mutex_lock(&mtx);
        plain_c += i & 3;
        pthread_mutex_unlock(&mtx);
    }
    return NULL;
}

static void *t_collatz(void *a)
{
    pthread_barrier_wait(&bar);
    *(uint64_t *)a = collatz(1, thr_n);
    return NULL;
}

static int two(struct res *r, unsigned long n, void *(*f)(void *), uint64_t *x, uint64_t *y)
{
    pthread_t a, b;
    thr_n = n;
    pthread_barrier_init(&bar, NULL, 3);
    if (pthread_create(&a, NULL, f, x) || pthread_create(&b, NULL, f, y))
        return skip(r, "no threads");
    pthread_barrier_wait(&bar);
    double t = now();
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    r->sec = now() - t;
    pthread_barrier_destroy(&bar);
    r->ops = 2 * n;
    return 0;
}

int w_atom_2t(struct res *r, unsigned long n)
{
    shared_a = shared_b = 0;
    if (two(r, n, t_atomics, NULL, NULL))
        return 1;
    r->sum = mix(shared_a, shared_b);
    return 0;
}

int w_mutex_2t(struct res *r, unsigned long n)
{
    plain_c = 0;
    if (two(r, n, t_mutex, NULL, NULL))
        return 1;
    r->sum = plain_c;
    return 0;
}

int w_par_2t(struct res *r, unsigned long n)
{
    uint64_t x = 0, y = 0;
    if (two(r, n, t_collatz, &x, &y))
        return 1;
    r->sum = x + 3 * y;
    return 0;
}

static volatile int stop_spin;
static void *t_spin(void *a)
{
    (void)a;
    pin(1);
    pthread_barrier_wait(&bar);
    while (!stop_spin)
        ;
    return NULL;
}

/* mprotect while a thread of the same process runs on the other CPU: each one
 * costs a shoot-down IPI. */
int w_tlb_shoot(struct res *r, unsigned long n)
{
    pthread_t th;
    if (ncpu < 2)
        return skip(r, "one CPU");
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stop_spin = 0;
    pin(0);
    pthread_barrier_init(&bar, NULL, 2);
    if (pthread_create(&th, NULL, t_spin, NULL))
        return skip(r, "no threads");
    pthread_barrier_wait(&bar);
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        mprotect(p, 4096, PROT_READ | PROT_WRITE);
        *(volatile char *)p = 1;
        mprotect(p, 4096, PROT_READ);
    }
    r->sec = now() - t;
    stop_spin = 1;
    pthread_join(th, NULL);
    pthread_barrier_destroy(&bar);
    munmap(p, 4096);
    unpin();
    r->ops = n;
    return 0;
}
