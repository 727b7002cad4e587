/* args: words to arguments, by the options of a command. */
#include "config.h"

#include "cli/cli.h"

#include <string.h>

struct _CliArgs {
    const CliCommand *command;
    GHashTable *values; /* option name, which is the table's, to text; "" for flags */
    GPtrArray *rest;    /* NULL-terminated when parsed */
};

static gboolean usage_error(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean usage_error(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (error)
        *error = g_error_new_valist(CLI_ERROR, CLI_ERROR_USAGE, format, args);
    va_end(args);
    return FALSE;
}

static const CliOption *first_option(const CliCommand *command)
{
    static const CliOption none = {NULL, 0, 0, NULL};

    return command->options ? command->options : &none;
}

static const CliOption *find_option(const CliCommand *command, const char *name, gsize length)
{
    for (const CliOption *option = first_option(command); option->name; option++) {
        if (strlen(option->name) == length && strncmp(option->name, name, length) == 0)
            return option;
    }
    return NULL;
}

static gboolean set_value(CliArgs *args, const CliOption *option, const char *value, GError **error)
{
    if (option->type == CLI_OPT_REST) {
        g_ptr_array_add(args->rest, g_strdup(value));
        return TRUE;
    }
    if (g_hash_table_contains(args->values, option->name))
        return usage_error(error, "option --%s already seen", option->name);
    g_hash_table_insert(args->values, (gpointer)option->name, g_strdup(value));
    return TRUE;
}

/* "--NAME", "--NAME=VALUE" or "--NAME" "VALUE" at *word, which is moved to the last word used. */
static gboolean parse_option(CliArgs *args, char ***word, GError **error)
{
    const char *name = **word + 2, *equals = strchr(name, '=');
    gsize length = equals ? (gsize)(equals - name) : strlen(name);
    const CliOption *option = find_option(args->command, name, length);

    if (!option)
        return usage_error(error, "command '%s' doesn't support option --%.*s", args->command->name,
                           (int)length, name);
    if (option->type == CLI_OPT_FLAG) {
        if (equals)
            return usage_error(error, "invalid '=' after option --%s", option->name);
        return set_value(args, option, "", error);
    }
    if (equals)
        return set_value(args, option, equals + 1, error);
    if (!(*word)[1])
        return usage_error(error, "expected syntax: --%s <string>", option->name);
    (*word)++;
    return set_value(args, option, **word, error);
}

static gboolean parse_positional(CliArgs *args, const char *word, GError **error)
{
    for (const CliOption *option = first_option(args->command); option->name; option++) {
        if ((option->flags & CLI_OPTION_POSITIONAL) &&
            !g_hash_table_contains(args->values, option->name))
            return set_value(args, option, word, error);
    }
    return usage_error(error, "unexpected data '%s'", word);
}

static gboolean check_required(CliArgs *args, GError **error)
{
    for (const CliOption *option = first_option(args->command); option->name; option++) {
        if ((option->flags & CLI_OPTION_REQUIRED) &&
            !g_hash_table_contains(args->values, option->name))
            return usage_error(error, "command '%s' requires <%s> option", args->command->name,
                               option->name);
    }
    return TRUE;
}

CliArgs *cli_args_parse(const CliCommand *command, char **words, GError **error)
{
    g_autoptr(CliArgs) args = g_new0(CliArgs, 1);
    gboolean only_data = FALSE;

    args->command = command;
    args->values = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    args->rest = g_ptr_array_new_with_free_func(g_free);
    for (char **word = words; *word; word++) {
        if (!only_data && strcmp(*word, "--") == 0) {
            only_data = TRUE;
            continue;
        }
        gboolean is_option = !only_data && g_str_has_prefix(*word, "--");
        if (is_option ? !parse_option(args, &word, error) : !parse_positional(args, *word, error))
            return NULL;
    }
    g_ptr_array_add(args->rest, NULL);
    return check_required(args, error) ? g_steal_pointer(&args) : NULL;
}

void cli_args_free(CliArgs *args)
{
    if (!args)
        return;
    g_hash_table_unref(args->values);
    g_ptr_array_unref(args->rest);
    g_free(args);
}

const CliCommand *cli_args_command(const CliArgs *args)
{
    return args->command;
}

gboolean cli_args_flag(const CliArgs *args, const char *name)
{
    return g_hash_table_contains(args->values, name);
}

const char *cli_args_string(const CliArgs *args, const char *name)
{
    return g_hash_table_lookup(args->values, name);
}

char **cli_args_rest(const CliArgs *args)
{
    return (char **)args->rest->pdata;
}

/* Reads one word at *text into @word. */
static gboolean read_word(const char **text, GString *word, GError **error)
{
    char quote = 0;

    for (; **text; (*text)++) {
        char c = **text;
        if (!quote && (g_ascii_isspace(c) || c == ';'))
            return TRUE;
        if (quote ? c == quote : c == '\'' || c == '"') {
            quote = quote ? 0 : c;
        } else if (c == '\\' && quote != '\'') {
            if (!(*text)[1])
                return usage_error(error, "dangling \\");
            g_string_append_c(word, *++*text);
        } else {
            g_string_append_c(word, c);
        }
    }
    return quote ? usage_error(error, "missing %c", quote) : TRUE;
}

static void end_command(GPtrArray *commands, GPtrArray **words)
{
    if ((*words)->len > 0) {
        g_ptr_array_add(*words, NULL);
        g_ptr_array_add(commands, g_ptr_array_free(*words, FALSE));
    } else {
        g_ptr_array_unref(*words);
    }
    *words = NULL;
}

static void free_words(gpointer words)
{
    g_strfreev(words);
}

GPtrArray *cli_split_line(const char *line, GError **error)
{
    g_autoptr(GPtrArray) commands = g_ptr_array_new_with_free_func(free_words);
    g_autoptr(GPtrArray) words = NULL;

    for (;;) {
        if (!words)
            words = g_ptr_array_new_with_free_func(g_free);
        line += strspn(line, " \t\r\n\v\f");
        if (*line == ';' || *line == '\0') {
            end_command(commands, &words);
            if (*line++ == '\0')
                return g_steal_pointer(&commands);
            continue;
        }
        g_autoptr(GString) word = g_string_new(NULL);
        if (!read_word(&line, word, error))
            return NULL;
        g_ptr_array_add(words, g_strdup(word->str));
    }
}
