/* The hypercall table: who may call what, how arguments are reached, and answers that Linux looks at. */
#include "config.h"

#include "hv/backend/console.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/hypercall.h"

#include "hv/hypercall/params.h"
#include "hv/hypercall/test-domain.h"
#include "hv/tap.h"

#define BEYOND (TEST_PAGES * 4096ull) /* not mapped by the page tables */

static struct hv_loop *loop;
static struct hv_domain *d;
static struct hv_vcpu *v;

static void start(void)
{
    d = test_domain_new(loop, 2);
    v = d->vcpus[0];
}

static void end(void)
{
    hv_domain_free(d);
}

static void test_callers(void)
{
    static const struct {
        uint64_t number;
        long expected;
        const char *name;
    } rows[] = {
        {__HYPERVISOR_domctl, -XEN_EPERM, "domctl is not for guests"},
        {__HYPERVISOR_sysctl, -XEN_EPERM, "sysctl is not for guests"},
        {55, -XEN_EPERM, "domus_op is not for guests"},
        {__HYPERVISOR_mmu_update, -XEN_ENOSYS, "mmu_update is for PV"},
        {__HYPERVISOR_callback_op, -XEN_ENOSYS, "callback_op is for PV"},
        {__HYPERVISOR_xsm_op, -XEN_ENOSYS, "there is no xsm_op"},
        {__HYPERVISOR_physdev_op, -XEN_ENOSYS, "nor physdev_op without PIRQs"},
        {63, -XEN_ENOSYS, "nor number 63"},
        {1ull << 32, -XEN_ENOSYS, "nor one past 32 bits"},
        {~0ull, -XEN_ENOSYS, "nor the last one"},
        {__HYPERVISOR_xen_version, 4 << 16 | 17, "the version is 4.17"},
    };

    start();
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        TAP_OK(test_hypercall(v, rows[i].number, 0, 0, 0) == rows[i].expected, "%s", rows[i].name);
    v->cpu.seg[HV_SS].attr = 0xcf3;
    TAP_OK(test_hypercall(v, __HYPERVISOR_xen_version, 0, 0, 0) == -XEN_EPERM, "user mode may not call");
    end();
}

static void test_narrow(void)
{
    start();
    v->cpu.efer = 0;
    v->cpu.cr0 = HV_CR0_PE; /* no paging: linear is physical */
    v->cpu.seg[HV_CS].attr = 0xc9b;
    v->cpu.gpr[HV_RAX] = __HYPERVISOR_xen_version;
    v->cpu.gpr[HV_RBX] = XENVER_extraversion;
    v->cpu.gpr[HV_RCX] = TEST_ARG;
    hv_hypercall(v);
    TAP_OK(v->cpu.gpr[HV_RAX] == 0 && strcmp(test_at(d, TEST_ARG), "-domus") == 0,
           "a 32-bit guest passes arguments in EBX and ECX");
    v->cpu.gpr[HV_RAX] = __HYPERVISOR_memory_op;
    hv_hypercall(v);
    TAP_OK(v->cpu.gpr[HV_RAX] == (uint32_t)-XEN_ENOSYS, "what differs in 32 bits is refused, in 32 bits");
    v->cpu.cr0 = 0;
    v->cpu.gpr[HV_RAX] = __HYPERVISOR_xen_version;
    hv_hypercall(v);
    TAP_OK(v->cpu.gpr[HV_RAX] == (uint32_t)-XEN_EPERM, "real mode may not call");
    end();
}

static void test_memory(void)
{
    static const uint64_t bad[] = {BEYOND, BEYOND - 8, ~0ull, ~0ull - 8, 1ull << 47};
    xen_capabilities_info_t *split;

    start();
    for (size_t i = 0; i < HV_ARRAY_LEN(bad); i++)
        TAP_OK(test_hypercall(v, __HYPERVISOR_xen_version, XENVER_capabilities, bad[i], 0) == -XEN_EFAULT,
               "an argument at 0x%llx faults", (unsigned long long)bad[i]);
    split = test_at(d, 0x30000 - 100);
    TAP_OK(test_hypercall(v, __HYPERVISOR_xen_version, XENVER_capabilities, 0x30000 - 100, 0) == 0 &&
               strstr(*split, "hvm-3.0-x86_64"),
           "an argument may cross pages");
    *(uint64_t *)test_at(d, TEST_PD + 8) &= ~2ull; /* the second 2 MiB are read-only */
    TAP_OK(test_hypercall(v, __HYPERVISOR_xen_version, XENVER_capabilities, 0x200000, 0) == -XEN_EFAULT,
           "and is not written to where the guest may not write");
    end();
}

static void test_version(void)
{
    struct xen_feature_info f = {.submap_idx = 0};
    xen_domain_handle_t handle;

    start();
    memcpy(d->uuid, "0123456789abcdef", 16);
    TAP_OK(test_op(v, __HYPERVISOR_xen_version, XENVER_get_features, &f, sizeof(f)) == 0 &&
               f.submap & 1u << XENFEAT_hvm_callback_vector && f.submap & 1u << XENFEAT_auto_translated_physmap &&
               !(f.submap & 1u << XENFEAT_hvm_pirqs) && !(f.submap & 1u << XENFEAT_dom0),
           "features of a PVH guest");
    f.submap_idx = 1;
    TAP_OK(test_op(v, __HYPERVISOR_xen_version, XENVER_get_features, &f, sizeof(f)) == -XEN_EINVAL,
           "there is one map of them");
    TAP_OK(test_op(v, __HYPERVISOR_xen_version, XENVER_guest_handle, &handle, sizeof(handle)) == 0 &&
               memcmp(handle, "0123456789abcdef", 16) == 0,
           "the handle is the UUID");
    TAP_OK(test_hypercall(v, __HYPERVISOR_xen_version, XENVER_build_id, 0, 0) == -XEN_EPERM,
           "build_id is not for guests");
    end();
}

static void test_multicall(void)
{
    struct multicall_entry *list;

    start();
    list = test_at(d, TEST_ARG);
    list[0] = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {XENVER_pagesize}};
    list[1] = (struct multicall_entry){.op = __HYPERVISOR_multicall, .args = {TEST_ARG, 1}};
    list[2] = (struct multicall_entry){.op = __HYPERVISOR_domctl};
    TAP_OK(test_hypercall(v, __HYPERVISOR_multicall, TEST_ARG, 3, 0) == 0 && list[0].result == 4096,
           "calls of a list have their own results");
    TAP_OK((long)list[1].result == -XEN_EINVAL, "a multicall does not nest");
    TAP_OK((long)list[2].result == -XEN_EPERM, "nor give rights");
    TAP_OK(test_hypercall(v, __HYPERVISOR_multicall, TEST_ARG, 0xffffffff, 0) == -XEN_E2BIG, "it is bounded");
    end();
}

static long param(unsigned cmd, uint32_t index, uint64_t *value)
{
    struct xen_hvm_param p = {.domid = DOMID_SELF, .index = index, .value = *value};
    long error = test_op(v, __HYPERVISOR_hvm_op, cmd, &p, sizeof(p));

    *value = p.value;
    return error;
}

/* Who pauses the vCPU does not wait for a long call: it is broken off after an element and made again. */
static void test_yield(void)
{
    struct multicall_entry *list;
    struct gnttab_query_size *sizes;

    start();
    list = test_at(d, TEST_SCRATCH);
    for (unsigned i = 0; i < 3; i++)
        list[i] = (struct multicall_entry){.op = __HYPERVISOR_xen_version, .args = {XENVER_version}};
    hv_vcpu_pause_nosync(v);
    v->cpu.rip = 0x1003;
    test_hypercall(v, __HYPERVISOR_multicall, TEST_SCRATCH, 3, 0);
    TAP_OK(list[0].result && !list[1].result && v->cpu.rip == 0x1000 &&
               v->cpu.gpr[HV_RDI] == TEST_SCRATCH + sizeof(*list) && v->cpu.gpr[HV_RSI] == 2 &&
               v->cpu.gpr[HV_RAX] == __HYPERVISOR_multicall,
           "a multicall makes way");
    atomic_store(&v->attention, 0);
    v->cpu.rip += 3;
    hv_hypercall(v);
    TAP_OK(list[1].result && list[2].result && v->cpu.rip == 0x1003 && v->cpu.gpr[HV_RAX] == 0, "and goes on");

    sizes = test_at(d, TEST_SCRATCH);
    memset(sizes, 0, 3 * sizeof(*sizes));
    for (unsigned i = 0; i < 3; i++)
        sizes[i].dom = DOMID_SELF;
    atomic_store(&v->attention, HV_ATTN_FLUSH);
    test_hypercall(v, __HYPERVISOR_grant_table_op, GNTTABOP_query_size, TEST_SCRATCH, 3);
    TAP_OK(sizes[0].max_nr_frames && !sizes[1].max_nr_frames && v->cpu.rip == 0x1000 && v->cpu.gpr[HV_RDX] == 2 &&
               v->cpu.gpr[HV_RSI] == TEST_SCRATCH + sizeof(*sizes),
           "so does a list of grant operations");
    atomic_store(&v->attention, 0);
    v->cpu.rip += 3;
    hv_hypercall(v);
    TAP_OK(sizes[2].max_nr_frames && v->cpu.rip == 0x1003 && v->cpu.gpr[HV_RAX] == 0, "and goes on");
    hv_vcpu_unpause(v);
    end();
}

static void test_params(void)
{
    uint64_t value = 0xfeffe;

    start();
    hv_param_set(d, HVM_PARAM_CONSOLE_PFN, value);
    value = 0;
    TAP_OK(param(HVMOP_get_param, HVM_PARAM_CONSOLE_PFN, &value) == 0 && value == 0xfeffe,
           "a guest reads where its console is");
    TAP_OK(param(HVMOP_set_param, HVM_PARAM_CONSOLE_PFN, &value) == -XEN_EPERM, "and does not change that");
    TAP_OK(param(HVMOP_get_param, HVM_PARAM_IDENT_PT, &value) == -XEN_EPERM, "the toolstack's are not its own");
    TAP_OK(param(HVMOP_get_param, HVM_NR_PARAMS, &value) == -XEN_EINVAL, "there are so many");
    value = 2ull << 56 | 0xf3;
    TAP_OK(param(HVMOP_set_param, HVM_PARAM_CALLBACK_IRQ, &value) == 0, "the callback is the guest's");
    end();
}

static long physmap(unsigned op, uint64_t gfn, unsigned order)
{
    xen_pfn_t *list = test_at(d, TEST_SCRATCH);
    struct xen_memory_reservation r = {.nr_extents = 1, .extent_order = order, .domid = DOMID_SELF};

    list[0] = gfn;
    r.extent_start.p = (void *)(uintptr_t)TEST_SCRATCH;
    return test_op(v, __HYPERVISOR_memory_op, op, &r, sizeof(r));
}

/* @op for a list of pages at @address; how many of them it was done for. */
static long physmap_list(unsigned op, uint64_t address, const xen_pfn_t *gfns, unsigned here, unsigned count)
{
    struct xen_memory_reservation r = {.nr_extents = count, .domid = DOMID_SELF};

    memcpy(test_at(d, address), gfns, here * sizeof(gfns[0]));
    r.extent_start.p = (void *)(uintptr_t)address;
    return test_op(v, __HYPERVISOR_memory_op, op, &r, sizeof(r));
}

/* A balloon's lists, in which neighbours are done together: the answer is as if they were done one by one. */
static void test_extent_lists(void)
{
    static const struct {
        const char *what;
        xen_pfn_t gfns[8];
        unsigned count;
        long done;
    } rows[] = {
        {"ascending", {0x200, 0x201, 0x202, 0x203}, 4, 4},
        {"descending", {0x203, 0x202, 0x201, 0x200}, 4, 4},
        {"mixed", {0x210, 0x212, 0x211, 0x220, 0x221, 0x20f}, 6, 6},
        {"one of them twice", {0x210, 0x211, 0x210, 0x212}, 4, 2},
        {"a hole in a run", {0x7fe, 0x7ff, 0x800, 0x801}, 4, 2},
        {"outside the address space", {0x210, 1ull << 28, 0x211}, 3, 1},
        {"a run that wraps", {0, ~0ull, ~0ull - 1}, 3, 1},
        {"a pinned page in a run", {0x2fe, 0x2ff, 0x300, 0x301}, 4, 2},
    };
    const uint64_t top = TEST_PAGES * HV_PAGE_SIZE; /* of what the guest's page tables map */
    xen_pfn_t few[] = {0x400, 0x401};
    uint64_t before;
    uint32_t port;

    start();
    hv_param_set(d, HVM_PARAM_CONSOLE_PFN, 0x300);
    TAP_OK(hv_evtchn_alloc_unbound(d, &port) == 0 && hv_console_new(d, hv_gfn_of(0x300), port) == 0,
           "a ring at page 0x300");
    before = d->mem.ram_pages;
    for (unsigned i = 0; i < HV_ARRAY_LEN(rows); i++) {
        long done = physmap_list(XENMEM_decrease_reservation, TEST_SCRATCH, rows[i].gfns, rows[i].count, rows[i].count);

        TAP_OK(done == rows[i].done && d->mem.ram_pages == before - (uint64_t)done, "given back, %s: %ld", rows[i].what,
               done);
        TAP_OK(physmap_list(XENMEM_populate_physmap, TEST_SCRATCH, rows[i].gfns, (unsigned)done, (unsigned)done) == done &&
                   d->mem.ram_pages == before,
               "and taken");
    }
    TAP_OK(physmap_list(XENMEM_decrease_reservation, top - sizeof(few), few, 2, 600) == 2,
           "a list that ends where memory does is done up to there");
    TAP_OK(physmap_list(XENMEM_populate_physmap, top - sizeof(few), few, 2, 600) == 2, "either way");
    end();
}

static void test_physmap(void)
{
    struct xen_memory_domain self = {.domid = DOMID_SELF};
    struct xen_add_to_physmap add = {.domid = DOMID_SELF, .space = XENMAPSPACE_shared_info, .gpfn = 0x300};
    struct xen_remove_from_physmap gone = {.domid = DOMID_SELF, .gpfn = 0x300};

    start();
    TAP_OK(physmap(XENMEM_decrease_reservation, 0x200, 0) == 1, "a page is given back");
    TAP_OK(test_op(v, __HYPERVISOR_memory_op, XENMEM_current_reservation, &self, sizeof(self)) == TEST_PAGES - 1,
           "and counted");
    TAP_OK(physmap(XENMEM_decrease_reservation, 0x200, 0) == 0, "once");
    TAP_OK(physmap(XENMEM_populate_physmap, 0x200, 0) == 1, "and taken again");
    TAP_OK(physmap(XENMEM_populate_physmap, 0x10000, 9) == 0, "not past the limit");
    TAP_OK(physmap(XENMEM_populate_physmap, 0, 10) == -XEN_EPERM, "not in pieces of 4 MiB");
    TAP_OK(physmap(XENMEM_populate_physmap, ~0ull, 0) == 0, "not outside the address space");
    TAP_OK(test_op(v, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add, sizeof(add)) == 0 &&
               test_at(d, 0x300000) != (void *)d->shared_info &&
               hv_memory_type(&d->mem, hv_gfn_of(0x300)) == HV_PAGE_SHARED,
           "shared_info appears where it is wanted");
    d->shared_info->wc_sec = 77;
    TAP_OK(((struct shared_info *)test_at(d, 0x300000))->wc_sec == 77, "and is the same page");
    TAP_OK(test_op(v, __HYPERVISOR_memory_op, XENMEM_remove_from_physmap, &gone, sizeof(gone)) == 0 &&
               test_op(v, __HYPERVISOR_memory_op, XENMEM_remove_from_physmap, &gone, sizeof(gone)) == -XEN_ENOENT,
           "and goes");
    add.space = XENMAPSPACE_gmfn_foreign;
    TAP_OK(test_op(v, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add, sizeof(add)) == -XEN_EPERM,
           "other domains' pages are not for guests");
    add.domid = 0;
    TAP_OK(test_op(v, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &add, sizeof(add)) == -XEN_ESRCH,
           "nor are other domains");
    end();
}

static long initialise(struct vcpu_hvm_context *context)
{
    memcpy(test_at(d, TEST_ARG), context, sizeof(*context));
    return test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, TEST_ARG);
}

/* A 32-bit start whose state has @efer, @cr0 and @cr4. */
static long initialise_32(uint64_t efer, uint32_t cr0, uint32_t cr4, uint16_t cs_ar)
{
    struct vcpu_hvm_context context = {.mode = VCPU_HVM_MODE_32B};
    struct vcpu_hvm_x86_32 *r = &context.cpu_regs.x86_32;

    r->efer = efer, r->cr0 = cr0, r->cr4 = cr4, r->cs_ar = cs_ar;
    r->ss_ar = r->ds_ar = r->es_ar = 0xc93, r->tr_ar = 0x8b;
    r->cs_limit = r->ss_limit = r->ds_limit = r->es_limit = ~0u;
    return initialise(&context);
}

/* States that no processor can be in. */
static void test_bad_contexts(const struct vcpu_hvm_context *good)
{
    struct vcpu_hvm_context bad = *good;

    bad.cpu_regs.x86_64.rip = 1ull << 47;
    TAP_OK(initialise(&bad) == -XEN_EINVAL, "RIP is canonical");
    bad = *good, bad.cpu_regs.x86_64.rflags = 1ull << 40;
    TAP_OK(initialise(&bad) == -XEN_EINVAL, "RFLAGS has no other bits than it has");
    bad = *good, bad.cpu_regs.x86_64.cr3 = 1ull << HV_GPA_BITS;
    TAP_OK(initialise(&bad) == -XEN_EINVAL, "nor has CR3");
    TAP_OK(initialise_32(HV_EFER_LME, HV_CR0_PE | HV_CR0_PG, 0, 0xc9b) == -XEN_EINVAL,
           "long mode has PAE");
    TAP_OK(initialise_32(0, HV_CR0_PE, HV_CR4_PCIDE, 0xc9b) == -XEN_EINVAL, "PCIDs are for long mode");
    TAP_OK(initialise_32(HV_EFER_LME, HV_CR0_PE | HV_CR0_PG, HV_CR4_PAE, 0xa9b) == -XEN_EINVAL,
           "a 32-bit start has 32-bit code");
}

static void test_vcpus(void)
{
    struct vcpu_hvm_context context = {.mode = VCPU_HVM_MODE_64B};
    struct vcpu_runstate_info info;

    start();
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_is_up, 0, 0) == 1 &&
               test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_is_up, 1, 0) == 0,
           "the first vCPU is up, the second is not");
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_is_up, 2, 0) == -XEN_ENOENT, "there is no third");
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_up, 1, 0) == -XEN_EINVAL, "it starts from a state");
    memcpy(test_at(d, TEST_ARG), &context, sizeof(context));
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, TEST_ARG) == -XEN_EINVAL,
           "which must make sense");
    context.cpu_regs.x86_64.cr0 = HV_CR0_PE | HV_CR0_PG;
    context.cpu_regs.x86_64.cr3 = TEST_PML4;
    context.cpu_regs.x86_64.cr4 = HV_CR4_PAE;
    context.cpu_regs.x86_64.efer = HV_EFER_LME;
    context.cpu_regs.x86_64.rip = 0x1234;
    test_bad_contexts(&context);
    memcpy(test_at(d, TEST_ARG), &context, sizeof(context));
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, TEST_ARG) == 0 &&
               d->vcpus[1]->cpu.rip == 0x1234 && hv_cpu_64bit(&d->vcpus[1]->cpu),
           "and becomes the vCPU's");
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_initialise, 1, TEST_ARG) == -XEN_EEXIST, "once");
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_up, 1, 0) == 0 && hv_vcpu_is_online(d->vcpus[1]),
           "then it goes up");
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_set_singleshot_timer, 1, TEST_ARG) == -XEN_EINVAL,
           "its timer is its own");
    TAP_OK(test_hypercall(v, __HYPERVISOR_vcpu_op, VCPUOP_get_runstate_info, 0, TEST_ARG) == 0,
           "runstates can be asked for");
    memcpy(&info, test_at(d, TEST_ARG), sizeof(info));
    TAP_OK(info.time[0] + info.time[1] + info.time[2] + info.time[3] > 0, "and add up to something");
    end();
}

static void test_sched(void)
{
    struct sched_watchdog w = {.timeout = 100};
    struct sched_remote_shutdown r = {.domain_id = DOMID_SELF};
    struct sched_shutdown s = {.reason = SHUTDOWN_reboot};

    start();
    TAP_OK(test_op(v, __HYPERVISOR_sched_op, SCHEDOP_remote_shutdown, &r, sizeof(r)) == -XEN_EPERM,
           "guests do not shut others down");
    TAP_OK(test_hypercall(v, __HYPERVISOR_sched_op, SCHEDOP_pin_override, 0, 0) == -XEN_EPERM, "nor pin");
    TAP_OK(test_op(v, __HYPERVISOR_sched_op, SCHEDOP_watchdog, &w, sizeof(w)) == 1 &&
               test_op(v, __HYPERVISOR_sched_op, SCHEDOP_watchdog, &w, sizeof(w)) == 2 &&
               test_op(v, __HYPERVISOR_sched_op, SCHEDOP_watchdog, &w, sizeof(w)) == -XEN_EEXIST,
           "there are two watchdogs");
    w.id = 1, w.timeout = 0;
    TAP_OK(test_op(v, __HYPERVISOR_sched_op, SCHEDOP_watchdog, &w, sizeof(w)) == 0, "one is stopped");
    TAP_OK(test_op(v, __HYPERVISOR_sched_op, SCHEDOP_watchdog, &w, sizeof(w)) == -XEN_EINVAL, "once");
    TAP_OK(test_op(v, __HYPERVISOR_sched_op, SCHEDOP_shutdown, &s, sizeof(s)) == 0 &&
               d->shutdown_code == SHUTDOWN_reboot,
           "shutdown tells why");
    end();
}

int main(void)
{
    if (hv_loop_new(&loop))
        return 1;
    test_callers();
    test_narrow();
    test_memory();
    test_version();
    test_multicall();
    test_yield();
    test_params();
    test_physmap();
    test_extent_lists();
    test_vcpus();
    test_sched();
    hv_loop_free(loop);
    return tap_done();
}
