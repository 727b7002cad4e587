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

/* Questions that nobody is asked about, over one connection that is kept. */
typedef struct _XldrvPolkit XldrvPolkit;

XldrvPolkit *xldrv_polkit_new(void);
/* Makes questions that wait, and those to come, fail. Any thread. */
void xldrv_polkit_cancel(XldrvPolkit *polkit);
void xldrv_polkit_free(XldrvPolkit *polkit);
/* Whether @peer may do @action to what @details (a{ss}; floating) tell; errors as above. Blocks until the authority has
 * answered, 15 seconds at most. Any thread. */
gboolean xldrv_polkit_check(XldrvPolkit *polkit, const XldrvPeer *peer, const char *action, GVariant *details,
                            GError **error);
