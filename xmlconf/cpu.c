/* cpu: what a CPU is said to have against what there is. A CPU is a set of features; a model is a name for one. */
#include "config.h"

#include <string.h>

#include "xmlconf/cpu-map.h"
#include "xmlconf/document.h"
#include "xmlconf/fields.h"

/* ---- sets */

#define WORDS (XMLCONF_CPU_MAX_FEATURES / 64)

static guint count_missing(const XmlconfCpuFeatures *wanted, const XmlconfCpuFeatures *there)
{
    guint n = 0;

    for (guint i = 0; i < WORDS; i++)
        n += (guint)__builtin_popcountll(wanted->bits[i] & ~there->bits[i]);
    return n;
}

static void intersect(XmlconfCpuFeatures *set, const XmlconfCpuFeatures *with)
{
    for (guint i = 0; i < WORDS; i++)
        set->bits[i] &= with->bits[i];
}

/* The names of what is wanted and not there: "aes, avx". */
static char *missing_names(const XmlconfCpuMap *map, const XmlconfCpuFeatures *wanted, const XmlconfCpuFeatures *there)
{
    GString *names = g_string_new(NULL);

    for (guint i = 0; i < map->features->len; i++) {
        if (xmlconf_cpu_has(wanted, i) && !xmlconf_cpu_has(there, i))
            g_string_append_printf(names, "%s%s", names->len ? "," : "", xmlconf_cpu_map_get(map, i)->name);
    }
    return g_string_free(names, FALSE);
}

static gboolean leaf_has(const XmlconfCpuidLeaf *leaf, const XmlconfCpuidLeaf *bits)
{
    gboolean all = leaf->leaf == bits->leaf && leaf->subleaf == bits->subleaf, any = FALSE;

    for (guint i = 0; i < 4; i++) {
        all = all && (leaf->regs[i] & bits->regs[i]) == bits->regs[i];
        any = any || bits->regs[i];
    }
    return all && any;
}

void xmlconf_cpu_have_init(XmlconfCpuHave *have, const XmlconfCpuMap *map, const char *signature,
                           const XmlconfCpuidLeaf *leaves, guint n)
{
    memset(have, 0, sizeof(*have));
    have->map = map;
    have->vendor = g_strdup(xmlconf_cpu_map_vendor(map, signature));
    for (guint f = 0; f < map->features->len; f++) {
        for (guint i = 0; i < n; i++) {
            if (leaf_has(&leaves[i], &xmlconf_cpu_map_get(map, f)->bits))
                xmlconf_cpu_add(&have->features, f);
        }
    }
}

void xmlconf_cpu_have_clear(XmlconfCpuHave *have)
{
    g_clear_pointer(&have->vendor, g_free);
}

void xmlconf_cpu_mask(const XmlconfCpuMap *map, const XmlconfCpuFeatures *features, XmlconfCpuidLeaf *leaves, guint n)
{
    for (guint f = 0; f < map->features->len; f++) {
        const XmlconfCpuidLeaf *bits = &xmlconf_cpu_map_get(map, f)->bits;
        if (xmlconf_cpu_has(features, f))
            continue;
        for (guint i = 0; i < n; i++) {
            for (guint r = 0; leaves[i].leaf == bits->leaf && leaves[i].subleaf == bits->subleaf && r < 4; r++)
                leaves[i].regs[r] &= ~bits->regs[r];
        }
    }
}

/* ---- what is asked for */

/* As libvirt's schema has them. */
static gboolean check_feature_name(const char *name, GError **error)
{
    const char *p = name ? name : "";

    while (g_ascii_isalnum(*p) || (*p && strchr("-_.", *p)))
        p++;
    if (*p)
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "'%s' is not the name of a CPU <feature>", name);
    else if (!name || !*name)
        g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "a CPU <feature> has no name");
    else
        return TRUE;
    return FALSE;
}

gboolean xmlconf_cpu_complete(XmlconfCpu *cpu, GError **error)
{
    if (cpu->mode == XMLCONF_CPU_DEFAULT && (cpu->model || cpu->features || cpu->match || cpu->vendor))
        cpu->mode = XMLCONF_CPU_CUSTOM;
    if (cpu->mode == XMLCONF_CPU_CUSTOM && !cpu->model) {
        g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                            "element <cpu> of mode 'custom' needs a <model>; mode 'host-model' has one");
        return FALSE;
    }
    if (cpu->mode == XMLCONF_CPU_CUSTOM && !cpu->match)
        cpu->match = XMLCONF_MATCH_EXACT;
    for (guint i = 0; cpu->features && i < cpu->features->len; i++) {
        const XmlconfCpuFeature *feature = cpu->features->pdata[i];
        if (!check_feature_name(feature->name, error))
            return FALSE;
        for (guint k = 0; k < i; k++) {
            const XmlconfCpuFeature *other = cpu->features->pdata[k];
            if (strcmp(feature->name, other->name) == 0) {
                g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "CPU feature '%s' is there more than once",
                            feature->name);
                return FALSE;
            }
        }
    }
    return TRUE;
}

static gboolean unknown(const char *what, const char *name, GError **error)
{
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "CPU %s '%s' is not known", what, name);
    return FALSE;
}

static gboolean find(const XmlconfCpuMap *map, const XmlconfCpuFeature *feature, guint *index, GError **error)
{
    int found = xmlconf_cpu_map_feature(map, feature->name);

    *index = (guint)MAX(found, 0);
    return found >= 0 || unknown("feature", feature->name, error);
}

/* The features of the model, or of @base without one. */
static gboolean start_from(const XmlconfCpuMap *map, const XmlconfCpu *cpu, const XmlconfCpuFeatures *base,
                           XmlconfCpuFeatures *set, GError **error)
{
    const XmlconfCpuMapModel *model = cpu->model ? xmlconf_cpu_map_model(map, cpu->model) : NULL;

    if (cpu->model && !model)
        return unknown("model", cpu->model, error);
    *set = model ? model->features : *base;
    return TRUE;
}

static gboolean lacks(const char *what, GError **error)
{
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                "the CPU that a guest can have does not provide what is required: %s", what);
    return FALSE;
}

/* One feature of <cpu> on top of what the model has. */
static gboolean apply(const XmlconfCpuHave *have, const XmlconfCpuFeature *feature, XmlconfCpuFeatures *set,
                      GError **error)
{
    guint index;

    if (!find(have->map, feature, &index, error))
        return FALSE;
    switch (feature->policy) {
    case XMLCONF_POLICY_REQUIRE:
    case XMLCONF_POLICY_FORCE:
        xmlconf_cpu_add(set, index);
        return xmlconf_cpu_has(&have->features, index) || lacks(feature->name, error);
    case XMLCONF_POLICY_OPTIONAL:
        if (xmlconf_cpu_has(&have->features, index))
            xmlconf_cpu_add(set, index);
        return TRUE;
    case XMLCONF_POLICY_FORBID:
        if (xmlconf_cpu_has(&have->features, index)) {
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "CPU feature '%s' is forbidden, and there",
                        feature->name);
            return FALSE;
        }
        break;
    case XMLCONF_POLICY_DISABLE:
        break;
    }
    xmlconf_cpu_remove(set, index);
    return TRUE;
}

static gboolean check_vendor(const XmlconfCpuHave *have, const char *vendor, GError **error)
{
    if (!vendor || g_strcmp0(vendor, have->vendor) == 0)
        return TRUE;
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "the CPU is of vendor '%s', not '%s'",
                have->vendor ? have->vendor : "unknown", vendor);
    return FALSE;
}

gboolean xmlconf_cpu_resolve(const XmlconfCpuHave *have, const XmlconfCpu *cpu, XmlconfCpuFeatures *features,
                             GError **error)
{
    if (!check_vendor(have, cpu->vendor, error) || !start_from(have->map, cpu, &have->features, features, error))
        return FALSE;
    for (guint i = 0; cpu->features && i < cpu->features->len; i++) {
        if (!apply(have, cpu->features->pdata[i], features, error))
            return FALSE;
    }
    if (cpu->check == XMLCONF_CHECK_FULL && count_missing(features, &have->features)) {
        g_autofree char *names = missing_names(have->map, features, &have->features);
        return lacks(names, error);
    }
    if (cpu->match == XMLCONF_MATCH_STRICT && count_missing(&have->features, features)) {
        g_autofree char *names = missing_names(have->map, &have->features, features);
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                    "the CPU that a guest can have provides more than what is asked for: %s", names);
        return FALSE;
    }
    if (cpu->match == XMLCONF_MATCH_MINIMUM)
        *features = have->features;
    for (guint i = 0; cpu->match == XMLCONF_MATCH_MINIMUM && cpu->features && i < cpu->features->len; i++)
        apply(have, cpu->features->pdata[i], features, NULL); /* has been found possible */
    intersect(features, &have->features); /* a model's name stands for what of it there is */
    return TRUE;
}

/* ---- a <cpu> on its own */

static char *text_of(xmlNode *node)
{
    xmlChar *text = xmlNodeGetContent(node);
    char *copy = g_strstrip(g_strdup((const char *)text));

    xmlFree(text);
    return copy;
}

static gboolean is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

/* A description, as a set: of a guest's CPU with the policies, of a host's without. Strings are borrowed from it. */
typedef struct {
    char *model, *vendor;
    gboolean is_guest, strict;
    XmlconfCpuFeatures features, forbidden;
} Description;

static void description_clear(Description *d)
{
    g_free(d->model);
    g_free(d->vendor);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Description, description_clear)

static gboolean describe_feature(const XmlconfCpuMap *map, xmlNode *node, Description *d, GError **error)
{
    xmlChar *name = xmlGetNoNsProp(node, BAD_CAST "name"), *policy = xmlGetNoNsProp(node, BAD_CAST "policy");
    int index = name ? xmlconf_cpu_map_feature(map, (const char *)name) : -1;
    const char *how = policy ? (const char *)policy : "require";

    if (index < 0)
        unknown("feature", name ? (const char *)name : "", error);
    else if (strcmp(how, "require") == 0 || strcmp(how, "force") == 0)
        xmlconf_cpu_add(&d->features, (guint)index);
    else if (strcmp(how, "disable") == 0 || strcmp(how, "forbid") == 0)
        xmlconf_cpu_remove(&d->features, (guint)index);
    if (index >= 0 && strcmp(how, "forbid") == 0)
        xmlconf_cpu_add(&d->forbidden, (guint)index);
    xmlFree(name);
    xmlFree(policy);
    return index >= 0;
}

static gboolean describe(const XmlconfCpuMap *map, xmlNode *cpu, Description *d, GError **error)
{
    const XmlconfCpuMapModel *model = NULL;
    xmlChar *match = xmlGetNoNsProp(cpu, BAD_CAST "match");

    d->strict = match && strcmp((const char *)match, "strict") == 0;
    d->is_guest = match || xmlHasProp(cpu, BAD_CAST "mode");
    xmlFree(match);
    for (xmlNode *node = cpu->children; node; node = node->next) {
        if (is(node, "model") && !d->model)
            d->model = text_of(node);
        if (is(node, "vendor") && !d->vendor)
            d->vendor = text_of(node);
    }
    if (d->model && *d->model && !(model = xmlconf_cpu_map_model(map, d->model)))
        return unknown("model", d->model, error);
    if (model)
        d->features = model->features;
    for (xmlNode *node = cpu->children; node; node = node->next) {
        if (is(node, "feature") && !describe_feature(map, node, d, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean describe_xml(const XmlconfCpuMap *map, const char *xml, gboolean validate, Description *d,
                             GError **error)
{
    g_autoptr(xmlDoc) doc = xmlconf_document_parse(xml, "(CPU_definition)", error);

    if (!doc)
        return FALSE;
    if (!is(xmlDocGetRootElement(doc), "cpu")) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "XML does not contain expected 'cpu' element");
        return FALSE;
    }
    if (validate && !xmlconf_schema_validate(doc, "cpu", error))
        return FALSE;
    return describe(map, xmlDocGetRootElement(doc), d, error);
}

XmlconfCpuComparison xmlconf_cpu_compare(const XmlconfCpuHave *have, const char *xml, gboolean validate, char **why,
                                         GError **error)
{
    g_auto(Description) d = {0};
    g_autofree char *names = NULL;

    *why = NULL;
    if (!describe_xml(have->map, xml, validate, &d, error))
        return XMLCONF_CPU_ERROR;
    if (d.vendor && g_strcmp0(d.vendor, have->vendor) != 0)
        *why = g_strdup_printf("the CPU is of vendor '%s', not '%s'", have->vendor ? have->vendor : "unknown", d.vendor);
    else if (count_missing(&d.features, &have->features))
        *why = g_strdup_printf("missing features: %s", names = missing_names(have->map, &d.features, &have->features));
    else if (count_missing(&d.forbidden, &have->features) < count_missing(&d.forbidden, &(XmlconfCpuFeatures){0}))
        *why = g_strdup("a forbidden feature is there");
    else if (d.is_guest && d.strict && count_missing(&have->features, &d.features))
        *why = g_strdup("there are more features than a strict match allows");
    if (*why)
        return XMLCONF_CPU_INCOMPATIBLE;
    return count_missing(&have->features, &d.features) ? XMLCONF_CPU_SUPERSET : XMLCONF_CPU_IDENTICAL;
}

/* ---- naming a set */

/* The model that needs the fewest features to be named beside it; of equals the last, which is the richest. */
static const XmlconfCpuMapModel *best_model(const XmlconfCpuHave *have)
{
    const XmlconfCpuMapModel *best = NULL;
    guint best_distance = G_MAXUINT;

    for (guint i = 0; i < have->map->models->len; i++) {
        const XmlconfCpuMapModel *model = &g_array_index(have->map->models, XmlconfCpuMapModel, i);
        guint distance = count_missing(&model->features, &have->features) +
                         count_missing(&have->features, &model->features);
        if (!model->guest || (model->vendor && g_strcmp0(model->vendor, have->vendor) != 0) || distance > best_distance)
            continue;
        best = model;
        best_distance = distance;
    }
    return best;
}

/* A model of which a host has not all is no name for that host: only a guest can do without. */
static const XmlconfCpuMapModel *best_subset(const XmlconfCpuHave *have)
{
    const XmlconfCpuMapModel *best = NULL;
    guint best_distance = G_MAXUINT;

    for (guint i = 0; i < have->map->models->len; i++) {
        const XmlconfCpuMapModel *model = &g_array_index(have->map->models, XmlconfCpuMapModel, i);
        guint distance = count_missing(&have->features, &model->features);
        if ((model->vendor && g_strcmp0(model->vendor, have->vendor) != 0) || distance > best_distance ||
            count_missing(&model->features, &have->features))
            continue;
        best = model;
        best_distance = distance;
    }
    return best;
}

static void append_feature(GString *out, guint indent, const char *policy, const char *name)
{
    g_autofree char *text = policy ? g_markup_printf_escaped("<feature policy='%s' name='%s'/>", policy, name)
                                   : g_markup_printf_escaped("<feature name='%s'/>", name);

    g_string_append_printf(out, "%*s%s\n", (int)indent, "", text);
}

static void append_features(GString *out, guint indent, const XmlconfCpuHave *have, const XmlconfCpuFeatures *model,
                            gboolean guest)
{
    for (guint i = 0; i < have->map->features->len; i++) {
        const char *name = xmlconf_cpu_map_get(have->map, i)->name;
        gboolean there = xmlconf_cpu_has(&have->features, i), named = xmlconf_cpu_has(model, i);
        if (there && !named)
            append_feature(out, indent, guest ? "require" : NULL, name);
        else if (!there && named && guest)
            append_feature(out, indent, "disable", name);
    }
}

static char *format(const XmlconfCpuHave *have, guint indent, gboolean guest, gboolean expand)
{
    const XmlconfCpuMapModel *model = guest ? best_model(have) : best_subset(have);
    const XmlconfCpuFeatures nothing = {0};
    GString *out = g_string_new(NULL);
    g_autofree char *vendor = have->vendor ? g_markup_escape_text(have->vendor, -1) : NULL;

    if (model) {
        g_autofree char *name = g_markup_escape_text(model->name, -1);
        g_string_append_printf(out, "%*s<model%s>%s</model>\n", (int)indent, "", guest ? " fallback='forbid'" : "", name);
    }
    if (vendor)
        g_string_append_printf(out, "%*s<vendor>%s</vendor>\n", (int)indent, "", vendor);
    append_features(out, indent, have, model && !expand ? &model->features : &nothing, guest);
    return g_string_free(out, FALSE);
}

char *xmlconf_cpu_format(const XmlconfCpuHave *have, guint indent, gboolean guest)
{
    return format(have, indent, guest, FALSE);
}

gboolean xmlconf_cpu_model_usable(const XmlconfCpuHave *have, const char *name)
{
    const XmlconfCpuMapModel *model = xmlconf_cpu_map_model(have->map, name);

    return model && !count_missing(&model->features, &have->features);
}

/* ---- baseline */

static gboolean take(XmlconfCpuHave *common, const Description *d, gboolean *any_vendor, GError **error)
{
    if (d->vendor && common->vendor && strcmp(d->vendor, common->vendor) != 0) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "CPU vendors do not match: '%s' and '%s'",
                    common->vendor, d->vendor);
        return FALSE;
    }
    if (d->vendor && !common->vendor)
        common->vendor = g_strdup(d->vendor);
    *any_vendor = *any_vendor || !d->vendor;
    intersect(&common->features, &d->features);
    return TRUE;
}

char *xmlconf_cpu_baseline(const XmlconfCpuMap *map, const XmlconfCpuHave *limit, const char *const *xmls, guint n,
                           gboolean expand, gboolean migratable, GError **error)
{
    XmlconfCpuHave common = {.map = map};
    gboolean any_vendor = FALSE, ok = TRUE;
    g_autofree char *inner = NULL;

    memset(common.features.bits, 0xff, sizeof(common.features.bits));
    for (guint i = 0; i < n && ok; i++) {
        g_auto(Description) d = {0};
        ok = describe_xml(map, xmls[i], FALSE, &d, error) && take(&common, &d, &any_vendor, error);
    }
    if (ok && any_vendor)
        g_clear_pointer(&common.vendor, g_free);
    if (ok && limit) {
        const Description d = {.vendor = limit->vendor, .features = limit->features};
        ok = take(&common, &d, &any_vendor, error);
    }
    for (guint i = 0; i < map->features->len && migratable; i++) {
        if (!xmlconf_cpu_map_get(map, i)->migratable)
            xmlconf_cpu_remove(&common.features, i);
    }
    if (ok)
        inner = format(&common, 2, TRUE, expand);
    xmlconf_cpu_have_clear(&common);
    return ok ? g_strdup_printf("<cpu mode='custom' match='exact'>\n%s</cpu>\n", inner) : NULL;
}
