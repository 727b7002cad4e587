/* Bytes between two sockets, both ways: for a program that speaks to another host by way of us, so that it can be
 * cut off. */
#pragma once

#include <glib.h>

typedef struct _XldrvCarrier XldrvCarrier;

/* Moves bytes between the sockets @a and @b, by a thread, until either ends or this process does. @listening: @a is
 * a listening socket, and the first who connects to it is meant. Takes both. */
XldrvCarrier *xldrv_carrier_new(int a, int b, gboolean listening);
/* Cuts it off, if it has not ended: both see the end of their connection. */
void xldrv_carrier_free(XldrvCarrier *carrier);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvCarrier, xldrv_carrier_free)
