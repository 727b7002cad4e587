/* Procedures about a guest's users: their passwords and the keys that let them in. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define MAX_KEYS  2048 /* of the protocol */
#define KEY_FLAGS (VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND | VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE)

GVariant *xldrv_handle_domain_set_user_password(XldrvCall *call, GVariant *args, GError **error)
{
    const char *user = xldrv_args_optional_string(args, 1), *password = xldrv_args_optional_string(args, 2);
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autofree char *encoded = NULL;
    JsonObject *arguments;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_PASSWORD_ENCRYPTED, G_STRFUNC, error))
        return NULL;
    if (!user || !password) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "a user and a password must be given");
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    if (!session)
        return NULL;
    encoded = g_base64_encode((const guchar *)password, strlen(password));
    arguments = json_object_new();
    json_object_set_boolean_member(arguments, "crypted", (flags & VIR_DOMAIN_PASSWORD_ENCRYPTED) != 0);
    json_object_set_string_member(arguments, "username", user);
    json_object_set_string_member(arguments, "password", encoded);
    return xldrv_agent_do(session, "guest-set-user-password", arguments, error) ? xldrv_reply_void() : NULL;
}

static JsonObject *of_user(const char *user)
{
    JsonObject *arguments = json_object_new();

    json_object_set_string_member(arguments, "username", user);
    return arguments;
}

GVariant *xldrv_handle_domain_authorized_ssh_keys_get(XldrvCall *call, GVariant *args, GError **error)
{
    g_auto(GVariantBuilder) keys = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("as"));
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(JsonNode) reply = NULL;
    JsonArray *array;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    reply = session ? xldrv_agent_run(session, "guest-ssh-get-authorized-keys", of_user(xldrv_args_string(args, 1)), error)
                    : NULL;
    array = reply ? xldrv_agent_array(xldrv_agent_find(reply, "keys"), MAX_KEYS, error) : NULL;
    if (!array)
        return NULL;
    for (guint i = 0; i < json_array_get_length(array); i++) {
        const char *key = json_array_get_string_element(array, i);
        if (key)
            g_variant_builder_add(&keys, "s", key);
    }
    return g_variant_new("(@as)", g_variant_builder_end(&keys));
}

/* Without a flag the keys replace what there is. */
GVariant *xldrv_handle_domain_authorized_ssh_keys_set(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 3);
    gboolean remove = (flags & VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE) != 0;
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autofree const char **keys = NULL;
    JsonArray *array;
    JsonObject *arguments;

    if (!xldrv_check_flags(flags, KEY_FLAGS, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, KEY_FLAGS, "append and remove", error))
        return NULL;
    g_variant_get_child(args, 2, "^a&s", &keys);
    if (flags && !keys[0]) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "no keys are given");
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    if (!session)
        return NULL;
    array = json_array_new();
    for (guint i = 0; keys[i]; i++)
        json_array_add_string_element(array, keys[i]);
    arguments = of_user(xldrv_args_string(args, 1));
    json_object_set_array_member(arguments, "keys", array);
    if (!remove)
        json_object_set_boolean_member(arguments, "reset", !(flags & VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND));
    return xldrv_agent_do(session, remove ? "guest-ssh-remove-authorized-keys" : "guest-ssh-add-authorized-keys", arguments,
                          error)
               ? xldrv_reply_void()
               : NULL;
}
