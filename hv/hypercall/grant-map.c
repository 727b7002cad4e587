/* Mapping grants for backends. Source: xen/grant_table.h. */
#include "config.h"

#include "hv/hypercall/grant-map.h"

#include <errno.h>

static int error_of(int status)
{
    switch (status) {
    case GNTST_okay:
        return 0;
    case GNTST_general_error:
        return -EACCES;
    case GNTST_bad_page:
        return -EFAULT;
    default:
        return -EINVAL;
    }
}

int hv_grant_map(struct hv_domain *d, uint32_t ref, bool write, struct hv_grant_map *out)
{
    int error;

    out->page = NULL;
    /* With the lock, no page is taken away between being looked up and being known as in use. */
    pthread_mutex_lock(&d->lock);
    error = error_of(hv_gnttab_get(d, 0, ref, write, &out->grant));
    pthread_mutex_unlock(&d->lock);
    if (error)
        return error;
    if (out->grant.length == HV_PAGE_SIZE)
        out->page = hv_memory_at(&d->mem, hv_gfn_to_gpa(out->grant.gfn), HV_PAGE_SIZE, write);
    if (out->page)
        return 0;
    hv_gnttab_put(d, &out->grant);
    return -EINVAL;
}

void hv_grant_unmap(struct hv_domain *d, struct hv_grant_map *map)
{
    if (!map->page)
        return;
    hv_gnttab_put(d, &map->grant);
    map->page = NULL;
}

void hv_grant_written(struct hv_domain *d, const struct hv_grant_map *map, unsigned offset, unsigned bytes)
{
    hv_gpa gpa = hv_gfn_to_gpa(map->grant.gfn);

    gpa.v += offset;
    hv_memory_written(&d->mem, gpa, bytes);
}
