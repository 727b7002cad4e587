/* What handlers have in common: domains in arguments and replies, flags, typed parameters, errors. */
#pragma once

#include "libxldrv/driver/domain.h"
#include "libxldrv/rpc/rpc.h"

/* The reply of procedures that return nothing. */
GVariant *xldrv_reply_void(void);
GVariant *xldrv_reply_int(int value);
GVariant *xldrv_reply_string(const char *value);

/* The domain on the wire, (sayi), as it is now. */
GVariant *xldrv_domain_to_wire(XldrvDomain *domain);
/* The same as a reference to what is shared with others who ask: for lists. */
GVariant *xldrv_domain_listed(XldrvDomain *domain);
/* A reply of nothing but this domain. */
GVariant *xldrv_reply_domain(XldrvDomain *domain);

/* The domain that argument 0 names, by its UUID, or that has the snapshot which argument 0 is; VIR_ERR_NO_DOMAIN if it is not
 * there. A reference. */
XldrvDomain *xldrv_args_domain(GVariant *args, GError **error);
/* The same for a (sayi) on its own. */
XldrvDomain *xldrv_wire_domain(GVariant *value, GError **error);

guint32 xldrv_args_u32(GVariant *args, guint index);
gint32 xldrv_args_i32(GVariant *args, guint index);
guint64 xldrv_args_u64(GVariant *args, guint index);
/* Borrowed from @args. */
const char *xldrv_args_string(GVariant *args, guint index);
/* Of an optional string; NULL if it is absent. Borrowed from @args. */
const char *xldrv_args_optional_string(GVariant *args, guint index);

/* Refuses flags that are not in @supported, as libvirt's drivers word it. */
gboolean xldrv_check_flags(guint flags, guint supported, const char *function, GError **error);
/* Refuses flags that exclude each other. */
gboolean xldrv_check_exclusive(guint flags, guint both, const char *names, GError **error);

/* One element of a list of typed parameters, (sv). @value is floating. */
void xldrv_params_add(GVariantBuilder *params, const char *name, GVariant *value);

/* Gives each of a list of typed parameters, a(sv), to @take, which knows them by their names. FALSE: one was refused. */
typedef gboolean (*XldrvTakeParamFn)(gpointer request, const char *name, GVariant *value, GError **error);
gboolean xldrv_params_read(GVariant *list, XldrvTakeParamFn take, gpointer request, GError **error);

/* Any integer type will do: clients send what their users typed. FALSE: it is no number. */
gboolean xldrv_param_number(GVariant *value, gint64 *number);

/* Makes an error of ours of one of xmlconf's (taken). Always FALSE. */
gboolean xldrv_set_xml_error(GError **error, GError *xml_error);

/* A client's domain XML. */
XmlconfDomain *xldrv_parse_xml(const char *xml, gboolean validate, GError **error);

/* VIR_DOMAIN_AFFECT_*: which of the two configurations a call means. */
typedef struct {
    gboolean live, config;
} XldrvImpact;
/* Resolves "current" for @domain; VIR_ERR_OPERATION_INVALID if it lacks what was asked for. */
gboolean xldrv_impact(XldrvDomain *domain, guint flags, XldrvImpact *impact, GError **error);
/* The configuration that a question with VIR_DOMAIN_AFFECT_* in @flags and the domain as argument 0 is about. */
XmlconfDomain *xldrv_asked_config(GVariant *args, guint flags, const char *function, GError **error);
