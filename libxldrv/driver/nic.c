/* Network interfaces of running domains: a tap on the host, nodes in the store, a back end in the hypervisor. */
#include "config.h"

#include "libxldrv/driver/nic.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/network.h"
#include "libxldrv/driver/passt.h"
#include "libxldrv/host/net.h"

#define KIND         "vif"
#define ALIAS_PREFIX "net"

/* The number is kept in the alias, which a running domain's document has. */
static guint devid_of(const XmlconfInterface *interface)
{
    guint64 devid = 0;

    if (interface->alias && g_str_has_prefix(interface->alias, ALIAS_PREFIX))
        g_ascii_string_to_unsigned(interface->alias + strlen(ALIAS_PREFIX), 10, 0, G_MAXUINT32, &devid, NULL);
    return (guint)devid;
}

guint xldrv_nic_devid(const XmlconfInterface *interface, guint index)
{
    return interface->alias && g_str_has_prefix(interface->alias, ALIAS_PREFIX) ? devid_of(interface) : index;
}

guint xldrv_nic_free_devid(const GPtrArray *interfaces)
{
    guint n = interfaces ? interfaces->len : 0;

    for (guint devid = 0; devid < n; devid++) {
        gboolean used = FALSE;
        for (guint i = 0; i < n && !used; i++)
            used = devid_of(interfaces->pdata[i]) == devid;
        if (!used)
            return devid;
    }
    return n;
}

/* A tap's name that no other has: another daemon of this machine may have a domain of the same id. */
static char *free_tap(int id, guint devid)
{
    g_autofree char *first = xmlconf_interface_tap(id, devid);
    char *name = g_strdup(first);

    for (guint n = 1; n < 100 && xldrv_link_exists(name); n++) {
        g_free(name);
        name = g_strdup_printf("%s-%u", first, n);
    }
    return name;
}

/* What a running domain's document says of it. A name that the user gave stays. */
static void fill_live_fields(XmlconfInterface *interface, int id, guint devid)
{
    g_free(interface->alias);
    interface->alias = g_strdup_printf(ALIAS_PREFIX "%u", devid);
    if (!interface->target || xmlconf_interface_is_generated(interface->target)) {
        g_free(interface->target);
        interface->target = free_tap(id, devid);
    }
}

static void remove_nodes(const XldrvDeviceHost *host, guint devid)
{
    xldrv_store_remove_device(host->driver->store, xldrv_instance_id(host->instance), KIND, devid);
}

static gboolean add_nodes(const XldrvDeviceHost *host, const XmlconfInterface *interface, guint devid, GError **error)
{
    g_autofree char *handle = g_strdup_printf("%u", devid);
    g_autofree char *mtu = g_strdup_printf("%u", interface->mtu);
    const XldrvStoreKey backend[] = {
        {"vifname", interface->target}, {"mac", interface->mac}, {"handle", handle}, {"type", "vif"}, {NULL, NULL},
    };
    const XldrvStoreKey frontend[] = {
        {"handle", handle}, {"mac", interface->mac}, {interface->mtu ? "mtu" : NULL, mtu}, {NULL, NULL},
    };
    const XldrvStoreKey hidden[] = {
        {interface->bridge ? "bridge" : NULL, interface->bridge}, {NULL, NULL},
    };
    const XldrvStoreDevice device = {
        .id = xldrv_instance_id(host->instance),
        .kind = KIND,
        .devid = devid,
        .backend = backend,
        .frontend = frontend,
        .hidden = hidden,
    };

    return xldrv_store_add_device(host->driver->store, &device, error);
}

/* ---- attach */

typedef struct {
    struct domus_vif vif;
    XldrvNicPort port;
} Attach;

static int attach_vif(struct domctl *ctl, gpointer data)
{
    Attach *attach = data;

    return domctl_vif_attach(ctl, &attach->vif, attach->port.fds);
}

static gboolean attach_back_end(const XldrvDeviceHost *host, const XmlconfInterface *interface, Attach *attach,
                                GError **error)
{
    g_autofree char *what = g_strdup_printf("attach interface '%s' to", interface->mac);
    g_autoptr(GError) why = NULL;

    if (xldrv_instance_control(host->instance, what, attach_vif, attach, &why))
        return TRUE;
    attach->vif.error[sizeof(attach->vif.error) - 1] = '\0';
    if (!attach->vif.error[0]) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot attach interface '%s' on '%s': %s",
                           interface->mac, interface->target, attach->vif.error);
}

void xldrv_nic_prepare(XmlconfInterface *interface, int id, guint devid)
{
    fill_live_fields(interface, id, devid);
    xldrv_network_name(interface);
}

static gboolean parse_mac(const XmlconfInterface *interface, guint8 mac[6], GError **error)
{
    guint bytes[6];

    if (sscanf(interface->mac, "%2x:%2x:%2x:%2x:%2x:%2x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
               &bytes[5]) != 6)
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "interface has MAC address '%s'", interface->mac);
    for (gsize i = 0; i < 6; i++)
        mac[i] = (guint8)bytes[i];
    return TRUE;
}

static struct domus_vif_rate rate_of(const XmlconfRate *rate)
{
    return (struct domus_vif_rate){rate->average_kib * 1024ull, rate->peak_kib * 1024ull, rate->burst_kib * 1024ull};
}

/* From the nodes on; what is before is undone by the caller. */
static gboolean connect_guest(const XldrvDeviceHost *host, const XmlconfInterface *interface, Attach *attach,
                              GError **error)
{
    attach->vif.port = attach->port.kind;
    attach->vif.queues = attach->port.n_fds;
    attach->vif.from_guest = rate_of(&interface->bandwidth.outbound);
    attach->vif.to_guest = rate_of(&interface->bandwidth.inbound);
    if (!xldrv_instance_made(host->instance) && !add_nodes(host, interface, attach->vif.devid, error))
        return FALSE;
    if (attach_back_end(host, interface, attach, error))
        return TRUE;
    remove_nodes(host, attach->vif.devid);
    return FALSE;
}

/* Everything but what it is connected by. */
static gboolean plug(const XldrvDeviceHost *host, XmlconfInterface *interface, guint devid, guint8 mac[6], GError **error)
{
    xldrv_nic_prepare(interface, xldrv_instance_id(host->instance), devid);
    return parse_mac(interface, mac, error) && xldrv_nic_plug(host, interface, error);
}

gboolean xldrv_nic_make(const XldrvDeviceHost *host, XmlconfInterface *interface, guint devid, GError **error)
{
    g_autofree XldrvNicPort *port = g_new0(XldrvNicPort, 1);
    guint8 mac[6];

    if (!plug(host, interface, devid, mac, error))
        return FALSE;
    if (xldrv_nic_can_wait(interface)) {
        if (!xldrv_nic_open(host, interface, mac, port, error))
            return FALSE;
        xldrv_tap_drop_carrier(port->fds[0]);
        g_hash_table_insert(xldrv_instance_made(host->instance), interface, g_steal_pointer(&port));
    }
    return add_nodes(host, interface, devid, error);
}

/* What was kept of it, or is made now. */
static gboolean open_port(const XldrvDeviceHost *host, XmlconfInterface *interface, Attach *attach, GError **error)
{
    GHashTable *made = xldrv_instance_made(host->instance);
    XldrvNicPort *kept = made ? g_hash_table_lookup(made, interface) : NULL;

    if (made ? !parse_mac(interface, attach->vif.mac, error)
             : !plug(host, interface, attach->vif.devid, attach->vif.mac, error))
        return FALSE;
    if (!kept)
        return xldrv_nic_open(host, interface, attach->vif.mac, &attach->port, error);
    attach->port = *kept;
    kept->n_fds = 0; /* they have gone over */
    return TRUE;
}

gboolean xldrv_nic_attach(const XldrvDeviceHost *host, XmlconfInterface *interface, guint devid, GError **error)
{
    Attach attach = {.vif = {.devid = devid,
                             .mtu = interface->mtu,
                             .link_down = interface->link == XMLCONF_LINK_DOWN}};
    gboolean ok;

    if (!open_port(host, interface, &attach, error))
        return FALSE;
    ok = connect_guest(host, interface, &attach, error);
    xldrv_tap_close(attach.port.fds, attach.port.n_fds); /* the hypervisor has its own */
    if (!ok)
        xldrv_nic_close(host->driver, host->uuid, interface);
    return ok;
}

/* ---- detach, link, limits, statistics */

static int ask_vif(struct domctl *ctl, gpointer data)
{
    const XldrvDetach *detach = data;

    return domctl_vif_detach(ctl, detach->devid, detach->force);
}

static int look_at_vif(struct domctl *ctl, gpointer data)
{
    const XldrvDetach *detach = data;
    struct domus_vif_stats stats;

    return domctl_vif_stats(ctl, detach->devid, &stats);
}

gboolean xldrv_nic_detach(const XldrvDeviceHost *host, const XmlconfInterface *interface, gboolean force,
                          GError **error)
{
    g_autofree char *what = g_strdup_printf("interface '%s'", interface->mac);
    XldrvDetach detach = {.instance = host->instance,
                          .what = what,
                          .devid = devid_of(interface),
                          .ask = ask_vif,
                          .look = look_at_vif,
                          .force = force};

    if (!xldrv_device_detach(&detach, error))
        return FALSE;
    remove_nodes(host, detach.devid);
    xldrv_nic_close(host->driver, host->uuid, interface);
    return TRUE;
}

typedef struct {
    guint devid;
    gboolean up;
} Link;

static int set_link(struct domctl *ctl, gpointer data)
{
    const Link *link = data;

    return domctl_vif_set_link(ctl, link->devid, link->up);
}

gboolean xldrv_nic_set_link(XldrvInstance *instance, const XmlconfInterface *interface, gboolean up, GError **error)
{
    g_autofree char *what = g_strdup_printf("set the link of interface '%s' of", interface->mac);
    Link link = {devid_of(interface), up};

    return xldrv_instance_control(instance, what, set_link, &link, error);
}

static int set_limits(struct domctl *ctl, gpointer data)
{
    return domctl_vif_set_limits(ctl, data);
}

gboolean xldrv_nic_set_limits(XldrvInstance *instance, const XmlconfInterface *interface,
                              const XmlconfBandwidth *bandwidth, GError **error)
{
    g_autofree char *what = g_strdup_printf("limit interface '%s' of", interface->mac);
    struct domus_vif_limits limits = {.devid = devid_of(interface),
                                      .from_guest = rate_of(&bandwidth->outbound),
                                      .to_guest = rate_of(&bandwidth->inbound)};

    return xldrv_instance_control(instance, what, set_limits, &limits, error);
}

static int get_stats(struct domctl *ctl, gpointer data)
{
    struct domus_vif_stats *stats = data;

    return domctl_vif_stats(ctl, stats->devid, stats);
}

/* The hypervisor counts as its tap does: what the tap transmits the guest receives. */
gboolean xldrv_nic_stats(XldrvInstance *instance, const XmlconfInterface *interface, XldrvNicStats *stats,
                         GError **error)
{
    g_autofree char *what = g_strdup_printf("get statistics of interface '%s' of", interface->mac);
    struct domus_vif_stats raw = {.devid = devid_of(interface)};

    if (!xldrv_instance_control(instance, what, get_stats, &raw, error))
        return FALSE;
    *stats = (XldrvNicStats){
        .rx_bytes = raw.tx_bytes,
        .rx_packets = raw.tx_packets,
        .rx_errors = raw.tx_errors,
        .rx_dropped = raw.tx_dropped,
        .tx_bytes = raw.rx_bytes,
        .tx_packets = raw.rx_packets,
        .tx_errors = raw.rx_errors,
        .tx_dropped = raw.rx_dropped,
        .lost = raw.port_lost != 0,
    };
    return TRUE;
}

/* ---- what serves it, again */

typedef struct {
    guint devid;
    int fd;
} Port;

static int set_port(struct domctl *ctl, gpointer data)
{
    const Port *port = data;

    return domctl_vif_set_port(ctl, port->devid, port->fd);
}

/* The one that is lost may be ending still: what it listens on is free when it has. */
static gboolean reconnect(const XldrvDeviceHost *host, const XmlconfInterface *interface, GError **error)
{
    g_autofree char *what = g_strdup_printf("connect interface '%s' of", interface->mac);
    Port port = {devid_of(interface), -1};
    gboolean ok;

    xldrv_passt_stop(host->driver, host->uuid, interface);
    if (!xldrv_passt_start(host, interface, &port.fd, error))
        return FALSE;
    ok = xldrv_instance_control(host->instance, what, set_port, &port, error);
    close(port.fd);
    if (ok)
        g_message("interface '%s' of domain '%s' is served again", interface->mac, host->name);
    return ok;
}

gboolean xldrv_nic_is_lost(XldrvInstance *instance, const XmlconfInterface *interface)
{
    XldrvNicStats stats;

    return interface->actual == XMLCONF_INTERFACE_USER && xldrv_nic_stats(instance, interface, &stats, NULL) && stats.lost;
}

gboolean xldrv_nics_reconnect(const XldrvDeviceHost *host, const GPtrArray *interfaces, GError **error)
{
    for (guint i = 0; interfaces && i < interfaces->len; i++) {
        if (xldrv_nic_is_lost(host->instance, interfaces->pdata[i]) && !reconnect(host, interfaces->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}
