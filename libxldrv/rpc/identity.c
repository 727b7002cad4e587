/* identity: whose calls a client makes: its own, or those of a client of its own that it passes on. */
#include "config.h"

#include <string.h>

#include "libxldrv/rpc/client.h"

/* Source: libvirt-host.h, VIR_CONNECT_IDENTITY_*. */
static const struct {
    const char *name, *type;
} fields[] = {
    {VIR_CONNECT_IDENTITY_USER_NAME, "s"},      {VIR_CONNECT_IDENTITY_UNIX_USER_ID, "t"},
    {VIR_CONNECT_IDENTITY_GROUP_NAME, "s"},     {VIR_CONNECT_IDENTITY_UNIX_GROUP_ID, "t"},
    {VIR_CONNECT_IDENTITY_PROCESS_ID, "x"},     {VIR_CONNECT_IDENTITY_PROCESS_TIME, "t"},
    {VIR_CONNECT_IDENTITY_SASL_USER_NAME, "s"}, {VIR_CONNECT_IDENTITY_X509_DISTINGUISHED_NAME, "s"},
    {VIR_CONNECT_IDENTITY_SELINUX_CONTEXT, "s"},
};

static int find_field(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (strcmp(fields[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

gboolean xldrv_client_set_identity(XldrvClient *client, GVariant *params, GError **error)
{
    gboolean seen[G_N_ELEMENTS(fields)] = {FALSE};

    for (gsize i = 0; i < g_variant_n_children(params); i++) {
        g_autoptr(GVariant) value = NULL;
        const char *name;
        int at;

        g_variant_get_child(params, i, "(&sv)", &name, &value);
        at = find_field(name);
        if (at < 0)
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported", name);
        if (!g_variant_is_of_type(value, G_VARIANT_TYPE(fields[at].type)))
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' has the wrong type", name);
        if (seen[at])
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' occurs multiple times", name);
        seen[at] = TRUE;
    }
    g_mutex_lock(&client->lock);
    g_clear_pointer(&client->identity, g_variant_unref);
    client->identity = g_variant_ref(params);
    g_mutex_unlock(&client->lock);
    return TRUE;
}

/* ---- what is known of the client itself. No names, which may have to be asked of a server. */

static void add(GVariantBuilder *params, const char *name, GVariant *value)
{
    g_variant_builder_add(params, "(sv)", name, value);
}

static GVariant *own_identity_locked(XldrvClient *client)
{
    g_auto(GVariantBuilder) params = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sv)"));
    const XldrvPeer *peer = &client->peer;

    if (peer->known) {
        add(&params, VIR_CONNECT_IDENTITY_UNIX_USER_ID, g_variant_new_uint64(peer->uid));
        add(&params, VIR_CONNECT_IDENTITY_UNIX_GROUP_ID, g_variant_new_uint64(peer->gid));
    }
    if (peer->known && peer->start_time) {
        add(&params, VIR_CONNECT_IDENTITY_PROCESS_ID, g_variant_new_int64(peer->pid));
        add(&params, VIR_CONNECT_IDENTITY_PROCESS_TIME, g_variant_new_uint64(peer->start_time));
    }
    if (client->sasl_user)
        add(&params, VIR_CONNECT_IDENTITY_SASL_USER_NAME, g_variant_new_string(client->sasl_user));
    if (client->x509_name)
        add(&params, VIR_CONNECT_IDENTITY_X509_DISTINGUISHED_NAME, g_variant_new_string(client->x509_name));
    return g_variant_ref_sink(g_variant_builder_end(&params));
}

GVariant *xldrv_client_get_identity(XldrvClient *client)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);

    return client->identity ? g_variant_ref(client->identity) : own_identity_locked(client);
}

/* ---- as polkit knows it */

void xldrv_client_subject(XldrvClient *client, XldrvPeer *subject)
{
    g_autoptr(GVariant) identity = xldrv_client_get_identity(client);
    gboolean has_pid = FALSE, has_uid = FALSE;

    *subject = (XldrvPeer){.known = FALSE};
    for (gsize i = 0; i < g_variant_n_children(identity); i++) {
        g_autoptr(GVariant) value = NULL;
        const char *name;

        g_variant_get_child(identity, i, "(&sv)", &name, &value);
        if (strcmp(name, VIR_CONNECT_IDENTITY_PROCESS_ID) == 0) {
            subject->pid = (int)g_variant_get_int64(value);
            has_pid = TRUE;
        } else if (strcmp(name, VIR_CONNECT_IDENTITY_PROCESS_TIME) == 0) {
            subject->start_time = g_variant_get_uint64(value);
        } else if (strcmp(name, VIR_CONNECT_IDENTITY_UNIX_USER_ID) == 0) {
            subject->uid = (guint)g_variant_get_uint64(value);
            has_uid = TRUE;
        }
    }
    subject->known = has_pid && has_uid;
}
