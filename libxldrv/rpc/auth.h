/* auth: who a client is, and the procedures that settle it. */
#pragma once

#include "libxldrv/rpc/client.h"

/* What @peer has to do where @wanted is: of polkit, root and the owner of this process are spared. */
XldrvAuth xldrv_auth_required(const XldrvPeer *peer, XldrvAuth wanted);

/* Called once, on the main loop, with the reply (not floating, borrowed) or, if that is NULL, the error. */
typedef void (*XldrvAuthDoneFn)(gpointer data, GVariant *reply, const GError *error);

/* Works on one of the AUTH procedures (XLDRV_PROC_NO_AUTH), which may take as long as a user needs to answer; the client
 * is not read meanwhile. The caller keeps a reference to @client until @done. */
void xldrv_auth_handle(XldrvClient *client, const XldrvProcedure *procedure, GVariant *args, XldrvAuthDoneFn done,
                       gpointer data);

/* What runs on the server's authentication threads: a GFunc. */
void xldrv_auth_run(gpointer job, gpointer server);
