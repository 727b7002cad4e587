/* sasl: one client's authentication by SASL, and the security layer that may come of it. */
#pragma once

#include "libxldrv/rpc/transport.h"

/* Data of one step, from libvirt's protocol. */
#define XLDRV_SASL_DATA_MAX 65536

typedef struct _XldrvSasl XldrvSasl;

/* A negotiation. Where @layer, its mechanisms must keep what follows secret, with keys of at least @min_ssf bits; else
 * something below does so, with @external_ssf bits, 0 on this machine. NULL with VIR_ERR_AUTH_FAILED. */
XldrvSasl *xldrv_sasl_new(gboolean layer, guint min_ssf, guint external_ssf, GError **error);
void xldrv_sasl_free(XldrvSasl *sasl);

/* Names of what there is, separated by spaces. */
char *xldrv_sasl_mechanisms(XldrvSasl *sasl, GError **error);

/* A step: the first has a @mechanism, the others NULL. @data of NULL means none, which is not the same as an empty one.
 * TRUE: *complete says whether it is over, *answer (not owned; until the next step) and *length what to tell the client,
 * NULL for nothing. FALSE with VIR_ERR_AUTH_FAILED: it is over. May block. */
gboolean xldrv_sasl_step(XldrvSasl *sasl, const char *mechanism, const char *data, guint length, gboolean *complete,
                         const char **answer, guint *answer_length, GError **error);

/* When it is complete: who it is, if @allowed (patterns; NULL: all) matches. NULL with VIR_ERR_AUTH_FAILED. */
char *xldrv_sasl_user(XldrvSasl *sasl, char *const *allowed, GError **error);
/* Whether a layer was agreed on. */
gboolean xldrv_sasl_has_layer(XldrvSasl *sasl);

/* Puts the layer of @sasl (taken) on @inner (taken): what is received is decoded from now on, what is sent is encoded
 * from xldrv_transport_sasl_encode on. */
XldrvTransport *xldrv_transport_new_sasl(XldrvTransport *inner, XldrvSasl *sasl);
void xldrv_transport_sasl_encode(XldrvTransport *transport);

/* The connection as the library knows it, for the layer. */
struct sasl_conn *xldrv_sasl_connection(XldrvSasl *sasl);
