/* Secrets of images, from libvirt's secret daemon. */
#pragma once

#include <glib.h>

/* The value of the secret with that UUID or, of type volume, with that usage. NULL with an error. */
GBytes *xldrv_secret_get(const char *uuid, const char *usage, GError **error);
