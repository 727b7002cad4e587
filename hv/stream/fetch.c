/* Receiving the rest of a domain's memory while it runs here (post-copy).
 *
 * A thread has the socket and the userfaultfd: it asks for the page that somebody waits for, and places those that come, asked for
 * or not. It takes no lock that anybody holds who touches guest memory (hv/machine/missing.h), and itself touches none: a page is
 * read aside, looked at, and placed by the host. The loop's thread learns from it what it has to know, and says words.
 *
 * When that ends early, a part of the guest's memory is lost for ever. What waits for it waits: nobody is given something else in
 * its place, as that could end up on the guest's disks. vCPUs are kept from running, without waiting for those that hang, and
 * backends take nothing more. The loop's thread itself may hang: then the toolstack hears nothing from us, and ends the process.
 */
#include "config.h"

#include "hv/stream/fetch.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/backend/xenbus.h"
#include "hv/control/control.h"
#include "hv/hypercall/sched.h"
#include "hv/loop.h"
#include "hv/machine/missing.h"
#include "hv/machine/vcpu.h"
#include "hv/store/ring.h"
#include "hv/stream/handover.h"

#define STALL_MS   60000 /* without a word, while pages are missing: the other side is not there any more */
#define FAULTS_MAX 16u
#define TAKEN_MAX  (1u << 20) /* bytes, then those who wait are looked at again */

enum outcome { UNDER_WAY, HAS_ALL, BROKEN };

/* Of the state. When the connection breaks before it is there nothing has run, or will, and nobody has to wait. */
enum state { TAKING, TAKEN, GIVEN_UP };

struct fetch {
    struct hv_domain *domain;         /* immutable, as the next */
    int fd, stop_fd;                  /* of the stream; an eventfd, owned */
    struct hv_loop_source *wakeup;    /* of the stream */
    pthread_t thread;
    _Atomic int outcome;              /* enum outcome */
    _Atomic bool given;               /* the sender said so */
    _Atomic int state;                /* enum state */
    _Atomic uint64_t requests, bytes; /* pages asked for; that came */
    char why[HV_STREAM_ERROR_BYTES];  /* before BROKEN */
    int error;                        /* likewise */

    /* The thread's own: */
    bool ended; /* no more pages come */
    union {
        struct hv_stream_record record;
        struct hv_stream_word word;
    } head;
    bool in_payload;
    size_t got, wanted;
    uint8_t payload[HV_STREAM_PAGES_BYTES_MAX];
    uint64_t said_to; /* the last page that was asked for: often asked for again by another vCPU */
};

/* ------------------------------------------------------------------ before there is a thread */

int hv_fetch_prepare(struct hv_domain *d, char why[HV_STREAM_ERROR_BYTES])
{
    int fd = d->control ? d->control->userfault_fd : -1, error = -EOPNOTSUPP;

    if (fd >= 0)
        error = hv_missing_new(&d->mem, fd);
    if (!error)
        d->control->userfault_fd = -1;
    else if (fd < 0)
        snprintf(why, HV_STREAM_ERROR_BYTES, "post-copy needs userfaultfd, which this process has not got");
    else
        snprintf(why, HV_STREAM_ERROR_BYTES, "post-copy is not possible with this memory: %s", strerror(-error));
    return error;
}

int hv_fetch_take_list(struct hv_domain *d, const uint8_t *payload, size_t bytes)
{
    uint64_t first, bits;
    int error = bytes % sizeof(bits) ? -EBADMSG : 0;

    memcpy(&first, payload, sizeof(first));
    for (size_t at = sizeof(first); !error && at < bytes; at += sizeof(bits), first++) {
        memcpy(&bits, payload + at, sizeof(bits));
        if (bits && (first >= d->mem.nr_gfns / 64 || hv_missing_add(d->mem.missing, first, bits)))
            error = -EBADMSG;
    }
    return error;
}

/* ------------------------------------------------------------------ the thread */

/* False: it ends. */
__attribute__((format(printf, 3, 4))) static bool fail(struct fetch *f, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(f->why, sizeof(f->why), format, args);
    va_end(args);
    f->error = error < 0 ? -error : error;
    return false;
}

static void expect(struct fetch *f, bool payload, size_t bytes)
{
    f->in_payload = payload;
    f->got = 0;
    f->wanted = bytes;
}

static bool take_word(struct fetch *f)
{
    if (f->head.word.type != HV_WORD_YOURS || atomic_load(&f->given))
        return fail(f, EPROTO, "the other side says what makes no sense");
    atomic_store(&f->given, true);
    hv_loop_wake(f->wakeup);
    expect(f, false, sizeof(f->head));
    return true;
}

static bool take_end(struct fetch *f)
{
    uint64_t left = hv_missing_count(f->domain->mem.missing);

    if (f->head.record.bytes || left || f->ended ||
        f->head.record.crc != hv_stream_record_crc(&f->head.record, NULL))
        return fail(f, EBADMSG, "it says that it sent all, and %llu pages are missing", (unsigned long long)left);
    f->ended = true;
    expect(f, false, sizeof(f->head));
    return hv_stream_say(f->fd, HV_WORD_ALL, 0) || fail(f, EPIPE, "the connection to the other side broke");
}

static bool take_head(struct fetch *f)
{
    const struct hv_stream_record *record = &f->head.record;

    if (hv_stream_is_word(&f->head.word))
        return take_word(f);
    if (record->type == HV_RECORD_END && !record->instance)
        return take_end(f);
    if (record->type != HV_RECORD_PAGES || record->instance || f->ended)
        return fail(f, EBADMSG, "a record is of a kind that cannot be here");
    if (record->bytes < 16 || record->bytes > sizeof(f->payload))
        return fail(f, EBADMSG, "a record is longer or shorter than it can be");
    expect(f, true, record->bytes);
    return true;
}

static uint64_t entry_of(const struct fetch *f, uint64_t i)
{
    uint64_t entry;

    memcpy(&entry, f->payload + 8 + 8 * i, sizeof(entry));
    return entry;
}

/* Whether the record has what its entries say; their number in *@count. */
static bool is_sound(const struct fetch *f, uint64_t *count)
{
    uint64_t full = 0;

    memcpy(count, f->payload, sizeof(*count));
    if (!*count || *count > HV_STREAM_PAGES_MAX || f->head.record.bytes < 8 + 8 * *count)
        return false;
    for (uint64_t i = 0; i < *count; i++) {
        if (entry_of(f, i) & HV_PAGE_MASK & ~(uint64_t)HV_STREAM_PAGE_ZERO)
            return false;
        full += !(entry_of(f, i) & HV_STREAM_PAGE_ZERO);
    }
    return f->head.record.bytes == 8 + 8 * *count + full * HV_PAGE_SIZE;
}

static bool take_pages(struct fetch *f)
{
    const uint8_t *page;
    uint64_t count;

    if (f->head.record.crc != hv_stream_record_crc(&f->head.record, f->payload))
        return fail(f, EBADMSG, "a record is damaged");
    if (!is_sound(f, &count))
        return fail(f, EBADMSG, "a record of pages makes no sense");
    page = f->payload + 8 + 8 * count;
    for (uint64_t i = 0; i < count; i++) {
        bool zero = entry_of(f, i) & HV_STREAM_PAGE_ZERO;
        hv_gfn gfn = hv_gfn_of(entry_of(f, i) >> HV_PAGE_SHIFT);
        int error = hv_missing_place(f->domain->mem.missing, gfn, zero ? NULL : page);

        if (error)
            return fail(f, error, "page 0x%llx cannot be placed: %s", (unsigned long long)gfn.v, strerror(-error));
        page += zero ? 0 : HV_PAGE_SIZE;
    }
    expect(f, false, sizeof(f->head));
    return true;
}

static bool collected(struct fetch *f)
{
    return f->in_payload ? take_pages(f) : take_head(f);
}

/* What is in the socket. False: it is over. */
static bool take_bytes(struct fetch *f)
{
    for (size_t taken = 0; taken < TAKEN_MAX;) {
        uint8_t *to = f->in_payload ? f->payload : (uint8_t *)&f->head;
        ssize_t n = recv(f->fd, to + f->got, f->wanted - f->got, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(f, n < 0 ? errno : EPIPE, "the other side broke the connection");
        taken += (size_t)n;
        atomic_fetch_add(&f->bytes, (uint64_t)n);
        f->got += (size_t)n;
        if (f->got == f->wanted && !collected(f))
            return false;
        if (f->ended && atomic_load(&f->given))
            return true;
    }
    return true;
}

static bool ask_for(struct fetch *f, hv_gfn gfn)
{
    int wanted = hv_missing_wanted(f->domain->mem.missing, gfn);

    if (wanted < 0)
        return fail(f, wanted, "page 0x%llx cannot be made: %s", (unsigned long long)gfn.v, strerror(-wanted));
    if (!wanted || f->said_to == gfn.v)
        return true;
    f->said_to = gfn.v;
    atomic_fetch_add(&f->requests, 1);
    return hv_stream_say(f->fd, HV_WORD_WANTED, (uint32_t)gfn.v) || fail(f, EPIPE, "the connection to the other side broke");
}

/* Who waits for what. */
static bool take_faults(struct fetch *f)
{
    const struct hv_missing *m = f->domain->mem.missing;
    struct uffd_msg messages[FAULTS_MAX];
    ssize_t n = read(m->fd, messages, sizeof(messages));

    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof(messages[0]); i++) {
        uint64_t offset = messages[i].arg.pagefault.address - (uintptr_t)m->mem->base;

        if (messages[i].event == UFFD_EVENT_PAGEFAULT && !ask_for(f, hv_gfn_of(offset >> HV_PAGE_SHIFT)))
            return false;
    }
    return true;
}

enum source { SOCKET, FAULTS, STOP, SOURCES };

/* Waits for something to do. */
static bool wait_for(struct fetch *f, struct pollfd wait[SOURCES])
{
    int n;

    do
        n = poll(wait, SOURCES, f->ended ? -1 : STALL_MS);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return fail(f, errno, "it cannot wait: %s", strerror(errno));
    return n || fail(f, ETIMEDOUT, "the other side says nothing any more");
}

/* Until it has all and the domain is ours, or it cannot go on, or is told to end. */
static enum outcome run(struct fetch *f)
{
    struct pollfd wait[SOURCES] = {[SOCKET] = {f->fd, POLLIN, 0}, [STOP] = {f->stop_fd, POLLIN, 0},
                                   [FAULTS] = {f->domain->mem.missing->fd, POLLIN, 0}};

    while (!f->ended || !atomic_load(&f->given)) {
        if (!wait_for(f, wait))
            return BROKEN;
        if (wait[STOP].revents)
            return UNDER_WAY;
        if ((wait[FAULTS].revents && !take_faults(f)) || (wait[SOCKET].revents && !take_bytes(f)))
            return BROKEN;
    }
    return HAS_ALL;
}

/* Whether it went from TAKING to that. */
static bool settle_state(struct fetch *f, enum state state)
{
    int taking = TAKING;

    return atomic_compare_exchange_strong(&f->state, &taking, state);
}

static void *fetch_main(void *opaque)
{
    struct fetch *f = opaque;
    enum outcome outcome = run(f);

    if (outcome == BROKEN)
        shutdown(f->fd, SHUT_RDWR); /* that the sender knows, whatever the loop's thread is doing */
    if (outcome == BROKEN && settle_state(f, GIVEN_UP))
        hv_missing_close(f->domain->mem.missing);
    atomic_store(&f->outcome, outcome);
    hv_loop_wake(f->wakeup);
    return NULL;
}

static int start_thread(struct fetch *f)
{
    sigset_t all, old;
    int error;

    sigfillset(&all); /* signals are the main thread's, but for the sandbox's own */
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&f->thread, NULL, fetch_main, f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}

struct fetch *hv_fetch_start(struct hv_stream *s)
{
    struct fetch *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    f->domain = s->domain;
    f->fd = s->fd;
    f->wakeup = s->wakeup;
    f->said_to = UINT64_MAX;
    expect(f, false, sizeof(f->head));
    f->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->stop_fd >= 0 && !start_thread(f))
        return f;
    if (f->stop_fd >= 0)
        close(f->stop_fd);
    free(f);
    return NULL;
}

void hv_fetch_stop(struct fetch *f)
{
    const uint64_t one = 1;

    (void)!write(f->stop_fd, &one, sizeof(one));
    pthread_join(f->thread, NULL);
    close(f->stop_fd);
    free(f);
}

/* ------------------------------------------------------------------ the loop's thread */

static void fini(struct hv_stream *s)
{
    hv_fetch_stop(s->own);
}

static void look(struct hv_stream *s)
{
    struct fetch *f = s->own;

    s->status.requests = atomic_load(&f->requests);
    s->status.remaining_bytes = hv_missing_count(s->domain->mem.missing) * HV_PAGE_SIZE;
}

/* Nobody who runs it is waited for: he may hang. */
static void stop_guest(struct hv_domain *d)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_vcpu_pause_nosync(d->vcpus[i]);
    d->frozen = true;
    hv_sched_freeze(d);
}

static void take_over(struct hv_stream *s)
{
    if (s->status.owner != DOMUS_OWNER_ASKED)
        return;
    s->status.owner = DOMUS_OWNER_RECEIVER;
    (void)!hv_stream_say(s->fd, HV_WORD_MINE, 0);
}

static void broke(struct hv_stream *s)
{
    struct fetch *f = s->own;
    bool ours = s->status.owner == DOMUS_OWNER_RECEIVER;
    char why[HV_STREAM_ERROR_BYTES];

    memcpy(why, f->why, sizeof(why));
    if (ours)
        stop_guest(s->domain);
    else
        s->status.owner = DOMUS_OWNER_SENDER;
    hv_stream_lose(s, f->error, "%s", why);
}

static void step(struct hv_stream *s)
{
    struct fetch *f = s->own;
    int outcome = atomic_load(&f->outcome);

    if (atomic_load(&f->given) && outcome != BROKEN)
        take_over(s);
    look(s);
    if (outcome == BROKEN) {
        broke(s);
    } else if (outcome == HAS_ALL) {
        hv_stream_done(s);
        hv_missing_close(s->domain->mem.missing);
    }
}

static const struct hv_stream_ops ops = {.step = step, .fini = fini, .look = look};

bool hv_fetch_go_on(struct hv_stream *s, struct fetch *f, char why[HV_STREAM_ERROR_BYTES])
{
    if (!settle_state(f, TAKEN)) {
        memcpy(why, f->why, HV_STREAM_ERROR_BYTES);
        return false;
    }
    s->side = HV_SIDE_RECEIVED;
    s->status.phase = DOMUS_STREAM_POSTCOPY;
    hv_stream_change(s, &ops, f);
    hv_loop_arm(s->timer, 0);
    if (!hv_stream_wait(s, 0) && hv_stream_say(s->fd, HV_WORD_READY, 0))
        hv_stream_again(s);
    else
        hv_stream_lose(s, EPIPE, "the connection to the other side broke");
    return true;
}
