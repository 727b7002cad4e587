/* capabilities: what the host has and what a guest can be, as libvirt clients ask for it. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

#include "xmlconf/cpu-map.h"


#define ARCH "x86_64"
#define MACHINE "xenpvh"
#define VIRT_TYPE "xen"

/* Appends formatted XML; string arguments are escaped. */
static void append(GString *out, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void append(GString *out, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_markup_vprintf_escaped(format, args);
    va_end(args);
    g_string_append(out, text);
}

static void append_cpu(GString *out, const XmlconfHost *host)
{
    g_string_append(out, "    <cpu>\n      <arch>" ARCH "</arch>\n");
    if (host->cpu_xml)
        g_string_append(out, host->cpu_xml);
    else if (host->cpu_model)
        append(out, "      <model>%s</model>\n", host->cpu_model);
    if (!host->cpu_xml && host->cpu_vendor)
        append(out, "      <vendor>%s</vendor>\n", host->cpu_vendor);
    if (host->sockets && host->cores && host->threads)
        append(out, "      <topology sockets='%u' dies='1' cores='%u' threads='%u'/>\n", host->sockets,
               host->cores, host->threads);
    append(out, "      <pages unit='KiB' size='%" G_GUINT64_FORMAT "'/>\n", host->page_kib);
    if (host->hugepages_kib)
        append(out, "      <pages unit='KiB' size='%" G_GUINT64_FORMAT "'/>\n", host->hugepages_kib);
    g_string_append(out, "    </cpu>\n");
}

static void append_cell_cpu(GString *out, const XmlconfHostCpu *cpu)
{
    append(out, "            <cpu id='%u'", cpu->id);
    if (cpu->siblings)
        append(out, " socket_id='%u' die_id='%u' core_id='%u' siblings='%s'", cpu->socket, cpu->die, cpu->core,
               cpu->siblings);
    g_string_append(out, "/>\n");
}

static void append_cell(GString *out, const XmlconfHost *host, const XmlconfHostCell *cell)
{
    append(out,
           "        <cell id='%u'>\n"
           "          <memory unit='KiB'>%" G_GUINT64_FORMAT "</memory>\n"
           "          <pages unit='KiB' size='%" G_GUINT64_FORMAT "'>%" G_GUINT64_FORMAT "</pages>\n"
           "          <cpus num='%u'>\n",
           cell->id, cell->memory_kib, host->page_kib, cell->memory_kib / MAX(host->page_kib, 1), cell->n_cpus);
    for (guint i = 0; i < cell->n_cpus; i++)
        append_cell_cpu(out, &cell->cpus[i]);
    g_string_append(out, "          </cpus>\n        </cell>\n");
}

static void append_topology(GString *out, const XmlconfHost *host)
{
    if (host->n_cells == 0)
        return;
    append(out, "    <topology>\n      <cells num='%u'>\n", host->n_cells);
    for (guint i = 0; i < host->n_cells; i++)
        append_cell(out, host, &host->cells[i]);
    g_string_append(out, "      </cells>\n    </topology>\n");
}

static void append_guest(GString *out, const XmlconfHost *host)
{
    append(out,
           "  <guest>\n"
           "    <os_type>xenpvh</os_type>\n"
           "    <arch name='" ARCH "'>\n"
           "      <wordsize>64</wordsize>\n"
           "      <emulator>%s</emulator>\n"
           "      <machine maxCpus='%u'>" MACHINE "</machine>\n"
           "      <domain type='" VIRT_TYPE "'/>\n"
           "    </arch>\n"
           "    <features>\n"
           "      <pae/>\n"
           "      <acpi default='on' toggle='no'/>\n"
           "      <apic default='on' toggle='no'/>\n"
           "      <disksnapshot default='on' toggle='no'/>\n"
           "    </features>\n"
           "  </guest>\n",
           host->emulator, host->max_vcpus);
}

char *xmlconf_capabilities_format(const XmlconfHost *host)
{
    GString *out = g_string_new("<capabilities>\n\n  <host>\n");

    if (host->host_uuid)
        append(out, "    <uuid>%s</uuid>\n", host->host_uuid);
    append_cpu(out, host);
    g_string_append(out, "    <power_management/>\n");
    append_topology(out, host);
    g_string_append(out, "  </host>\n\n");
    append_guest(out, host);
    g_string_append(out, "\n</capabilities>\n");
    return g_string_free(out, FALSE);
}

/* An argument of the client against the only value there is. */
static gboolean check_argument(const char *what, const char *asked, const char *available, XmlconfError code,
                               GError **error)
{
    if (!asked || strcmp(asked, available) == 0)
        return TRUE;
    g_set_error(error, XMLCONF_ERROR, code, "%s '%s' is not available here: it is '%s'", what, asked, available);
    return FALSE;
}

/* Kinds of devices that a guest can have, and features: one row each, in the order of the schema. */
#define DISK_ENUMS                                                                                                     \
    "      <enum name='diskDevice'>\n        <value>disk</value>\n        <value>cdrom</value>\n      </enum>\n"   \
    "      <enum name='bus'>\n        <value>xen</value>\n      </enum>\n"
#define CHANNEL_ENUMS                                                                                                  \
    "      <enum name='type'>\n        <value>null</value>\n        <value>pty</value>\n        <value>file</value>\n"     \
    "        <value>tcp</value>\n        <value>unix</value>\n      </enum>\n"
#define GRAPHICS_ENUMS "      <enum name='type'>\n        <value>vnc</value>\n      </enum>\n"
#define VIDEO_ENUMS    "      <enum name='modelType'>\n        <value>xen</value>\n      </enum>\n"
static const struct {
    const char *group, *name;
    gboolean supported;
    const char *enums; /* what there is to choose from; NULL: nothing */
} domain_abilities[] = {
    {"devices", "disk", TRUE, DISK_ENUMS},
    {"devices", "graphics", TRUE, GRAPHICS_ENUMS},
    {"devices", "video", TRUE, VIDEO_ENUMS},
    {"devices", "hostdev", FALSE, NULL},
    {"devices", "rng", FALSE, NULL},
    {"devices", "filesystem", FALSE, NULL},
    {"devices", "tpm", FALSE, NULL},
    {"devices", "redirdev", FALSE, NULL},
    {"devices", "channel", TRUE, CHANNEL_ENUMS},
    {"features", "vmcoreinfo", FALSE, NULL},
    {"features", "genid", FALSE, NULL},
    {"features", "backingStoreInput", FALSE, NULL},
    {"features", "backup", FALSE, NULL},
    {"features", "sev", FALSE, NULL},
    {"features", "sgx", FALSE, NULL},
    {"features", "hyperv", FALSE, NULL},
};

static void append_ability(GString *out, const char *name, gboolean supported, const char *enums)
{
    append(out, "    <%s supported='%s'%s>\n", name, supported ? "yes" : "no", enums ? "" : "/");
    if (!enums)
        return;
    g_string_append(out, enums);
    append(out, "    </%s>\n", name);
}

static void append_abilities(GString *out, const char *group)
{
    append(out, "  <%s>\n", group);
    for (guint i = 0; i < G_N_ELEMENTS(domain_abilities); i++) {
        if (strcmp(domain_abilities[i].group, group) == 0)
            append_ability(out, domain_abilities[i].name, domain_abilities[i].supported,
                           domain_abilities[i].enums);
    }
    append(out, "  </%s>\n", group);
}

/* A host-model or custom CPU is made of what the map has names for. */
static void append_named_cpus(GString *out, const XmlconfCpuHave *guest)
{
    g_autofree char *model = xmlconf_cpu_format(guest, 6, TRUE);
    const GArray *models = guest->map->models;

    g_string_append_printf(out, "    <mode name='host-model' supported='yes'>\n%s    </mode>\n", model);
    g_string_append(out, "    <mode name='custom' supported='yes'>\n");
    for (guint i = 0; i < models->len; i++) {
        const XmlconfCpuMapModel *known = &g_array_index(models, XmlconfCpuMapModel, i);
        append(out, "      <model usable='%s' vendor='%s'>%s</model>\n",
               xmlconf_cpu_model_usable(guest, known->name) ? "yes" : "no", known->vendor ? known->vendor : "unknown",
               known->name);
    }
    g_string_append(out, "    </mode>\n");
}

static void append_cpu_modes(GString *out, const XmlconfCpuHave *guest)
{
    static const char whole[] = "    <mode name='%s' supported='yes'>\n      <enum name='%sMigratable'>\n"
                                "        <value>on</value>\n        <value>off</value>\n      </enum>\n    </mode>\n";

    g_string_append(out, "  <cpu>\n");
    g_string_append_printf(out, whole, "host-passthrough", "hostPassthrough");
    g_string_append_printf(out, whole, "maximum", "maximum");
    if (guest)
        append_named_cpus(out, guest);
    else
        g_string_append(out, "    <mode name='host-model' supported='no'/>\n    <mode name='custom' supported='no'/>\n");
    g_string_append(out, "  </cpu>\n");
}

char *xmlconf_domain_capabilities_format(const XmlconfHost *host, const XmlconfCpuHave *guest, const char *emulator,
                                         const char *arch, const char *machine, const char *virttype, GError **error)
{
    if (!check_argument("virtualization type", virttype, VIRT_TYPE, XMLCONF_ERROR_OS_TYPE, error) ||
        !check_argument("architecture", arch, ARCH, XMLCONF_ERROR_OS_TYPE, error) ||
        !check_argument("machine", machine, MACHINE, XMLCONF_ERROR_OS_TYPE, error) ||
        !check_argument("emulator", emulator, host->emulator, XMLCONF_ERROR_UNSUPPORTED, error))
        return NULL;

    GString *out = g_string_new("<domainCapabilities>\n");
    append(out,
           "  <path>%s</path>\n"
           "  <domain>" VIRT_TYPE "</domain>\n"
           "  <machine>" MACHINE "</machine>\n"
           "  <arch>" ARCH "</arch>\n"
           "  <vcpu max='%u'/>\n"
           "  <iothreads supported='no'/>\n"
           "  <os supported='yes'>\n"
           "    <loader supported='no'/>\n"
           "  </os>\n",
           host->emulator, host->max_vcpus);
    append_cpu_modes(out, guest);
    g_string_append(out, "  <memoryBacking supported='no'/>\n");
    append_abilities(out, "devices");
    append_abilities(out, "features");
    g_string_append(out, "</domainCapabilities>\n");
    return g_string_free(out, FALSE);
}
