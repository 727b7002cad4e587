/* GNTTABOP_copy: from page to page, each named by a grant or by its frame. Source: xen/grant_table.h. */
#include "config.h"

#include "hv/hypercall/grant-table.h"

#include <string.h>

/* One side of a copy while it is in use. */
struct side {
    bool granted;
    struct hv_grant grant;
    void *memory;
};

static int open_granted(struct hv_domain *d, uint32_t ref, bool write, struct side *side)
{
    int status = hv_gnttab_get(d, d->domid, ref, write, &side->grant);

    side->granted = status == GNTST_okay;
    return status;
}

static void close_side(struct hv_domain *d, struct side *side)
{
    if (side->granted)
        hv_gnttab_put(d, &side->grant);
    side->granted = false;
}

/* The part that is asked for lies in the part that is granted. */
static bool covers(const struct hv_grant *grant, uint16_t offset, uint16_t bytes)
{
    return offset >= grant->offset && offset - grant->offset <= grant->length &&
           bytes <= grant->length - (offset - grant->offset);
}

static int open_side(struct hv_domain *d, const struct gnttab_copy_ptr *ptr, bool by_ref, bool write,
                     uint16_t bytes, struct side *side)
{
    hv_gpa gpa;
    int status;

    if (ptr->domid != DOMID_SELF && ptr->domid != d->domid)
        return GNTST_bad_domain;
    if (by_ref) {
        status = open_granted(d, ptr->u.ref, write, side);
        if (status)
            return status;
        if (!covers(&side->grant, ptr->offset, bytes))
            return GNTST_general_error;
    }
    if (!by_ref && ptr->u.gmfn >> (HV_GPA_BITS - HV_PAGE_SHIFT))
        return GNTST_bad_page;
    gpa = hv_gfn_to_gpa(by_ref ? side->grant.gfn : hv_gfn_of(ptr->u.gmfn));
    gpa.v += ptr->offset;
    side->memory = hv_memory_at(&d->mem, gpa, bytes, write);
    return side->memory ? GNTST_okay : GNTST_bad_page;
}

int hv_gnttab_copy(struct hv_domain *d, const struct gnttab_copy *op)
{
    struct side from = {.granted = false}, to = {.granted = false};
    int status;

    if (op->source.offset >= HV_PAGE_SIZE || op->len > HV_PAGE_SIZE - op->source.offset ||
        op->dest.offset >= HV_PAGE_SIZE || op->len > HV_PAGE_SIZE - op->dest.offset)
        return GNTST_bad_copy_arg;
    status = open_side(d, &op->source, op->flags & GNTCOPY_source_gref, false, op->len, &from);
    if (!status)
        status = open_side(d, &op->dest, op->flags & GNTCOPY_dest_gref, true, op->len, &to);
    if (!status)
        memmove(to.memory, from.memory, op->len);
    close_side(d, &to);
    close_side(d, &from);
    return status;
}
