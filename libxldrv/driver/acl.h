/* The access control column of the procedures' tables, read. */
#pragma once

#include <gio/gio.h>

/* When a term asks for its permission. */
typedef enum {
    XLDRV_ACL_ALWAYS,
    XLDRV_ACL_ALL_SET,  /* all of these flags are set */
    XLDRV_ACL_NONE_SET, /* none of these flags is */
    XLDRV_ACL_EQUALS,   /* the argument behind the domain is that value */
} XldrvAclWhen;

typedef struct {
    gboolean filter; /* asked for each element of a list, which is left out without it */
    char *object, *permission;
    XldrvAclWhen when;
    guint value;
} XldrvAclTerm;

/* The terms of a column (XldrvAclTerm), or NULL with an error that names the one that is not understood. */
GPtrArray *xldrv_acl_parse(const char *acl, GError **error);
/* Whether the term asks for its permission when a procedure is called with @args. */
gboolean xldrv_acl_applies(const XldrvAclTerm *term, GVariant *args);
/* polkit's name of the permission, as libvirt makes it. The caller's. */
char *xldrv_acl_action(const XldrvAclTerm *term);
