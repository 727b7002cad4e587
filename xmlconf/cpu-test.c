/* CPU models and features: a map of a few, what is made of it. The rules are libvirt's (formatdomain "CPU model and
 * topology"). */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <glib/gstdio.h>
#include <string.h>

static const char *const files[][2] = {
    {"index.xml", "<cpus><arch name='arm'><include filename='none.xml'/></arch><arch name='x86'>"
                  "<include filename='v.xml'/><include filename='f.xml'/><include filename='m.xml'/></arch></cpus>"},
    {"v.xml", "<cpus><vendor name='Intel' string='GenuineIntel'/><vendor name='AMD' string='AuthenticAMD'/><vendor/></cpus>"},
    {"f.xml", "<cpus><feature name='fpu'><cpuid eax_in='0x01' edx='0x00000001'/></feature>"
              "<feature name='sse2'><cpuid eax_in='0x01' edx='0x04000000'/></feature>"
              "<feature name='aes'><cpuid eax_in='0x01' ecx='0x02000000'/></feature>"
              "<feature name='avx2'><cpuid eax_in='0x07' ecx_in='0x00' ebx='0x00000020'/></feature>"
              "<feature name='invtsc' migratable='no'><cpuid eax_in='0x80000007' edx='0x00000100'/></feature>"
              "<feature name='rdctl-no'><msr index='0x10a' edx='0' eax='1'/></feature><feature/></cpus>"},
    {"m.xml", "<cpus><model name='old'><feature name='fpu'/></model>"
              "<model name='mid'><decode host='on' guest='on'/><vendor name='Intel'/><feature name='fpu'/>"
              "<feature name='sse2'/><feature name='aes' removed='yes'/></model>"
              "<model name='new'><vendor name='Intel'/><feature name='fpu'/><feature name='sse2'/><feature name='aes'/>"
              "<feature name='avx2'/></model>"
              "<model name='other'><vendor name='AMD'/><feature name='fpu'/><feature name='sse2'/></model><model/></cpus>"},
};

static XmlconfCpuMap *map;
static XmlconfCpuHave have; /* fpu, sse2, aes, invtsc of Intel */

static const XmlconfCpuidLeaf leaves[] = {
    {1, 0, {0, 0, 0x02000000, 0x44000001}}, /* and a bit without a name */
    {7, 0, {0}},
    {0x80000007, 0, {0, 0, 0, 0x100}},
};

static char *make_folder(void)
{
    char *folder = g_dir_make_tmp("cpu-map-XXXXXX", NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(folder, files[i][0], NULL);
        g_assert_true(g_file_set_contents(path, files[i][1], -1, NULL));
    }
    return folder;
}

static void remove_folder(const char *folder)
{
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(folder, files[i][0], NULL);
        g_remove(path);
    }
    g_rmdir(folder);
}

static void test_load(void)
{
    g_autoptr(GPtrArray) names = xmlconf_cpu_map_models(map);
    g_autoptr(GError) error = NULL;
    g_autofree char *empty = g_dir_make_tmp("cpu-map-XXXXXX", NULL);

    g_assert_cmpuint(names->len, ==, 4);
    g_assert_null(xmlconf_cpu_map_load(empty, &error));
    g_assert_nonnull(strstr(error->message, "CPU map"));
    g_rmdir(empty);
}

static const struct {
    const char *xml;
    XmlconfCpuComparison result;
    const char *why;
} comparisons[] = {
    {"<cpu><model>old</model></cpu>", XMLCONF_CPU_SUPERSET, NULL},
    {"<cpu><arch>x86_64</arch><model>mid</model><vendor>Intel</vendor><topology sockets='1'/><feature name='aes'/>"
     "<feature name='invtsc'/></cpu>", XMLCONF_CPU_IDENTICAL, NULL},
    {"<cpu match='exact'><model>new</model></cpu>", XMLCONF_CPU_INCOMPATIBLE, "missing features: avx2"},
    {"<cpu match='exact'><model>new</model><feature policy='disable' name='avx2'/></cpu>", XMLCONF_CPU_SUPERSET, NULL},
    {"<cpu match='strict'><model>mid</model></cpu>", XMLCONF_CPU_INCOMPATIBLE, "more features"},
    {"<cpu match='exact'><model>old</model><feature policy='forbid' name='aes'/></cpu>", XMLCONF_CPU_INCOMPATIBLE,
     "forbidden"},
    {"<cpu match='exact'><model>old</model><feature policy='forbid' name='avx2'/></cpu>", XMLCONF_CPU_SUPERSET, NULL},
    {"<cpu><model>old</model><vendor>AMD</vendor></cpu>", XMLCONF_CPU_INCOMPATIBLE, "vendor 'Intel', not 'AMD'"},
    {"<cpu><model>none</model></cpu>", XMLCONF_CPU_ERROR, "model 'none' is not known"},
    {"<cpu><feature name='none'/></cpu>", XMLCONF_CPU_ERROR, "feature 'none' is not known"},
    {"<cpu><feature/></cpu>", XMLCONF_CPU_ERROR, "feature '' is not known"},
    {"<cpux/>", XMLCONF_CPU_ERROR, "'cpu' element"},
    {"<cpu>", XMLCONF_CPU_ERROR, "(CPU_definition)"},
};

static void test_compare(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(comparisons); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *why = NULL;
        XmlconfCpuComparison found = xmlconf_cpu_compare(&have, comparisons[i].xml, FALSE, &why, &error);

        g_test_message("%s", comparisons[i].xml);
        g_assert_cmpint(found, ==, comparisons[i].result);
        if (comparisons[i].why)
            g_assert_nonnull(strstr(error ? error->message : why, comparisons[i].why));
    }
}

static void test_baseline(void)
{
    const char *const two[] = {"<cpu><model>new</model><vendor>Intel</vendor></cpu>",
                               "<cpu><model>mid</model><vendor>Intel</vendor><feature name='invtsc'/><feature name='avx2'/></cpu>"};
    const char *const strangers[] = {"<cpu><model>mid</model><vendor>Intel</vendor></cpu>",
                                     "<cpu><model>other</model><vendor>AMD</vendor></cpu>"};
    g_autoptr(GError) error = NULL;
    g_autofree char *both = xmlconf_cpu_baseline(map, NULL, two, 2, FALSE, FALSE, &error);
    g_autofree char *limited = xmlconf_cpu_baseline(map, &have, two, 2, FALSE, FALSE, NULL);
    g_autofree char *expanded = xmlconf_cpu_baseline(map, NULL, two, 2, TRUE, FALSE, NULL);
    g_autofree char *one = xmlconf_cpu_baseline(map, NULL, two + 1, 1, FALSE, FALSE, NULL);
    g_autofree char *portable = xmlconf_cpu_baseline(map, NULL, two + 1, 1, FALSE, TRUE, NULL);

    g_assert_no_error(error);
    g_assert_nonnull(strstr(both, "<model fallback='forbid'>new</model>\n  <vendor>Intel</vendor>\n"
                                  "  <feature policy='disable' name='aes'/>\n</cpu>"));
    g_assert_nonnull(strstr(limited, ">mid</model>\n  <vendor>Intel</vendor>\n</cpu>"));
    g_assert_nonnull(strstr(expanded, "<feature policy='require' name='fpu'/>"));
    g_assert_nonnull(strstr(one, "name='invtsc'"));
    g_assert_null(strstr(portable, "invtsc"));
    g_assert_null(xmlconf_cpu_baseline(map, NULL, strangers, 2, FALSE, FALSE, &error));
    g_assert_nonnull(strstr(error->message, "vendors do not match"));
}

static XmlconfDomain *domain_with(const char *cpu)
{
    g_autofree char *xml = g_strdup_printf("<domain type='xen'><name>c</name><memory unit='MiB'>64</memory><os>"
                                           "<type>xenpvh</type><kernel>/k</kernel></os>%s</domain>", cpu);
    g_autoptr(GError) error = NULL;
    XmlconfDomain *domain = xmlconf_domain_parse(xml, 0, &error);

    g_assert_no_error(error);
    return domain;
}

/* What is left of the leaves: EDX and ECX of leaf 1, EDX of the last. */
static const struct {
    const char *cpu;
    guint32 edx, ecx, power;
    const char *error;
} guests[] = {
    {"<cpu mode='host-passthrough'/>", 0x44000001, 0x02000000, 0x100, NULL},
    {"<cpu mode='host-model'><feature policy='disable' name='aes'/></cpu>", 0x44000001, 0, 0x100, NULL},
    {"<cpu><model>old</model></cpu>", 0x40000001, 0, 0, NULL},
    {"<cpu mode='custom'><model>new</model></cpu>", 0x44000001, 0x02000000, 0, NULL},
    {"<cpu mode='custom' match='minimum'><model>old</model><feature policy='disable' name='sse2'/></cpu>", 0x40000001,
     0x02000000, 0x100, NULL},
    {"<cpu mode='custom'><model>old</model><feature policy='optional' name='avx2'/>"
     "<feature policy='optional' name='aes'/></cpu>", 0x40000001, 0x02000000, 0, NULL},
    {"<cpu mode='custom' check='full'><model>new</model></cpu>", 0, 0, 0, "required: avx2"},
    {"<cpu mode='custom' match='strict'><model>old</model></cpu>", 0, 0, 0, "more than what is asked for: sse2,aes,invtsc"},
    {"<cpu mode='host-passthrough'><feature policy='require' name='avx2'/></cpu>", 0, 0, 0, "required: avx2"},
    {"<cpu mode='host-passthrough'><feature policy='forbid' name='aes'/></cpu>", 0, 0, 0, "'aes' is forbidden"},
    {"<cpu mode='host-passthrough'><feature policy='force' name='rdctl-no'/></cpu>", 0, 0, 0, "required: rdctl-no"},
    {"<cpu mode='custom'><model>none</model></cpu>", 0, 0, 0, "model 'none' is not known"},
    {"<cpu mode='host-model'><feature name='none'/></cpu>", 0, 0, 0, "feature 'none' is not known"},
    {"<cpu mode='host-model'><vendor>AMD</vendor></cpu>", 0, 0, 0, "vendor 'Intel', not 'AMD'"},
};

static void test_resolve(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(guests); i++) {
        g_autoptr(XmlconfDomain) domain = domain_with(guests[i].cpu);
        XmlconfCpuidLeaf left[G_N_ELEMENTS(leaves)];
        XmlconfCpuFeatures features;
        g_autoptr(GError) error = NULL;
        gboolean ok = xmlconf_cpu_resolve(&have, &xmlconf_domain_config(domain)->cpu, &features, &error);

        g_test_message("%s", guests[i].cpu);
        g_assert_cmpint(ok, ==, guests[i].error == NULL);
        if (!ok) {
            g_assert_nonnull(strstr(error->message, guests[i].error));
            continue;
        }
        memcpy(left, leaves, sizeof(left));
        xmlconf_cpu_mask(map, &features, left, G_N_ELEMENTS(left));
        g_assert_cmphex(left[0].regs[3], ==, guests[i].edx);
        g_assert_cmphex(left[0].regs[2], ==, guests[i].ecx);
        g_assert_cmphex(left[2].regs[3], ==, guests[i].power);
    }
}

static void test_usable(void)
{
    g_assert_true(xmlconf_cpu_model_usable(&have, "mid"));
    g_assert_false(xmlconf_cpu_model_usable(&have, "new"));
    g_assert_false(xmlconf_cpu_model_usable(&have, "none"));
}

int main(int argc, char **argv)
{
    g_autofree char *folder = make_folder();
    g_autoptr(GError) error = NULL;
    int status;

    g_test_init(&argc, &argv, NULL);
    map = xmlconf_cpu_map_load(folder, &error);
    g_assert_no_error(error);
    xmlconf_cpu_have_init(&have, map, "GenuineIntel", leaves, G_N_ELEMENTS(leaves));
    g_test_add_func("/cpu/load", test_load);
    g_test_add_func("/cpu/compare", test_compare);
    g_test_add_func("/cpu/baseline", test_baseline);
    g_test_add_func("/cpu/resolve", test_resolve);
    g_test_add_func("/cpu/usable", test_usable);
    status = g_test_run();
    xmlconf_cpu_have_clear(&have);
    xmlconf_cpu_map_free(map);
    remove_folder(folder);
    return status;
}
