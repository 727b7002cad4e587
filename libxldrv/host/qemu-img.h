/* Runs qemu-img, for images that nothing serves. */
#pragma once

#include <glib.h>

/* With these arguments (NULL at their end). *@output (may be NULL) is what it wrote. FALSE with an error: what it complained
 * about, or that there is no such program. Blocks. */
gboolean xldrv_qemu_img(const char *const *arguments, char **output, GError **error);
