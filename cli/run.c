/* run: a command, its connection and its errors. */
#include "config.h"

#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

G_DEFINE_QUARK(cli - error - quark, cli_error)

gboolean cli_fail(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(CLI_ERROR, CLI_ERROR_FAILED, format, args);
    va_end(args);
    return FALSE;
}

gboolean cli_fail_libvirt(GError **error, const char *format, ...)
{
    virErrorPtr last = virGetLastError();
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    if (last && last->code != VIR_ERR_OK)
        g_set_error(error, CLI_ERROR, CLI_ERROR_FAILED, "%s\nerror: %s", text, last->message);
    else
        g_set_error_literal(error, CLI_ERROR, CLI_ERROR_FAILED, text);
    virResetLastError();
    return FALSE;
}

void cli_print_extra(Cli *cli, const char *format, ...)
{
    va_list args;

    if (cli->quiet)
        return;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
}

gboolean cli_connect(Cli *cli, GError **error)
{
    const char *uri = cli->uri;

    if (cli->conn && virConnectIsAlive(cli->conn) == 1)
        return TRUE;
    cli_disconnect(cli);
    if (!uri)
        uri = g_getenv("LIBVIRT_DEFAULT_URI");
    if (!uri || !*uri)
        uri = CLI_DEFAULT_URI;
    cli->conn =
        virConnectOpenAuth(uri, virConnectAuthPtrDefault, cli->readonly ? VIR_CONNECT_RO : 0);
    return cli->conn || cli_fail_libvirt(error, "failed to connect to the hypervisor at '%s'", uri);
}

void cli_disconnect(Cli *cli)
{
    if (cli->conn)
        virConnectClose(cli->conn);
    cli->conn = NULL;
}

static gboolean run_command(Cli *cli, char **words, GError **error)
{
    const CliCommand *command = cli_find_command(words[0]);

    if (!command) {
        g_set_error(error, CLI_ERROR, CLI_ERROR_USAGE, "unknown command: '%s'", words[0]);
        return FALSE;
    }
    g_autoptr(CliArgs) args = cli_args_parse(command, words + 1, error);
    if (!args || (!(command->flags & CLI_COMMAND_OFFLINE) && !cli_connect(cli, error)))
        return FALSE;
    virResetLastError();
    return command->handler(cli, args, error);
}

gboolean cli_run_words(Cli *cli, char **words)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = run_command(cli, words, &error);

    fflush(stdout);
    if (!ok)
        fprintf(stderr, "error: %s\n", error ? error->message : "unknown");
    if (ok || !g_error_matches(error, CLI_ERROR, CLI_ERROR_USAGE))
        cli_print_extra(cli, "\n");
    fflush(stdout);
    return ok;
}

gboolean cli_run_line(Cli *cli, const char *line)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) commands = cli_split_line(line, &error);
    gboolean ok = TRUE;

    if (!commands) {
        fprintf(stderr, "error: %s\n", error->message);
        return FALSE;
    }
    for (guint i = 0; i < commands->len && !cli->quit; i++)
        ok = cli_run_words(cli, g_ptr_array_index(commands, i));
    return ok;
}
