/* Access control: what a client may do to which domain, asked of polkit as libvirt's access driver of that name does.
 *
 * The column of a procedure's row is looked at before its handler is called. Two things are left to handlers, for they
 * know the domain first: lists, which leave out what is not allowed (xldrv_access_domains), and procedures that get a
 * domain as XML, in a file or by migration (xldrv_access_check_config). */
#pragma once

#include "libxldrv/driver/domain.h"
#include "libxldrv/rpc/rpc.h"

typedef struct _XldrvAccess XldrvAccess;

XldrvAccess *xldrv_access_new(void);
/* Makes questions that wait fail. */
void xldrv_access_stop(XldrvAccess *access);
void xldrv_access_free(XldrvAccess *access);

/* Of XldrvAccessFn (rpc.h): whether a call may be made. TRUE where there is no access control. */
gboolean xldrv_access_check(XldrvCall *call, GVariant *args, GError **error);
/* The terms about a domain of the call's row, for a domain that its handler has found. Does nothing without access
 * control. */
gboolean xldrv_access_check_config(XldrvCall *call, GVariant *args, const XmlconfDomainConfig *config, GError **error);
/* References to the domains that the call's client may see, as its row says. */
GPtrArray *xldrv_access_domains(XldrvCall *call);
/* Takes out of @domains those that it may not see. */
void xldrv_access_filter(XldrvCall *call, GPtrArray *domains);
/* Whether a client may hear of what happens to a domain. Blocks. */
gboolean xldrv_access_hears(XldrvAccess *access, XldrvClient *client, XldrvDomain *domain);

/* Whether the domain of a row's terms can be told from its arguments, or is told by its handler. */
gboolean xldrv_access_covers(const XldrvProcedure *procedure);
