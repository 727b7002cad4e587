/* The FIFO ABI: one word per port in pages that the guest gives, linked into a queue per vCPU and priority.
 *
 * The guest takes events off the head of a queue by clearing LINKED in the word; we add at the tail. The words
 * and the queue heads are guest memory: a guest that spoils them loses its own events and nothing else.
 * Source: xen/event_channel.h and the "FIFO event channels" design (Xen wiki, D. Vrabel 2013).
 */
#include "config.h"

#include "hv/hypercall/evtchn-core.h"

#include <stdlib.h>
#include <string.h>

#include "hv/hypercall/vcpu-xen.h"
#include "hv/machine/dirty.h"
#include "hv/stream/codec.h"

#define WORDS_PER_PAGE (HV_PAGE_SIZE / sizeof(event_word_t))
#define MAX_PAGES      (EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE)

#define PENDING   (1u << EVTCHN_FIFO_PENDING)
#define MASKED    (1u << EVTCHN_FIFO_MASKED)
#define LINKED    (1u << EVTCHN_FIFO_LINKED)
#define BUSY      (1u << EVTCHN_FIFO_BUSY)
#define LINK_MASK ((event_word_t)EVTCHN_FIFO_LINK_MASK)

/* How often a link is tried against a guest that changes the word meanwhile; with BUSY set it must stop. */
#define LINK_TRIES 8

struct hv_fifo {
    struct {
        struct evtchn_fifo_control_block *block; /* guest memory; NULL until init_control */
        hv_gfn gfn;
        uint32_t tail[EVTCHN_FIFO_MAX_QUEUES];
    } vcpu[HV_MAX_VCPUS];
    event_word_t *page[MAX_PAGES]; /* guest memory */
    hv_gfn page_gfn[MAX_PAGES];
    uint32_t nr_pages;
};

static event_word_t *word_of(const struct hv_fifo *fifo, uint32_t port)
{
    if (port / WORDS_PER_PAGE >= fifo->nr_pages)
        return NULL;
    return fifo->page[port / WORDS_PER_PAGE] + port % WORDS_PER_PAGE;
}

/* Makes the tail's word point to @port. False when the tail was consumed, so that the queue is empty. */
static bool link_to_tail(event_word_t *tail, uint32_t port)
{
    event_word_t old = __atomic_load_n(tail, __ATOMIC_SEQ_CST);

    for (int i = 0; i < LINK_TRIES; i++) {
        if (!(old & LINKED))
            break;
        if (__atomic_compare_exchange_n(tail, &old, (old & ~(LINK_MASK | BUSY)) | port, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return true;
        if (i == LINK_TRIES / 2) /* asks the guest to leave the word alone */
            old = __atomic_or_fetch(tail, BUSY, __ATOMIC_SEQ_CST);
    }
    __atomic_fetch_and(tail, ~BUSY, __ATOMIC_SEQ_CST);
    return false;
}

/* An event that was the tail of its old queue has been consumed, or it would still be linked. */
static void forget_old_tail(struct hv_fifo *fifo, const struct hv_channel *channel, uint32_t port)
{
    uint32_t *tail = &fifo->vcpu[channel->last_vcpu].tail[channel->last_priority];

    if (*tail == port)
        *tail = 0;
}

static void enqueue(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    struct hv_fifo *fifo = d->evtchn->fifo;
    struct evtchn_fifo_control_block *block = fifo->vcpu[channel->vcpu].block;
    uint32_t *tail = &fifo->vcpu[channel->vcpu].tail[channel->priority];
    event_word_t *tail_word;
    uint32_t ready = 1u << channel->priority;

    forget_old_tail(fifo, channel, port);
    channel->last_vcpu = channel->vcpu;
    channel->last_priority = channel->priority;

    tail_word = *tail ? word_of(fifo, *tail) : NULL;
    *tail = port;
    if (tail_word && link_to_tail(tail_word, port))
        return;
    __atomic_store_n(&block->head[channel->priority], port, __ATOMIC_SEQ_CST);
    if (!(__atomic_fetch_or(&block->ready, ready, __ATOMIC_SEQ_CST) & ready))
        hv_vcpu_xen_mark_pending(d->vcpus[channel->vcpu]);
}

static void set_pending(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    struct hv_fifo *fifo = d->evtchn->fifo;
    event_word_t *word = word_of(fifo, port);
    event_word_t old;

    if (!word) {
        channel->pending = true; /* until the array reaches it */
        return;
    }
    old = __atomic_fetch_or(word, PENDING, __ATOMIC_SEQ_CST);
    if ((old & (MASKED | LINKED)) || !fifo->vcpu[channel->vcpu].block)
        return;
    if (!(__atomic_fetch_or(word, LINKED, __ATOMIC_SEQ_CST) & LINKED))
        enqueue(d, channel, port);
}

static void clear_pending(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    event_word_t *word = word_of(d->evtchn->fifo, port);

    channel->pending = false;
    if (word) /* it stays on its queue; the guest skips events that are not pending */
        __atomic_fetch_and(word, ~PENDING, __ATOMIC_SEQ_CST);
}

static void unmask(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    event_word_t *word = word_of(d->evtchn->fifo, port);

    if (!word)
        return;
    if (__atomic_and_fetch(word, ~MASKED, __ATOMIC_SEQ_CST) & PENDING)
        set_pending(d, channel, port);
}

static bool is_pending(struct hv_domain *d, uint32_t port)
{
    event_word_t *word = word_of(d->evtchn->fifo, port);

    return word && (__atomic_load_n(word, __ATOMIC_SEQ_CST) & PENDING);
}

const struct hv_evtchn_abi hv_evtchn_fifo = {
    .nr_ports = EVTCHN_FIFO_NR_CHANNELS,
    .set_pending = set_pending,
    .clear_pending = clear_pending,
    .unmask = unmask,
    .is_pending = is_pending,
};

/* Host memory of a whole RAM page; other kinds of pages can be unmapped by the guest at any time. */
static void *ram_page(struct hv_domain *d, hv_gfn gfn)
{
    if (hv_memory_type(&d->mem, gfn) != HV_PAGE_RAM)
        return NULL;
    return hv_memory_at(&d->mem, hv_gfn_to_gpa(gfn), HV_PAGE_SIZE, true);
}

/* From 2-level to FIFO: what is pending stays so until the guest has given the words for it. */
static void switch_abi(struct hv_domain *d, struct hv_fifo *fifo)
{
    struct hv_evtchn *e = d->evtchn;

    for (uint32_t port = 1; port < EVTCHN_2L_NR_CHANNELS; port++) {
        struct hv_channel *channel = hv_evtchn_find_locked(e, port);

        if (channel && e->abi->is_pending(d, port))
            channel->pending = true;
    }
    e->fifo = fifo;
    e->abi = &hv_evtchn_fifo;
}

int hv_fifo_init_control(struct hv_domain *d, unsigned vcpu, hv_gfn gfn, uint32_t offset)
{
    struct hv_fifo *fifo = d->evtchn->fifo;
    uint8_t *page;

    if (offset % 8 || offset > HV_PAGE_SIZE - sizeof(struct evtchn_fifo_control_block))
        return -XEN_EINVAL;
    if (fifo && fifo->vcpu[vcpu].block)
        return -XEN_EINVAL;
    page = ram_page(d, gfn);
    if (!page)
        return -XEN_EINVAL;
    if (!fifo) {
        fifo = calloc(1, sizeof(*fifo));
        if (!fifo)
            return -XEN_ENOMEM;
        switch_abi(d, fifo);
    }
    fifo->vcpu[vcpu].block = (void *)(page + offset);
    fifo->vcpu[vcpu].gfn = gfn;
    return 0;
}

int hv_fifo_expand_array(struct hv_domain *d, hv_gfn gfn)
{
    struct hv_fifo *fifo = d->evtchn->fifo;
    uint32_t first;
    void *page;

    if (!fifo)
        return -XEN_EOPNOTSUPP;
    if (fifo->nr_pages == MAX_PAGES)
        return -XEN_ENOSPC;
    page = ram_page(d, gfn);
    if (!page)
        return -XEN_EINVAL;
    first = fifo->nr_pages * WORDS_PER_PAGE;
    fifo->page[fifo->nr_pages] = page;
    fifo->page_gfn[fifo->nr_pages++] = gfn;

    for (uint32_t port = first; port < first + WORDS_PER_PAGE; port++) {
        struct hv_channel *channel = hv_evtchn_find_locked(d->evtchn, port);

        if (channel && channel->pending) {
            channel->pending = false;
            set_pending(d, channel, port);
        }
    }
    return 0;
}

bool hv_fifo_uses_gfn(const struct hv_fifo *fifo, hv_gfn gfn)
{
    if (!fifo)
        return false;
    for (unsigned i = 0; i < HV_MAX_VCPUS; i++)
        if (fifo->vcpu[i].block && fifo->vcpu[i].gfn.v == gfn.v)
            return true;
    for (uint32_t i = 0; i < fifo->nr_pages; i++)
        if (fifo->page_gfn[i].v == gfn.v)
            return true;
    return false;
}

void hv_fifo_free(struct hv_evtchn *e)
{
    free(e->fifo);
    e->fifo = NULL;
    e->abi = &hv_evtchn_2l;
}

/* ------------------------------------------------------------------ streams */

struct queue_state {
    bool has_block;
    uint64_t gfn;
    uint32_t offset;
    uint32_t tail[EVTCHN_FIFO_MAX_QUEUES];
};

static const struct hv_field queue_fields[] = {
    HV_FIELD_BOOL(1, struct queue_state, has_block),
    HV_FIELD(2, struct queue_state, gfn),
    HV_FIELD_MAX(3, struct queue_state, offset, HV_PAGE_SIZE - sizeof(struct evtchn_fifo_control_block)),
    HV_FIELD(4, struct queue_state, tail),
};

void hv_fifo_encode(const struct hv_fifo *fifo, struct hv_encoder *e)
{
    hv_encode_u32(e, HV_MAX_VCPUS);
    for (unsigned i = 0; i < HV_MAX_VCPUS; i++) {
        struct queue_state state = {.has_block = fifo->vcpu[i].block != NULL};

        if (state.has_block) {
            state.gfn = fifo->vcpu[i].gfn.v;
            state.offset = (uint32_t)((uintptr_t)fifo->vcpu[i].block & HV_PAGE_MASK);
        }
        memcpy(state.tail, fifo->vcpu[i].tail, sizeof(state.tail));
        hv_encode_fields(e, queue_fields, HV_ARRAY_LEN(queue_fields), &state);
    }
    hv_encode_u32(e, fifo->nr_pages);
    for (uint32_t i = 0; i < fifo->nr_pages; i++)
        hv_encode_u64(e, fifo->page_gfn[i].v);
}

static int decode_queue(struct hv_domain *d, struct hv_fifo *fifo, unsigned vcpu, struct hv_decoder *dec)
{
    struct queue_state state;
    uint8_t *page;
    int error = hv_decode_fields(dec, queue_fields, HV_ARRAY_LEN(queue_fields), &state);

    if (error)
        return error;
    memcpy(fifo->vcpu[vcpu].tail, state.tail, sizeof(state.tail)); /* any number: word_of looks whether there is such */
    if (!state.has_block)
        return 0;
    page = ram_page(d, hv_gfn_of(state.gfn));
    if (!page || state.offset % 8)
        return hv_decode_fail(dec, "the control block of vCPU %u is not in memory", vcpu);
    fifo->vcpu[vcpu].block = (void *)(page + state.offset);
    fifo->vcpu[vcpu].gfn = hv_gfn_of(state.gfn);
    return 0;
}

static int decode_pages(struct hv_domain *d, struct hv_fifo *fifo, struct hv_decoder *dec)
{
    uint32_t count;
    int error = hv_decode_count(dec, "the number of event pages", MAX_PAGES, &count);

    while (!error && fifo->nr_pages < count) {
        uint64_t gfn;
        void *page;

        error = hv_decode_u64(dec, &gfn);
        page = error ? NULL : ram_page(d, hv_gfn_of(gfn));
        if (!page)
            return error ? error : hv_decode_fail(dec, "event page %u is not in memory", fifo->nr_pages);
        fifo->page[fifo->nr_pages] = page;
        fifo->page_gfn[fifo->nr_pages++] = hv_gfn_of(gfn);
    }
    return error;
}

int hv_fifo_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    struct hv_fifo *fifo = calloc(1, sizeof(*fifo));
    uint32_t queues;
    int error;

    if (!fifo)
        return hv_decode_fail(dec, "out of memory");
    d->evtchn->fifo = fifo;
    error = hv_decode_count(dec, "the number of event queues", HV_MAX_VCPUS, &queues);
    for (unsigned i = 0; !error && i < queues; i++)
        error = decode_queue(d, fifo, i, dec);
    return error ? error : decode_pages(d, fifo, dec);
}

void hv_fifo_mark_own(struct hv_domain *d)
{
    const struct hv_fifo *fifo = d->evtchn->fifo;

    for (unsigned i = 0; fifo && i < HV_MAX_VCPUS; i++)
        if (fifo->vcpu[i].block)
            hv_memory_mark_dirty(&d->mem, fifo->vcpu[i].gfn);
    for (uint32_t i = 0; fifo && i < fifo->nr_pages; i++)
        hv_memory_mark_dirty(&d->mem, fifo->page_gfn[i]);
}
