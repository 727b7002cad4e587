/* Procedures that attach, detach and update devices, live and in the definition.
 *
 * Whatever can be refused without touching the guest is refused first: the change is tried on copies of the documents.
 * Then the guest gets the device, then the definition is saved; if that fails the guest loses it again. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/agent.h"
#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/change.h"
#include "libxldrv/driver/consoles.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/display.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define IMPACT_FLAGS (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)

/* One operation under way. */
typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    XldrvImpact impact;
    XmlconfDevice *device;
    gboolean force;
} Hotplug;

typedef gboolean (*HotplugFn)(Hotplug *h, GError **error);

static XldrvDeviceHost device_host(const Hotplug *h)
{
    return (XldrvDeviceHost){h->driver, h->job->instance, h->job->uuid_text, h->job->name};
}

/* Makes one of xmlconf's errors ours. */
static gboolean check_xml(gboolean ok, GError **why, GError **error)
{
    return ok || xldrv_set_xml_error(error, g_steal_pointer(why));
}

static int find(XmlconfDomain *domain, const XmlconfDevice *device, GError **error)
{
    g_autoptr(GError) why = NULL;
    int index = xmlconf_domain_find_device(domain, device, &why);

    check_xml(index >= 0, &why, error);
    return index;
}

/* Whether what is asked for makes sense in all documents that it is meant for. */
static gboolean try_change(const Hotplug *h, XldrvChangeFn fn, GError **error)
{
    g_autoptr(XmlconfDomain) live = h->impact.live ? xmlconf_domain_copy(h->job->live) : NULL;
    g_autoptr(XmlconfDomain) config = h->impact.config ? xmlconf_domain_copy(h->job->config) : NULL;

    return (!live || fn(live, h->device, error)) && (!config || fn(config, h->device, error));
}

static gboolean change_one(const Hotplug *h, gboolean live, const XmlconfDevice *device, XldrvChangeFn fn,
                           GError **error)
{
    const XldrvImpact impact = {.live = live, .config = !live};

    return xldrv_change(h->driver, h->job, &impact, fn, device, error);
}

/* ---- attach */

static gboolean add_device(XmlconfDomain *domain, gconstpointer device, GError **error)
{
    g_autoptr(GError) why = NULL;

    return check_xml(xmlconf_domain_add_device(domain, device, &why), &why, error);
}

static gboolean attach_disk(const Hotplug *h G_GNUC_UNUSED, const XldrvDeviceHost *host, gpointer disk, GError **error)
{
    return xldrv_disk_attach(host, disk, error);
}

static gboolean detach_disk(const XldrvDeviceHost *host, gconstpointer disk, gboolean force, GError **error)
{
    return xldrv_blockjob_check_disk(disk, error) && xldrv_disk_detach(host, disk, force, error);
}

static gboolean attach_interface(const Hotplug *h, const XldrvDeviceHost *host, gpointer interface, GError **error)
{
    const GPtrArray *interfaces = xmlconf_domain_devices(h->job->live, XMLCONF_DEVICE_INTERFACE);

    return xldrv_nic_attach(host, interface, xldrv_nic_free_devid(interfaces), error);
}

static gboolean detach_interface(const XldrvDeviceHost *host, gconstpointer interface, gboolean force, GError **error)
{
    return xldrv_nic_detach(host, interface, force, error);
}

static gboolean attach_console(const Hotplug *h, const XldrvDeviceHost *host, gpointer item, GError **error)
{
    XmlconfConsole *console = item;
    guint free_port = xmlconf_console_free_port(xmlconf_domain_config(h->job->live));

    if (console->port && console->port != free_port)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "the next console is at port %u, not %u", free_port,
                               console->port);
    console->port = free_port;
    return xldrv_console_attach(host, console, error);
}

static gboolean detach_console(const XldrvDeviceHost *host, gconstpointer console, gboolean force, GError **error)
{
    return xldrv_console_detach(host, console, force, error);
}

static gboolean attach_graphics(const Hotplug *h, const XldrvDeviceHost *host, gpointer item, GError **error)
{
    (void)h, (void)host, (void)item;
    return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "graphics cannot be attached to a running domain");
}

static gboolean detach_graphics(const XldrvDeviceHost *host, gconstpointer item, gboolean force, GError **error)
{
    (void)host, (void)item, (void)force;
    return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "graphics cannot be detached from a running domain");
}

static const struct {
    gboolean (*attach)(const Hotplug *h, const XldrvDeviceHost *host, gpointer item, GError **error);
    gboolean (*detach)(const XldrvDeviceHost *host, gconstpointer item, gboolean force, GError **error);
} kinds[] = {
    [XMLCONF_DEVICE_DISK] = {attach_disk, detach_disk},
    [XMLCONF_DEVICE_INTERFACE] = {attach_interface, detach_interface},
    [XMLCONF_DEVICE_CONSOLE] = {attach_console, detach_console},
    [XMLCONF_DEVICE_CHANNEL] = {attach_console, detach_console},
    [XMLCONF_DEVICE_GRAPHICS] = {attach_graphics, detach_graphics},
};

static gboolean attach_live(const Hotplug *h, XmlconfDevice *device, GError **error)
{
    const XldrvDeviceHost host = device_host(h);

    return kinds[xmlconf_device_type(device)].attach(h, &host, xmlconf_device_item(device), error);
}

static gboolean detach_live(const Hotplug *h, XmlconfDeviceType type, gconstpointer item, gboolean force,
                            GError **error)
{
    const XldrvDeviceHost host = device_host(h);

    return kinds[type].detach(&host, item, force, error);
}

static gboolean is_agents_channel(XmlconfDeviceType type, gconstpointer item)
{
    return type == XMLCONF_DEVICE_CHANNEL && xldrv_channel_is_agents(item);
}

static gboolean attach(Hotplug *h, GError **error)
{
    /* What a running domain has beside belongs in no definition. */
    g_autoptr(XmlconfDevice) live = xmlconf_device_copy(h->device);
    XmlconfDeviceType type = xmlconf_device_type(live);

    if (!try_change(h, add_device, error) || (h->impact.live && !attach_live(h, live, error)))
        return FALSE;
    if (h->impact.config && !change_one(h, FALSE, h->device, add_device, error)) {
        if (h->impact.live)
            detach_live(h, type, xmlconf_device_item(live), TRUE, NULL);
        return FALSE;
    }
    if (!h->impact.live)
        return TRUE;
    if (!change_one(h, TRUE, live, add_device, error))
        return FALSE;
    if (is_agents_channel(type, xmlconf_device_item(live)))
        xldrv_agent_open(h->driver, h->job);
    xldrv_event_device(h->driver->events, h->job, VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, xmlconf_device_alias(type, xmlconf_device_item(live)));
    return TRUE;
}

/* ---- detach */

static gboolean remove_device(XmlconfDomain *domain, gconstpointer device, GError **error)
{
    int index = find(domain, device, error);

    if (index < 0)
        return FALSE;
    if (index == 0 && xmlconf_device_type(device) == XMLCONF_DEVICE_CONSOLE)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "a domain cannot do without its first console");
    xmlconf_domain_remove_device(domain, xmlconf_device_type(device), (guint)index);
    return TRUE;
}

/* The copy is of a document that others may replace meanwhile: names are looked at after it. */
static gboolean remove_live(const Hotplug *h, GError **error)
{
    XmlconfDeviceType type = xmlconf_device_type(h->device);
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(h->job->live);
    int index = find(live, h->device, error);
    gconstpointer item = index < 0 ? NULL : xmlconf_domain_devices(live, type)->pdata[index];
    gboolean gone;

    if (!item)
        return FALSE;
    if (is_agents_channel(type, item))
        xldrv_agent_close(h->job);
    gone = detach_live(h, type, item, h->force, error);
    if (!gone && is_agents_channel(type, item))
        xldrv_agent_open(h->driver, h->job);
    if (gone && !change_one(h, TRUE, h->device, remove_device, error))
        return FALSE;
    xldrv_event_device(h->driver->events, h->job,
                       gone ? VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED : VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
                       xmlconf_device_alias(type, item));
    return gone;
}

static gboolean detach(Hotplug *h, GError **error)
{
    if (!try_change(h, remove_device, error) || (h->impact.live && !remove_live(h, error)))
        return FALSE;
    return !h->impact.config || change_one(h, FALSE, h->device, remove_device, error);
}

/* ---- update */

static gboolean replace_device(XmlconfDomain *domain, gconstpointer device, GError **error)
{
    g_autoptr(GError) why = NULL;
    int index = find(domain, device, error);

    if (index >= 0)
        xmlconf_domain_replace_device(domain, device, (guint)index);
    return index >= 0;
}

/* What cannot change under a guest; @wanted may leave open what the driver chose. */
static gboolean check_update(const XmlconfInterface *now, const XmlconfInterface *wanted, GError **error)
{
    const char *problem = NULL;

    if (now->type != wanted->type)
        problem = "type";
    else if (g_strcmp0(now->network, wanted->network) != 0)
        problem = "network";
    else if (g_strcmp0(now->portgroup, wanted->portgroup) != 0)
        problem = "port group";
    else if (now->type == XMLCONF_INTERFACE_BRIDGE && g_strcmp0(now->bridge, wanted->bridge) != 0)
        problem = "bridge";
    else if (now->type == XMLCONF_INTERFACE_DIRECT && (g_strcmp0(now->dev, wanted->dev) != 0 ||
                                                       g_strcmp0(now->mode, wanted->mode) != 0))
        problem = "device";
    else if (now->type == XMLCONF_INTERFACE_USER && g_strcmp0(now->dev, wanted->dev) != 0)
        problem = "device";
    else if (g_strcmp0(now->filter, wanted->filter) != 0)
        problem = "filter";
    else if (now->queues != wanted->queues)
        problem = "number of queues";
    else if (now->mtu != wanted->mtu)
        problem = "MTU";
    else if (wanted->target && g_strcmp0(now->target, wanted->target) != 0)
        problem = "target";
    return !problem || xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                                       "cannot change the %s of interface '%s' while the domain runs", problem,
                                       now->mac);
}

static void replace_text(char **text, const char *with)
{
    g_free(*text);
    *text = g_strdup(with);
}

/* What the driver chose stays. */
static void keep_of_interface(XmlconfInterface *wanted, const XmlconfInterface *now)
{
    wanted->actual = now->actual;
    replace_text(&wanted->alias, now->alias);
    replace_text(&wanted->target, now->target);
    replace_text(&wanted->port_id, now->port_id);
    replace_text(&wanted->bridge, now->bridge);
    replace_text(&wanted->dev, now->dev);
    replace_text(&wanted->mode, now->mode);
}

static gboolean update_live(const Hotplug *h, XmlconfDevice *device, GError **error)
{
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(h->job->live);
    XmlconfInterface *wanted = xmlconf_device_interface(device);
    int index = find(live, device, error);
    const XmlconfInterface *now = index < 0 ? NULL : xmlconf_domain_devices(live, XMLCONF_DEVICE_INTERFACE)->pdata[index];

    if (!now || !check_update(now, wanted, error) ||
        !xldrv_nic_set_limits(h->job->instance, now, &wanted->bandwidth, error))
        return FALSE;
    keep_of_interface(wanted, now);
    if (xldrv_nic_set_link(h->job->instance, now, wanted->link != XMLCONF_LINK_DOWN, error) &&
        change_one(h, TRUE, device, replace_device, error))
        return TRUE;
    xldrv_nic_set_limits(h->job->instance, now, &now->bandwidth, NULL);
    xldrv_nic_set_link(h->job->instance, now, now->link != XMLCONF_LINK_DOWN, NULL);
    return FALSE;
}

/* Of a drive, the medium alone; what is not said of the rest is as it was. */
static gboolean check_disk_update(const XmlconfDisk *now, const XmlconfDisk *wanted, GError **error)
{
    if (now->device != XMLCONF_DISK_CDROM || wanted->device != XMLCONF_DISK_CDROM)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "disk '%s' cannot be changed while the domain runs", now->target);
    if (wanted->serial && g_strcmp0(now->serial, wanted->serial) != 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "cannot change the serial of drive '%s' while the domain runs", now->target);
    return TRUE;
}

static void keep_of_drive(XmlconfDisk *wanted, const XmlconfDisk *now)
{
    replace_text(&wanted->alias, now->alias);
    replace_text(&wanted->serial, now->serial);
    wanted->error_policy = now->error_policy;
    wanted->rerror_policy = now->rerror_policy;
    wanted->iotune = now->iotune;
    wanted->tray_open = !xmlconf_disk_source(wanted);
}

static gboolean update_disk(const Hotplug *h, XmlconfDevice *device, GError **error)
{
    const XldrvDeviceHost host = device_host(h);
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(h->job->live);
    XmlconfDisk *wanted = xmlconf_device_disk(device);
    int index = find(live, device, error);
    const XmlconfDisk *now = index < 0 ? NULL : xmlconf_domain_devices(live, XMLCONF_DEVICE_DISK)->pdata[index];

    if (!now || !check_disk_update(now, wanted, error) || !xldrv_disk_change_medium(&host, now, wanted, error))
        return FALSE;
    keep_of_drive(wanted, now);
    if (!change_one(h, TRUE, device, replace_device, error))
        return FALSE;
    xldrv_event_tray(h->driver->events, h->job, wanted->alias, TRUE);
    if (!wanted->tray_open)
        xldrv_event_tray(h->driver->events, h->job, wanted->alias, FALSE);
    return TRUE;
}

/* Of graphics, the password. */
static gboolean update_graphics(const Hotplug *h, XmlconfDevice *device, GError **error)
{
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(h->job->live);
    XmlconfGraphics *wanted = xmlconf_device_graphics(device);
    int index = find(live, device, error);
    const XmlconfGraphics *now = index < 0 ? NULL : xmlconf_domain_devices(live, XMLCONF_DEVICE_GRAPHICS)->pdata[index];

    if (!now || !xldrv_display_check_update(now, wanted, error) ||
        !xldrv_display_set_password(h->driver, h->job->uuid_text, wanted, error))
        return FALSE;
    replace_text(&wanted->address, now->address);
    replace_text(&wanted->socket, now->socket);
    wanted->port = now->port;
    wanted->autoport = now->autoport;
    wanted->websocket = now->websocket;
    wanted->websocket_port = now->websocket_port;
    return change_one(h, TRUE, device, replace_device, error);
}

static gboolean update(Hotplug *h, GError **error)
{
    g_autoptr(XmlconfDevice) live = xmlconf_device_copy(h->device);
    gboolean (*apply)(const Hotplug *, XmlconfDevice *, GError **) = xmlconf_device_disk(live)       ? update_disk
                                                                     : xmlconf_device_graphics(live) ? update_graphics
                                                                                                     : update_live;

    if (xmlconf_device_console(live))
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "consoles and channels cannot be updated");

    if (!try_change(h, replace_device, error) ||
        (h->impact.live && !apply(h, live, error)))
        return FALSE;
    return !h->impact.config || change_one(h, FALSE, h->device, replace_device, error);
}

/* ---- procedures */

static GVariant *run(GVariant *args, guint flags, const char *what, HotplugFn fn, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(XmlconfDevice) device = xmlconf_device_parse(xldrv_args_string(args, 1), &why);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    Hotplug h = {.driver = xldrv_driver_get(), .device = device};

    if (!check_xml(device != NULL, &why, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, what, error) : NULL;
    if (!job || !xldrv_impact(job, flags, &h.impact, error))
        return NULL;
    h.job = job;
    return fn(&h, error) ? xldrv_reply_void() : NULL;
}

static gboolean detach_alias(Hotplug *h, const char *alias, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(XmlconfDevice) device = NULL;

    if (h->impact.config)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "devices of a definition have no alias, so '%s' cannot be detached from it", alias);
    device = xmlconf_domain_copy_device(h->job->live, alias, &why);
    h->device = device;
    return check_xml(device != NULL, &why, error) && detach(h, error);
}

GVariant *xldrv_handle_domain_detach_device_alias(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    Hotplug h = {.driver = xldrv_driver_get()};

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "detach device", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &h.impact, error))
        return NULL;
    h.job = job;
    return detach_alias(&h, xldrv_args_string(args, 1), error) ? xldrv_reply_void() : NULL;
}

/* The older procedures are of running domains. */
static GVariant *run_live(GVariant *args, const char *what, HotplugFn fn, GError **error)
{
    return run(args, VIR_DOMAIN_AFFECT_LIVE, what, fn, error);
}

static GVariant *run_flags(GVariant *args, const char *function, const char *what, HotplugFn fn, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);

    return xldrv_check_flags(flags, IMPACT_FLAGS, function, error) ? run(args, flags, what, fn, error) : NULL;
}

GVariant *xldrv_handle_domain_attach_device(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return run_live(args, "attach device", attach, error);
}

GVariant *xldrv_handle_domain_attach_device_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return run_flags(args, G_STRFUNC, "attach device", attach, error);
}

GVariant *xldrv_handle_domain_detach_device(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return run_live(args, "detach device", detach, error);
}

GVariant *xldrv_handle_domain_detach_device_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return run_flags(args, G_STRFUNC, "detach device", detach, error);
}

GVariant *xldrv_handle_domain_update_device_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);

    /* A tray that the guest holds shut is forced open: no guest of this kind can. */
    if (!xldrv_check_flags(flags, IMPACT_FLAGS | VIR_DOMAIN_DEVICE_MODIFY_FORCE, G_STRFUNC, error))
        return NULL;
    return run(args, flags & IMPACT_FLAGS, "update device", update, error);
}
