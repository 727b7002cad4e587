/* Several disks at rest at once. */
#include "config.h"

#include "libxldrv/driver/standstill.h"

#include <string.h>

#include "libxldrv/driver/run.h"

void xldrv_standstill_init(XldrvStandstill *s, XldrvDriver *driver, XldrvJob *job)
{
    *s = (XldrvStandstill){driver, job, g_ptr_array_new()};
}

void xldrv_standstill_clear(XldrvStandstill *s)
{
    g_clear_pointer(&s->targets, g_ptr_array_unref);
}

void xldrv_standstill_add(XldrvStandstill *s, const char *target)
{
    if (!g_ptr_array_find_with_equal_func(s->targets, target, g_str_equal, NULL))
        g_ptr_array_add(s->targets, (gpointer)target);
}

typedef gboolean (*DiskFn)(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);

/* How many of the first @max it was done with before one failed. */
static guint for_each(XldrvStandstill *s, guint max, DiskFn fn, GError **error)
{
    const XldrvDeviceHost host = {s->driver, s->job->instance, s->job->uuid_text, s->job->name};
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(s->job->live);

    for (guint i = 0; i < max; i++) {
        const XmlconfDisk *disk = xldrv_find_disk(live, s->targets->pdata[i], error);

        if (!disk || !fn(&host, disk, error))
            return i;
    }
    return max;
}

/* All are tried. */
static gboolean go_on(XldrvStandstill *s, guint n, GError **error)
{
    g_autoptr(GError) first = NULL;
    const XldrvDeviceHost host = {s->driver, s->job->instance, s->job->uuid_text, s->job->name};
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(s->job->live);

    for (guint i = 0; i < n; i++) {
        const XmlconfDisk *disk = xldrv_find_disk(live, s->targets->pdata[i], NULL);

        if (disk)
            xldrv_disk_reopen(&host, disk, first ? NULL : &first);
    }
    if (!first)
        return TRUE;
    xldrv_react_to_instance(s->job->instance, HV_EVENT_IMAGE_LOST, 0, s->job);
    g_propagate_error(error, g_steal_pointer(&first));
    return FALSE;
}

gboolean xldrv_standstill_begin(XldrvStandstill *s, GError **error)
{
    guint parked = for_each(s, s->targets->len, xldrv_disk_park, error);

    if (parked == s->targets->len)
        return TRUE;
    go_on(s, parked, NULL);
    return FALSE;
}

gboolean xldrv_standstill_end(XldrvStandstill *s, GError **error)
{
    return go_on(s, s->targets->len, error);
}
