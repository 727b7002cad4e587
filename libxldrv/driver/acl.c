/* The access control column: object:permission[:flags], [:!flags] or [::argument:value], terms parted by ';'. Source:
 * the notation of libvirt's remote_protocol.x; flags are asked for all together, with '!' for none of them. */
#include "config.h"

#include "libxldrv/driver/acl.h"

#include <string.h>

#include "libxldrv/rpc/rpc.h"

#define FILTER "filter="

static const struct {
    const char *name;
    guint value;
} values[] = {
#define VALUE(name) {#name, name}
    VALUE(VIR_DOMAIN_AFFECT_CONFIG),
    VALUE(VIR_DOMAIN_AFFECT_LIVE),
    VALUE(VIR_DOMAIN_XML_SECURE),
    VALUE(VIR_DOMAIN_XML_MIGRATABLE),
    VALUE(VIR_DOMAIN_REBOOT_GUEST_AGENT),
    VALUE(VIR_DOMAIN_SHUTDOWN_GUEST_AGENT),
    VALUE(VIR_DOMAIN_VCPU_GUEST),
    VALUE(VIR_DOMAIN_SAVE_IMAGE_XML_SECURE),
    VALUE(VIR_DOMAIN_SNAPSHOT_XML_SECURE),
    VALUE(VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE),
    VALUE(VIR_DOMAIN_CHECKPOINT_XML_SECURE),
    VALUE(VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE),
    VALUE(VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT),
    VALUE(VIR_NETWORK_UPDATE_AFFECT_CONFIG),
    VALUE(VIR_NETWORK_UPDATE_AFFECT_LIVE),
#undef VALUE
};

static gboolean find_value(const char *name, guint *value)
{
    for (gsize i = 0; i < G_N_ELEMENTS(values); i++) {
        if (strcmp(values[i].name, name) == 0) {
            *value = values[i].value;
            return TRUE;
        }
    }
    return FALSE;
}

static gboolean add_values(const char *names, guint *all)
{
    g_auto(GStrv) parts = g_strsplit(names, "|", 0);

    for (char **part = parts; *part; part++) {
        guint value;
        if (!find_value(*part, &value))
            return FALSE;
        *all |= value;
    }
    return TRUE;
}

static void term_free(gpointer data)
{
    XldrvAclTerm *term = data;

    g_free(term->object);
    g_free(term->permission);
    g_free(term);
}

/* @fields: object, permission, and maybe flags, or nothing, an argument and its value. */
static gboolean read_condition(XldrvAclTerm *term, char **fields, guint n)
{
    const char *flags = n == 3 ? fields[2] : NULL;

    if (n == 2)
        return TRUE;
    if (n == 5) {
        term->when = XLDRV_ACL_EQUALS;
        return !*fields[2] && find_value(fields[4], &term->value);
    }
    if (!flags)
        return FALSE;
    term->when = *flags == '!' ? XLDRV_ACL_NONE_SET : XLDRV_ACL_ALL_SET;
    return add_values(flags + (*flags == '!'), &term->value);
}

static XldrvAclTerm *parse_term(const char *text)
{
    gboolean filter = g_str_has_prefix(text, FILTER);
    g_auto(GStrv) fields = g_strsplit(text + (filter ? strlen(FILTER) : 0), ":", 0);
    guint n = g_strv_length(fields);
    XldrvAclTerm *term = g_new0(XldrvAclTerm, 1);

    term->filter = filter;
    if (n < 2 || !read_condition(term, fields, n)) {
        term_free(term);
        return NULL;
    }
    term->object = g_strdup(fields[0]);
    term->permission = g_strdup(fields[1]);
    return term;
}

GPtrArray *xldrv_acl_parse(const char *acl, GError **error)
{
    g_auto(GStrv) texts = g_strsplit(acl, ";", 0);
    g_autoptr(GPtrArray) terms = g_ptr_array_new_with_free_func(term_free);

    for (char **text = texts; *text; text++) {
        XldrvAclTerm *term = parse_term(*text);
        if (!term) {
            xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "access control '%s' is not understood", *text);
            return NULL;
        }
        g_ptr_array_add(terms, term);
    }
    return g_steal_pointer(&terms);
}

/* Flags are the last argument, whatever else there is. */
static guint number_at(GVariant *args, gsize index)
{
    g_autoptr(GVariant) value = index < g_variant_n_children(args) ? g_variant_get_child_value(args, index) : NULL;

    if (value && g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32))
        return g_variant_get_uint32(value);
    return 0;
}

gboolean xldrv_acl_applies(const XldrvAclTerm *term, GVariant *args)
{
    guint flags = number_at(args, g_variant_n_children(args) - 1);

    switch (term->when) {
    case XLDRV_ACL_ALL_SET:
        return (flags & term->value) == term->value;
    case XLDRV_ACL_NONE_SET:
        return (flags & term->value) == 0;
    case XLDRV_ACL_EQUALS:
        return number_at(args, 1) == term->value;
    default:
        return TRUE;
    }
}

char *xldrv_acl_action(const XldrvAclTerm *term)
{
    char *action = g_strdup_printf("org.libvirt.api.%s.%s", term->object, term->permission);

    return g_strdelimit(action, "_", '-');
}
