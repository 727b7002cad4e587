/* main: domsh's own options, then a command or a shell. */
#include "config.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* Errors are printed once, with what was being done; libvirt would print them as well. */
static void ignore_error(void *data G_GNUC_UNUSED, virErrorPtr error G_GNUC_UNUSED)
{
}

/* The URI of the host whose files are under @root. */
static char *root_uri(const char *root)
{
    g_autofree char *path = g_canonicalize_filename(root, NULL);
    g_autofree char *socket = g_build_filename(path, "run/libvirt/virtxend-sock", NULL);
    g_autofree char *escaped = g_uri_escape_string(socket, "/", FALSE);

    return g_strdup_printf("xen+unix:///system?socket=%s", escaped);
}

/* "^]" or a control character itself; 0 if it is neither. */
static char parse_escape(const char *text)
{
    if (text[0] == '^' && text[1] >= 0x40 && !text[2])
        return (char)(g_ascii_toupper(text[1]) - 0x40);
    return text[0] > 0 && text[0] < 0x20 && !text[1] ? text[0] : 0;
}

typedef struct {
    char *uri, *root, *escape;
    gboolean readonly, quiet, version;
    char **words;
} Options;

static gboolean parse_options(int argc, char **argv, Options *options, GError **error)
{
    const GOptionEntry entries[] = {
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &options->uri, "the hypervisor to talk to", "URI"},
        {"root", 0, 0, G_OPTION_ARG_FILENAME, &options->root,
         "the domusd whose files are under DIR", "DIR"},
        {"readonly", 'r', 0, G_OPTION_ARG_NONE, &options->readonly, "connect for looking only",
         NULL},
        {"quiet", 'q', 0, G_OPTION_ARG_NONE, &options->quiet, "print results only", NULL},
        {"escape", 'e', 0, G_OPTION_ARG_STRING, &options->escape, "key that leaves a console (^])",
         "CHAR"},
        {"version", 'v', 0, G_OPTION_ARG_NONE, &options->version, "print the version", NULL},
        {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &options->words, NULL,
         "[COMMAND [ARGUMENT...]]"},
        {NULL, 0, 0, 0, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autofree char *help = cli_help_all();

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_strict_posix(context,
                                      TRUE); /* what follows the command is the command's */
    g_option_context_set_description(context, help);
    return g_option_context_parse(context, &argc, &argv, error);
}

static gboolean set_up(Cli *cli, Options *options, GError **error)
{
    if (options->uri && options->root)
        return cli_fail(error, "options --connect and --root are mutually exclusive");
    if (options->escape && !(cli->escape = parse_escape(options->escape)))
        return cli_fail(error, "'%s' is not a control character such as '^]'", options->escape);
    cli->uri = options->root ? root_uri(options->root) : g_steal_pointer(&options->uri);
    cli->readonly = options->readonly;
    cli->quiet = options->quiet;
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
        return cli_fail_libvirt(error, "failed to start libvirt");
    return TRUE;
}

static gboolean run(Cli *cli, char **words)
{
    guint n = words ? g_strv_length(words) : 0;

    if (n == 0)
        return cli_shell(cli);
    return n == 1 ? cli_run_line(cli, words[0]) : cli_run_words(cli, words);
}

static void free_options(Options *options)
{
    g_free(options->uri);
    g_free(options->root);
    g_free(options->escape);
    g_strfreev(options->words);
}

int main(int argc, char **argv)
{
    Cli cli = {.escape = 0x1d};
    Options options = {0};
    g_autoptr(GError) error = NULL;
    gboolean ok;

    setlocale(LC_ALL, "");
    virSetErrorFunc(NULL, ignore_error);
    ok = parse_options(argc, argv, &options, &error) &&
         (options.version || set_up(&cli, &options, &error));
    if (!ok)
        fprintf(stderr, "error: %s\n", error->message);
    else if (options.version)
        puts(DOMUS_VERSION);
    else
        ok = run(&cli, options.words);
    cli_disconnect(&cli);
    g_free(cli.uri);
    free_options(&options);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
