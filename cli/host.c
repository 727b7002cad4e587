/* host: commands about the connection and what is at its other end. */
#include "config.h"

#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

gboolean cli_cmd_connect(Cli *cli, const CliArgs *args, GError **error)
{
    const char *uri = cli_args_string(args, "name");

    cli_disconnect(cli);
    if (uri) {
        g_free(cli->uri);
        cli->uri = g_strdup(uri);
    }
    cli->readonly = cli_args_flag(args, "readonly");
    return cli_connect(cli, error);
}

gboolean cli_cmd_quit(Cli *cli, const CliArgs *args G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    cli->quit = TRUE;
    return TRUE;
}

gboolean cli_cmd_uri(Cli *cli, const CliArgs *args G_GNUC_UNUSED, GError **error)
{
    char *uri = virConnectGetURI(cli->conn);

    if (!uri)
        return cli_fail_libvirt(error, "failed to get URI");
    puts(uri);
    free(uri);
    return TRUE;
}

/* Versions are numbers: a million for the major, a thousand for the minor. */
static void print_version(const char *what, const char *name, unsigned long version)
{
    printf("%s: %s %lu.%lu.%lu\n", what, name, version / 1000000, version / 1000 % 1000,
           version % 1000);
}

gboolean cli_cmd_version(Cli *cli, const CliArgs *args, GError **error)
{
    const char *type = virConnectGetType(cli->conn);
    unsigned long library, api, hypervisor, daemon;

    if (!type)
        return cli_fail_libvirt(error, "failed to get hypervisor type");
    if (virGetVersion(&library, type, &api) < 0)
        return cli_fail_libvirt(error, "failed to get the library version");
    print_version("Compiled against library", "libvirt", LIBVIR_VERSION_NUMBER);
    print_version("Using library", "libvirt", library);
    print_version("Using API", type, api);
    if (virConnectGetVersion(cli->conn, &hypervisor) < 0)
        return cli_fail_libvirt(error, "failed to get the hypervisor version");
    if (hypervisor == 0)
        printf("Cannot extract running %s hypervisor version\n", type);
    else
        print_version("Running hypervisor", type, hypervisor);
    if (!cli_args_flag(args, "daemon"))
        return TRUE;
    if (virConnectGetLibVersion(cli->conn, &daemon) < 0)
        return cli_fail_libvirt(error, "failed to get the daemon version");
    printf("Running against daemon: %lu.%lu.%lu\n", daemon / 1000000, daemon / 1000 % 1000,
           daemon % 1000);
    return TRUE;
}

gboolean cli_cmd_nodeinfo(Cli *cli, const CliArgs *args G_GNUC_UNUSED, GError **error)
{
    virNodeInfo info;

    if (virNodeGetInfo(cli->conn, &info) < 0)
        return cli_fail_libvirt(error, "failed to get node information");
    printf("%-20s %s\n", "CPU model:", info.model);
    printf("%-20s %u\n", "CPU(s):", info.cpus);
    if (info.mhz)
        printf("%-20s %u MHz\n", "CPU frequency:", info.mhz);
    printf("%-20s %u\n", "CPU socket(s):", info.sockets);
    printf("%-20s %u\n", "Core(s) per socket:", info.cores);
    printf("%-20s %u\n", "Thread(s) per core:", info.threads);
    printf("%-20s %u\n", "NUMA cell(s):", info.nodes);
    printf("%-20s %lu KiB\n", "Memory size:", info.memory);
    return TRUE;
}
