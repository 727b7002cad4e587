/* All domains of the host, found by UUID, name or id without walking through them. */
#pragma once

#include "libxldrv/driver/domain.h"

typedef struct _XldrvDomains XldrvDomains;

XldrvDomains *xldrv_domains_new(void);
void xldrv_domains_free(XldrvDomains *domains);

/* A reference, or NULL if there is none. */
XldrvDomain *xldrv_domains_find_uuid(XldrvDomains *domains, const guint8 uuid[XLDRV_UUID_BYTES]);
XldrvDomain *xldrv_domains_find_name(XldrvDomains *domains, const char *name);
XldrvDomain *xldrv_domains_find_id(XldrvDomains *domains, int id);

/* The domain of that UUID and name, with the job @what: the one there is, or a new one, which nobody else
 * sees until it is published. NULL with an error if the UUID has another name or the name another UUID. */
XldrvJob *xldrv_domains_claim(XldrvDomains *domains, const char *uuid, const char *name,
                              const char *what, GError **error);
/* Lets lookups find a claimed domain. */
void xldrv_domains_publish(XldrvDomains *domains, XldrvDomain *domain);
/* Takes a domain out for good. */
void xldrv_domains_remove(XldrvDomains *domains, XldrvDomain *domain);
/* The domain got (or with -1 lost) its id. */
void xldrv_domains_set_id(XldrvDomains *domains, XldrvDomain *domain, int id);
/* Gives it another name if that is free. */
gboolean xldrv_domains_rename(XldrvDomains *domains, XldrvDomain *domain, const char *name, GError **error);
gboolean xldrv_domains_id_in_use(XldrvDomains *domains, int id);

/* References to all that lookups find, in no order. */
GPtrArray *xldrv_domains_all(XldrvDomains *domains);
guint xldrv_domains_count(XldrvDomains *domains, gboolean active);
