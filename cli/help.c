/* help: what the table of commands says, for people. */
#include "config.h"

#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

const CliGroup *cli_find_group(const char *keyword)
{
    for (const CliGroup *group = cli_groups; group->keyword; group++) {
        if (strcmp(group->keyword, keyword) == 0)
            return group;
    }
    return NULL;
}

char *cli_help_group(const CliGroup *group)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, " %s (help keyword '%s'):\n", group->title, group->keyword);
    for (const CliCommand *command = cli_commands; command->name; command++) {
        if (strcmp(command->group, group->keyword) == 0 && !(command->flags & CLI_COMMAND_HIDDEN))
            g_string_append_printf(text, "    %-30s %s\n", command->name, command->help);
    }
    return g_string_free(text, FALSE);
}

char *cli_help_all(void)
{
    GString *text = g_string_new("Grouped commands:\n\n");

    for (const CliGroup *group = cli_groups; group->keyword; group++) {
        g_autofree char *part = cli_help_group(group);
        g_string_append_printf(text, "%s%s", part, group[1].keyword ? "\n" : "");
    }
    return g_string_free(text, FALSE);
}

/* " <domain>", " [--all]", " [--devname <string>]" */
static void append_synopsis(GString *text, const CliOption *option)
{
    gboolean required = option->flags & CLI_OPTION_REQUIRED;

    if (option->type == CLI_OPT_FLAG)
        g_string_append_printf(text, " [--%s]", option->name);
    else if (option->type == CLI_OPT_REST)
        g_string_append_printf(text, " [<%s>]...", option->name);
    else if (option->flags & CLI_OPTION_POSITIONAL)
        g_string_append_printf(text, required ? " <%s>" : " [<%s>]", option->name);
    else
        g_string_append_printf(text, required ? " --%s <string>" : " [--%s <string>]",
                               option->name);
}

static void append_option(GString *text, const CliOption *option)
{
    gboolean positional = option->flags & CLI_OPTION_POSITIONAL;
    g_autofree char *name = NULL;

    if (option->type == CLI_OPT_FLAG)
        name = g_strdup_printf("--%s", option->name);
    else
        name = g_strdup_printf(positional ? "[--%s] <string>" : "--%s <string>", option->name);
    g_string_append_printf(text, "    %-20s %s\n", name, option->help);
}

char *cli_help_command(const CliCommand *command)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "  NAME\n    %s - %s\n\n  SYNOPSIS\n    %s", command->name,
                           command->help, command->name);
    for (const CliOption *option = command->options; option && option->name; option++)
        append_synopsis(text, option);
    g_string_append_c(text, '\n');
    if (command->options)
        g_string_append(text, "\n  OPTIONS\n");
    for (const CliOption *option = command->options; option && option->name; option++)
        append_option(text, option);
    return g_string_free(text, FALSE);
}

gboolean cli_cmd_help(Cli *cli G_GNUC_UNUSED, const CliArgs *args, GError **error)
{
    const char *name = cli_args_string(args, "command");
    const CliCommand *command = name ? cli_find_command(name) : NULL;
    const CliGroup *group = name && !command ? cli_find_group(name) : NULL;
    g_autofree char *text = NULL;

    if (name && !command && !group)
        return cli_fail(error, "command or command group '%s' doesn't exist", name);
    text = command ? cli_help_command(command) : group ? cli_help_group(group) : cli_help_all();
    fputs(text, stdout);
    return TRUE;
}
