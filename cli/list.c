/* list: the domains of a host. */
#include "config.h"

#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/state.h"

/* Active domains by id, then inactive ones by name. */
static int compare_domains(const void *a, const void *b)
{
    virDomainPtr left = *(virDomainPtr const *)a, right = *(virDomainPtr const *)b;
    unsigned left_id = virDomainGetID(left), right_id = virDomainGetID(right);

    if (left_id != right_id)
        return left_id < right_id ? -1 : 1; /* inactive is the largest number */
    return g_ascii_strcasecmp(virDomainGetName(left), virDomainGetName(right));
}

/* The title of a domain, new; "" where there is none. */
static char *get_title(virDomainPtr domain)
{
    char *title = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_TITLE, NULL, 0);
    char *copy = g_strdup(title ? title : "");

    free(title);
    return copy;
}

static void add_domain(CliTable *table, virDomainPtr domain, gboolean title)
{
    unsigned id = virDomainGetID(domain);
    g_autofree char *id_text = id == (unsigned)-1 ? g_strdup("-") : g_strdup_printf("%u", id);
    g_autofree char *title_text = title ? get_title(domain) : NULL;
    int state = VIR_DOMAIN_NOSTATE;

    /* A domain that went away since is shown as of no state. */
    virDomainGetState(domain, &state, NULL, 0);
    const char *cells[] = {id_text, virDomainGetName(domain), cli_domain_state(state), title_text,
                           NULL};
    cli_table_add(table, cells);
}

static void print_table(virDomainPtr *domains, int n, gboolean title)
{
    const char *const titles[] = {"Id", "Name", "State", title ? "Title" : NULL, NULL};
    g_autoptr(CliTable) table = cli_table_new(titles);

    for (int i = 0; i < n; i++)
        add_domain(table, domains[i], title);
    g_autofree char *text = cli_table_format(table);
    fputs(text, stdout);
}

static void print_words(virDomainPtr *domains, int n, gboolean uuids, gboolean names)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    for (int i = 0; i < n; i++) {
        if (uuids && virDomainGetUUIDString(domains[i], uuid) == 0)
            printf(names ? "%-36s " : "%s\n", uuid);
        if (names)
            puts(virDomainGetName(domains[i]));
    }
}

static guint list_flags(const CliArgs *args)
{
    if (cli_args_flag(args, "all"))
        return VIR_CONNECT_LIST_DOMAINS_ACTIVE | VIR_CONNECT_LIST_DOMAINS_INACTIVE;
    return cli_args_flag(args, "inactive") ? VIR_CONNECT_LIST_DOMAINS_INACTIVE
                                           : VIR_CONNECT_LIST_DOMAINS_ACTIVE;
}

gboolean cli_cmd_list(Cli *cli, const CliArgs *args, GError **error)
{
    gboolean names = cli_args_flag(args, "name"), uuids = cli_args_flag(args, "uuid");
    virDomainPtr *domains = NULL;

    if ((names || uuids) && cli_args_flag(args, "title"))
        return cli_fail(error, "Options --%s and --title are mutually exclusive",
                        names ? "name" : "uuid");
    int n = virConnectListAllDomains(cli->conn, &domains, list_flags(args));
    if (n < 0)
        return cli_fail_libvirt(error, "Failed to list domains");

    qsort(domains, (size_t)n, sizeof(virDomainPtr), compare_domains);
    if (names || uuids)
        print_words(domains, n, uuids, names);
    else
        print_table(domains, n, cli_args_flag(args, "title"));
    for (int i = 0; i < n; i++)
        virDomainFree(domains[i]);
    free(domains);
    virResetLastError();
    return TRUE;
}
