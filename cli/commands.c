/* commands: the table of commands. A new command is a row here and a handler. */
#include "config.h"

#include "cli/cli.h"

#include <string.h>

#define FLAG(name, help) {name, CLI_OPT_FLAG, 0, help}
#define DOMAIN(help) {"domain", CLI_OPT_DOMAIN, CLI_OPTION_POSITIONAL | CLI_OPTION_REQUIRED, help}
#define FILE_XML {"file", CLI_OPT_FILE, CLI_OPTION_POSITIONAL | CLI_OPTION_REQUIRED, "file with the domain's XML, or xl.cfg"}
#define END {NULL, 0, 0, NULL}

#define OPTIONS(name) static const CliOption name[]

OPTIONS(domain_options) = {DOMAIN("name, UUID or id of a domain"), END};
OPTIONS(list_options) = {
    FLAG("all", "active and inactive domains"),
    FLAG("inactive", "inactive domains only"),
    FLAG("uuid", "UUIDs only"),
    FLAG("name", "names only"),
    FLAG("title", "titles too"),
    END,
};
OPTIONS(define_options) = {FILE_XML, FLAG("validate", "check the XML against the schema"), END};
OPTIONS(create_options) = {
    FILE_XML,
    FLAG("console", "attach to the console"),
    FLAG("paused", "leave the domain paused"),
    FLAG("validate", "check the XML against the schema"),
    END,
};
OPTIONS(start_options) = {
    DOMAIN("name or UUID of an inactive domain"),
    FLAG("console", "attach to the console"),
    FLAG("paused", "leave the domain paused"),
    END,
};
OPTIONS(destroy_options) = {
    DOMAIN("name, UUID or id of a domain"),
    FLAG("graceful", "only if the domain's process ends by itself"),
    END,
};
OPTIONS(domstate_options) = {
    DOMAIN("name, UUID or id of a domain"),
    FLAG("reason", "and why it is in that state"),
    END,
};
OPTIONS(dumpxml_options) = {
    DOMAIN("name, UUID or id of a domain"),
    FLAG("inactive", "the definition, not the running domain"),
    FLAG("security-info", "with passwords"),
    END,
};
OPTIONS(console_options) = {
    DOMAIN("name, UUID or id of a domain"),
    {"devname", CLI_OPT_STRING, 0, "alias of the console, if there are several"},
    FLAG("force", "put an end to another session"),
    FLAG("safe", "only if the driver keeps sessions apart"),
    END,
};
OPTIONS(connect_options) = {
    {"name", CLI_OPT_STRING, CLI_OPTION_POSITIONAL, "URI of the hypervisor"},
    FLAG("readonly", "for looking only"),
    END,
};
OPTIONS(version_options) = {FLAG("daemon", "that of the daemon too"), END};
OPTIONS(help_options) = {
    {"command", CLI_OPT_COMMAND, CLI_OPTION_POSITIONAL, "command, or keyword of a group"},
    END,
};
OPTIONS(complete_options) = {{"words", CLI_OPT_REST, CLI_OPTION_POSITIONAL, "words typed so far"}, END};

const CliGroup cli_groups[] = {
    {"domain", "Domain Management"},
    {"monitor", "Domain Monitoring"},
    {"host", "Host and Hypervisor"},
    {"domsh", "domsh itself"},
    {NULL, NULL},
};

const CliCommand cli_commands[] = {
    {"console", "domain", "connect to the guest console", console_options, cli_cmd_console, 0, NULL},
    {"create", "domain", "create a domain from an XML file or an xl.cfg", create_options, cli_cmd_create, 0, NULL},
    {"define", "domain", "define (but don't start) a domain from an XML file or an xl.cfg", define_options, cli_cmd_define, 0,
     NULL},
    {"destroy", "domain", "stop a domain at once", destroy_options, cli_cmd_lifecycle, 0, &cli_destroy},
    {"domid", "domain", "convert a domain name or UUID to domain id", domain_options, cli_cmd_domid, 0, NULL},
    {"domname", "domain", "convert a domain id or UUID to domain name", domain_options, cli_cmd_domname, 0, NULL},
    {"domuuid", "domain", "convert a domain name or id to domain UUID", domain_options, cli_cmd_domuuid, 0, NULL},
    {"dumpxml", "domain", "domain information in XML", dumpxml_options, cli_cmd_dumpxml, 0, NULL},
    {"reboot", "domain", "ask a domain to reboot", domain_options, cli_cmd_lifecycle, 0, &cli_reboot},
    {"resume", "domain", "resume a suspended domain", domain_options, cli_cmd_lifecycle, 0, &cli_resume},
    {"shutdown", "domain", "ask a domain to shut down", domain_options, cli_cmd_lifecycle, 0, &cli_shutdown},
    {"start", "domain", "start a defined, inactive domain", start_options, cli_cmd_start, 0, NULL},
    {"suspend", "domain", "suspend a domain", domain_options, cli_cmd_lifecycle, 0, &cli_suspend},
    {"undefine", "domain", "forget a domain's definition", domain_options, cli_cmd_lifecycle, 0, &cli_undefine},

    {"dominfo", "monitor", "domain information", domain_options, cli_cmd_dominfo, 0, NULL},
    {"domstate", "monitor", "domain state", domstate_options, cli_cmd_domstate, 0, NULL},
    {"list", "monitor", "list domains", list_options, cli_cmd_list, 0, NULL},

    {"nodeinfo", "host", "the host's processors and memory", NULL, cli_cmd_nodeinfo, 0, NULL},
    {"uri", "host", "print the hypervisor's canonical URI", NULL, cli_cmd_uri, 0, NULL},
    {"version", "host", "show versions", version_options, cli_cmd_version, 0, NULL},

    {"connect", "domsh", "(re)connect to a hypervisor", connect_options, cli_cmd_connect, CLI_COMMAND_OFFLINE, NULL},
    {"exit", "domsh", "leave the interactive terminal", NULL, cli_cmd_quit, CLI_COMMAND_OFFLINE, NULL},
    {"help", "domsh", "print help", help_options, cli_cmd_help, CLI_COMMAND_OFFLINE, NULL},
    {"quit", "domsh", "leave the interactive terminal", NULL, cli_cmd_quit, CLI_COMMAND_OFFLINE, NULL},
    {"complete", "domsh", "print completions of a command line", complete_options, cli_cmd_complete,
     CLI_COMMAND_OFFLINE | CLI_COMMAND_HIDDEN, NULL},
    {NULL, NULL, NULL, NULL, NULL, 0, NULL},
};

const CliCommand *cli_find_command(const char *name)
{
    for (const CliCommand *command = cli_commands; command->name; command++) {
        if (strcmp(command->name, name) == 0)
            return command;
    }
    return NULL;
}
