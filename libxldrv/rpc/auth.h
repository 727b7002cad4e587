/* auth: who a client is, and the procedures that settle it. */
#pragma once

#include "libxldrv/rpc/client.h"

/* What a UNIX peer on a socket of this kind has to do: nothing if it is root or the owner of this
 * process, or if the socket only reads. */
XldrvAuth xldrv_auth_required(const XldrvPeer *peer, gboolean readonly);

/* Answers one of the AUTH procedures (XLDRV_PROC_NO_AUTH): the reply, floating, or NULL with an
 * error. */
GVariant *xldrv_auth_handle(XldrvClient *client, const XldrvProcedure *procedure, GError **error);
