/* worker: a guest's program that shows whether the guest lost time or memory.
 *
 *      worker PROCESSES FILL_MIB DIRTY_MIB HOST PORT
 *
 * FILL_MIB are written once. Each process writes to its part of DIRTY_MIB, page after page, at a rate that is told later; what
 * a page holds depends on its number and on how often it was written to, which is noted elsewhere. Every millisecond a
 * datagram, struct tick, goes to HOST:PORT. Commands come as datagrams to port PORT, and are answered there:
 *      rate MB     of each second, all processes together (0 at first)
 *      check       looks at all pages: "check PAGES BAD BACKWARDS"
 * BACKWARDS: how often CLOCK_MONOTONIC, on any CPU, was behind what another one had seen before.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE          4096u
#define PAGES_OF_MIB  256u
#define PROCESSES_MAX 16u
#define TICK_NS       1000000
#define NAP_US        2000
#define FILL_ROUND    77u
#define TICK_MAGIC    0x6b636974u

struct tick {
    uint32_t magic, backwards;
    uint64_t number, clock_ns, pages; /* that were written to, so far */
};

struct process {
    _Atomic uint64_t pages;
    _Atomic uint32_t checked; /* the number of the check that it has done */
    uint32_t bad;
};

struct shared {
    _Atomic uint32_t rate_mb, check, backwards, ready;
    _Atomic uint64_t latest_ns;
    struct process process[PROCESSES_MAX];
};

static struct shared *shared;
static unsigned processes;
static uint8_t *fill;
static uint64_t fill_pages, dirty_pages;
static struct sockaddr_in host;
static int sock;

static void *memory(uint64_t bytes, int flags)
{
    void *p = mmap(NULL, bytes ? bytes : PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

    if (p != MAP_FAILED)
        return p;
    perror("worker: memory");
    exit(1);
}

/* The clock, compared with what anybody saw before. */
static uint64_t now_ns(void)
{
    uint64_t before = atomic_load(&shared->latest_ns), ns;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (ns < before)
        atomic_fetch_add(&shared->backwards, 1);
    while (before < ns && !atomic_compare_exchange_weak(&shared->latest_ns, &before, ns))
        ;
    return ns;
}

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t word_of(uint64_t number, uint32_t round, unsigned k)
{
    return mix(number << 32 | round) + k * 0x0101010101010101u;
}

static void put(uint8_t *page, uint64_t number, uint32_t round)
{
    for (unsigned k = 0; k < 8; k++)
        ((uint64_t *)page)[k * 64] = word_of(number, round, k);
}

static unsigned is_bad(const uint8_t *page, uint64_t number, uint32_t round)
{
    for (unsigned k = 0; k < 8; k++)
        if (((const uint64_t *)page)[k * 64] != word_of(number, round, k))
            return 1;
    return 0;
}

/* ------------------------------------------------------------------ who writes */

struct work {
    struct process *process;
    uint8_t *pages;
    uint32_t *rounds;
    uint64_t count, next;
    double owed;
};

static void check(struct work *w, uint32_t number)
{
    uint32_t bad = 0;

    for (uint64_t i = 0; i < w->count; i++)
        bad += is_bad(w->pages + i * PAGE, i, w->rounds[i]);
    w->process->bad = bad;
    atomic_store(&w->process->checked, number);
}

static void write_pages(struct work *w, uint64_t ns)
{
    double rate = atomic_load(&shared->rate_mb) * 1e6 / PAGE / processes, most = rate / 4;

    w->owed += rate * (double)ns / 1e9;
    if (w->owed > most) /* no long time to catch up */
        w->owed = most;
    for (; w->owed >= 1; w->owed--) {
        put(w->pages + w->next * PAGE, w->next, ++w->rounds[w->next]);
        w->next = w->next + 1 < w->count ? w->next + 1 : 0;
        atomic_fetch_add(&w->process->pages, 1);
    }
}

static void work(unsigned number)
{
    struct work w = {.process = &shared->process[number], .count = dirty_pages / processes};
    uint64_t last = now_ns(), now;

    w.pages = memory(w.count * PAGE, MAP_PRIVATE);
    w.rounds = memory(w.count * sizeof(w.rounds[0]), MAP_PRIVATE);
    for (uint64_t i = 0; i < w.count; i++)
        put(w.pages + i * PAGE, i, 0);
    atomic_fetch_add(&shared->ready, 1);
    for (;; last = now) {
        uint32_t asked = atomic_load(&shared->check);

        if (asked != atomic_load(&w.process->checked))
            check(&w, asked);
        now = now_ns();
        if (w.count)
            write_pages(&w, now - last);
        usleep(NAP_US);
    }
}

/* ------------------------------------------------------------------ who tells */

static void answer_check(char *text, size_t room)
{
    uint32_t number = atomic_fetch_add(&shared->check, 1) + 1, bad = 0;

    for (uint64_t i = 0; i < fill_pages; i++)
        bad += is_bad(fill + i * PAGE, i, FILL_ROUND);
    for (unsigned i = 0; i < processes; i++) {
        while (atomic_load(&shared->process[i].checked) != number)
            usleep(NAP_US);
        bad += shared->process[i].bad;
    }
    snprintf(text, room, "check %llu %u %u", (unsigned long long)(fill_pages + dirty_pages), bad,
             atomic_load(&shared->backwards));
}

static void *answer(void *unused)
{
    struct sockaddr_in from;
    char text[256];

    for (;;) {
        socklen_t size = sizeof(from);
        ssize_t n = recvfrom(sock, text, sizeof(text) - 1, 0, (struct sockaddr *)&from, &size);
        unsigned rate;

        if (n <= 0)
            continue;
        text[n] = '\0';
        if (sscanf(text, "rate %u", &rate) == 1)
            atomic_store(&shared->rate_mb, rate);
        else if (!strcmp(text, "check"))
            answer_check(text, sizeof(text));
        sendto(sock, text, strlen(text), 0, (struct sockaddr *)&from, size);
    }
    return unused;
}

static void tick(void)
{
    struct tick tick = {.magic = TICK_MAGIC};
    struct timespec next;

    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        next.tv_nsec += TICK_NS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        tick.clock_ns = now_ns();
        tick.number++;
        tick.backwards = atomic_load(&shared->backwards);
        tick.pages = 0;
        for (unsigned i = 0; i < processes; i++)
            tick.pages += atomic_load(&shared->process[i].pages);
        if (tick.clock_ns > (uint64_t)next.tv_sec * 1000000000u + (uint64_t)next.tv_nsec + TICK_NS) /* what is lost is lost */
            clock_gettime(CLOCK_MONOTONIC, &next);
        sendto(sock, &tick, sizeof(tick), MSG_DONTWAIT, (struct sockaddr *)&host, sizeof(host));
    }
}

static void open_socket(const char *address, const char *port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    host = here;
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || inet_pton(AF_INET, address, &host.sin_addr) != 1 ||
        bind(sock, (struct sockaddr *)&here, sizeof(here)) < 0) {
        perror("worker: socket");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const struct sched_param first = {.sched_priority = 50};
    pthread_t thread;

    if (argc != 6 || (processes = (unsigned)atoi(argv[1])) - 1 >= PROCESSES_MAX) {
        fprintf(stderr, "worker PROCESSES FILL_MIB DIRTY_MIB HOST PORT\n");
        return 2;
    }
    fill_pages = (uint64_t)atoi(argv[2]) * PAGES_OF_MIB;
    dirty_pages = (uint64_t)atoi(argv[3]) * PAGES_OF_MIB;
    shared = memory(sizeof(*shared), MAP_SHARED);
    for (unsigned i = 0; i < processes; i++)
        if (fork() == 0)
            work(i);
    fill = memory(fill_pages * PAGE, MAP_PRIVATE);
    for (uint64_t i = 0; i < fill_pages; i++)
        put(fill + i * PAGE, i, FILL_ROUND);
    while (atomic_load(&shared->ready) < processes)
        usleep(NAP_US);
    open_socket(argv[4], argv[5]);
    if (pthread_create(&thread, NULL, answer, NULL))
        return 1;
    pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
    tick();
}
