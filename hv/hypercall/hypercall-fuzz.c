/* A hostile kernel: every hypercall that a guest may make, with structures that are mostly valid, over memory that
 * changes at random. Nothing may crash, hang or touch what is not the guest's (which the sanitizers watch), and at
 * the end the books must agree: pages that are RAM are those counted, and no grant is in use.
 *
 * hypercall-fuzz [SEED [ROUNDS]] is deterministic; `make check` replays a short run.
 */
#include "config.h"

#include <stdlib.h>

#include "hv/backend/console.h"
#include "hv/fuzz.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/grant-table.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/runstate.h"
#include "hv/hypercall/test-domain.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/machine/vnuma.h"
#include "hv/tap.h"

#define CONSOLE_GFN 0x80u
#define ARENA_GFN   0x100u /* pages that the guest plays with; below are its tables and arguments */

static struct hv_domain *d;
static struct hv_vcpu *v;

/* ------------------------------------------------------------------ structures */

enum kind {
    ANY,     /* anything */
    DOMID,   /* a domain number, mostly this one's */
    PORT,    /* of an event channel */
    VCPU,
    GFN,
    ADDRESS, /* linear, mostly of memory */
    COUNT,   /* of elements; small */
    REF,     /* of a grant */
    SMALL,   /* below 32 */
    BYTES,   /* within a page */
    TIME,
};

struct field {
    uint16_t offset;
    uint8_t bytes, kind;
};

#define FIELDS_MAX 9
#define F(s, member, kind) {offsetof(struct s, member), sizeof(((struct s *)0)->member), kind}

struct call {
    uint32_t number, op;
    struct field fields[FIELDS_MAX];
};

#define EVTCHN(name, ...) {__HYPERVISOR_event_channel_op, EVTCHNOP_##name, {__VA_ARGS__}}
#define GNTTAB(name, ...) {__HYPERVISOR_grant_table_op, GNTTABOP_##name, {__VA_ARGS__}}
#define MEMORY(name, ...) {__HYPERVISOR_memory_op, XENMEM_##name, {__VA_ARGS__}}
#define SCHED(name, ...)  {__HYPERVISOR_sched_op, SCHEDOP_##name, {__VA_ARGS__}}
#define HVMOP(name, ...)  {__HYPERVISOR_hvm_op, HVMOP_##name, {__VA_ARGS__}}
#define VCPUOP(name, ...) {__HYPERVISOR_vcpu_op, VCPUOP_##name, {__VA_ARGS__}}

#define RESERVATION                                                                                         \
    F(xen_memory_reservation, extent_start, ADDRESS), F(xen_memory_reservation, nr_extents, COUNT),         \
        F(xen_memory_reservation, extent_order, SMALL), F(xen_memory_reservation, domid, DOMID)

static const struct call calls[] = {
    EVTCHN(alloc_unbound, F(evtchn_alloc_unbound, dom, DOMID), F(evtchn_alloc_unbound, remote_dom, DOMID)),
    EVTCHN(bind_interdomain, F(evtchn_bind_interdomain, remote_dom, DOMID),
           F(evtchn_bind_interdomain, remote_port, PORT)),
    EVTCHN(bind_virq, F(evtchn_bind_virq, virq, SMALL), F(evtchn_bind_virq, vcpu, VCPU)),
    EVTCHN(bind_ipi, F(evtchn_bind_ipi, vcpu, VCPU)),
    EVTCHN(close, F(evtchn_close, port, PORT)),
    EVTCHN(send, F(evtchn_send, port, PORT)),
    EVTCHN(status, F(evtchn_status, dom, DOMID), F(evtchn_status, port, PORT)),
    EVTCHN(bind_vcpu, F(evtchn_bind_vcpu, port, PORT), F(evtchn_bind_vcpu, vcpu, VCPU)),
    EVTCHN(unmask, F(evtchn_unmask, port, PORT)),
    EVTCHN(reset, F(evtchn_reset, dom, DOMID)),
    EVTCHN(init_control, F(evtchn_init_control, control_gfn, GFN), F(evtchn_init_control, offset, BYTES),
           F(evtchn_init_control, vcpu, VCPU)),
    EVTCHN(expand_array, F(evtchn_expand_array, array_gfn, GFN)),
    EVTCHN(set_priority, F(evtchn_set_priority, port, PORT), F(evtchn_set_priority, priority, SMALL)),
    GNTTAB(map_grant_ref, F(gnttab_map_grant_ref, dom, DOMID), F(gnttab_map_grant_ref, ref, REF)),
    GNTTAB(unmap_grant_ref, F(gnttab_unmap_grant_ref, handle, REF)),
    GNTTAB(setup_table, F(gnttab_setup_table, dom, DOMID), F(gnttab_setup_table, nr_frames, SMALL),
           F(gnttab_setup_table, frame_list, ADDRESS)),
    GNTTAB(copy, F(gnttab_copy, source.u, REF), F(gnttab_copy, source.domid, DOMID),
           F(gnttab_copy, source.offset, BYTES), F(gnttab_copy, dest.u, REF), F(gnttab_copy, dest.domid, DOMID),
           F(gnttab_copy, dest.offset, BYTES), F(gnttab_copy, len, BYTES), F(gnttab_copy, flags, SMALL)),
    GNTTAB(copy, F(gnttab_copy, source.u, GFN), F(gnttab_copy, source.domid, DOMID),
           F(gnttab_copy, source.offset, BYTES), F(gnttab_copy, dest.u, GFN), F(gnttab_copy, dest.domid, DOMID),
           F(gnttab_copy, dest.offset, BYTES), F(gnttab_copy, len, BYTES), F(gnttab_copy, flags, SMALL)),
    GNTTAB(query_size, F(gnttab_query_size, dom, DOMID)),
    GNTTAB(set_version, F(gnttab_set_version, version, SMALL)),
    GNTTAB(get_status_frames, F(gnttab_get_status_frames, nr_frames, SMALL),
           F(gnttab_get_status_frames, dom, DOMID), F(gnttab_get_status_frames, frame_list, ADDRESS)),
    GNTTAB(get_version, F(gnttab_get_version, dom, DOMID)),
    GNTTAB(swap_grant_ref, F(gnttab_swap_grant_ref, ref_a, REF), F(gnttab_swap_grant_ref, ref_b, REF)),
    MEMORY(decrease_reservation, RESERVATION),
    MEMORY(populate_physmap, RESERVATION),
    MEMORY(increase_reservation, RESERVATION),
    MEMORY(current_reservation, F(xen_memory_domain, domid, DOMID)),
    MEMORY(maximum_reservation, F(xen_memory_domain, domid, DOMID)),
    MEMORY(maximum_gpfn, F(xen_memory_domain, domid, DOMID)),
    MEMORY(add_to_physmap, F(xen_add_to_physmap, domid, DOMID), F(xen_add_to_physmap, space, VCPU),
           F(xen_add_to_physmap, idx, SMALL), F(xen_add_to_physmap, gpfn, GFN)),
    MEMORY(add_to_physmap, F(xen_add_to_physmap, domid, DOMID), F(xen_add_to_physmap, space, VCPU),
           F(xen_add_to_physmap, idx, ANY), F(xen_add_to_physmap, gpfn, GFN)),
    MEMORY(add_to_physmap_batch, F(xen_add_to_physmap_batch, domid, DOMID),
           F(xen_add_to_physmap_batch, space, VCPU), F(xen_add_to_physmap_batch, size, COUNT),
           F(xen_add_to_physmap_batch, idxs, ADDRESS), F(xen_add_to_physmap_batch, gpfns, ADDRESS),
           F(xen_add_to_physmap_batch, errs, ADDRESS)),
    MEMORY(remove_from_physmap, F(xen_remove_from_physmap, domid, DOMID), F(xen_remove_from_physmap, gpfn, GFN)),
    MEMORY(memory_map, F(xen_memory_map, nr_entries, COUNT), F(xen_memory_map, buffer, ADDRESS)),
    MEMORY(get_vnumainfo, F(xen_vnuma_topology_info, domid, DOMID), F(xen_vnuma_topology_info, nr_vnodes, SMALL),
           F(xen_vnuma_topology_info, nr_vcpus, SMALL), F(xen_vnuma_topology_info, nr_vmemranges, SMALL),
           F(xen_vnuma_topology_info, vdistance.pad, ADDRESS), F(xen_vnuma_topology_info, vcpu_to_vnode.pad, ADDRESS),
           F(xen_vnuma_topology_info, vmemrange.pad, ADDRESS)),
    SCHED(poll, F(sched_poll, ports, ADDRESS), F(sched_poll, nr_ports, COUNT), F(sched_poll, timeout, TIME)),
    SCHED(watchdog, F(sched_watchdog, id, VCPU), F(sched_watchdog, timeout, ANY)),
    SCHED(shutdown, F(sched_shutdown, reason, SMALL)),
    SCHED(shutdown_code, F(sched_shutdown, reason, SMALL)),
    SCHED(block, {0}),
    SCHED(yield, {0}),
    HVMOP(set_param, F(xen_hvm_param, domid, DOMID), F(xen_hvm_param, index, SMALL),
          F(xen_hvm_param, value, ANY)),
    HVMOP(get_param, F(xen_hvm_param, domid, DOMID), F(xen_hvm_param, index, SMALL)),
    HVMOP(flush_tlbs, {0}),
    HVMOP(get_time, {0}),
    HVMOP(get_mem_type, F(xen_hvm_get_mem_type, domid, DOMID), F(xen_hvm_get_mem_type, pfn, GFN)),
    HVMOP(set_evtchn_upcall_vector, F(xen_hvm_evtchn_upcall_vector, vcpu, VCPU),
          F(xen_hvm_evtchn_upcall_vector, vector, ANY)),
    VCPUOP(initialise, F(vcpu_hvm_context, mode, VCPU)),
    VCPUOP(up, {0}),
    VCPUOP(down, {0}),
    VCPUOP(is_up, {0}),
    VCPUOP(get_runstate_info, {0}),
    VCPUOP(register_runstate_memory_area, F(vcpu_register_runstate_memory_area, addr, ADDRESS)),
    VCPUOP(register_vcpu_time_memory_area, F(vcpu_register_time_memory_area, addr, ADDRESS)),
    VCPUOP(set_periodic_timer, F(vcpu_set_periodic_timer, period_ns, TIME)),
    VCPUOP(stop_periodic_timer, {0}),
    VCPUOP(set_singleshot_timer, F(vcpu_set_singleshot_timer, timeout_abs_ns, TIME)),
    VCPUOP(stop_singleshot_timer, {0}),
    VCPUOP(register_vcpu_info, F(vcpu_register_vcpu_info, mfn, GFN), F(vcpu_register_vcpu_info, offset, BYTES)),
    VCPUOP(send_nmi, {0}),
};

/* ------------------------------------------------------------------ values */

static uint64_t arena_address(void)
{
    return (uint64_t)(ARENA_GFN + fuzz_random(64)) << HV_PAGE_SHIFT;
}

static uint64_t likely(enum kind kind)
{
    static const uint16_t domids[] = {DOMID_SELF, DOMID_SELF, DOMID_SELF, 7, 7, 0, 8, DOMID_FIRST_RESERVED};

    switch (kind) {
    case DOMID:
        return domids[fuzz_random(HV_ARRAY_LEN(domids))];
    case PORT:
        return fuzz_random(fuzz_random(8) ? 24 : 1100);
    case VCPU:
        return fuzz_random(3);
    case GFN:
        return ARENA_GFN + fuzz_random(fuzz_random(4) ? 64 : TEST_PAGES);
    case ADDRESS:
        return fuzz_random(2) ? TEST_SCRATCH : arena_address() + fuzz_random(HV_PAGE_SIZE);
    case COUNT:
        return fuzz_random(16);
    case REF:
        return fuzz_random(fuzz_random(4) ? 16 : 2048);
    case SMALL:
        return fuzz_random(32);
    case BYTES:
        return fuzz_random(2) ? fuzz_random(HV_PAGE_SIZE) : fuzz_random(HV_PAGE_SIZE / 64) * 64;
    case TIME:
        return fuzz_random(2) * UINT64_C(1000000000) + fuzz_random(UINT32_MAX);
    case ANY:
        break;
    }
    return fuzz_random64();
}

static uint64_t value_of(enum kind kind)
{
    return fuzz_random(24) ? likely(kind) : fuzz_edge();
}

/* To the end of the last field. */
static uint64_t structure_bytes(const struct call *call)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < FIELDS_MAX; i++)
        if (call->fields[i].offset + (uint64_t)call->fields[i].bytes > end)
            end = call->fields[i].offset + (uint64_t)call->fields[i].bytes;
    return (end + 7) & ~7ull;
}

/* A structure at guest address @at. */
static void put_structure(const struct call *call, uint64_t at)
{
    uint8_t *to = test_at(d, at);

    if (fuzz_random(4) == 0)
        memset(to, (int)fuzz_random(256), 64);
    for (unsigned i = 0; i < FIELDS_MAX && call->fields[i].bytes; i++) {
        const struct field *f = &call->fields[i];
        uint64_t value = value_of((enum kind)f->kind);

        memcpy(to + f->offset, &value, f->bytes < 8 ? f->bytes : 8);
    }
}

/* Lists that structures point to: frames, indexes and ports. */
static void put_list(void)
{
    static const enum kind kinds[] = {GFN, PORT, SMALL, ANY};
    enum kind kind = kinds[fuzz_random(HV_ARRAY_LEN(kinds))];
    unsigned bytes = kind == PORT ? 4 : 8;

    for (unsigned i = 0; i < 32; i++) {
        uint64_t value = value_of(kind);

        memcpy((uint8_t *)test_at(d, TEST_SCRATCH) + i * bytes, &value, bytes);
    }
}

/* ------------------------------------------------------------------ the guest */

static void make_call(uint64_t number, uint64_t a, uint64_t b, uint64_t c)
{
    v->cpu.rip = 0x1003;
    atomic_store(&v->attention, fuzz_random(16) ? 0 : HV_ATTN_FLUSH);
    test_hypercall(v, number, a, b, c);
}

static void one_call(const struct call *call)
{
    uint64_t elements = call->number == __HYPERVISOR_grant_table_op ? value_of(COUNT) : 0;
    uint64_t at = fuzz_random(32) ? TEST_ARG : value_of(ADDRESS);

    for (uint64_t i = 1; i < elements && i < 16; i++)
        put_structure(call, TEST_ARG + i * structure_bytes(call));
    put_structure(call, TEST_ARG);
    if (call->number == __HYPERVISOR_vcpu_op)
        make_call(call->number, call->op, value_of(VCPU), at);
    else
        make_call(call->number, call->op, at, elements);
}

/* Some of the same in one call. */
static void many_calls(void)
{
    struct multicall_entry *list = test_at(d, TEST_SCRATCH);
    unsigned count = 1 + fuzz_random(8);

    for (unsigned i = 0; i < count; i++) {
        const struct call *call = &calls[fuzz_random(HV_ARRAY_LEN(calls))];
        bool vcpu = call->number == __HYPERVISOR_vcpu_op;
        uint64_t at = TEST_ARG + i * 0x200;

        put_structure(call, at);
        list[i] = (struct multicall_entry){.op = fuzz_random(16) ? call->number : value_of(SMALL),
                                           .args = {call->op, vcpu ? value_of(VCPU) : at, vcpu ? at : 1}};
    }
    make_call(__HYPERVISOR_multicall, TEST_SCRATCH, count, 0);
}

/* Calls without a structure, and numbers and operations that are none. */
static void odd_call(void)
{
    switch (fuzz_random(6)) {
    case 0:
        make_call(__HYPERVISOR_set_timer_op, value_of(TIME), 0, 0);
        break;
    case 1:
        make_call(__HYPERVISOR_console_io, value_of(VCPU), value_of(BYTES), value_of(ADDRESS));
        break;
    case 2:
        make_call(__HYPERVISOR_vm_assist, value_of(VCPU), value_of(SMALL), 0);
        break;
    case 3:
        make_call(__HYPERVISOR_xen_version, value_of(SMALL), value_of(ADDRESS), 0);
        break;
    case 4:
        make_call(calls[fuzz_random(HV_ARRAY_LEN(calls))].number, value_of(SMALL), value_of(ADDRESS), 1);
        break;
    default:
        make_call(value_of(SMALL) * 2, value_of(ANY), value_of(ANY), value_of(ANY));
        break;
    }
}

/* Grants that mean something now and then, whatever version the table has. */
static void scribble_grant(void)
{
    struct hv_gnttab *g = d->gnttab;
    uint32_t at = fuzz_random(HV_PAGE_SIZE / 8) * 8;
    uint8_t *page;

    if (!g->nr_frames)
        return;
    page = g->frame[fuzz_random(fuzz_random(4) ? 1 : g->nr_frames)].page;
    ((uint32_t *)(page + at))[0] = (fuzz_random(4) ? GTF_permit_access : fuzz_random(0x200)) | 7u << 16;
    ((uint32_t *)(page + at))[1] = (uint32_t)value_of(GFN);
}

static void scribble(void)
{
    uint64_t *shared = (uint64_t *)d->shared_info;
    uint64_t gfn = value_of(GFN);

    scribble_grant();
    shared[fuzz_random(HV_PAGE_SIZE / 8)] = value_of(ANY);
    if (hv_memory_type(&d->mem, hv_gfn_of(gfn)) == HV_PAGE_RAM)
        ((uint64_t *)test_at(d, gfn << HV_PAGE_SHIFT))[fuzz_random(HV_PAGE_SIZE / 8)] = value_of(PORT);
    ((uint32_t *)test_at(d, CONSOLE_GFN << HV_PAGE_SHIFT))[fuzz_random(HV_PAGE_SIZE / 4)] = (uint32_t)value_of(ANY);
}

/* What other threads do with the guest meanwhile. */
static void around(uint32_t port)
{
    struct vcpu_runstate_info info;
    struct hv_grant grant;

    hv_evtchn_backend_notify(d, port);
    hv_evtchn_virq(v, fuzz_random(NR_VIRQS + 1));
    hv_vcpu_xen_run_timers(v);
    (void)hv_vcpu_xen_deadline_ns(v);
    hv_vcpu_xen_set_runstate(v, (int)fuzz_random(4));
    hv_runstate_get(d->vcpus[1], &info);
    if (!hv_gnttab_get(d, 7, (uint32_t)value_of(REF), fuzz_random(2), &grant))
        hv_gnttab_put(d, &grant);
}

static uint64_t count_ram(void)
{
    uint64_t found = 0;

    for (uint64_t gfn = 0; gfn < d->mem.nr_gfns; gfn++)
        found += d->mem.types[gfn] == HV_PAGE_RAM;
    return found;
}

static bool start(struct hv_loop *loop, uint32_t *port)
{
    static const struct hv_vnuma vnuma = {.nr_nodes = 1, .nr_vcpus = 2, .nr_ranges = 1, .distance = {{10}},
                                          .range = {{0, TEST_PAGES << HV_PAGE_SHIFT, 0}}};

    d = test_domain_new(loop, 2);
    v = d ? d->vcpus[0] : NULL;
    return d && !hv_vnuma_set(d, &vnuma) && !hv_evtchn_alloc_unbound(d, port) && !hv_console_new(d, hv_gfn_of(CONSOLE_GFN), *port);
}

/* A guest that gave its own page tables away could call no more. */
static void repair(void)
{
    static const uint32_t pages[] = {TEST_PML4, TEST_PDPT, TEST_PD, TEST_ARG, TEST_ARG + HV_PAGE_SIZE, TEST_SCRATCH};

    for (size_t i = 0; i < HV_ARRAY_LEN(pages); i++) {
        hv_gfn gfn = hv_gfn_of(pages[i] >> HV_PAGE_SHIFT);

        if (hv_memory_type(&d->mem, gfn) == HV_PAGE_RAM)
            continue;
        (void)!hv_physmap_remove(d, gfn);
        d->mem.max_pages = d->mem.ram_pages + 1;
        (void)!hv_physmap_populate(d, gfn, 1);
        d->mem.max_pages = TEST_PAGES + 256;
    }
    test_page_tables(d);
}

static void round_of(uint32_t port)
{
    unsigned what = fuzz_random(16);

    repair();
    if (what == 0)
        scribble();
    else if (what == 1)
        around(port);
    else if (what == 2)
        odd_call();
    else if (what == 3)
        many_calls();
    else if (what == 4)
        put_list();
    else
        one_call(&calls[fuzz_random(HV_ARRAY_LEN(calls))]);
}

int main(int argc, char **argv)
{
    unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 40000;
    struct hv_loop *loop;
    uint32_t port;

    if (hv_loop_new(&loop) || !start(loop, &port))
        return 99;
    fuzz_seed(seed);
    for (unsigned long i = 0; i < rounds; i++)
        round_of(port);
    TAP_OK(count_ram() == d->mem.ram_pages, "%lu rounds from seed %lu: the pages that are RAM are counted", rounds,
           seed);
    TAP_OK(d->gnttab->active == 0, "no grant is left in use");
    hv_domain_free(d);
    hv_loop_free(loop);
    return tap_done();
}
