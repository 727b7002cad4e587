/* polkit: asks the system's authority, over D-Bus, what a process may do. */
#pragma once

#include <gio/gio.h>

#include "libxldrv/rpc/client.h"

/* Called once, on the main loop; @error of NULL: it may. */
typedef void (*XldrvPolkitFn)(gpointer data, const GError *error);

/* Whether @peer may do @action. The user may be asked for a password, by the agent of the session. Errors are those that
 * clients know: VIR_ERR_AUTH_UNAVAILABLE (there is no agent or no authority), VIR_ERR_AUTH_CANCELLED (by the user),
 * VIR_ERR_AUTH_FAILED. Cancelling ends the question. */
void xldrv_polkit_authenticate(const XldrvPeer *peer, const char *action, GCancellable *cancellable, XldrvPolkitFn done,
                               gpointer data);
