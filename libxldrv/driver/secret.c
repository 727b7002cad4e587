/* Secrets of images: asked of libvirt's secret daemon through its public interface. */
#include "config.h"

#include "libxldrv/driver/secret.h"

#include <libvirt/libvirt.h>
#include <string.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/rpc/rpc.h"

static virSecretPtr look_up(virConnectPtr connection, const char *uuid, const char *usage)
{
    return uuid ? virSecretLookupByUUIDString(connection, uuid)
                : virSecretLookupByUsage(connection, VIR_SECRET_USAGE_TYPE_VOLUME, usage);
}

static GBytes *value_of(virSecretPtr secret)
{
    size_t bytes = 0;
    unsigned char *value = virSecretGetValue(secret, &bytes, 0);
    GBytes *copy = value ? g_bytes_new(value, bytes) : NULL;

    if (value)
        explicit_bzero(value, bytes);
    free(value);
    return copy;
}

GBytes *xldrv_secret_get(const char *uuid, const char *usage, GError **error)
{
    const char *uri = xldrv_driver_get()->secret_uri;
    virConnectPtr connection = virConnectOpen(uri);
    virSecretPtr secret = connection ? look_up(connection, uuid, usage) : NULL;
    GBytes *value = secret ? value_of(secret) : NULL;

    if (!value)
        xldrv_set_error(error, VIR_ERR_NO_SECRET, "cannot get secret '%s' from %s: %s", uuid ? uuid : usage, uri,
                        virGetLastErrorMessage());
    if (secret)
        virSecretFree(secret);
    if (connection)
        virConnectClose(connection);
    return value;
}
