/* Numbers of keys in libvirt's code sets. */
#pragma once

#include <glib.h>

/* Linux's number of the key that has number @code in @codeset (virKeycodeSet). 0: there is no such key or set. */
guint xldrv_keycode_to_linux(guint codeset, guint code);
