/* The access control column: what each kind of term asks for, and that all rows that are served can be checked. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/access.h"
#include "libxldrv/driver/acl.h"
#include "libxldrv/driver/procedures.h"

#define BOTH "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE;domain:save:VIR_DOMAIN_AFFECT_CONFIG"

static void test_conditions(void)
{
    static const struct {
        const char *acl;
        guint arg, flags, asked; /* bits: which of the terms ask */
    } rows[] = {
        {"domain:write", 0, 0, 1},
        {BOTH, 0, 0, 1},
        {BOTH, 0, VIR_DOMAIN_AFFECT_LIVE, 0},
        {BOTH, 0, VIR_DOMAIN_AFFECT_CONFIG, 2},
        {BOTH, 0, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, 2},
        {"domain:read;domain:read_secure:VIR_DOMAIN_XML_SECURE", 0, VIR_DOMAIN_XML_INACTIVE, 1},
        {"domain:read;domain:read_secure:VIR_DOMAIN_XML_SECURE", 0, VIR_DOMAIN_XML_SECURE, 3},
        {"domain:write::source:VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT", VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, 0, 0},
        {"domain:write::source:VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT", VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, 0, 1},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GPtrArray) terms = xldrv_acl_parse(rows[i].acl, NULL);
        g_autoptr(GVariant) args = g_variant_ref_sink(g_variant_new("(suu)", "", rows[i].arg, rows[i].flags));
        guint asked = 0;

        g_assert_nonnull(terms);
        for (guint j = 0; j < terms->len; j++)
            asked |= (guint)xldrv_acl_applies(terms->pdata[j], args) << j;
        g_assert_cmpuint(asked, ==, rows[i].asked);
    }
}

static void test_names(void)
{
    g_autoptr(GPtrArray) terms = xldrv_acl_parse("connect:search_domains;filter=domain:getattr", NULL);
    const XldrvAclTerm *filter = terms->pdata[1];
    g_autofree char *action = xldrv_acl_action(terms->pdata[0]);

    g_assert_cmpstr(action, ==, "org.libvirt.api.connect.search-domains");
    g_assert_true(filter->filter);
    g_assert_cmpstr(filter->object, ==, "domain");
}

static void test_bad(void)
{
    static const char *const rows[] = {"domain", "domain:read:VIR_TEAPOT", "domain:read:VIR_DOMAIN_XML_SECURE:x"};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) why = NULL;
        g_assert_null(xldrv_acl_parse(rows[i], &why));
        g_assert_nonnull(strstr(why->message, rows[i]));
    }
}

/* What a row asks for is known to polkit by our policy, and its domain can be told. */
static void check_row(const XldrvProcedure *procedure, const char *policy)
{
    g_autoptr(GPtrArray) terms = xldrv_acl_parse(procedure->acl, NULL);

    g_assert_nonnull(terms);
    for (guint i = 0; i < terms->len; i++) {
        const XldrvAclTerm *term = terms->pdata[i];
        g_autofree char *action = xldrv_acl_action(term);
        g_autofree char *id = g_strdup_printf("id=\"%s\"", action);

        if (!strstr(policy, id))
            g_error("%s: the policy has no %s", procedure->name, action);
        if (strcmp(term->object, "domain") == 0 && !term->filter && !xldrv_access_covers(procedure))
            g_error("%s: whose domain is not known", procedure->name);
    }
}

static void test_tables(void)
{
    const XldrvProgram *programs[] = {&xldrv_remote_program, &xldrv_qemu_program};
    g_autofree char *path = g_build_filename(g_getenv("top_srcdir"), "libxldrv", "polkit", "domus-access.policy", NULL);
    g_autofree char *policy = NULL;

    g_assert_true(g_file_get_contents(path, &policy, NULL, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(programs); i++) {
        for (guint j = 0; j < programs[i]->n_procedures; j++) {
            if (programs[i]->procedures[j].handler && *programs[i]->procedures[j].acl)
                check_row(&programs[i]->procedures[j], policy);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/acl/conditions", test_conditions);
    g_test_add_func("/acl/names", test_names);
    g_test_add_func("/acl/bad", test_bad);
    g_test_add_func("/acl/tables", test_tables);
    return g_test_run();
}
