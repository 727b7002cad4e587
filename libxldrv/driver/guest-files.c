/* Procedures about a guest's file systems: what there is, holding writers back, discarding what is free. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define MAX_FILESYSTEMS 256 /* of the protocol */

/* ---- what there is */

/* The disks of a file system; an agent that cannot tell them says none. */
static JsonArray *disks_of(JsonNode *filesystem, GError **error)
{
    return xldrv_agent_array(xldrv_agent_find(filesystem, "disk"), MAX_FILESYSTEMS, error);
}

/* The agent begins with what was mounted last. */
static JsonNode *in_mount_order(JsonArray *all, guint i)
{
    return json_array_get_element(all, json_array_get_length(all) - 1 - i);
}

static gboolean add_row(GVariantBuilder *rows, XmlconfDomain *domain, JsonNode *filesystem, GError **error)
{
    const char *mountpoint, *name, *type;
    JsonArray *disks = disks_of(filesystem, error);

    if (!disks || !xldrv_agent_get_string(filesystem, "mountpoint", &mountpoint, error) ||
        !xldrv_agent_get_string(filesystem, "name", &name, error) ||
        !xldrv_agent_get_string(filesystem, "type", &type, error))
        return FALSE;
    g_variant_builder_open(rows, G_VARIANT_TYPE("(sssas)"));
    g_variant_builder_add(rows, "s", mountpoint);
    g_variant_builder_add(rows, "s", name);
    g_variant_builder_add(rows, "s", type);
    g_variant_builder_open(rows, G_VARIANT_TYPE("as"));
    for (guint i = 0; i < json_array_get_length(disks); i++) {
        const char *device = xldrv_agent_find_string(json_array_get_element(disks, i), "dev");
        const char *target = xldrv_guest_disk_target(domain, device);
        if (target)
            g_variant_builder_add(rows, "s", target);
    }
    g_variant_builder_close(rows);
    g_variant_builder_close(rows);
    return TRUE;
}

GVariant *xldrv_handle_domain_get_fsinfo(XldrvCall *call, GVariant *args, GError **error)
{
    g_auto(GVariantBuilder) rows = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sssas)"));
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(XmlconfDomain) domain = NULL;
    g_autoptr(JsonNode) reply = NULL;
    JsonArray *all;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    reply = session ? xldrv_agent_run(session, "guest-get-fsinfo", NULL, error) : NULL;
    all = reply ? xldrv_agent_array(reply, MAX_FILESYSTEMS, error) : NULL;
    if (!all)
        return NULL;
    domain = xldrv_domain_get_config(xldrv_agent_domain(session), FALSE);
    for (guint i = 0; i < json_array_get_length(all); i++) {
        if (!add_row(&rows, domain, in_mount_order(all, i), error))
            return NULL;
    }
    return g_variant_new("(@a(sssas)u)", g_variant_builder_end(&rows), json_array_get_length(all));
}

/* ---- for virDomainGetGuestInfo */

/* Older agents do not know how full a file system is. */
static void add_bytes(GVariantBuilder *params, guint i, JsonNode *filesystem, const char *member)
{
    gint64 bytes;

    if (xldrv_agent_get_int(filesystem, member, &bytes, NULL) && bytes >= 0)
        xldrv_guest_param(params, g_variant_new_uint64((guint64)bytes), "fs.%u.%s", i, member);
}

static void add_fs_disk(GVariantBuilder *params, guint i, guint j, XmlconfDomain *domain, JsonNode *disk)
{
    const char *device = xldrv_agent_find_string(disk, "dev"), *serial = xldrv_agent_find_string(disk, "serial");
    const char *target = xldrv_guest_disk_target(domain, device);

    if (target)
        xldrv_guest_param(params, g_variant_new_string(target), "fs.%u.disk.%u.alias", i, j);
    if (serial)
        xldrv_guest_param(params, g_variant_new_string(serial), "fs.%u.disk.%u.serial", i, j);
    if (device)
        xldrv_guest_param(params, g_variant_new_string(device), "fs.%u.disk.%u.device", i, j);
}

static gboolean add_filesystem(GVariantBuilder *params, guint i, XmlconfDomain *domain, JsonNode *filesystem,
                               GError **error)
{
    const char *mountpoint, *name, *type;
    JsonArray *disks = disks_of(filesystem, error);

    if (!disks || !xldrv_agent_get_string(filesystem, "mountpoint", &mountpoint, error) ||
        !xldrv_agent_get_string(filesystem, "name", &name, error) ||
        !xldrv_agent_get_string(filesystem, "type", &type, error))
        return FALSE;
    xldrv_guest_param(params, g_variant_new_string(name), "fs.%u.name", i);
    xldrv_guest_param(params, g_variant_new_string(mountpoint), "fs.%u.mountpoint", i);
    xldrv_guest_param(params, g_variant_new_string(type), "fs.%u.fstype", i);
    add_bytes(params, i, filesystem, "total-bytes");
    add_bytes(params, i, filesystem, "used-bytes");
    xldrv_guest_param(params, g_variant_new_uint32(json_array_get_length(disks)), "fs.%u.disk.count", i);
    for (guint j = 0; j < json_array_get_length(disks); j++)
        add_fs_disk(params, i, j, domain, json_array_get_element(disks, j));
    return TRUE;
}

gboolean xldrv_guest_filesystems_add(XldrvAgentSession *session, GVariantBuilder *params, GError **error)
{
    g_autoptr(XmlconfDomain) domain = xldrv_domain_get_config(xldrv_agent_domain(session), FALSE);
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-get-fsinfo", NULL, error);
    JsonArray *all = reply ? xldrv_agent_array(reply, MAX_FILESYSTEMS, error) : NULL;

    if (!all)
        return FALSE;
    xldrv_guest_param(params, g_variant_new_uint32(json_array_get_length(all)), "fs.count");
    for (guint i = 0; i < json_array_get_length(all); i++) {
        if (!add_filesystem(params, i, domain, in_mount_order(all, i), error))
            return FALSE;
    }
    return TRUE;
}

/* ---- freezing, thawing, trimming */

/* A command that returns how many file systems it was done to. */
static GVariant *count(XldrvAgentSession *session, const char *command, JsonObject *arguments, GError **error)
{
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, command, arguments, error);

    if (!reply)
        return NULL;
    if (JSON_NODE_HOLDS_VALUE(reply) && json_node_get_value_type(reply) == G_TYPE_INT64 && json_node_get_int(reply) >= 0 &&
        json_node_get_int(reply) <= G_MAXINT)
        return xldrv_reply_int((int)json_node_get_int(reply));
    xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "malformed return value of %s", command);
    return NULL;
}

static JsonObject *mountpoints_of(const char *const *mountpoints)
{
    JsonObject *arguments = json_object_new();
    JsonArray *array = json_array_new();

    for (; *mountpoints; mountpoints++)
        json_array_add_string_element(array, *mountpoints);
    json_object_set_array_member(arguments, "mountpoints", array);
    return arguments;
}

GVariant *xldrv_handle_domain_fsfreeze(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autofree const char **mountpoints = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    if (!session)
        return NULL;
    g_variant_get_child(args, 1, "^a&s", &mountpoints);
    return mountpoints[0] ? count(session, "guest-fsfreeze-freeze-list", mountpoints_of(mountpoints), error)
                          : count(session, "guest-fsfreeze-freeze", NULL, error);
}

/* The agent thaws all that it froze. */
GVariant *xldrv_handle_domain_fsthaw(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autofree const char **mountpoints = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    g_variant_get_child(args, 1, "^a&s", &mountpoints);
    if (mountpoints[0]) {
        xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "specifying mountpoints is not supported");
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    return session ? count(session, "guest-fsfreeze-thaw", NULL, error) : NULL;
}

GVariant *xldrv_handle_domain_fstrim(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    JsonObject *arguments;
    guint64 minimum;

    if (!xldrv_check_flags(xldrv_args_u32(args, 3), 0, G_STRFUNC, error))
        return NULL;
    if (xldrv_args_optional_string(args, 1)) {
        xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "Specifying mount point is not supported for now");
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    if (!session)
        return NULL;
    g_variant_get_child(args, 2, "t", &minimum);
    arguments = json_object_new();
    json_object_set_int_member(arguments, "minimum", (gint64)MIN(minimum, G_MAXINT64));
    return xldrv_agent_do(session, "guest-fstrim", arguments, error) ? xldrv_reply_void() : NULL;
}
