/* info: commands that tell about one domain. */
#include "config.h"

#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/state.h"

static void print_field(const char *name, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void print_field(const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *value = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *printable = cli_printable(value);
    printf("%-15s %s\n", name, printable);
}

static void print_memory(virDomainPtr domain, const virDomainInfo *info)
{
    if (info->maxMem == (unsigned long)-1)
        print_field("Max memory:", "no limit");
    else
        print_field("Max memory:", "%lu KiB", info->maxMem);
    print_field("Used memory:", "%lu KiB", info->memory);

    int persistent = virDomainIsPersistent(domain);
    print_field("Persistent:", "%s", persistent < 0 ? "unknown" : persistent ? "yes" : "no");
}

static void print_switches(virDomainPtr domain)
{
    int autostart = 0, saved = virDomainHasManagedSaveImage(domain, 0);

    if (virDomainGetAutostart(domain, &autostart) == 0)
        print_field("Autostart:", "%s", autostart ? "enable" : "disable");
    print_field("Managed save:", "%s", saved < 0 ? "unknown" : saved ? "yes" : "no");
}

static void print_security(Cli *cli, virDomainPtr domain)
{
    virSecurityModel model = {0};
    virSecurityLabel label = {0};

    if (virNodeGetSecurityModel(cli->conn, &model) < 0 || !model.model[0])
        return;
    print_field("Security model:", "%s", model.model);
    print_field("Security DOI:", "%s", model.doi);
    if (virDomainGetSecurityLabel(domain, &label) == 0 && label.label[0])
        print_field("Security label:", "%s (%s)", label.label,
                    label.enforcing ? "enforcing" : "permissive");
}

gboolean cli_cmd_dominfo(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_ANY, error);
    char uuid[VIR_UUID_STRING_BUFLEN];
    virDomainInfo info;

    if (!domain)
        return FALSE;
    const char *name = virDomainGetName(domain);
    if (virDomainGetUUIDString(domain, uuid) < 0 || virDomainGetInfo(domain, &info) < 0)
        return cli_fail_libvirt(error, "Failed to get information of domain '%s'", name);

    unsigned id = virDomainGetID(domain);
    if (id == (unsigned)-1)
        print_field("Id:", "-");
    else
        print_field("Id:", "%u", id);
    print_field("Name:", "%s", name);
    print_field("UUID:", "%s", uuid);
    char *os_type = virDomainGetOSType(domain);
    if (os_type)
        print_field("OS Type:", "%s", os_type);
    free(os_type);
    print_field("State:", "%s", cli_domain_state(info.state));
    print_field("CPU(s):", "%u", info.nrVirtCpu);
    if (info.cpuTime != 0)
        print_field("CPU time:", "%.1fs", (double)info.cpuTime / 1e9);
    print_memory(domain, &info);
    print_switches(domain);
    print_security(cli, domain);
    virResetLastError();
    return TRUE;
}

gboolean cli_cmd_domstate(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_ANY, error);
    int state, reason;

    if (!domain)
        return FALSE;
    const char *name = virDomainGetName(domain);
    if (virDomainGetState(domain, &state, &reason, 0) < 0)
        return cli_fail_libvirt(error, "Failed to get the state of domain '%s'", name);
    if (cli_args_flag(args, "reason"))
        printf("%s (%s)\n", cli_domain_state(state), cli_domain_reason(state, reason));
    else
        printf("%s\n", cli_domain_state(state));
    return TRUE;
}

gboolean cli_cmd_domid(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_NAME | CLI_BY_UUID, error);

    if (!domain)
        return FALSE;
    unsigned id = virDomainGetID(domain);
    if (id == (unsigned)-1)
        puts("-");
    else
        printf("%u\n", id);
    return TRUE;
}

gboolean cli_cmd_domname(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_ID | CLI_BY_UUID, error);

    if (!domain)
        return FALSE;
    puts(virDomainGetName(domain));
    return TRUE;
}

gboolean cli_cmd_domuuid(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_NAME | CLI_BY_ID, error);
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (!domain)
        return FALSE;
    if (virDomainGetUUIDString(domain, uuid) < 0)
        return cli_fail_libvirt(error, "failed to get domain UUID");
    puts(uuid);
    return TRUE;
}

gboolean cli_cmd_dumpxml(Cli *cli, const CliArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = cli_lookup_domain(cli, args, CLI_BY_ANY, error);
    guint flags = 0;

    if (!domain)
        return FALSE;
    if (cli_args_flag(args, "inactive"))
        flags |= VIR_DOMAIN_XML_INACTIVE;
    if (cli_args_flag(args, "security-info"))
        flags |= VIR_DOMAIN_XML_SECURE;
    const char *name = virDomainGetName(domain);
    char *xml = virDomainGetXMLDesc(domain, flags);
    if (!xml)
        return cli_fail_libvirt(error, "Failed to get the XML of domain '%s'", name);
    fputs(xml, stdout);
    free(xml);
    return TRUE;
}
