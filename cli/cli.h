/* cli: domsh, a libvirt client with virsh's commands.
 *
 * One table (commands.c) has a row for each command: name, group, help, options, handler. Everything a user meets
 * is made from it: parsing (args.c), help and usage (help.c), completion (complete.c). main.c reads domsh's own
 * options and hands either the rest of the line or, without one, a shell (shell.c) to cli_run_words. A handler gets
 * its arguments checked and looked up by name; it prints its result, or sets an error that the caller prints.
 *
 * Any libvirt URI will do: nothing here knows what answers it. Start reading at commands.c.
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#define CLI_DEFAULT_URI "xen:///system"

#define CLI_ERROR (cli_error_quark())
GQuark cli_error_quark(void);

typedef enum {
    CLI_ERROR_USAGE,  /* what was typed */
    CLI_ERROR_FAILED, /* what came of it */
} CliError;

typedef struct _CliCommand CliCommand;
typedef struct _CliArgs CliArgs;

/* One session. Main thread only. */
typedef struct {
    char *uri;           /* to connect to; NULL: the environment's, or the default */
    virConnectPtr conn;  /* NULL until a command needs it */
    gboolean readonly;
    gboolean quiet;
    gboolean quit;       /* the shell is to end */
    char escape;         /* leaves the console: a control character */
} Cli;

typedef enum {
    CLI_OPT_FLAG,
    CLI_OPT_STRING,
    CLI_OPT_FILE,
    CLI_OPT_DOMAIN,   /* name, UUID or id */
    CLI_OPT_COMMAND,  /* name of a command or group */
    CLI_OPT_REST,     /* all words that are left */
} CliOptionType;

typedef enum {
    CLI_OPTION_POSITIONAL = 1 << 0, /* its name may be left out, in the table's order */
    CLI_OPTION_REQUIRED = 1 << 1,
} CliOptionFlags;

typedef struct {
    const char *name;
    CliOptionType type;
    guint flags;
    const char *help;
} CliOption;

typedef gboolean (*CliHandler)(Cli *cli, const CliArgs *args, GError **error);

typedef enum {
    CLI_COMMAND_OFFLINE = 1 << 0, /* needs no connection */
    CLI_COMMAND_HIDDEN = 1 << 1,  /* not in help */
} CliCommandFlags;

struct _CliCommand {
    const char *name;
    const char *group;
    const char *help; /* one line */
    const CliOption *options; /* ends with a NULL name; NULL: none */
    CliHandler handler;
    guint flags;
    gconstpointer data; /* the handler's own */
};

typedef struct {
    const char *keyword, *title;
} CliGroup;

extern const CliGroup cli_groups[];    /* end with a NULL keyword */
extern const CliCommand cli_commands[]; /* end with a NULL name */

/* commands.c: the row of @name (aliases are rows of their own), or NULL. */
const CliCommand *cli_find_command(const char *name);

/* args.c */

/* The arguments that @words (without the command) are to @command. */
CliArgs *cli_args_parse(const CliCommand *command, char **words, GError **error);
void cli_args_free(CliArgs *args);
const CliCommand *cli_args_command(const CliArgs *args);
gboolean cli_args_flag(const CliArgs *args, const char *name);
const char *cli_args_string(const CliArgs *args, const char *name); /* NULL: not given */
char **cli_args_rest(const CliArgs *args);                          /* borrowed; may be empty */
/* Splits a line into commands (at ';') of words, with quotes and backslashes as in sh. Takes no variables. An
 * array of GStrv. */
GPtrArray *cli_split_line(const char *line, GError **error);

/* run.c */

/* Runs one command; prints its error. */
gboolean cli_run_words(Cli *cli, char **words);
/* Runs the commands of @line, whether or not one fails; the last one's success. */
gboolean cli_run_line(Cli *cli, const char *line);
/* Opens the connection, if it is not open. */
gboolean cli_connect(Cli *cli, GError **error);
void cli_disconnect(Cli *cli);
/* Sets an error; always FALSE. The second adds what libvirt says of its last error: which virDomainGetName and the
 * like forget, so names are fetched before what may fail. */
gboolean cli_fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
gboolean cli_fail_libvirt(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Prints to standard output unless quiet: what only a person wants to read. */
void cli_print_extra(Cli *cli, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* help.c */
char *cli_help_all(void);
char *cli_help_group(const CliGroup *group);
char *cli_help_command(const CliCommand *command);
const CliGroup *cli_find_group(const char *keyword);
gboolean cli_cmd_help(Cli *cli, const CliArgs *args, GError **error);

/* complete.c: what the last of @words may be; the words before it are complete. */
GPtrArray *cli_complete(Cli *cli, char **words);
gboolean cli_cmd_complete(Cli *cli, const CliArgs *args, GError **error);

/* shell.c: reads commands from standard input until it ends. FALSE if the last command failed. */
gboolean cli_shell(Cli *cli);

/* table.c: rows of text in aligned columns, as virsh prints them. */
typedef struct _CliTable CliTable;
CliTable *cli_table_new(const char *const *titles);
void cli_table_add(CliTable *table, const char *const *cells);
char *cli_table_format(const CliTable *table); /* headed by the titles and a line */
void cli_table_free(CliTable *table);
/* @text with what would control a terminal made visible. */
char *cli_printable(const char *text);

/* lookup.c: the domain that the option "domain" names, by what @by allows; NULL with an error. */
typedef enum {
    CLI_BY_ID = 1 << 0,
    CLI_BY_UUID = 1 << 1,
    CLI_BY_NAME = 1 << 2,
    CLI_BY_ANY = CLI_BY_ID | CLI_BY_UUID | CLI_BY_NAME,
} CliLookup;
virDomainPtr cli_lookup_domain(Cli *cli, const CliArgs *args, guint by, GError **error);

/* console.c: joins the terminal and a domain's console until either ends. */
gboolean cli_console(Cli *cli, virDomainPtr domain, const char *device, guint flags, GError **error);

/* Handlers: lifecycle.c, info.c, list.c, host.c, console.c. */
gboolean cli_cmd_lifecycle(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_start(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_define(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_create(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_dominfo(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_domstate(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_domid(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_domname(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_domuuid(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_dumpxml(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_list(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_console(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_connect(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_version(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_uri(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_nodeinfo(Cli *cli, const CliArgs *args, GError **error);
gboolean cli_cmd_quit(Cli *cli, const CliArgs *args, GError **error);

/* What cli_cmd_lifecycle does, in CliCommand.data. */
typedef struct {
    int (*act)(virDomainPtr domain, const CliArgs *args);
    const char *done;   /* "suspended" of "Domain 'x' suspended" */
    const char *failed; /* "suspend" of "Failed to suspend domain 'x'" */
    guint by;           /* CliLookup */
} CliLifecycle;

extern const CliLifecycle cli_destroy, cli_reboot, cli_resume, cli_shutdown, cli_suspend, cli_undefine;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CliArgs, cli_args_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CliTable, cli_table_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)
