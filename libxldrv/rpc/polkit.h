/* polkit: asks the system's authority, over D-Bus, what a process may do. */
#pragma once

#include "libxldrv/rpc/client.h"

typedef struct _XldrvPolkit XldrvPolkit; /* self-locking; keeps a connection to the system bus once there was need for one */

XldrvPolkit *xldrv_polkit_new(void);
void xldrv_polkit_free(XldrvPolkit *polkit);

/* Whether @peer may do @action, whose @details are pairs of a name and a value up to a NULL; nobody is asked for a
 * password. FALSE with VIR_ERR_ACCESS_DENIED, or VIR_ERR_AUTH_UNAVAILABLE where the authority cannot be reached. Blocks
 * while the authority thinks, for some seconds at most. Not on the main loop. */
gboolean xldrv_polkit_check(XldrvPolkit *polkit, const XldrvPeer *peer, const char *action,
                            const char *const *details, GError **error);

/* Called once, on the main loop; @error of NULL: it may. */
typedef void (*XldrvPolkitFn)(gpointer data, const GError *error);
/* The same, but the user may be asked for a password, by the agent of the session. Errors are those that clients know:
 * VIR_ERR_AUTH_UNAVAILABLE (there is no agent or no authority), VIR_ERR_AUTH_CANCELLED (by the user),
 * VIR_ERR_AUTH_FAILED. Cancelling ends the question. */
void xldrv_polkit_authenticate(const XldrvPeer *peer, const char *action, GCancellable *cancellable, XldrvPolkitFn done,
                               gpointer data);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvPolkit, xldrv_polkit_free)
