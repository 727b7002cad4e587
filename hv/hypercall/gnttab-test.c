/* The grant table: frames, both versions, taking grants into use, copies. Facts: xen/grant_table.h. */
#include "config.h"

#include "hv/hypercall/grant-table.h"

#include <sys/mman.h>

#include "hv/hypercall/test-domain.h"
#include "hv/tap.h"

#define TABLE_GFN  0x100u
#define STATUS_GFN 0x110u
#define PAGE_GFN   0x120u

static struct hv_loop *loop;
static struct hv_domain *d;
static struct hv_vcpu *v;

static long op(unsigned cmd, void *arg, size_t bytes)
{
    return test_op(v, __HYPERVISOR_grant_table_op, cmd, arg, bytes);
}

static long map(uint64_t idx, uint64_t gfn)
{
    struct xen_add_to_physmap a = {
        .domid = DOMID_SELF, .space = XENMAPSPACE_grant_table, .idx = idx, .gpfn = gfn};

    return test_op(v, __HYPERVISOR_memory_op, XENMEM_add_to_physmap, &a, sizeof(a));
}

static void start(void)
{
    d = test_domain_new(loop, 1);
    v = d->vcpus[0];
}

static void end(void)
{
    hv_domain_free(d);
}

static struct grant_entry_v1 *v1(uint32_t ref)
{
    return (struct grant_entry_v1 *)test_at(d, TABLE_GFN << 12) + ref;
}

static union grant_entry_v2 *v2(uint32_t ref)
{
    return (union grant_entry_v2 *)test_at(d, TABLE_GFN << 12) + ref;
}

static long set_version(uint32_t version)
{
    struct gnttab_set_version s = {.version = version};
    long error = op(GNTTABOP_set_version, &s, sizeof(s));

    return error ? error : (long)s.version;
}

static uint32_t frames_now(void)
{
    struct gnttab_query_size q = {.dom = DOMID_SELF};

    return op(GNTTABOP_query_size, &q, sizeof(q)) || q.status ? ~0u : q.nr_frames;
}

static void test_frames(void)
{
    struct gnttab_query_size q = {.dom = 5};

    start();
    TAP_OK(op(GNTTABOP_query_size, &q, sizeof(q)) == 0 && q.status == GNTST_bad_domain, "of another domain");
    TAP_OK(frames_now() == 0, "a table has no frames at first");
    TAP_OK(map(2, TABLE_GFN) == 0 && frames_now() == 3, "mapping the third makes three");
    *(uint32_t *)test_at(d, TABLE_GFN << 12) = 0x1234;
    TAP_OK(map(2, TABLE_GFN + 1) == 0 && *(uint32_t *)test_at(d, (TABLE_GFN + 1) << 12) == 0x1234,
           "a frame moves with its contents");
    TAP_OK(hv_memory_type(&d->mem, hv_gfn_of(TABLE_GFN)) == HV_PAGE_HOLE, "and leaves a hole");
    TAP_OK(map(64, TABLE_GFN) == -XEN_EINVAL && map(1ull << 40, TABLE_GFN) == -XEN_EINVAL,
           "not past the limit");
    TAP_OK(map(XENMAPIDX_grant_table_status, STATUS_GFN) == -XEN_EINVAL, "no status in version 1");
    TAP_OK(map(0, ~0ull) == -XEN_EINVAL, "nor at an address that there is not");
    end();
}

static void test_v1(void)
{
    struct hv_grant grant, other;

    start();
    (void)!map(0, TABLE_GFN);
    *v1(9) = (struct grant_entry_v1){.flags = GTF_permit_access, .domid = 0, .frame = PAGE_GFN};
    *v1(10) = (struct grant_entry_v1){.flags = GTF_permit_access | GTF_readonly, .domid = 0, .frame = PAGE_GFN};
    TAP_OK(hv_gnttab_get(d, 0, 9, true, &grant) == GNTST_okay && grant.gfn.v == PAGE_GFN &&
               grant.length == HV_PAGE_SIZE,
           "a grant is taken into use");
    TAP_OK(v1(9)->flags == (GTF_permit_access | GTF_reading | GTF_writing), "which the guest can see");
    TAP_OK(set_version(2) == -XEN_EBUSY, "and which holds the version");
    hv_gnttab_put(d, &grant);
    TAP_OK(v1(9)->flags == GTF_permit_access, "until it is given back");
    TAP_OK(hv_gnttab_get(d, 3, 9, false, &grant) == GNTST_bad_gntref, "it is for one domain");
    TAP_OK(hv_gnttab_get(d, 0, 11, false, &grant) == GNTST_bad_gntref &&
               hv_gnttab_get(d, 0, 512, false, &grant) == GNTST_bad_gntref &&
               hv_gnttab_get(d, 0, ~0u, false, &grant) == GNTST_bad_gntref,
           "an entry that grants nothing, or is not there");
    TAP_OK(hv_gnttab_get(d, 0, 10, true, &grant) == GNTST_general_error &&
               hv_gnttab_get(d, 0, 10, false, &other) == GNTST_okay,
           "read-only is for reading");
    hv_gnttab_put(d, &other);
    v1(9)->frame = 0xffffffff;
    TAP_OK(hv_gnttab_get(d, 0, 9, false, &grant) == GNTST_bad_page && v1(9)->flags == GTF_permit_access,
           "a frame that is not memory");
    end();
}

static void test_v2(void)
{
    struct hv_grant grant;
    uint16_t *status;

    start();
    (void)!map(0, TABLE_GFN);
    *v1(1) = (struct grant_entry_v1){.flags = GTF_permit_access, .domid = 0, .frame = PAGE_GFN};
    *v1(20) = *v1(1);
    TAP_OK(set_version(3) == -XEN_EINVAL, "there is no version 3");
    TAP_OK(set_version(2) == 2 && map(XENMAPIDX_grant_table_status, STATUS_GFN) == 0, "version 2 has status");
    TAP_OK(v2(1)->hdr.flags == GTF_permit_access && v2(1)->full_page.frame == PAGE_GFN &&
               v2(20)->hdr.flags == 0,
           "reserved entries live on, others do not");
    status = test_at(d, STATUS_GFN << 12);
    *v2(9) = (union grant_entry_v2){
        .sub_page = {{GTF_permit_access | GTF_sub_page, 0}, .page_off = 64, .length = 32, .frame = PAGE_GFN}};
    TAP_OK(hv_gnttab_get(d, 0, 9, true, &grant) == GNTST_okay && grant.offset == 64 && grant.length == 32,
           "part of a page");
    TAP_OK(status[9] == (GTF_reading | GTF_writing), "use shows in the status word");
    hv_gnttab_put(d, &grant);
    TAP_OK(status[9] == 0, "and ends there");
    v2(9)->sub_page.page_off = 4095;
    v2(9)->sub_page.length = 2;
    TAP_OK(hv_gnttab_get(d, 0, 9, false, &grant) == GNTST_bad_page && status[9] == 0, "a part beyond the page");
    v2(9)->hdr.flags = GTF_transitive;
    TAP_OK(hv_gnttab_get(d, 0, 9, false, &grant) == GNTST_bad_gntref, "transitive grants are refused");
    TAP_OK(set_version(1) == 1 && hv_memory_type(&d->mem, hv_gfn_of(STATUS_GFN)) == HV_PAGE_HOLE,
           "back in version 1 the status frames are gone");
    TAP_OK(v1(1)->frame == PAGE_GFN, "and reserved entries still there");
    end();
}

static int16_t copy(struct gnttab_copy c)
{
    return op(GNTTABOP_copy, &c, sizeof(c)) ? 1 : c.status;
}

static void test_copy(void)
{
    struct gnttab_copy c = {
        .source = {.u.gmfn = PAGE_GFN, .domid = DOMID_SELF, .offset = 8},
        .dest = {.u.ref = 9, .domid = DOMID_SELF, .offset = 100},
        .len = 5,
        .flags = GNTCOPY_dest_gref,
    };

    start();
    (void)!map(0, TABLE_GFN);
    *v1(9) = (struct grant_entry_v1){.flags = GTF_permit_access, .domid = d->domid, .frame = PAGE_GFN + 1};
    memcpy((char *)test_at(d, PAGE_GFN << 12) + 8, "hello", 5);
    TAP_OK(copy(c) == GNTST_okay && memcmp((char *)test_at(d, (PAGE_GFN + 1) << 12) + 100, "hello", 5) == 0,
           "from a frame to a grant");
    TAP_OK(v1(9)->flags == GTF_permit_access, "which is free again");
    c.len = 4096;
    TAP_OK(copy(c) == GNTST_bad_copy_arg, "not across a page");
    c.len = 5;
    c.dest.domid = 0;
    TAP_OK(copy(c) == GNTST_bad_domain, "not to another domain");
    c.dest.domid = DOMID_SELF;
    v1(9)->flags |= GTF_readonly;
    TAP_OK(copy(c) == GNTST_general_error, "not to a read-only grant");
    c.source.u.gmfn = ~0ull;
    v1(9)->flags &= ~GTF_readonly;
    TAP_OK(copy(c) == GNTST_bad_page && v1(9)->flags == GTF_permit_access, "not from what is no memory");
    end();
}

static void test_others(void)
{
    struct gnttab_map_grant_ref m = {.dom = 0};
    struct gnttab_unmap_grant_ref u = {.handle = 1};
    struct gnttab_swap_grant_ref s = {.ref_a = 9, .ref_b = 10};

    start();
    (void)!map(0, TABLE_GFN);
    TAP_OK(op(GNTTABOP_map_grant_ref, &m, sizeof(m)) == 0 && m.status == GNTST_bad_gntref,
           "domain 0 grants nothing");
    m.dom = 3;
    TAP_OK(op(GNTTABOP_map_grant_ref, &m, sizeof(m)) == 0 && m.status == GNTST_bad_domain, "nor is there a third");
    TAP_OK(op(GNTTABOP_unmap_grant_ref, &u, sizeof(u)) == 0 && u.status == GNTST_bad_handle, "so no handle is good");
    v1(9)->frame = 1, v1(10)->frame = 2;
    TAP_OK(op(GNTTABOP_swap_grant_ref, &s, sizeof(s)) == 0 && s.status == GNTST_okay && v1(9)->frame == 2,
           "two entries change places");
    s.ref_b = 512;
    TAP_OK(op(GNTTABOP_swap_grant_ref, &s, sizeof(s)) == 0 && s.status == GNTST_bad_gntref, "if they are there");
    TAP_OK(test_hypercall(v, __HYPERVISOR_grant_table_op, GNTTABOP_copy, TEST_ARG, 5000) == -XEN_E2BIG,
           "a call is bounded");
    TAP_OK(test_hypercall(v, __HYPERVISOR_grant_table_op, 99, TEST_ARG, 1) == -XEN_ENOSYS,
           "an operation that there is not");
    end();
}

/* What the guest names costs the host nothing unless it is the guest's memory. */
static void test_frames_that_are_none(void)
{
    struct hv_gnttab *g;
    struct hv_grant grant;
    unsigned char resident[64];
    unsigned refused = 0;

    start();
    (void)map(0, TABLE_GFN);
    g = d->gnttab;
    v1(20)->flags = GTF_permit_access;
    for (unsigned i = 0; i < HV_ARRAY_LEN(resident); i++) {
        v1(20)->frame = (1u << 20) + i * 1024; /* a page of pins each */
        refused += hv_gnttab_get(d, 0, 20, true, &grant) == GNTST_bad_page;
    }
    TAP_OK(refused == HV_ARRAY_LEN(resident) && v1(20)->flags == GTF_permit_access && g->active == 0,
           "frames that are no memory are refused, the entry is as before");
    if (g->nr_pins > (1u << 20) + sizeof(resident) * 1024) {
        unsigned char any = 0;

        TAP_OK(mincore(g->pins + (1u << 20), sizeof(resident) << 12, resident) == 0, "the host is asked");
        for (unsigned i = 0; i < HV_ARRAY_LEN(resident); i++)
            any |= resident[i] & 1;
        TAP_OK(!any, "and keeps nothing for them");
    }
    end();
}

int main(void)
{
    if (hv_loop_new(&loop))
        return 1;
    test_frames();
    test_v1();
    test_v2();
    test_copy();
    test_others();
    test_frames_that_are_none();
    hv_loop_free(loop);
    return tap_done();
}
