/* Procedures about the vCPUs that a guest uses of those that it has. */
#include "config.h"

#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define MAX_ID 16384 /* as libvirt has it */

typedef struct {
    guint id;
    gboolean online, offlinable, modified;
} GuestCpu;

static gboolean read_cpu(JsonNode *node, GuestCpu *cpu, GError **error)
{
    JsonNode *offlinable = xldrv_agent_find(node, "can-offline"); /* optional */
    gint64 id;

    if (!xldrv_agent_get_int(node, "logical-id", &id, error) ||
        !xldrv_agent_get_boolean(node, "online", &cpu->online, error))
        return FALSE;
    if (id < 0 || id >= MAX_ID)
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR,
                               "vcpu id '%" G_GINT64_FORMAT "' reported by guest agent is out of range", id);
    cpu->id = (guint)id;
    cpu->offlinable = offlinable && JSON_NODE_HOLDS_VALUE(offlinable) && json_node_get_boolean(offlinable);
    return TRUE;
}

/* Of GuestCpu. NULL with an error. */
static GArray *get_cpus(XldrvAgentSession *session, GError **error)
{
    g_autoptr(GArray) cpus = g_array_new(FALSE, TRUE, sizeof(GuestCpu));
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-get-vcpus", NULL, error);
    JsonArray *array = reply ? xldrv_agent_array(reply, MAX_ID, error) : NULL;

    if (!array)
        return NULL;
    for (guint i = 0; i < json_array_get_length(array); i++) {
        GuestCpu cpu = {0};
        if (!read_cpu(json_array_get_element(array, i), &cpu, error))
            return NULL;
        g_array_append_val(cpus, cpu);
    }
    return g_steal_pointer(&cpus);
}

static JsonObject *modified_cpus(const GArray *cpus, guint *n)
{
    JsonObject *arguments = json_object_new();
    JsonArray *array = json_array_new();

    *n = 0;
    for (guint i = 0; i < cpus->len; i++) {
        const GuestCpu *cpu = &g_array_index(cpus, GuestCpu, i);
        JsonObject *object;

        if (!cpu->modified)
            continue;
        object = json_object_new();
        json_object_set_int_member(object, "logical-id", cpu->id);
        json_object_set_boolean_member(object, "online", cpu->online);
        json_array_add_object_element(array, object);
        (*n)++;
    }
    json_object_set_array_member(arguments, "vcpus", array);
    return arguments;
}

/* The agent stops at the first that fails, and says how far it came. */
static gboolean put_cpus(XldrvAgentSession *session, const GArray *cpus, GError **error)
{
    guint n;
    JsonObject *arguments = modified_cpus(cpus, &n);
    g_autoptr(JsonNode) reply = NULL;
    gint64 done;

    if (n == 0) {
        json_object_unref(arguments);
        return TRUE;
    }
    reply = xldrv_agent_run(session, "guest-set-vcpus", arguments, error);
    if (!reply)
        return FALSE;
    done = JSON_NODE_HOLDS_VALUE(reply) ? json_node_get_int(reply) : -1;
    return done == n || xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                                        "the guest changed %" G_GINT64_FORMAT " of %u vCPUs", MAX(done, 0), n);
}

/* ---- how many */

int xldrv_guest_vcpus_online(XldrvAgentSession *session, GError **error)
{
    g_autoptr(GArray) cpus = get_cpus(session, error);
    int n = 0;

    if (!cpus)
        return -1;
    for (guint i = 0; i < cpus->len; i++)
        n += g_array_index(cpus, GuestCpu, i).online;
    return n;
}

/* Not the first vCPU, without which guests cannot do all they should. */
static void change_cpus(GArray *cpus, guint online, guint wanted)
{
    for (guint i = 0; i < cpus->len && online != wanted; i++) {
        GuestCpu *cpu = &g_array_index(cpus, GuestCpu, i);

        if (cpu->online == (online < wanted) || (cpu->online && (!cpu->offlinable || cpu->id == 0)))
            continue;
        cpu->online = !cpu->online;
        cpu->modified = TRUE;
        online += cpu->online ? 1 : -1;
    }
}

gboolean xldrv_guest_set_vcpus(XldrvAgentSession *session, guint n, GError **error)
{
    g_autoptr(GArray) cpus = get_cpus(session, error);
    guint online = 0, fixed = 0;

    if (!cpus)
        return FALSE;
    for (guint i = 0; i < cpus->len; i++) {
        const GuestCpu *cpu = &g_array_index(cpus, GuestCpu, i);
        online += cpu->online;
        fixed += cpu->online && (!cpu->offlinable || cpu->id == 0);
    }
    if (n > cpus->len)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "guest agent reports less cpu than requested");
    if (n < fixed)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "Cannot offline enough CPUs");
    change_cpus(cpus, online, n);
    return put_cpus(session, cpus, error);
}

/* ---- which */

typedef gboolean (*CpuTest)(const GuestCpu *cpu);

static gboolean is_any(const GuestCpu *cpu G_GNUC_UNUSED)
{
    return TRUE;
}

static gboolean is_online(const GuestCpu *cpu)
{
    return cpu->online;
}

static gboolean is_offlinable(const GuestCpu *cpu)
{
    return cpu->offlinable;
}

static void add_set(GVariantBuilder *params, const char *name, const GArray *cpus, CpuTest test)
{
    guint8 map[MAX_ID / 8] = {0};
    g_autofree char *text = NULL;

    for (guint i = 0; i < cpus->len; i++) {
        const GuestCpu *cpu = &g_array_index(cpus, GuestCpu, i);
        if (test(cpu))
            map[cpu->id / 8] |= (guint8)(1 << cpu->id % 8);
    }
    text = xmlconf_cpuset_format(map, sizeof(map));
    xldrv_params_add(params, name, g_variant_new_string(text));
}

GVariant *xldrv_handle_domain_get_guest_vcpus(XldrvCall *call, GVariant *args, GError **error)
{
    g_auto(GVariantBuilder) params = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sv)"));
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(GArray) cpus = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    cpus = session ? get_cpus(session, error) : NULL;
    if (!cpus)
        return NULL;
    add_set(&params, "vcpus", cpus, is_any);
    add_set(&params, "online", cpus, is_online);
    add_set(&params, "offlinable", cpus, is_offlinable);
    return g_variant_new("(@a(sv))", g_variant_builder_end(&params));
}

static gboolean is_set(const GByteArray *map, guint id)
{
    return id / 8 < map->len && map->data[id / 8] & 1 << id % 8;
}

/* Marks those of @map. FALSE with an error: one is not there, or cannot go. */
static gboolean mark(GArray *cpus, GByteArray *map, gboolean online, GError **error)
{
    g_autofree char *left = NULL;

    for (guint i = 0; i < cpus->len; i++) {
        GuestCpu *cpu = &g_array_index(cpus, GuestCpu, i);

        if (!is_set(map, cpu->id))
            continue;
        if (!online && !cpu->offlinable)
            return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "vCPU '%u' is not offlinable", cpu->id);
        cpu->online = online;
        cpu->modified = TRUE;
        map->data[cpu->id / 8] &= (guint8)~(1 << cpu->id % 8);
    }
    left = xmlconf_cpuset_format(map->data, map->len);
    return !*left || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "guest is missing vCPUs '%s'", left);
}

GVariant *xldrv_handle_domain_set_guest_vcpus(XldrvCall *call, GVariant *args, GError **error)
{
    const char *list = xldrv_args_string(args, 1);
    g_autoptr(GByteArray) map = xmlconf_cpuset_parse(list);
    int state = xldrv_args_i32(args, 2);
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(GArray) cpus = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 3), 0, G_STRFUNC, error))
        return NULL;
    if (!map) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no list of vCPUs", list);
        return NULL;
    }
    if (state != 0 && state != 1) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported state value %d", state);
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    cpus = session ? get_cpus(session, error) : NULL;
    if (!cpus || !mark(cpus, map, state == 1, error) || !put_cpus(session, cpus, error))
        return NULL;
    return xldrv_reply_void();
}
