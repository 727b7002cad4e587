/* value: what the text of an element or attribute may be, and what it becomes. */
#pragma once

#include <glib.h>
#include <libxml/tree.h>

#include "xmlconf/xmlconf.h"

typedef struct _XmlconfField XmlconfField;
typedef struct _XmlconfRecord XmlconfRecord;

/* A word that a field may hold. Known words that Domus does not do say why. */
typedef struct {
    const char *word;
    int value;
    const char *refusal; /* NULL: fine */
} XmlconfChoice;

typedef struct {
    /* Turns @text (never NULL) into *@value, which holds nothing before. @element is where it stands. */
    gboolean (*read)(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                     GError **error);
    /* The text of *@value, new; NULL where there is nothing to write. */
    char *(*write)(const XmlconfField *field, gconstpointer value, gboolean live);
    gboolean is_string; /* *@value is a char * that belongs to the record */
} XmlconfValueType;

extern const XmlconfValueType xmlconf_value_string;  /* any text; empty is as absent */
extern const XmlconfValueType xmlconf_value_name;    /* name of a domain */
extern const XmlconfValueType xmlconf_value_line;    /* text without a line end */
extern const XmlconfValueType xmlconf_value_path;    /* absolute path of a file */
extern const XmlconfValueType xmlconf_value_uuid;    /* 36 characters, lower case */
extern const XmlconfValueType xmlconf_value_memory;  /* guint64 in KiB; reads the element's unit */
extern const XmlconfValueType xmlconf_value_uint;    /* guint from min to max */
extern const XmlconfValueType xmlconf_value_count;   /* guint64 from min to max, 0 is as absent */
extern const XmlconfValueType xmlconf_value_uint64;  /* the same, but what is there must be in the range */
extern const XmlconfValueType xmlconf_value_quota;   /* gint64 from min to max, -1 for any below 0; 0 is as absent */
extern const XmlconfValueType xmlconf_value_id;      /* int, negative is as absent */
extern const XmlconfValueType xmlconf_value_enum;    /* an enum of int size, by choices */
extern const XmlconfValueType xmlconf_value_word;    /* char *, one of choices */
extern const XmlconfValueType xmlconf_value_checked; /* no value: one of choices, kept where it stands */
extern const XmlconfValueType xmlconf_value_switch;  /* gboolean: on or off; FALSE is as absent */
extern const XmlconfValueType xmlconf_value_yes;     /* gboolean: yes or no; FALSE is as absent */
extern const XmlconfValueType xmlconf_value_present; /* gboolean: the element is there */
extern const XmlconfValueType xmlconf_value_cpuset;  /* char *, libvirt's CPU list */
extern const XmlconfValueType xmlconf_value_mac;     /* 17 characters, lower case: net-value.c */
extern const XmlconfValueType xmlconf_value_netdev;  /* name of a network device: net-value.c */
extern const XmlconfValueType xmlconf_value_ip;      /* char *, IPv4 or IPv6 address: net-value.c */
extern const XmlconfValueType xmlconf_value_nonzero; /* guint from min to max, 0 is as absent: net-value.c */
extern const XmlconfValueType xmlconf_value_fixed;   /* no value: the fallback and nothing else */
extern const XmlconfValueType xmlconf_value_unit;    /* no value: read by memory, written as KiB */
extern const XmlconfValueType xmlconf_value_refused; /* no value: the fallback says why */

/* Sets an error about @text at @field with the field's own code. Always FALSE. */
gboolean xmlconf_value_error(const XmlconfField *field, XmlconfError code, const char *text,
                             const char *problem, GError **error);
