/* A snapshot that is being taken, on disk: so that a daemon that ends in between leaves all of it or nothing.
 *
 * The file "pending" of the domain's snapshots (moments.h) has a line of what else is to be known of it, then its document, from
 * before anything is made until it is known for good. Who finds it there looks whether the disks have the snapshot. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/target.h"
#include "libxldrv/driver/wire.h"

#define REUSE  "reuse"
#define HIDDEN "no-metadata"

#define KIND XLDRV_SNAPSHOTS

gboolean xldrv_snapshot_announce(XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *snapshot, gboolean reuse,
                                 gboolean hidden, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = xmlconf_snapshot_format(snapshot, XMLCONF_FORMAT_SECURE, &why);
    g_autofree char *text = xml ? g_strdup_printf("%s %s\n%s", reuse ? REUSE : "", hidden ? HIDDEN : "", xml) : NULL;

    if (text)
        return xldrv_moments_set_pending(KIND, driver, job, text, error);
    return xldrv_set_xml_error(error, g_steal_pointer(&why));
}

void xldrv_snapshot_forget(XldrvDriver *driver, XldrvJob *job)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_moments_set_pending(KIND, driver, job, NULL, &why))
        g_warning("%s", why->message);
}

/* ---- what a daemon that ended left */

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    XldrvDeviceHost host;
    XmlconfDomain *config; /* whose disks all have paths */
    XmlconfSnapshot *snapshot;
    gboolean reuse, hidden;
} Pending;

static void clear(Pending *p)
{
    g_clear_pointer(&p->config, xmlconf_domain_unref);
    g_clear_pointer(&p->snapshot, xmlconf_snapshot_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pending, clear)

static gboolean load(Pending *p, XldrvDriver *driver, XldrvJob *job)
{
    g_autofree char *text = xldrv_moments_pending(KIND, driver, job);
    char *end = text ? strchr(text, '\n') : NULL;
    g_autoptr(GError) why = NULL;

    *p = (Pending){.driver = driver, .job = job, .host = {driver, job->instance, job->uuid_text, job->name}};
    if (!end)
        return FALSE;
    *end = '\0';
    p->reuse = strstr(text, REUSE) != NULL;
    p->hidden = strstr(text, HIDDEN) != NULL;
    p->snapshot = xmlconf_snapshot_parse(end + 1, 0, &why);
    p->config = p->snapshot ? xldrv_snapshot_config(driver, job, &why) : NULL;
    if (p->config)
        return TRUE;
    g_warning("what is left of a snapshot of domain '%s' that was not completed stays: %s", job->name, why->message);
    return FALSE;
}

static char *memory_path(const Pending *p)
{
    if (p->snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL)
        return g_strdup(p->snapshot->memory_file);
    return p->snapshot->memory == XMLCONF_SNAPSHOT_INTERNAL
               ? xldrv_snapshots_memory_path(p->driver, p->job, p->snapshot->name)
               : NULL;
}

static gboolean is_taken(const Pending *p)
{
    g_autofree char *memory = memory_path(p);

    return (!memory || access(memory, F_OK) == 0) && xldrv_overlays_are_used(p->config, p->snapshot) &&
           xldrv_snapshot_images_check(p->config, p->snapshot, NULL);
}

static gboolean keep(const Pending *p, GError **error)
{
    return p->hidden || (xldrv_moments_put(KIND, p->driver, p->job, p->snapshot, error) &&
                         xldrv_moments_set_current(KIND, p->driver, p->job, p->snapshot->name, error));
}

static void remove_memory(const Pending *p)
{
    g_autofree char *memory = memory_path(p);
    g_autofree char *part = memory ? g_strconcat(memory, XLDRV_TARGET_PART, NULL) : NULL;

    if (memory) {
        unlink(part);
        unlink(memory);
    }
}

static gboolean undo(const Pending *p, GError **error)
{
    if (!xldrv_overlays_put_back(p->driver, p->job, p->snapshot, error))
        return FALSE;
    remove_memory(p);
    if (p->reuse)
        xldrv_overlays_take_back(p->job, p->config, p->snapshot);
    else
        xldrv_overlays_remove_unused(p->job, p->snapshot);
    return xldrv_snapshot_images_drop(&p->host, p->config, p->snapshot, error);
}

void xldrv_snapshot_recover(XldrvDriver *driver, XldrvJob *job)
{
    g_auto(Pending) p = {0};
    g_autoptr(GError) why = NULL;

    if (!load(&p, driver, job))
        return;
    if (is_taken(&p) ? keep(&p, &why) : undo(&p, &why))
        xldrv_snapshot_forget(driver, job);
    else
        g_warning("snapshot '%s' of domain '%s', which was not completed: %s", p.snapshot->name, job->name, why->message);
}
