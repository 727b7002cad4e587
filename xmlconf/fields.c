/* fields: one row for each thing that a domain document may hold, in the order in which libvirt writes it.
 *
 * What has no row is refused by name, so a new ability is a new row (and the driver's use of the value). */
#include "config.h"

#include "xmlconf/fields.h"

#define DOMAIN(member) .offset = G_STRUCT_OFFSET(XmlconfDomainConfig, member)

static const XmlconfChoice os_types[] = {
    {"xenpvh", XMLCONF_OS_PVH, NULL},
    {"linux", XMLCONF_OS_PV, "paravirtual guests are not supported yet"},
    {"xen", XMLCONF_OS_PV, "paravirtual guests are not supported yet"},
    {"hvm", XMLCONF_OS_HVM, "HVM guests are not supported yet"},
    {NULL, 0, NULL},
};

#define RENAMING "a domain is never restarted under another name"
#define DUMPING  "cores of guests cannot be dumped yet"
static const XmlconfChoice off_actions[] = {
    {"destroy", XMLCONF_ACTION_DESTROY, NULL},
    {"restart", XMLCONF_ACTION_RESTART, NULL},
    {"preserve", XMLCONF_ACTION_PRESERVE, NULL},
    {"rename-restart", XMLCONF_ACTION_RENAME_RESTART, RENAMING},
    {NULL, 0, NULL},
};

static const XmlconfChoice crash_actions[] = {
    {"destroy", XMLCONF_ACTION_DESTROY, NULL},
    {"restart", XMLCONF_ACTION_RESTART, NULL},
    {"preserve", XMLCONF_ACTION_PRESERVE, NULL},
    {"rename-restart", XMLCONF_ACTION_RENAME_RESTART, RENAMING},
    {"coredump-destroy", XMLCONF_ACTION_COREDUMP_DESTROY, DUMPING},
    {"coredump-restart", XMLCONF_ACTION_COREDUMP_RESTART, DUMPING},
    {NULL, 0, NULL},
};

#define CLOCK_OFFSETS "the clock of a guest is UTC"
static const XmlconfChoice clock_offsets[] = {
    {"utc", 0, NULL},
    {"localtime", 0, CLOCK_OFFSETS},
    {"timezone", 0, CLOCK_OFFSETS},
    {"variable", 0, CLOCK_OFFSETS},
    {"absolute", 0, CLOCK_OFFSETS},
    {NULL, 0, NULL},
};

/* <bootloader/> is Xen's own. */
static gboolean read_bootloader(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                                GError **error)
{
    return xmlconf_value_string.read(field, element, *text ? text : "pygrub", value, error);
}

static char *write_bootloader(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return xmlconf_value_string.write(field, value, live);
}

static const XmlconfValueType bootloader = {read_bootloader, write_bootloader, TRUE};

static const XmlconfChoice cpu_modes[] = {
    {"custom", XMLCONF_CPU_CUSTOM, NULL},
    {"host-model", XMLCONF_CPU_HOST_MODEL, NULL},
    {"host-passthrough", XMLCONF_CPU_HOST_PASSTHROUGH, NULL},
    {"maximum", XMLCONF_CPU_MAXIMUM, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice cpu_matches[] = {
    {"exact", XMLCONF_MATCH_EXACT, NULL},
    {"minimum", XMLCONF_MATCH_MINIMUM, NULL},
    {"strict", XMLCONF_MATCH_STRICT, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice cpu_checks[] = {
    {"none", XMLCONF_CHECK_NONE, NULL},
    {"partial", XMLCONF_CHECK_PARTIAL, NULL},
    {"full", XMLCONF_CHECK_FULL, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice cpu_policies[] = {
    {"require", XMLCONF_POLICY_REQUIRE, NULL}, {"force", XMLCONF_POLICY_FORCE, NULL},
    {"optional", XMLCONF_POLICY_OPTIONAL, NULL}, {"disable", XMLCONF_POLICY_DISABLE, NULL},
    {"forbid", XMLCONF_POLICY_FORBID, NULL}, {NULL, 0, NULL},
};

static const XmlconfChoice cpu_fallbacks[] = {{"allow", 0, NULL}, {"forbid", 0, NULL}, {NULL, 0, NULL}};
static const XmlconfChoice on_off[] = {{"on", 0, NULL}, {"off", 0, NULL}, {NULL, 0, NULL}};

static const XmlconfField cpu_feature_fields[] = {
    {"@policy", &xmlconf_value_enum, .offset = G_STRUCT_OFFSET(XmlconfCpuFeature, policy), .fallback = "require",
     .choices = cpu_policies},
    {"@name", &xmlconf_value_string, .offset = G_STRUCT_OFFSET(XmlconfCpuFeature, name),
     .flags = XMLCONF_FIELD_REQUIRED},
};

const XmlconfRecord xmlconf_cpu_feature_record = {
    .element = "feature",
    .size = sizeof(XmlconfCpuFeature),
    .fields = cpu_feature_fields,
    .n_fields = G_N_ELEMENTS(cpu_feature_fields),
};

#define MAX_CPU_FEATURES 512

static const XmlconfChoice allocations[] = {
    {"ondemand", XMLCONF_ALLOCATION_ONDEMAND, NULL},
    {"immediate", XMLCONF_ALLOCATION_IMMEDIATE, NULL},
    {NULL, 0, NULL},
};

static const XmlconfField vcpu_pin_fields[] = {
    {"@vcpu", &xmlconf_value_uint, .offset = G_STRUCT_OFFSET(XmlconfVcpuPin, vcpu), .flags = XMLCONF_FIELD_REQUIRED,
     .max = XMLCONF_MAX_VCPUS - 1},
    {"@cpuset", &xmlconf_value_cpuset, .offset = G_STRUCT_OFFSET(XmlconfVcpuPin, cpuset),
     .flags = XMLCONF_FIELD_REQUIRED},
};

const XmlconfRecord xmlconf_vcpu_pin_record = {
    .element = "vcpupin",
    .size = sizeof(XmlconfVcpuPin),
    .fields = vcpu_pin_fields,
    .n_fields = G_N_ELEMENTS(vcpu_pin_fields),
};

/* The kernel's limits of a period, and of a quota those of its arithmetic. */
#define CPU_LIMIT(prefix, member)                                                                                      \
    {"cputune/" prefix "period", &xmlconf_value_count, DOMAIN(member.period), .min = 1000, .max = 1000000},            \
    {"cputune/" prefix "quota", &xmlconf_value_quota, DOMAIN(member.quota), .min = 1000, .max = 17592186044415}

#define MEMTUNE(name)                                                                                                  \
    {"memtune/" #name, &xmlconf_value_amount, DOMAIN(memtune.name##_kib), .max = XMLCONF_MAX_LIMIT_KIB},               \
    {"memtune/" #name "@unit", &xmlconf_value_amount_unit, DOMAIN(memtune.name##_kib)}

static const XmlconfField domain_fields[] = {
    {"@type", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_REQUIRED, .fallback = "xen"},
    {"@id", &xmlconf_value_id, DOMAIN(id), .flags = XMLCONF_FIELD_LIVE, .max = G_MAXINT32},
    {"name", &xmlconf_value_name, DOMAIN(name), .flags = XMLCONF_FIELD_REQUIRED},
    {"uuid", &xmlconf_value_uuid, DOMAIN(uuid)},
    {"title", &xmlconf_value_line, DOMAIN(title)},
    {"description", &xmlconf_value_string, DOMAIN(description)},
    {"metadata", .flags = XMLCONF_FIELD_OPAQUE},

    {"memory", &xmlconf_value_memory, DOMAIN(memory_kib), .flags = XMLCONF_FIELD_REQUIRED,
     .min = XMLCONF_MIN_MEMORY_KIB, .max = XMLCONF_MAX_MEMORY_KIB},
    {"memory@unit", &xmlconf_value_unit, .fallback = "KiB"},
    {"currentMemory", &xmlconf_value_memory, DOMAIN(current_memory_kib), .min = XMLCONF_MIN_MEMORY_KIB,
     .max = XMLCONF_MAX_MEMORY_KIB, .same_as = G_STRUCT_OFFSET(XmlconfDomainConfig, memory_kib)},
    {"currentMemory@unit", &xmlconf_value_unit, .fallback = "KiB"},
    XMLCONF_REFUSED("maxMemory", "memory devices are not supported: a guest's memory moves between 0 and <memory>"),
    {"memoryBacking/hugepages", &xmlconf_value_present, DOMAIN(hugepages)},
    {"memoryBacking/hugepages/page@size", &xmlconf_value_amount, DOMAIN(hugepage_kib), .max = G_MAXINT64},
    {"memoryBacking/hugepages/page@unit", &xmlconf_value_amount_unit, DOMAIN(hugepage_kib)},
    XMLCONF_REFUSED("memoryBacking/hugepages/page@nodeset", "all memory of a guest is of huge pages, or none"),
    {.path = "memoryBacking/nosharepages"}, /* it never is */
    {"memoryBacking/locked", &xmlconf_value_present, DOMAIN(memory_locked)},
    {"memoryBacking/source@type", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "anonymous"},
    {"memoryBacking/access@mode", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "private"},
    {"memoryBacking/allocation@mode", &xmlconf_value_enum, DOMAIN(allocation), .choices = allocations},
    {.path = "memoryBacking/discard"}, /* nothing is kept of it */
    {"blkiotune/weight", &xmlconf_value_count, DOMAIN(blkiotune.weight), .min = XMLCONF_MIN_WEIGHT,
     .max = XMLCONF_MAX_WEIGHT},
    {"blkiotune/device", .flags = XMLCONF_FIELD_LIST, DOMAIN(blkiotune.devices), .record = &xmlconf_blkio_device_record,
     .max = XMLCONF_MAX_DISKS},
    MEMTUNE(hard_limit),
    MEMTUNE(soft_limit),
    XMLCONF_REFUSED("memtune/min_guarantee", "no memory can be kept for a domain but by <locked> and <hugepages>"),
    MEMTUNE(swap_hard_limit),
    {"vcpu", &xmlconf_value_uint, DOMAIN(max_vcpus), .fallback = "1", .min = 1, .max = XMLCONF_MAX_VCPUS},
    {"vcpu@placement", &xmlconf_value_fixed, .fallback = "static"},
    {"vcpu@cpuset", &xmlconf_value_cpuset, DOMAIN(cpuset)},
    {"vcpu@current", &xmlconf_value_uint, DOMAIN(current_vcpus), .flags = XMLCONF_FIELD_ELIDE, .min = 1,
     .max = XMLCONF_MAX_VCPUS, .same_as = G_STRUCT_OFFSET(XmlconfDomainConfig, max_vcpus)},
    XMLCONF_REFUSED("vcpus", "vCPUs come and go in order: use attribute 'current' of <vcpu>"),
    XMLCONF_REFUSED("iothreads", "I/O threads are not supported: a domain does all its I/O in one"),
    {"cputune/shares", &xmlconf_value_count, DOMAIN(cputune.shares), .min = 2, .max = 262144},
    CPU_LIMIT("", cputune.vcpu),
    CPU_LIMIT("global_", cputune.global),
    CPU_LIMIT("emulator_", cputune.emulator),
    {"cputune/vcpupin", .flags = XMLCONF_FIELD_LIST, DOMAIN(cputune.pins), .record = &xmlconf_vcpu_pin_record,
     .max = XMLCONF_MAX_VCPUS},
    {"cputune/emulatorpin@cpuset", &xmlconf_value_cpuset, DOMAIN(cputune.emulator_pin)},
    {"numatune/memory@mode", &xmlconf_value_enum, DOMAIN(numatune.mode), .choices = xmlconf_numa_modes},
    {"numatune/memory@nodeset", &xmlconf_value_cpuset, DOMAIN(numatune.nodeset)},
    {"numatune/memory@placement", &xmlconf_value_checked, .choices = xmlconf_numa_placements},
    XMLCONF_REFUSED("numatune/memnode", "all memory of a guest is placed alike: use <memory> of <numatune>"),

    {"bootloader", &bootloader, DOMAIN(bootloader)},
    {"bootloader_args", &xmlconf_value_string, DOMAIN(bootloader_args)},
    {"os/type", &xmlconf_value_enum, DOMAIN(os_type), .flags = XMLCONF_FIELD_REQUIRED,
     .choices = os_types, .code = XMLCONF_ERROR_OS_TYPE},
    {"os/type@arch", &xmlconf_value_fixed, .fallback = "x86_64", .code = XMLCONF_ERROR_OS_TYPE},
    {"os/type@machine", &xmlconf_value_fixed, .fallback = "xenpvh", .code = XMLCONF_ERROR_OS_TYPE},
    XMLCONF_REFUSED("os/loader", "firmware is not supported: a PVH guest is booted from its kernel"),
    {"os/boot", .flags = XMLCONF_FIELD_LIST, DOMAIN(boot), .record = &xmlconf_boot_record, .max = 4},
    {"os/kernel", &xmlconf_value_path, DOMAIN(kernel)},
    {"os/initrd", &xmlconf_value_path, DOMAIN(initrd)},
    {"os/cmdline", &xmlconf_value_string, DOMAIN(cmdline)},

    /* A PVH guest has all three, asked for or not. */
    {.path = "features/acpi"},
    {.path = "features/apic"},
    {.path = "features/pae"},
    {"cpu@mode", &xmlconf_value_enum, DOMAIN(cpu.mode), .choices = cpu_modes},
    {"cpu@match", &xmlconf_value_enum, DOMAIN(cpu.match), .choices = cpu_matches},
    {"cpu@check", &xmlconf_value_enum, DOMAIN(cpu.check), .choices = cpu_checks},
    {"cpu@migratable", &xmlconf_value_word, DOMAIN(cpu.migratable), .choices = on_off},
    {"cpu/model", &xmlconf_value_string, DOMAIN(cpu.model)},
    {"cpu/model@fallback", &xmlconf_value_word, DOMAIN(cpu.fallback), .choices = cpu_fallbacks},
    {"cpu/vendor", &xmlconf_value_string, DOMAIN(cpu.vendor)},
    XMLCONF_REFUSED("cpu/topology", "each vCPU of a guest is a core of one socket: a topology cannot be chosen"),
    XMLCONF_REFUSED("cpu/cache", "the caches that a guest sees are those of the host"),
    XMLCONF_REFUSED("cpu/maxphysaddr", "a guest has physical addresses of 40 bits"),
    {"cpu/feature", .flags = XMLCONF_FIELD_LIST, DOMAIN(cpu.features), .record = &xmlconf_cpu_feature_record,
     .max = MAX_CPU_FEATURES},
    {"cpu/numa/cell", .flags = XMLCONF_FIELD_LIST, DOMAIN(cpu.cells), .record = &xmlconf_numa_cell_record,
     .max = XMLCONF_MAX_NUMA_CELLS},
    XMLCONF_REFUSED("cpu/numa/interconnects", "a guest is told of distances, not of latencies and bandwidths (HMAT)"),
    {"clock@offset", &xmlconf_value_word, DOMAIN(clock_offset), .fallback = "utc", .choices = clock_offsets},

    {"on_poweroff", &xmlconf_value_enum, DOMAIN(on_poweroff), .fallback = "destroy", .choices = off_actions},
    {"on_reboot", &xmlconf_value_enum, DOMAIN(on_reboot), .fallback = "restart", .choices = off_actions},
    {"on_crash", &xmlconf_value_enum, DOMAIN(on_crash), .fallback = "destroy", .choices = crash_actions},

    {"devices/emulator", &xmlconf_value_path, DOMAIN(emulator)},
    {"devices/disk", .flags = XMLCONF_FIELD_LIST, DOMAIN(disks), .record = &xmlconf_disk_record,
     .max = XMLCONF_MAX_DISKS},
    XMLCONF_REFUSED("devices/filesystem", "filesystem devices are not supported yet"),
    {"devices/interface", .flags = XMLCONF_FIELD_LIST, DOMAIN(interfaces),
     .record = &xmlconf_interface_record, .max = XMLCONF_MAX_INTERFACES},
    XMLCONF_REFUSED("devices/serial", "a PVH guest has no serial ports: use <console>, or <channel> for programs"),
    XMLCONF_REFUSED("devices/parallel", "parallel ports are not supported"),
    {"devices/console", .flags = XMLCONF_FIELD_LIST, DOMAIN(consoles), .record = &xmlconf_console_record,
     .max = XMLCONF_MAX_CONSOLES},
    {"devices/channel", .flags = XMLCONF_FIELD_LIST, DOMAIN(channels), .record = &xmlconf_channel_record,
     .max = XMLCONF_MAX_CONSOLES - 1},
    {"devices/input", .flags = XMLCONF_FIELD_LIST, DOMAIN(inputs), .record = &xmlconf_input_record,
     .max = XMLCONF_MAX_INPUTS},
    {"devices/graphics", .flags = XMLCONF_FIELD_LIST, DOMAIN(graphics), .record = &xmlconf_graphics_record,
     .max = XMLCONF_MAX_GRAPHICS},
    {"devices/video", .flags = XMLCONF_FIELD_LIST, DOMAIN(videos), .record = &xmlconf_video_record,
     .max = XMLCONF_MAX_VIDEOS},
    XMLCONF_REFUSED("devices/sound", "sound devices are not supported"),
    XMLCONF_REFUSED("devices/hostdev", "host devices are not supported"),
    XMLCONF_REFUSED("devices/watchdog", "Xen's watchdog is a hypercall, not a device: what it does is <on_crash>"),
    XMLCONF_REFUSED("devices/panic", "a Xen guest tells by a hypercall that it crashed: what that does is <on_crash>"),
    XMLCONF_REFUSED("devices/tpm", "a PVH guest has no TPM"),
    XMLCONF_REFUSED("devices/rng", "Xen has no protocol for entropy: guests have the CPU's own RDRAND and RDSEED"),
    XMLCONF_REFUSED("devices/vsock", "Xen has no protocol for vsock: use a <channel>"),
    XMLCONF_REFUSED("devices/controller", "device controllers are not supported"),
    {"devices/memballoon@model", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "xen"},
};

const XmlconfRecord xmlconf_domain_record = {
    .element = "domain",
    .size = sizeof(XmlconfDomainConfig),
    .fields = domain_fields,
    .n_fields = G_N_ELEMENTS(domain_fields),
};
