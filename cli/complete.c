/* complete: what the word being typed may become, by the table of commands and the domains that
 * there are.
 *
 * The shell here asks through cli_complete; bash through "domsh complete -- WORDS", see
 * bash-completion/domsh. */
#include "config.h"

#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_if(GPtrArray *found, const char *prefix, const char *start, const char *candidate)
{
    g_autofree char *word = g_strconcat(prefix, candidate, NULL);

    if (g_str_has_prefix(word, start))
        g_ptr_array_add(found, g_steal_pointer(&word));
}

static void add_commands(GPtrArray *found, const char *start)
{
    for (const CliCommand *command = cli_commands; command->name; command++) {
        if (!(command->flags & CLI_COMMAND_HIDDEN))
            add_if(found, "", start, command->name);
    }
}

static void add_groups(GPtrArray *found, const char *start)
{
    for (const CliGroup *group = cli_groups; group->keyword; group++)
        add_if(found, "", start, group->keyword);
}

static void add_domains(Cli *cli, GPtrArray *found, const char *start)
{
    virDomainPtr *domains = NULL;
    int n = cli_connect(cli, NULL) ? virConnectListAllDomains(cli->conn, &domains, 0) : -1;

    for (int i = 0; i < n; i++) {
        add_if(found, "", start, virDomainGetName(domains[i]));
        virDomainFree(domains[i]);
    }
    free(domains); /* libvirt's allocation */
    virResetLastError();
}

static void add_values(Cli *cli, GPtrArray *found, const CliOption *option, const char *start)
{
    if (option->type == CLI_OPT_DOMAIN)
        add_domains(cli, found, start);
    if (option->type == CLI_OPT_COMMAND) {
        add_commands(found, start);
        add_groups(found, start);
    }
}

static gboolean is_given(const CliOption *option, char **words, guint n)
{
    for (guint i = 0; i < n; i++) {
        if (g_str_has_prefix(words[i], "--") && strcmp(words[i] + 2, option->name) == 0)
            return TRUE;
    }
    return FALSE;
}

/* The option whose value the word after @words is: named by the last of them, or the first
 * positional one that is still open. */
static const CliOption *awaited_option(const CliCommand *command, char **words, guint n)
{
    guint data = 0;

    for (const CliOption *option = command->options; n && option && option->name; option++) {
        if (option->type != CLI_OPT_FLAG && g_str_has_prefix(words[n - 1], "--") &&
            strcmp(words[n - 1] + 2, option->name) == 0)
            return option;
    }
    for (guint i = 0; i < n; i++)
        data += !g_str_has_prefix(words[i], "--");
    for (const CliOption *option = command->options; option && option->name; option++) {
        if ((option->flags & CLI_OPTION_POSITIONAL) && !is_given(option, words, n) && data-- == 0)
            return option;
    }
    return NULL;
}

GPtrArray *cli_complete(Cli *cli, char **words)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
    guint n = g_strv_length(words);
    const char *last = n ? words[n - 1] : "";

    if (n < 2) {
        add_commands(found, last);
        return found;
    }
    const CliCommand *command = cli_find_command(words[0]);
    if (!command)
        return found;
    const CliOption *awaited = awaited_option(command, words + 1, n - 2);
    if (awaited && !g_str_has_prefix(last, "-"))
        add_values(cli, found, awaited, last);
    if (found->len > 0)
        return found;
    for (const CliOption *option = command->options; option && option->name; option++) {
        if (!is_given(option, words + 1, n - 2))
            add_if(found, "--", last, option->name);
    }
    return found;
}

gboolean cli_cmd_complete(Cli *cli, const CliArgs *args, GError **error G_GNUC_UNUSED)
{
    g_autoptr(GPtrArray) found = cli_complete(cli, cli_args_rest(args));

    for (guint i = 0; i < found->len; i++)
        puts(g_ptr_array_index(found, i));
    return TRUE;
}
