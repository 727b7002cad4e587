/* lookup: from what a user calls a domain to the domain. */
#include "config.h"

#include "cli/cli.h"

#include <string.h>

virDomainPtr cli_lookup_domain(Cli *cli, const CliArgs *args, guint by, GError **error)
{
    const char *text = cli_args_string(args, "domain");
    virDomainPtr domain = NULL;
    guint64 id;

    if ((by & CLI_BY_ID) && g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT, &id, NULL))
        domain = virDomainLookupByID(cli->conn, (int)id);
    if (!domain && (by & CLI_BY_UUID) && strlen(text) == VIR_UUID_STRING_BUFLEN - 1)
        domain = virDomainLookupByUUIDString(cli->conn, text);
    if (!domain && (by & CLI_BY_NAME))
        domain = virDomainLookupByName(cli->conn, text);
    if (domain) {
        virResetLastError();
        return domain;
    }

    /* That there is no such domain is said by the message itself; anything else is news. */
    if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
        virResetLastError();
    cli_fail_libvirt(error, "failed to get domain '%s'", text);
    return NULL;
}
