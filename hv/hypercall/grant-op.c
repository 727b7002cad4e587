/* grant_table_op: an operation on each element of an array. Source: xen/grant_table.h. */
#include "config.h"

#include "hv/hypercall/families.h"

#include "hv/hypercall/grant-table.h"
#include "hv/hypercall/subop.h"

/* Elements of one call: bounds the time it takes. Linux asks for some hundreds at most. */
#define ELEMENTS_MAX 4096u

static void lock(struct hv_domain *d)
{
    pthread_mutex_lock(&d->lock); /* growing the table takes pages */
    pthread_mutex_lock(&d->gnttab->lock);
}

static void unlock(struct hv_domain *d)
{
    pthread_mutex_unlock(&d->gnttab->lock);
    pthread_mutex_unlock(&d->lock);
}

/* What others grant could be mapped; here are only this domain, which needs no grant to reach its own pages,
 * and domain 0, which grants nothing. */
static long map_grant_ref(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_map_grant_ref *op = arg;

    (void)args;
    if (hv_caller_owns(c, op->dom))
        op->status = GNTST_permission_denied;
    else
        op->status = op->dom == 0 ? GNTST_bad_gntref : GNTST_bad_domain;
    return 0;
}

static long unmap_grant_ref(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_unmap_grant_ref *op = arg;

    (void)c, (void)args;
    op->status = GNTST_bad_handle;
    return 0;
}

/* Writes where the first @count frames are mapped. A frame that is nowhere is an error: a translated guest
 * maps them first, with XENMEM_add_to_physmap. */
static int list_frames(struct hv_caller *c, const struct hv_grant_frame *frames, uint32_t count,
                       uint64_t address)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t gfn = frames[i].gfn.v;

        if (gfn == ~0ull)
            return GNTST_general_error;
        if (hv_caller_write(c, address + i * sizeof(gfn), &gfn, sizeof(gfn)))
            return GNTST_bad_virt_addr;
    }
    return GNTST_okay;
}

static long setup_table(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_setup_table *op = arg;
    struct hv_gnttab *g = c->domain->gnttab;

    (void)args;
    if (!hv_caller_owns(c, op->dom)) {
        op->status = GNTST_bad_domain;
        return 0;
    }
    lock(c->domain);
    if (hv_gnttab_grow_locked(c->domain, op->nr_frames))
        op->status = GNTST_general_error;
    else
        op->status = (int16_t)list_frames(c, g->frame, op->nr_frames, (uintptr_t)op->frame_list.p);
    unlock(c->domain);
    return 0;
}

static long get_status_frames(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_get_status_frames *op = arg;
    struct hv_gnttab *g = c->domain->gnttab;

    (void)args;
    if (!hv_caller_owns(c, op->dom)) {
        op->status = GNTST_bad_domain;
        return 0;
    }
    lock(c->domain);
    if (op->nr_frames > g->nr_status)
        op->status = GNTST_general_error;
    else
        op->status = (int16_t)list_frames(c, g->status, op->nr_frames, (uintptr_t)op->frame_list.p);
    unlock(c->domain);
    return 0;
}

static long query_size(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_query_size *op = arg;

    (void)args;
    op->status = hv_caller_owns(c, op->dom) ? GNTST_okay : GNTST_bad_domain;
    if (op->status)
        return 0;
    lock(c->domain);
    op->nr_frames = c->domain->gnttab->nr_frames;
    op->max_nr_frames = c->domain->gnttab->max_frames;
    unlock(c->domain);
    return 0;
}

static long set_version(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_set_version *op = arg;
    long error;

    (void)args;
    lock(c->domain);
    error = hv_gnttab_set_version_locked(c->domain, op->version);
    op->version = c->domain->gnttab->version;
    unlock(c->domain);
    if (!error)
        hv_domain_flush(c->domain); /* status frames may be gone */
    return error;
}

static long get_version(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_get_version *op = arg;

    (void)args;
    if (!hv_caller_owns(c, op->dom))
        return -XEN_ESRCH;
    lock(c->domain);
    op->version = c->domain->gnttab->version;
    unlock(c->domain);
    return 0;
}

static long copy(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_copy *op = arg;

    (void)args;
    op->status = (int16_t)hv_gnttab_copy(c->domain, op);
    return 0;
}

static long swap_grant_ref(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct gnttab_swap_grant_ref *op = arg;

    (void)args;
    lock(c->domain);
    op->status = (int16_t)hv_gnttab_swap_locked(c->domain->gnttab, op->ref_a, op->ref_b);
    unlock(c->domain);
    return 0;
}

#define INOUT (HV_ARG_IN | HV_ARG_OUT)
#define GUEST HV_CALLER_GUEST
#define BOTH  (HV_CALLER_GUEST | HV_CALLER_CONTROL)

static const struct hv_subop ops[] = {
    [GNTTABOP_map_grant_ref] = {"map_grant_ref", map_grant_ref, sizeof(struct gnttab_map_grant_ref), INOUT,
                                GUEST},
    [GNTTABOP_unmap_grant_ref] = {"unmap_grant_ref", unmap_grant_ref, sizeof(struct gnttab_unmap_grant_ref),
                                  INOUT, GUEST},
    [GNTTABOP_setup_table] = {"setup_table", setup_table, sizeof(struct gnttab_setup_table), INOUT, GUEST},
    [GNTTABOP_dump_table] = {"dump_table", NULL, 0, 0, 0},
    [GNTTABOP_transfer] = {"transfer", NULL, 0, 0, 0}, /* for guests that know machine addresses */
    [GNTTABOP_copy] = {"copy", copy, sizeof(struct gnttab_copy), INOUT, GUEST},
    [GNTTABOP_query_size] = {"query_size", query_size, sizeof(struct gnttab_query_size), INOUT, BOTH},
    [GNTTABOP_unmap_and_replace] = {"unmap_and_replace", NULL, 0, 0, 0},
    [GNTTABOP_set_version] = {"set_version", set_version, sizeof(struct gnttab_set_version),
                              INOUT | HV_ARG_ALWAYS, GUEST},
    [GNTTABOP_get_status_frames] = {"get_status_frames", get_status_frames,
                                    sizeof(struct gnttab_get_status_frames), INOUT, GUEST},
    [GNTTABOP_get_version] = {"get_version", get_version, sizeof(struct gnttab_get_version), INOUT, BOTH},
    [GNTTABOP_swap_grant_ref] = {"swap_grant_ref", swap_grant_ref, sizeof(struct gnttab_swap_grant_ref),
                                 INOUT, GUEST},
    [GNTTABOP_cache_flush] = {"cache_flush", NULL, 0, 0, 0},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("grant_table_op", ops);

/* args: operation, address of the array, its length. */
long hv_grant_table_op(struct hv_caller *c, const uint64_t args[5])
{
    uint64_t op = (uint32_t)args[0], count = (uint32_t)args[2];
    uint64_t bytes = op < HV_ARRAY_LEN(ops) ? ops[op].arg_bytes : 0;
    long result = 0;

    if (count > ELEMENTS_MAX)
        return (int32_t)args[2] < 0 ? -XEN_EINVAL : -XEN_E2BIG;
    for (uint64_t i = 0; i < count && !result; i++) {
        if (i && hv_caller_must_yield(c)) {
            hv_caller_continue(c, (const uint64_t[5]){op, args[1] + i * bytes, count - i});
            break;
        }
        result = hv_subop_run(&family, c, op, args, args[1] + i * bytes);
    }
    return result;
}
