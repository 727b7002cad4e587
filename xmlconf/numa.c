/* numa: the nodes that a guest sees (<cpu><numa>), and the host's nodes that its memory is on (<numatune>). */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

#define LOCAL_DISTANCE  10
#define REMOTE_DISTANCE 20 /* where nothing is said, as libvirt and ACPI have it */
#define MAX_DISTANCE    255

/* ---- rows */

/* An id, kept as one more so that 0 says that there is none. */
static gboolean read_number(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    if (!xmlconf_value_uint.read(field, element, text, value, error))
        return FALSE;
    *(guint *)value += 1;
    return TRUE;
}

static char *write_number(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    guint number = *(const guint *)value;

    return number ? g_strdup_printf("%u", number - 1) : NULL;
}

static const XmlconfValueType number_value = {read_number, write_number, FALSE};

#define SIBLING(member) .offset = G_STRUCT_OFFSET(XmlconfNumaDistance, member), .flags = XMLCONF_FIELD_REQUIRED

static const XmlconfField distance_fields[] = {
    {"@id", &xmlconf_value_uint, SIBLING(id), .max = XMLCONF_MAX_NUMA_CELLS - 1},
    {"@value", &xmlconf_value_uint, SIBLING(value), .min = LOCAL_DISTANCE, .max = MAX_DISTANCE},
};

static const XmlconfRecord distance_record = {
    .element = "sibling",
    .size = sizeof(XmlconfNumaDistance),
    .fields = distance_fields,
    .n_fields = G_N_ELEMENTS(distance_fields),
};

#define CELL(member) .offset = G_STRUCT_OFFSET(XmlconfNumaCell, member)

static const XmlconfField cell_fields[] = {
    {"@id", &number_value, CELL(number), .max = XMLCONF_MAX_NUMA_CELLS - 1},
    {"@cpus", &xmlconf_value_cpuset, CELL(cpus)},
    {"@memory", &xmlconf_value_memory, CELL(memory_kib), .flags = XMLCONF_FIELD_REQUIRED, .max = XMLCONF_MAX_MEMORY_KIB},
    {"@unit", &xmlconf_value_unit, .fallback = "KiB"},
    XMLCONF_REFUSED("@memAccess", "a guest's memory is its own: it is not shared with other processes"),
    XMLCONF_REFUSED("@discard", "nothing is kept of a guest's memory"),
    {"distances/sibling", .flags = XMLCONF_FIELD_LIST, CELL(distances), .record = &distance_record,
     .max = XMLCONF_MAX_NUMA_CELLS},
    XMLCONF_REFUSED("cache", "a guest is not told of memory side caches"),
};

const XmlconfRecord xmlconf_numa_cell_record = {
    .element = "cell",
    .size = sizeof(XmlconfNumaCell),
    .fields = cell_fields,
    .n_fields = G_N_ELEMENTS(cell_fields),
};

const XmlconfChoice xmlconf_numa_modes[] = {
    {"strict", XMLCONF_NUMA_STRICT, NULL},
    {"preferred", XMLCONF_NUMA_PREFERRED, NULL},
    {"interleave", XMLCONF_NUMA_INTERLEAVE, NULL},
    {"restrictive", XMLCONF_NUMA_RESTRICTIVE, NULL},
    {NULL, 0, NULL},
};

const XmlconfChoice xmlconf_numa_placements[] = {
    {"static", 0, NULL},
    {"auto", 0, "there is no numad to ask: name nodes with 'nodeset'"},
    {NULL, 0, NULL},
};

/* ---- distances */

static guint said_distance(const GPtrArray *cells, guint from, guint to)
{
    const XmlconfNumaCell *cell = cells->pdata[from];

    for (guint i = 0; cell->distances && i < cell->distances->len; i++) {
        const XmlconfNumaDistance *distance = cell->distances->pdata[i];
        if (distance->id == to)
            return distance->value;
    }
    return 0;
}

guint xmlconf_numa_distance(const GPtrArray *cells, guint from, guint to)
{
    guint there = said_distance(cells, from, to), back = there ? 0 : said_distance(cells, to, from);

    return from == to ? LOCAL_DISTANCE : there ? there : back ? back : REMOTE_DISTANCE;
}

void xmlconf_numa_set_distance(XmlconfNumaCell *cell, guint to, guint value)
{
    XmlconfNumaDistance *distance;

    if (!cell->distances)
        cell->distances = xmlconf_record_list_new();
    distance = xmlconf_record_list_add(cell->distances, &distance_record);
    *distance = (XmlconfNumaDistance){to, value};
}

/* ---- checks */

static int by_number(gconstpointer a, gconstpointer b)
{
    const XmlconfNumaCell *left = *(gpointer const *)a, *right = *(gpointer const *)b;

    return left->number < right->number ? -1 : left->number > right->number;
}

/* Cells without an id have that of their place; afterwards a cell's id is its place. */
static gboolean number_cells(GPtrArray *cells, GError **error)
{
    for (guint i = 0; i < cells->len; i++) {
        XmlconfNumaCell *cell = cells->pdata[i];
        if (!cell->number)
            cell->number = i + 1;
    }
    g_ptr_array_sort(cells, by_number);
    for (guint i = 0; i < cells->len; i++) {
        const XmlconfNumaCell *cell = cells->pdata[i];
        if (cell->number != i + 1)
            return xmlconf_fail(error, cell->number <= i ? "NUMA cell '%u' is there more than once"
                                                 : "NUMA cell '%u' is beyond the last: cells are numbered from 0 on without a gap",
                        cell->number - 1);
    }
    return TRUE;
}

static gboolean check_distances(const GPtrArray *cells, guint index, GError **error)
{
    const XmlconfNumaCell *cell = cells->pdata[index];
    guint64 seen = 0;

    for (guint i = 0; cell->distances && i < cell->distances->len; i++) {
        const XmlconfNumaDistance *distance = cell->distances->pdata[i];
        if (distance->id >= cells->len)
            return xmlconf_fail(error, "NUMA cell '%u' has a distance to cell '%u', which is not there", index, distance->id);
        if (seen >> distance->id & 1)
            return xmlconf_fail(error, "NUMA cell '%u' has more than one distance to cell '%u'", index, distance->id);
        if (distance->id == index && distance->value != LOCAL_DISTANCE)
            return xmlconf_fail(error, "NUMA cell '%u' has distance 10 to itself, not %u", index, distance->value);
        if (distance->id != index && distance->value == LOCAL_DISTANCE)
            return xmlconf_fail(error, "NUMA cell '%u' has a distance of at least 11 to cell '%u', not 10", index, distance->id);
        seen |= (guint64)1 << distance->id;
    }
    return TRUE;
}

/* Adds the cell's vCPUs to @seen. */
static gboolean check_vcpus(const XmlconfNumaCell *cell, guint max_vcpus, guint64 *seen, GError **error)
{
    g_autoptr(GByteArray) map = cell->cpus ? xmlconf_cpuset_parse(cell->cpus) : NULL;

    for (guint vcpu = 0; map && vcpu < map->len * 8; vcpu++) {
        if (!(map->data[vcpu / 8] >> vcpu % 8 & 1))
            continue;
        if (vcpu >= max_vcpus)
            return xmlconf_fail(error, "NUMA cell '%u' has vCPU %u, and the domain only %u vCPUs", cell->number - 1, vcpu, max_vcpus);
        if (*seen >> vcpu & 1)
            return xmlconf_fail(error, "vCPU %u is in more than one NUMA cell", vcpu);
        *seen |= (guint64)1 << vcpu;
    }
    return TRUE;
}

gboolean xmlconf_numa_check_vcpus(const GPtrArray *cells, guint max_vcpus, GError **error)
{
    guint64 seen = 0;

    for (guint i = 0; cells && i < cells->len; i++) {
        if (!check_vcpus(cells->pdata[i], max_vcpus, &seen, error))
            return FALSE;
    }
    for (guint vcpu = 0; cells && cells->len && vcpu < max_vcpus; vcpu++) {
        if (!(seen >> vcpu & 1))
            return xmlconf_fail(error, "vCPU %u is in no NUMA cell: attributes 'cpus' of <cell> have to name all %u vCPUs", vcpu,
                        max_vcpus);
    }
    return TRUE;
}

static gboolean check_memory(const GPtrArray *cells, guint64 memory_kib, GError **error)
{
    guint64 sum = 0;

    for (guint i = 0; i < cells->len; i++) {
        const XmlconfNumaCell *cell = cells->pdata[i];
        if (cell->memory_kib % XMLCONF_PAGE_KIB)
            return xmlconf_fail(error, "memory of NUMA cell '%u', %" G_GUINT64_FORMAT " KiB, is not a multiple of a page of %u KiB", i,
                        cell->memory_kib, XMLCONF_PAGE_KIB);
        sum += cell->memory_kib;
    }
    return sum == memory_kib || xmlconf_fail(error, "NUMA cells have memory of %" G_GUINT64_FORMAT " KiB together, and element <memory> "
                                     "says %" G_GUINT64_FORMAT " KiB", sum, memory_kib);
}

static gboolean check_cells(const XmlconfDomainConfig *config, GPtrArray *cells, GError **error)
{
    if (!number_cells(cells, error))
        return FALSE;
    for (guint i = 0; i < cells->len; i++) {
        if (!check_distances(cells, i, error))
            return FALSE;
    }
    return xmlconf_numa_check_vcpus(cells, config->max_vcpus, error) && check_memory(cells, config->memory_kib, error);
}

gboolean xmlconf_numatune_complete(XmlconfNumatune *tune, GError **error)
{
    g_autoptr(GByteArray) nodes = tune->nodeset ? xmlconf_cpuset_parse(tune->nodeset) : NULL;
    guint count = 0;

    if (tune->mode && !tune->nodeset)
        return xmlconf_fail(error, "element <memory> of <numatune> needs a 'nodeset'");
    if (tune->nodeset && !tune->mode)
        tune->mode = XMLCONF_NUMA_STRICT;
    for (guint i = 0; nodes && i < nodes->len; i++)
        count += (guint)__builtin_popcount(nodes->data[i]);
    return tune->mode != XMLCONF_NUMA_PREFERRED || count == 1 ||
           xmlconf_fail(error, "NUMA memory tuning in 'preferred' mode only supports single node, not '%s'", tune->nodeset);
}

gboolean xmlconf_numa_complete(XmlconfDomainConfig *config, GError **error)
{
    GPtrArray *cells = config->cpu.cells;

    return xmlconf_numatune_complete(&config->numatune, error) && (!cells || !cells->len || check_cells(config, cells, error));
}
