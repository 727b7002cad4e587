/* For tests of streams: a domain with a bit of everything. */
#pragma once

#include "hv/backend/console.h"
#include "hv/hypercall/evtchn-core.h"
#include "hv/hypercall/grant-table.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/test-domain.h"
#include "hv/hypercall/vcpu-state.h"
#include "hv/store/ring.h"
#include "hv/stream/job.h"
#include "hv/tap.h"

#define VCPUS        2u
#define CONSOLE_PAGE 0x700u
#define STORE_PAGE   0x701u
#define INFO_PAGE    0x702u
#define SHARED_AT    0x6f0u
#define GRANTS_AT    0x6f1u

static struct hv_loop *loop;

/* ------------------------------------------------------------------ a domain */

__attribute__((unused)) static struct hv_domain *empty_domain(void)
{
    struct hv_domain *d;

    if (hv_domain_new(&test_engine, loop, &d))
        return NULL;
    d->domid = 7;
    d->control = NULL;
    d->mem.max_pages = TEST_PAGES + 256;
    for (unsigned i = 0; i < VCPUS; i++)
        if (hv_vcpu_new(d, NULL))
            return NULL;
    return d;
}

static uint32_t make_port(struct hv_domain *d)
{
    uint32_t port = 0;

    return hv_evtchn_alloc_unbound(d, &port) ? 0 : port;
}

static void make_rings(struct hv_domain *d)
{
    uint32_t console = make_port(d), store = make_port(d);

    hv_param_set(d, HVM_PARAM_CONSOLE_PFN, CONSOLE_PAGE);
    hv_param_set(d, HVM_PARAM_CONSOLE_EVTCHN, console);
    hv_param_set(d, HVM_PARAM_STORE_PFN, STORE_PAGE);
    hv_param_set(d, HVM_PARAM_STORE_EVTCHN, store);
    TAP_OK(!hv_console_new(d, hv_gfn_of(CONSOLE_PAGE), console) && !hv_store_ring_new(d, hv_gfn_of(STORE_PAGE), store),
           "rings");
    hv_console_write(d, "hello\n", 6);
}

static void bind_things(struct hv_domain *d)
{
    struct evtchn_bind_virq virq = {.virq = VIRQ_TIMER, .vcpu = 1};
    struct evtchn_bind_ipi ipi = {.vcpu = 0};
    struct evtchn_init_control fifo = {.control_gfn = 0x703, .vcpu = 0};
    struct evtchn_expand_array array = {.array_gfn = 0x704};
    struct vcpu_register_vcpu_info info = {.mfn = INFO_PAGE, .offset = 128};
    struct hv_vcpu *v = d->vcpus[0];

    memcpy(test_at(d, TEST_ARG), &virq, sizeof(virq));
    TAP_OK(!test_hypercall(v, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_virq, TEST_ARG, 0), "a virq");
    memcpy(test_at(d, TEST_ARG), &ipi, sizeof(ipi));
    TAP_OK(!test_hypercall(v, __HYPERVISOR_event_channel_op, EVTCHNOP_bind_ipi, TEST_ARG, 0), "an ipi");
    memcpy(test_at(d, TEST_ARG), &info, sizeof(info));
    TAP_OK(!test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_register_vcpu_info, 1, TEST_ARG), "vcpu_info elsewhere");
    memcpy(test_at(d, TEST_ARG), &fifo, sizeof(fifo));
    TAP_OK(!test_hypercall(v, __HYPERVISOR_event_channel_op, EVTCHNOP_init_control, TEST_ARG, 0), "FIFO");
    memcpy(test_at(d, TEST_ARG), &array, sizeof(array));
    TAP_OK(!test_hypercall(v, __HYPERVISOR_event_channel_op, EVTCHNOP_expand_array, TEST_ARG, 0), "an event page");
}

__attribute__((unused)) static struct hv_domain *make_domain(void)
{
    const struct hv_bios_e820 e820[2] = {{0, 0x9f000, 1}, {0x100000, 0x700000, 1}};
    struct hv_domain *d = empty_domain();

    if (hv_physmap_populate(d, hv_gfn_of(0), TEST_PAGES))
        return NULL;
    test_page_tables(d);
    for (unsigned i = 0; i < VCPUS; i++)
        test_long_mode(d->vcpus[i]);
    for (unsigned i = 0x100; i < 0x400; i++)
        memset(test_at(d, (uint64_t)i << 12), (int)(i % 251 + (i & 1)), 4096);
    TAP_OK(!hv_physmap_set_e820(d, e820, 2) && !hv_physmap_add(d, XENMAPSPACE_shared_info, 0, hv_gfn_of(SHARED_AT)) &&
               !hv_physmap_add(d, XENMAPSPACE_grant_table, 0, hv_gfn_of(GRANTS_AT)) &&
               !hv_physmap_release(d, hv_gfn_of(0x500), 5),
           "a memory map with shared pages and holes");
    ((struct grant_entry_v1 *)d->gnttab->frame[0].page)[9] = (struct grant_entry_v1){GTF_permit_access, 0, 0x123};
    make_rings(d);
    bind_things(d);
    d->vcpus[0]->cpu.gpr[HV_RBX] = 0x123456789abcdef0ull;
    d->vcpus[1]->cpu.gpr[HV_R15] = 42;
    d->vcpus[1]->xen->singleshot_ns = 1234567;
    for (unsigned i = 0; i < VCPUS; i++) /* as who comes out of a stream looks at everything once */
        atomic_fetch_or(&d->vcpus[i]->attention, HV_ATTN_EVENT);
    return d;
}
