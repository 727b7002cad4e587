/* shell: domsh without a command. On a terminal with line editing, completion and a prompt; else it
 * reads what it is given. */
#include "config.h"

#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <editline/readline.h>

/* libedit's callbacks take no argument. Main thread; set while the shell runs. */
static Cli *shell_cli;
static GPtrArray *shell_found;

static char *next_match(const char *text G_GNUC_UNUSED, int state)
{
    const char *found =
        (guint)state < shell_found->len ? g_ptr_array_index(shell_found, state) : NULL;

    return found ? strdup(found) : NULL; /* libedit frees it */
}

static char **complete_word(const char *text, int start, int end G_GNUC_UNUSED)
{
    g_autofree char *before = g_strndup(rl_line_buffer, (gsize)start);
    g_autoptr(GPtrArray) commands = cli_split_line(before, NULL);
    g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
    gboolean fresh = g_str_has_suffix(g_strchomp(before), ";");

    rl_attempted_completion_over = 1;
    if (commands && commands->len && !fresh) {
        char **last = g_ptr_array_index(commands, commands->len - 1);
        for (guint i = 0; last[i]; i++)
            g_ptr_array_add(words, g_strdup(last[i]));
    }
    g_ptr_array_add(words, g_strdup(text));
    g_ptr_array_add(words, NULL);
    shell_found = cli_complete(shell_cli, (char **)words->pdata);
    char **matches = rl_completion_matches(text, next_match);
    g_clear_pointer(&shell_found, g_ptr_array_unref);
    return matches;
}

static char *read_line(gboolean interactive)
{
    if (interactive)
        return readline("domsh # ");

    char *line = NULL;
    size_t size = 0;
    if (getline(&line, &size, stdin) < 0) {
        free(line);
        return NULL;
    }
    return line;
}

static void greet(Cli *cli)
{
    rl_readline_name = (char *)"domsh";
    rl_attempted_completion_function = complete_word;
    rl_basic_word_break_characters = (char *)" \t\n;";
    using_history();
    cli_print_extra(cli, "Welcome to domsh, the terminal for domains.\n\n"
                         "Type:  'help' for help with commands\n"
                         "       'quit' to quit\n\n");
}

gboolean cli_shell(Cli *cli)
{
    gboolean interactive = isatty(STDIN_FILENO), ok = TRUE;

    shell_cli = cli;
    if (interactive)
        greet(cli);
    while (!cli->quit) {
        char *line = read_line(interactive);
        if (!line)
            break;
        if (line[strspn(line, " \t\r\n")]) {
            if (interactive)
                add_history(line);
            ok = cli_run_line(cli, line);
        }
        free(line);
    }
    shell_cli = NULL;
    return ok;
}
