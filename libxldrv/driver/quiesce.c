/* A guest's file systems at rest. */
#include "config.h"

#include "libxldrv/driver/quiesce.h"

struct _XldrvQuiesce {
    XldrvAgentSession *session;
};

XldrvQuiesce *xldrv_quiesce_begin(XldrvCall *call, XldrvDomain *domain, GError **error)
{
    g_autoptr(XldrvAgentSession) session = xldrv_agent_begin(call, domain, error);
    XldrvQuiesce *quiesce;

    if (!session || !xldrv_agent_do(session, "guest-fsfreeze-freeze", NULL, error))
        return NULL;
    quiesce = g_new0(XldrvQuiesce, 1);
    quiesce->session = g_steal_pointer(&session);
    return quiesce;
}

void xldrv_quiesce_end(XldrvQuiesce *quiesce)
{
    g_autoptr(GError) why = NULL;

    if (!quiesce)
        return;
    if (xldrv_domain_is_active(xldrv_agent_domain(quiesce->session)) &&
        !xldrv_agent_do(quiesce->session, "guest-fsfreeze-thaw", NULL, &why))
        g_warning("file systems of the guest stay frozen: %s", why->message);
    xldrv_agent_end(quiesce->session);
    g_free(quiesce);
}
