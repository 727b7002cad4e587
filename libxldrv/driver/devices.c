/* What disks and network interfaces of running domains have in common. */
#include "config.h"

#include "libxldrv/driver/devices.h"

#include <errno.h>

#include "libxldrv/driver/nic.h"
#include "libxldrv/driver/storage.h"

/* The hypervisor gives up on a guest that does not let go after 10 s; a little more, so that it has said so. */
#define DETACH_SECONDS 12
#define POLL_US        20000

gboolean xldrv_devices_make_all(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error)
{
    xldrv_instance_take_made(host->instance, g_hash_table_new_full(NULL, NULL, NULL, xldrv_nic_port_free));
    for (guint i = 0; config->disks && i < config->disks->len; i++) {
        if (!xldrv_disk_make(host, config->disks->pdata[i], error))
            return FALSE;
    }
    for (guint i = 0; config->interfaces && i < config->interfaces->len; i++) {
        if (!xldrv_nic_make(host, config->interfaces->pdata[i], xldrv_nic_devid(config->interfaces->pdata[i], i), error))
            return FALSE;
    }
    return TRUE;
}

gboolean xldrv_devices_attach_all(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error)
{
    for (guint i = 0; config->disks && i < config->disks->len; i++) {
        if (!xldrv_disk_attach(host, config->disks->pdata[i], error))
            return FALSE;
    }
    for (guint i = 0; config->interfaces && i < config->interfaces->len; i++) {
        if (!xldrv_nic_attach(host, config->interfaces->pdata[i], xldrv_nic_devid(config->interfaces->pdata[i], i), error))
            return FALSE;
    }
    return TRUE;
}

void xldrv_devices_clean_up(XldrvDriver *driver, const XmlconfDomainConfig *config)
{
    xldrv_storage_close_all(driver, config->uuid);
    for (guint i = 0; config->interfaces && i < config->interfaces->len; i++)
        xldrv_nic_close(driver, config->uuid, config->interfaces->pdata[i]);
}

typedef struct {
    XldrvDetach *detach;
    gboolean gone;
} Look;

static int look(struct domctl *ctl, gpointer data)
{
    Look *look = data;
    int rc = look->detach->look(ctl, look->detach);

    look->gone = rc == -ENODEV;
    return look->gone ? 0 : rc;
}

/* A paused guest cannot answer; nor can one without a driver, which the hypervisor knows. */
gboolean xldrv_device_detach(XldrvDetach *detach, GError **error)
{
    g_autofree char *what = g_strdup_printf("detach %s from", detach->what);
    gint64 end = g_get_monotonic_time() + DETACH_SECONDS * G_TIME_SPAN_SECOND;
    Look state = {.detach = detach};

    if (!xldrv_instance_control(detach->instance, what, detach->ask, detach, error))
        return FALSE;
    for (;;) {
        if (!xldrv_instance_control(detach->instance, what, look, &state, error))
            return FALSE;
        if (state.gone)
            return TRUE;
        if (g_get_monotonic_time() > end)
            return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the guest does not let go of %s",
                                   detach->what);
        g_usleep(POLL_US);
    }
}
