/* lifecycle: commands that make, start and stop domains. */
#include "config.h"

#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XL_FORMAT "xen-xl" /* libvirt's name of it */

static int act_destroy(virDomainPtr domain, const CliArgs *args)
{
    return virDomainDestroyFlags(domain,
                                 cli_args_flag(args, "graceful") ? VIR_DOMAIN_DESTROY_GRACEFUL : 0);
}

static int act_reboot(virDomainPtr domain, const CliArgs *args G_GNUC_UNUSED)
{
    return virDomainReboot(domain, 0);
}

static int act_resume(virDomainPtr domain, const CliArgs *args G_GNUC_UNUSED)
{
    return virDomainResume(domain);
}

static int act_shutdown(virDomainPtr domain, const CliArgs *args G_GNUC_UNUSED)
{
    return virDomainShutdown(domain);
}

static int act_suspend(virDomainPtr domain, const CliArgs *args G_GNUC_UNUSED)
{
    return virDomainSuspend(domain);
}

static int act_undefine(virDomainPtr domain, const CliArgs *args G_GNUC_UNUSED)
{
    return virDomainUndefineFlags(domain, 0);
}

const CliLifecycle cli_destroy = {act_destroy, "destroyed", "destroy", CLI_BY_ANY};
const CliLifecycle cli_reboot = {act_reboot, "is being rebooted", "reboot", CLI_BY_ANY};
const CliLifecycle cli_resume = {act_resume, "resumed", "resume", CLI_BY_ANY};
const CliLifecycle cli_shutdown = {act_shutdown, "is being shutdown", "shutdown", CLI_BY_ANY};
const CliLifecycle cli_suspend = {act_suspend, "suspended", "suspend", CLI_BY_ANY};
const CliLifecycle cli_undefine = {act_undefine, "has been undefined", "undefine", CLI_BY_ANY};

gboolean cli_cmd_lifecycle(Cli *cli, const CliArgs *args, GError **error)
{
    const CliLifecycle *what = cli_args_command(args)->data;
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, what->by, error);

    if (!domain)
        return FALSE;
    const char *name = virDomainGetName(domain);
    if (what->act(domain, args) < 0)
        return cli_fail_libvirt(error, "Failed to %s domain '%s'", what->failed, name);
    cli_print_extra(cli, "Domain '%s' %s\n", name, what->done);
    return TRUE;
}

gboolean cli_cmd_start(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_NAME | CLI_BY_UUID, error);
    guint flags = cli_args_flag(args, "paused") ? VIR_DOMAIN_START_PAUSED : 0;

    if (!domain)
        return FALSE;
    if (virDomainGetID(domain) != (unsigned)-1)
        return cli_fail(error, "Domain is already active");
    const char *name = virDomainGetName(domain);
    if (virDomainCreateWithFlags(domain, flags) < 0)
        return cli_fail_libvirt(error, "Failed to start domain '%s'", name);
    cli_print_extra(cli, "Domain '%s' started\n", name);
    return !cli_args_flag(args, "console") || cli_console(cli, domain, NULL, 0, error);
}

static char *read_text(const char *file, GError **error)
{
    char *text = NULL;
    int fd = open(file, O_RDONLY | O_CLOEXEC); /* for an error in the words of the system */

    if (fd < 0) {
        cli_fail(error, "Failed to open file '%s': %s", file, g_strerror(errno));
        return NULL;
    }
    close(fd);
    g_file_get_contents(file, &text, NULL, error);
    return text;
}

/* The XML of a file, which may also be a configuration file of xl: the driver knows these. */
static char *read_xml(Cli *cli, const CliArgs *args, GError **error)
{
    const char *file = cli_args_string(args, "file");
    g_autofree char *text = read_text(file, error);
    char *xml;

    if (!text || text[strspn(text, " \t\r\n")] == '<')
        return g_steal_pointer(&text);
    xml = virConnectDomainXMLFromNative(cli->conn, XL_FORMAT, text, 0);
    if (!xml)
        cli_fail_libvirt(error, "Failed to read '%s' as a configuration file of xl", file);
    return xml;
}

gboolean cli_cmd_define(Cli *cli, const CliArgs *args, GError **error)
{
    g_autofree char *xml = read_xml(cli, args, error);
    guint flags = cli_args_flag(args, "validate") ? VIR_DOMAIN_DEFINE_VALIDATE : 0;

    if (!xml)
        return FALSE;
    g_autoptr(virDomain) domain = virDomainDefineXMLFlags(cli->conn, xml, flags);
    if (!domain)
        return cli_fail_libvirt(error, "Failed to define domain from %s",
                                cli_args_string(args, "file"));
    cli_print_extra(cli, "Domain '%s' defined from %s\n", virDomainGetName(domain),
                    cli_args_string(args, "file"));
    return TRUE;
}

gboolean cli_cmd_create(Cli *cli, const CliArgs *args, GError **error)
{
    g_autofree char *xml = read_xml(cli, args, error);
    guint flags = 0;

    if (!xml)
        return FALSE;
    if (cli_args_flag(args, "paused"))
        flags |= VIR_DOMAIN_START_PAUSED;
    if (cli_args_flag(args, "validate"))
        flags |= VIR_DOMAIN_START_VALIDATE;
    g_autoptr(virDomain) domain = virDomainCreateXML(cli->conn, xml, flags);
    if (!domain)
        return cli_fail_libvirt(error, "Failed to create domain from %s",
                                cli_args_string(args, "file"));
    cli_print_extra(cli, "Domain '%s' created from %s\n", virDomainGetName(domain),
                    cli_args_string(args, "file"));
    return !cli_args_flag(args, "console") || cli_console(cli, domain, NULL, 0, error);
}
