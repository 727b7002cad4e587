/* The table of commands is complete and consistent, and help, manual, parsing and completion follow it. */
#include "config.h"

#include "cli/cli.h"

#include <string.h>

static void check_option(const CliCommand *command, guint index)
{
    const CliOption *option = &command->options[index];
    g_autofree char *help = cli_help_command(command);
    g_autofree char *dashed = g_strdup_printf("--%s", option->name);

    g_assert_nonnull(option->help);
    g_assert_nonnull(strstr(help, dashed));
    g_assert_nonnull(strstr(help, option->help));
    g_assert_false(option->type == CLI_OPT_FLAG && option->flags);
    for (guint i = 0; i < index; i++) {
        const CliOption *earlier = &command->options[i];
        g_assert_cmpstr(earlier->name, !=, option->name);
        /* Else words without a name could not be told apart. */
        g_assert_cmpint(earlier->type, !=, CLI_OPT_REST);
        if (option->flags & CLI_OPTION_REQUIRED)
            g_assert_true(earlier->flags & CLI_OPTION_REQUIRED);
    }
}

static void test_table(void)
{
    for (const CliCommand *command = cli_commands; command->name; command++) {
        g_test_message("%s", command->name);
        g_assert_true(cli_find_command(command->name) == command);
        g_assert_nonnull(cli_find_group(command->group));
        g_assert_nonnull(command->handler);
        g_assert_true(strlen(command->help) > 5 && !g_str_has_suffix(command->help, "."));
        for (guint i = 0; command->options && command->options[i].name; i++)
            check_option(command, i);
    }
    g_assert_null(cli_find_command("nonsense"));
}

/* A line of text that ends where a word may end. */
static gboolean mentions(const char *text, const char *format, const char *word)
{
    g_autofree char *sought = g_strdup_printf(format, word);

    return strstr(text, sought) != NULL;
}

static void test_help_and_manual(void)
{
    g_autofree char *help = cli_help_all();
    g_autofree char *manual = NULL;

    g_assert_true(g_file_get_contents(CLI_MANUAL, &manual, NULL, NULL));
    for (const CliCommand *command = cli_commands; command->name; command++) {
        gboolean hidden = command->flags & CLI_COMMAND_HIDDEN;
        g_test_message("%s", command->name);
        g_assert_cmpint(mentions(help, "\n    %s ", command->name), ==, !hidden);
        g_assert_cmpint(mentions(manual, "\\fB%s\\fR", command->name), ==, !hidden);
    }
}

/* Every command answers arguments it does not know with an error of usage. */
static void test_unknown_arguments(void)
{
    static const char *const unknown[] = {"--nonsense", "--nonsense=1", NULL};

    for (const CliCommand *command = cli_commands; command->name; command++) {
        for (guint i = 0; unknown[i]; i++) {
            const char *words[] = {unknown[i], NULL};
            g_autoptr(GError) error = NULL;
            g_autoptr(CliArgs) args = cli_args_parse(command, (char **)words, &error);
            g_assert_null(args);
            g_assert_error(error, CLI_ERROR, CLI_ERROR_USAGE);
        }
    }
}

static const struct {
    const char *command, *line;
    const char *result; /* "domain", or the error */
} parsing[] = {
    {"domstate", "d", "d"},
    {"domstate", "--reason d", "d"},
    {"domstate", "--domain d --reason", "d"},
    {"domstate", "--domain=d", "d"},
    {"domstate", "--domain= --reason", ""},
    {"domstate", "-- --reason", "--reason"},
    {"domstate", "'a b'\\ \"c'\\\"\"", "a b c'\""},
    {"domstate", "", "command 'domstate' requires <domain> option"},
    {"domstate", "--domain", "expected syntax: --domain <string>"},
    {"domstate", "a b", "unexpected data 'b'"},
    {"domstate", "a --domain b", "option --domain already seen"},
    {"domstate", "--reason --reason a", "option --reason already seen"},
    {"domstate", "a --reason=1", "invalid '=' after option --reason"},
    {"domstate", "a --domai b", "command 'domstate' doesn't support option --domai"},
};

static void test_parsing(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(parsing); i++) {
        g_autofree char *line = g_strdup_printf("x %s", parsing[i].line);
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) commands = cli_split_line(line, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(commands->len, ==, 1);
        char **words = g_ptr_array_index(commands, 0);
        g_autoptr(CliArgs) args = cli_args_parse(cli_find_command(parsing[i].command), words + 1, &error);
        g_assert_cmpstr(args ? cli_args_string(args, "domain") : error->message, ==, parsing[i].result);
    }
}

static void test_splitting(void)
{
    static const struct {
        const char *line, *joined; /* words by '|', commands by '\n'; NULL: an error */
    } cases[] = {
        {"", ""}, {" ; ;; ", ""}, {"a", "a"}, {" a  b;c ", "a|b\nc"}, {"a';'b", "a;b"}, {"''", ""}, {"a\\;b", "a;b"},
        {"'a", NULL}, {"\"a\\\"", NULL}, {"a\\", NULL},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) commands = cli_split_line(cases[i].line, &error);
        g_autoptr(GString) joined = g_string_new(NULL);
        for (guint c = 0; commands && c < commands->len; c++) {
            g_autofree char *words = g_strjoinv("|", g_ptr_array_index(commands, c));
            g_string_append_printf(joined, c ? "\n%s" : "%s", words);
        }
        g_assert_cmpstr(commands ? joined->str : NULL, ==, cases[i].joined);
        g_assert_cmpint(commands == NULL, ==, error != NULL);
    }
}

static void test_completion(void)
{
    static const struct {
        const char *words, *found; /* words by '|' */
    } cases[] = {
        {"doms", "domstate"},
        {"domstate|te", "test"},
        {"domstate|--", "--domain|--reason"},
        {"domstate|--reason|", "test"},
        {"domstate|--domain|t", "test"},
        {"domstate|test|", "--domain|--reason"},
        {"help|mon", "monitor"},
        {"nonsense|", ""},
        {"list|--a", "--all"},
    };
    Cli cli = {.uri = (char *)"test:///default"};

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(GStrv) words = g_strsplit(cases[i].words, "|", -1);
        g_autoptr(GPtrArray) found = cli_complete(&cli, words);
        g_ptr_array_add(found, NULL);
        g_autofree char *joined = g_strjoinv("|", (char **)found->pdata);
        g_assert_cmpstr(joined, ==, cases[i].found);
    }
    cli_disconnect(&cli);
}

static void test_columns(void)
{
    const char *const titles[] = {"Id", "Name", "Title", NULL};
    const char *const first[] = {"1", "\xe5\xae\xbf\xe4\xb8\xbb", "x\x1b[31my", NULL};
    const char *const second[] = {"-", "longer", "", NULL};
    g_autoptr(CliTable) table = cli_table_new(titles);

    cli_table_add(table, first);
    cli_table_add(table, second);
    g_autofree char *text = cli_table_format(table);
    g_assert_cmpstr(text, ==,
                    " Id   Name     Title\n"
                    "---------------------------\n"
                    " 1    \xe5\xae\xbf\xe4\xb8\xbb     x\\x1b[31my\n"
                    " -    longer   \n");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/table", test_table);
    g_test_add_func("/cli/help-and-manual", test_help_and_manual);
    g_test_add_func("/cli/unknown-arguments", test_unknown_arguments);
    g_test_add_func("/cli/parsing", test_parsing);
    g_test_add_func("/cli/splitting", test_splitting);
    g_test_add_func("/cli/completion", test_completion);
    g_test_add_func("/cli/columns", test_columns);
    return g_test_run();
}
