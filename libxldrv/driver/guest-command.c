/* Commands to a guest's agent as a client words them, and how long to wait for it. Program QEMU of libvirt's protocol,
 * whose other procedures are of QEMU's monitor, which is not there. */
#include "config.h"

#include <libvirt/libvirt-qemu.h>
#include <string.h>

#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/procedures.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/wire.h"

static gboolean check_timeout(int seconds, GError **error)
{
    return seconds >= VIR_DOMAIN_QEMU_AGENT_COMMAND_MIN ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "guest agent timeout '%d' is less than the minimum '%d'", seconds,
                           VIR_DOMAIN_QEMU_AGENT_COMMAND_MIN);
}

/* On one line, as the agent wants it; and what it is called. */
static char *normalize(const char *command, char **name, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(JsonNode) root = xldrv_json_is_bounded(command, strlen(command)) ? json_from_string(command, &why) : NULL;

    if (root && JSON_NODE_HOLDS_OBJECT(root)) {
        const char *execute = xldrv_agent_find_string(root, "execute");
        *name = g_strdup(execute ? execute : "?");
        return json_to_string(root, FALSE);
    }
    xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the command is no JSON object%s%s", why ? ": " : "", why ? why->message : "");
    return NULL;
}

static GVariant *agent_command(XldrvCall *call, GVariant *args, GError **error)
{
    int seconds = xldrv_args_i32(args, 2);
    g_autofree char *command = NULL;
    g_autofree char *name = NULL;
    g_autofree char *reply = NULL;
    g_autoptr(XldrvAgentSession) session = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 3), 0, "virDomainQemuAgentCommand", error) || !check_timeout(seconds, error))
        return NULL;
    command = normalize(xldrv_args_string(args, 1), &name, error);
    session = command ? xldrv_agent_begin_args(call, args, error) : NULL;
    if (!session)
        return NULL;
    xldrv_agent_set_timeout(session, seconds);
    reply = xldrv_agent_pass(session, command, name, error);
    return reply ? g_variant_new("(ms)", reply) : NULL;
}

GVariant *xldrv_handle_domain_agent_set_response_timeout(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int seconds = xldrv_args_i32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error) || !check_timeout(seconds, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set the agent's timeout", error) : NULL;
    if (!job)
        return NULL;
    g_atomic_int_set(&job->agent_timeout, seconds);
    if (job->instance)
        xldrv_set_running_state(xldrv_driver_get(), job, job->state, job->reason); /* saves it */
    return xldrv_reply_int(0);
}

/* clang-format off */
static const XldrvProcedure procedures[] = {
    {1, "DOMAIN_MONITOR_COMMAND", "Dsu", "s", "", "domain:write", XLDRV_PROC_NONE, NULL},
    {2, "DOMAIN_ATTACH", "uu", "D", "", "domain:start;domain:write", XLDRV_PROC_NONE, NULL},
    {3, "DOMAIN_AGENT_COMMAND", "Dsiu", "ms", "", "domain:write", XLDRV_PROC_NONE, agent_command},
    {4, "CONNECT_DOMAIN_MONITOR_EVENT_REGISTER", "mDmsu", "i", "", "connect:write", XLDRV_PROC_NONE, NULL},
    {5, "CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER", "i", "", "", "connect:write", XLDRV_PROC_NONE, NULL},
    {6, "DOMAIN_MONITOR_EVENT", "", "iDsxums", "", "", XLDRV_PROC_EVENT, NULL},
    {7, "DOMAIN_MONITOR_COMMAND_WITH_FILES", "Dsu", "s", "", "domain:write", XLDRV_PROC_FDS_IN | XLDRV_PROC_FDS_OUT, NULL},
};
/* clang-format on */

const XldrvProgram xldrv_qemu_program = {
    .program = XLDRV_QEMU_PROGRAM,
    .version = XLDRV_QEMU_VERSION,
    .procedures = procedures,
    .n_procedures = G_N_ELEMENTS(procedures),
};
