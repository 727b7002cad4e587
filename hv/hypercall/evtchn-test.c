/* Event channels as a guest sees them: ports, both ABIs, and what a hostile guest may do to the words that it
 * shares with us. Facts: xen/event_channel.h.
 */
#include "config.h"

#include "hv/hypercall/evtchn.h"

#include <errno.h>

#include "hv/hypercall/test-domain.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/tap.h"

#define CONTROL_GFN 0x40u
#define ARRAY_GFN   0x41u
#define INFO_GFN    0x42u

static struct hv_loop *loop;
static struct hv_domain *d;
static struct hv_vcpu *v0, *v1;
static unsigned notified;

static void on_notify(void *opaque)
{
    (void)opaque;
    notified++;
}

static void start(void)
{
    d = test_domain_new(loop, 2);
    v0 = d->vcpus[0];
    v1 = d->vcpus[1];
    notified = 0;
}

static void end(void)
{
    hv_domain_free(d);
}

static long op(struct hv_vcpu *v, unsigned cmd, void *arg, size_t bytes)
{
    return test_op(v, __HYPERVISOR_event_channel_op, cmd, arg, bytes);
}

static uint32_t unbound(uint16_t remote)
{
    struct evtchn_alloc_unbound a = {.dom = DOMID_SELF, .remote_dom = remote};

    return op(v0, EVTCHNOP_alloc_unbound, &a, sizeof(a)) ? 0 : a.port;
}

static uint32_t ipi(unsigned vcpu)
{
    struct evtchn_bind_ipi b = {.vcpu = vcpu};

    return op(v0, EVTCHNOP_bind_ipi, &b, sizeof(b)) ? 0 : b.port;
}

static long send(uint32_t port)
{
    struct evtchn_send s = {.port = port};

    return op(v0, EVTCHNOP_send, &s, sizeof(s));
}

static long close_port(uint32_t port)
{
    struct evtchn_close c = {.port = port};

    return op(v0, EVTCHNOP_close, &c, sizeof(c));
}

static struct evtchn_status status(uint32_t port)
{
    struct evtchn_status s = {.dom = DOMID_SELF, .port = port};

    s.status = op(v0, EVTCHNOP_status, &s, sizeof(s)) ? ~0u : s.status;
    return s;
}

static bool pending_2l(uint32_t port)
{
    return d->shared_info->evtchn_pending[port / 64] >> (port % 64) & 1;
}

static bool take_upcall(struct hv_vcpu *v)
{
    struct vcpu_info *info = hv_vcpu_info(v);
    bool was = info->evtchn_upcall_pending;

    info->evtchn_upcall_pending = 0;
    info->evtchn_pending_sel = 0;
    return was;
}

static void test_backend(void)
{
    uint32_t port;

    start();
    port = unbound(0);
    TAP_OK(port != 0 && status(port).status == EVTCHNSTAT_unbound, "a port waits for domain 0");
    TAP_OK(hv_evtchn_backend_bind(d, port, on_notify, NULL) == 0, "a backend binds it");
    TAP_OK(notified == 1, "and looks once at what was there before");
    TAP_OK(hv_evtchn_backend_bind(d, port, on_notify, NULL) == -EINVAL, "only one does");
    TAP_OK(send(port) == 0 && notified == 2, "the guest notifies the backend");
    hv_evtchn_backend_notify(d, port);
    TAP_OK(pending_2l(port) && take_upcall(v0), "the backend notifies the guest");
    hv_evtchn_backend_notify(d, port);
    TAP_OK(!take_upcall(v0), "a port that is pending already does not raise another upcall");
    TAP_OK(close_port(port) == 0 && !pending_2l(port), "closing clears it");
    hv_evtchn_backend_notify(d, port);
    TAP_OK(!pending_2l(port), "a backend of a closed port reaches nobody");
    hv_evtchn_backend_unbind(d, port);
    TAP_OK(send(port) == -XEN_EINVAL && close_port(port) == -XEN_EINVAL, "nor does the guest");
    TAP_OK(unbound(3) != 0 && hv_evtchn_backend_bind(d, port, on_notify, NULL) == -EINVAL,
           "a port for another domain is not for our backends");
    end();
}

static void test_masks(void)
{
    uint32_t port;
    struct evtchn_unmask u;

    start();
    port = ipi(1);
    d->shared_info->evtchn_mask[0] = ~0ul;
    TAP_OK(send(port) == 0 && pending_2l(port) && !take_upcall(v1), "a masked port pends silently");
    u.port = port;
    TAP_OK(op(v0, EVTCHNOP_unmask, &u, sizeof(u)) == 0 && take_upcall(v1) && !take_upcall(v0),
           "unmasking raises the upcall on the vCPU it is bound to");
    u.port = 4000;
    TAP_OK(op(v0, EVTCHNOP_unmask, &u, sizeof(u)) == -XEN_EINVAL, "a closed port cannot be unmasked");
    end();
}

static void test_virqs(void)
{
    struct evtchn_bind_virq b = {.virq = VIRQ_TIMER, .vcpu = 1};
    struct evtchn_bind_vcpu move;

    start();
    TAP_OK(op(v0, EVTCHNOP_bind_virq, &b, sizeof(b)) == 0, "VIRQ_TIMER of vCPU 1");
    move = (struct evtchn_bind_vcpu){.port = b.port, .vcpu = 0};
    hv_evtchn_virq(v0, VIRQ_TIMER);
    TAP_OK(!pending_2l(b.port), "that of vCPU 0 is another");
    hv_evtchn_virq(v1, VIRQ_TIMER);
    TAP_OK(pending_2l(b.port) && take_upcall(v1), "arrives");
    TAP_OK(op(v0, EVTCHNOP_bind_vcpu, &move, sizeof(move)) == -XEN_EINVAL, "a per-vCPU VIRQ does not move");
    TAP_OK(op(v0, EVTCHNOP_bind_virq, &b, sizeof(b)) == -XEN_EEXIST, "is bound once");
    b.virq = VIRQ_CONSOLE;
    TAP_OK(op(v0, EVTCHNOP_bind_virq, &b, sizeof(b)) == -XEN_EINVAL, "a global VIRQ starts on vCPU 0");
    b.vcpu = 0;
    TAP_OK(op(v0, EVTCHNOP_bind_virq, &b, sizeof(b)) == 0, "and is bound there");
    move = (struct evtchn_bind_vcpu){.port = b.port, .vcpu = 1};
    TAP_OK(op(v0, EVTCHNOP_bind_vcpu, &move, sizeof(move)) == 0 && status(b.port).vcpu == 1, "and moves");
    TAP_OK(close_port(b.port) == 0 && op(v0, EVTCHNOP_bind_virq, &b, sizeof(b)) == 0,
           "and can be bound again once closed");
    b.virq = NR_VIRQS;
    TAP_OK(op(v0, EVTCHNOP_bind_virq, &b, sizeof(b)) == -XEN_EINVAL, "there is no VIRQ 24");
    b = (struct evtchn_bind_virq){.virq = VIRQ_TIMER, .vcpu = 2};
    TAP_OK(op(v0, EVTCHNOP_bind_virq, &b, sizeof(b)) == -XEN_ENOENT, "there is no vCPU 2");
    end();
}

static void test_loopback(void)
{
    struct evtchn_bind_interdomain b;
    uint32_t near;

    start();
    near = unbound(DOMID_SELF);
    b = (struct evtchn_bind_interdomain){.remote_dom = DOMID_SELF, .remote_port = near};
    TAP_OK(op(v0, EVTCHNOP_bind_interdomain, &b, sizeof(b)) == 0 && pending_2l(b.local_port),
           "a channel to itself; the new end pends once");
    TAP_OK(op(v0, EVTCHNOP_bind_interdomain, &b, sizeof(b)) == -XEN_EINVAL, "an end is bound once");
    TAP_OK(send(b.local_port) == 0 && pending_2l(near), "sending on one end is heard at the other");
    TAP_OK(close_port(near) == 0 && status(b.local_port).status == EVTCHNSTAT_unbound,
           "closing one leaves the other unbound");
    b.remote_dom = 0;
    TAP_OK(op(v0, EVTCHNOP_bind_interdomain, &b, sizeof(b)) == -XEN_EINVAL, "domain 0 offers nothing");
    b.remote_dom = 9;
    TAP_OK(op(v0, EVTCHNOP_bind_interdomain, &b, sizeof(b)) == -XEN_ESRCH, "there is no domain 9");
    end();
}

static void test_limits(void)
{
    struct evtchn_reset r = {.dom = DOMID_SELF};
    uint32_t last = 0;

    start();
    hv_evtchn_set_max_port(d, 300);
    for (uint32_t port = unbound(0); port; port = unbound(0))
        last = port;
    TAP_OK(last == 300, "ports end at the limit");
    TAP_OK(status(301).status == ~0u && status(0).status == EVTCHNSTAT_closed, "and status knows");
    TAP_OK(op(v0, EVTCHNOP_reset, &r, sizeof(r)) == 0 && unbound(0) == 1, "reset closes all");
    end();
}

/* ------------------------------------------------------------------ FIFO */

static struct evtchn_fifo_control_block *block_of(unsigned vcpu)
{
    return (void *)((uint8_t *)test_at(d, CONTROL_GFN << 12) + vcpu * 128);
}

static event_word_t *word(uint32_t port)
{
    return (event_word_t *)test_at(d, ARRAY_GFN << 12) + port;
}

static long expand(uint64_t gfn)
{
    struct evtchn_expand_array e = {.array_gfn = gfn};

    return op(v0, EVTCHNOP_expand_array, &e, sizeof(e));
}

static long init_control(unsigned vcpu, uint64_t gfn, uint32_t offset)
{
    struct evtchn_init_control c = {.control_gfn = gfn, .offset = offset, .vcpu = vcpu};
    long error = op(v0, EVTCHNOP_init_control, &c, sizeof(c));

    return error ? error : c.link_bits;
}

/* As a guest takes the first event off a queue; 0 when there is none. */
static uint32_t consume(unsigned vcpu, unsigned queue)
{
    struct evtchn_fifo_control_block *block = block_of(vcpu);
    uint32_t port = block->head[queue];

    if (!port)
        return 0;
    block->head[queue] = *word(port) & EVTCHN_FIFO_LINK_MASK;
    *word(port) &= ~(1u << EVTCHN_FIFO_LINKED | EVTCHN_FIFO_LINK_MASK | 1u << EVTCHN_FIFO_PENDING);
    return port;
}

static void test_fifo_setup(void)
{
    start();
    TAP_OK(expand(ARRAY_GFN) == -XEN_EOPNOTSUPP, "no array before a control block");
    TAP_OK(init_control(0, CONTROL_GFN, 4) == -XEN_EINVAL && init_control(0, CONTROL_GFN, 4096) == -XEN_EINVAL &&
               init_control(0, CONTROL_GFN, 4040) == -XEN_EINVAL,
           "a control block is aligned and within its page");
    TAP_OK(init_control(0, TEST_PAGES + 5, 0) == -XEN_EINVAL && init_control(0, ~0ull, 0) == -XEN_EINVAL,
           "and in RAM");
    TAP_OK(init_control(2, CONTROL_GFN, 0) == -XEN_ENOENT, "and of a vCPU that exists");
    TAP_OK(init_control(0, CONTROL_GFN, 0) == EVTCHN_FIFO_LINK_BITS && init_control(1, CONTROL_GFN, 128) > 0,
           "two blocks in one page");
    TAP_OK(init_control(0, CONTROL_GFN, 0) == -XEN_EINVAL, "one for each vCPU");
    TAP_OK(expand(TEST_PAGES + 5) == -XEN_EINVAL && expand(ARRAY_GFN) == 0, "an array page is RAM");
    pthread_mutex_lock(&d->lock);
    TAP_OK(hv_evtchn_uses_gfn(d, hv_gfn_of(CONTROL_GFN)) && hv_evtchn_uses_gfn(d, hv_gfn_of(ARRAY_GFN)) &&
               !hv_evtchn_uses_gfn(d, hv_gfn_of(INFO_GFN)),
           "pages in use are known");
    pthread_mutex_unlock(&d->lock);
    end();
}

static void test_fifo_order(void)
{
    uint32_t a, b, c;
    struct evtchn_set_priority p;

    start();
    (void)!init_control(0, CONTROL_GFN, 0);
    (void)!init_control(1, CONTROL_GFN, 128);
    (void)!expand(ARRAY_GFN);
    a = ipi(1), b = ipi(1), c = ipi(1);
    send(a), send(b), send(c);
    TAP_OK(take_upcall(v1) && block_of(1)->ready == 1u << EVTCHN_FIFO_PRIORITY_DEFAULT,
           "three events make one queue ready");
    TAP_OK(consume(1, 7) == a && consume(1, 7) == b && consume(1, 7) == c && consume(1, 7) == 0,
           "and come off in order");
    block_of(1)->ready = 0;
    send(c);
    TAP_OK(take_upcall(v1) && consume(1, 7) == c && consume(1, 7) == 0, "the last one again: a new queue");
    block_of(1)->ready = 0;

    p = (struct evtchn_set_priority){.port = b, .priority = 0};
    TAP_OK(op(v0, EVTCHNOP_set_priority, &p, sizeof(p)) == 0, "a priority is set");
    p.priority = 16;
    TAP_OK(op(v0, EVTCHNOP_set_priority, &p, sizeof(p)) == -XEN_EINVAL, "up to 15");
    send(a), send(b);
    TAP_OK(block_of(1)->ready == (1u << 7 | 1u << 0) && consume(1, 0) == b && consume(1, 7) == a,
           "and picks the queue");

    *word(a) |= 1u << EVTCHN_FIFO_MASKED;
    block_of(1)->ready = 0;
    take_upcall(v1);
    send(a);
    TAP_OK(!take_upcall(v1) && block_of(1)->ready == 0, "a masked event is not queued");
    TAP_OK(op(v0, EVTCHNOP_unmask, &(struct evtchn_unmask){.port = a}, 4) == 0 && take_upcall(v1) &&
               consume(1, 7) == a,
           "until it is unmasked");
    end();
}

/* A port that pends while the ABI changes, or beyond the array, is told when its word comes. */
static void test_fifo_late_array(void)
{
    uint32_t a, far = 0;

    start();
    a = ipi(0);
    send(a);
    for (unsigned i = 0; i < 1020; i++)
        far = ipi(0);
    (void)!init_control(0, CONTROL_GFN, 0);
    TAP_OK(far > 1000 && expand(ARRAY_GFN) == 0 && consume(0, 7) == a, "what pended in 2-level form is queued");
    hv_evtchn_set_max_port(d, 4095);
    for (unsigned i = 0; i < 10; i++)
        far = ipi(0);
    TAP_OK(far > 1024 && send(far) == 0 && consume(0, 7) == 0, "a port beyond the array waits");
    TAP_OK(expand(INFO_GFN) == 0 && block_of(0)->head[7] == far, "for its page");
    end();
}

/* Nothing that the guest writes into its words makes us write elsewhere or loop. */
static void test_fifo_hostile(void)
{
    uint32_t ports[4];
    bool alive = true;

    start();
    (void)!init_control(0, CONTROL_GFN, 0);
    (void)!expand(ARRAY_GFN);
    for (unsigned i = 0; i < 4; i++)
        ports[i] = ipi(0);
    for (unsigned round = 0; round < 4096; round++) {
        uint32_t noise = round * 2654435761u;

        *word(ports[round % 4]) = noise;
        block_of(0)->head[noise % 16] = noise;
        if (round % 3 == 0)
            memset(block_of(0), (int)noise, sizeof(struct evtchn_fifo_control_block));
        alive = alive && send(ports[noise >> 30]) == 0;
        if (round % 7 == 0) {
            close_port(ports[round % 4]);
            ports[round % 4] = ipi(0);
        }
    }
    TAP_OK(alive, "noise in words and control block does no harm");
    end();
}

static void test_vcpu_info(void)
{
    struct vcpu_register_vcpu_info r = {.mfn = INFO_GFN, .offset = 64};
    xen_pfn_t gfn = INFO_GFN;
    struct xen_memory_reservation release = {.nr_extents = 1, .domid = DOMID_SELF};
    uint32_t port;

    start();
    port = ipi(0);
    send(port);
    memcpy(test_at(d, TEST_ARG), &r, sizeof(r));
    TAP_OK(test_hypercall(v0, __HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 0, TEST_ARG) == 0,
           "vcpu_info moves to the guest's page");
    TAP_OK((void *)hv_vcpu_info(v0) == (uint8_t *)test_at(d, INFO_GFN << 12) + 64 && take_upcall(v0),
           "and everything pends once");
    TAP_OK(test_hypercall(v0, __HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 0, TEST_ARG) == -XEN_EINVAL,
           "it moves once");
    memcpy(test_at(d, TEST_SCRATCH), &gfn, sizeof(gfn));
    release.extent_start.p = (void *)(uintptr_t)TEST_SCRATCH;
    TAP_OK(test_op(v0, __HYPERVISOR_memory_op, XENMEM_decrease_reservation, &release, sizeof(release)) == 0,
           "its page cannot be given back");
    end();
}

int main(void)
{
    if (hv_loop_new(&loop))
        return 1;
    test_backend();
    test_masks();
    test_virqs();
    test_loopback();
    test_limits();
    test_fifo_setup();
    test_fifo_order();
    test_fifo_late_array();
    test_fifo_hostile();
    test_vcpu_info();
    hv_loop_free(loop);
    return tap_done();
}
