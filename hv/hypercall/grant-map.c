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

/* With domain->lock, no page is taken away between being looked up and being known as in use. */
void hv_grant_lock(struct hv_domain *d)
{
    pthread_mutex_lock(&d->lock);
    hv_gnttab_lock(d);
}

void hv_grant_unlock(struct hv_domain *d)
{
    hv_gnttab_unlock(d);
    pthread_mutex_unlock(&d->lock);
}

int hv_grant_map_locked(struct hv_domain *d, uint32_t ref, bool write, struct hv_grant_map *out)
{
    int error = error_of(hv_gnttab_get_locked(d, 0, ref, write, &out->grant));

    out->page = NULL;
    if (error)
        return error;
    /* It is RAM, which can be written to; what is written is told of afterwards, as hv_grant_written says. */
    if (out->grant.length == HV_PAGE_SIZE)
        out->page = hv_memory_at(&d->mem, hv_gfn_to_gpa(out->grant.gfn), HV_PAGE_SIZE, false);
    if (out->page)
        return 0;
    hv_gnttab_put_locked(d, &out->grant);
    return -EINVAL;
}

void hv_grant_unmap_locked(struct hv_domain *d, struct hv_grant_map *map)
{
    if (!map->page)
        return;
    hv_gnttab_put_locked(d, &map->grant);
    map->page = NULL;
}

int hv_grant_map(struct hv_domain *d, uint32_t ref, bool write, struct hv_grant_map *out)
{
    int error;

    hv_grant_lock(d);
    error = hv_grant_map_locked(d, ref, write, out);
    hv_grant_unlock(d);
    return error;
}

void hv_grant_unmap(struct hv_domain *d, struct hv_grant_map *map)
{
    hv_grant_lock(d);
    hv_grant_unmap_locked(d, map);
    hv_grant_unlock(d);
}

void hv_grant_written(struct hv_domain *d, const struct hv_grant_map *map, unsigned offset, unsigned bytes)
{
    hv_gpa gpa = hv_gfn_to_gpa(map->grant.gfn);

    gpa.v += offset;
    hv_memory_written(&d->mem, gpa, bytes);
}
