/* auth: who a client is, and the procedures that settle it. */
#pragma once

#include "libxldrv/rpc/client.h"

/* What @peer has to do where @wanted is: of polkit, root and the owner of this process are spared. */
XldrvAuth xldrv_auth_required(const XldrvPeer *peer, XldrvAuth wanted);

/* Answers one of the AUTH procedures (XLDRV_PROC_NO_AUTH): the reply, floating, or NULL with an
 * error. */
GVariant *xldrv_auth_handle(XldrvClient *client, const XldrvProcedure *procedure, GError **error);
