/* passt for interfaces of type user. Source: passt(1). */
#include "config.h"

#include "libxldrv/driver/passt.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/driver/run.h"
#include "libxldrv/host/process.h"
#include "libxldrv/state/files.h"

#define PROGRAM     "passt"
#define SUFFIX      ".passt"
#define PASST_FD    "3" /* the first passed descriptor */
#define MTU_DEFAULT 1500
#define READY_TRIES 500
#define READY_US    10000

static char *process_path(XldrvDriver *driver, const char *uuid, const XmlconfInterface *interface)
{
    g_autofree char *name = g_strconcat(uuid, ".", interface->alias, SUFFIX, NULL);

    return xldrv_run_path(driver, name);
}

/* ---- what it is told */

static void add(GPtrArray *argv, const char *option, char *value)
{
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, value);
}

static void append_range(GString *spec, const XmlconfPortRange *range)
{
    guint end = range->end ? range->end : range->start;

    g_string_append_printf(spec, "%s%u", range->exclude ? "~" : "", range->start);
    if (end != range->start)
        g_string_append_printf(spec, "-%u", end);
    if (range->to)
        g_string_append_printf(spec, ":%u", range->to);
    if (range->to && end != range->start)
        g_string_append_printf(spec, "-%u", range->to + end - range->start);
}

/* "ADDRESS%DEVICE/1-5:11-15,~3"; all ports where none are said. */
static char *ports_of(const XmlconfPortForward *forward)
{
    GString *spec = g_string_new(forward->address);

    if (forward->dev)
        g_string_append_printf(spec, "%%%s", forward->dev);
    if (spec->len)
        g_string_append_c(spec, '/');
    for (guint i = 0; forward->ranges && i < forward->ranges->len; i++) {
        if (i)
            g_string_append_c(spec, ',');
        append_range(spec, forward->ranges->pdata[i]);
    }
    if (!forward->ranges || !forward->ranges->len)
        g_string_append(spec, "all");
    return g_string_free(spec, FALSE);
}

static void add_addresses(GPtrArray *argv, const XmlconfInterface *interface)
{
    for (guint i = 0; interface->ips && i < interface->ips->len; i++) {
        const XmlconfNicIp *ip = interface->ips->pdata[i];

        add(argv, "--address", g_strdup(ip->address));
        if (ip->prefix && !strchr(ip->address, ':')) /* it has one of its own for IPv6 */
            add(argv, "--netmask", g_strdup_printf("%u", ip->prefix));
    }
}

static GPtrArray *arguments_of(const char *program, const XmlconfInterface *interface)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(argv, g_strdup(program));
    g_ptr_array_add(argv, g_strdup("--quiet"));
    g_ptr_array_add(argv, g_strdup("--foreground"));
    g_ptr_array_add(argv, g_strdup("--stderr"));
    add(argv, "--mtu", g_strdup_printf("%u", interface->mtu ? interface->mtu : MTU_DEFAULT));
    add(argv, "--fd", g_strdup(PASST_FD));
    if (interface->dev)
        add(argv, "--interface", g_strdup(interface->dev));
    add_addresses(argv, interface);
    for (guint i = 0; interface->forwards && i < interface->forwards->len; i++) {
        const XmlconfPortForward *forward = interface->forwards->pdata[i];

        add(argv, strcmp(forward->proto, "udp") == 0 ? "--udp-ports" : "--tcp-ports", ports_of(forward));
    }
    g_ptr_array_add(argv, NULL);
    return argv;
}

/* ---- starting */

static char *log_path(const XldrvDeviceHost *host, const XmlconfInterface *interface, GError **error)
{
    return interface->log_file ? g_strdup(interface->log_file)
                               : xldrv_file_path(host->driver->paths->log_dir, host->name, SUFFIX ".log", error);
}

/* Its last words; that it finds no system log are none. */
static char *find_complaint(const char *path)
{
    g_autofree char *text = xldrv_file_read(path, 16 << 20, NULL);
    g_auto(GStrv) lines = g_strsplit(text ? g_strchomp(text) : "", "\n", -1);

    for (guint i = g_strv_length(lines); i > 0; i--) {
        if (*lines[i - 1] && !g_str_has_prefix(lines[i - 1], "Failed to send"))
            return g_strdup(lines[i - 1]);
    }
    return g_strdup("it ended at once");
}

/* The last thing that it does before it serves is to have its system calls filtered. */
static gboolean serves(const XldrvProcess *process)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)process->pid);
    g_autofree char *status = xldrv_file_read(path, 64 << 10, NULL);

    return status && strstr(status, "\nSeccomp:\t2") != NULL;
}

static gboolean wait_until_ready(const XldrvProcess *process, const char *log, const XmlconfInterface *interface,
                                 GError **error)
{
    g_autofree char *complaint = NULL;

    for (guint i = 0; i < READY_TRIES && !serves(process) && xldrv_process_is_alive(process); i++)
        g_usleep(READY_US);
    if (xldrv_process_is_alive(process))
        return TRUE;
    complaint = find_complaint(log);
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "%s cannot serve interface '%s': %s", PROGRAM,
                           interface->mac, complaint);
}

static gboolean spawn(const XldrvDeviceHost *host, const XmlconfInterface *interface, int fd, GError **error)
{
    g_autofree char *program = g_find_program_in_path(PROGRAM);
    g_autofree char *log = log_path(host, interface, error);
    g_autofree char *written = process_path(host->driver, host->uuid, interface);
    g_autoptr(GPtrArray) argv = arguments_of(program, interface);
    const XldrvSpawn spawn = {.argv = (const char *const *)argv->pdata,
                              .fds = &fd,
                              .n_fds = 1,
                              .log_path = log,
                              .pid_path = written};
    g_autoptr(XldrvProcess) process = NULL;

    if (!program)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "cannot find program '%s', which interface '%s' of type 'user' needs", PROGRAM,
                               interface->mac);
    process = log ? xldrv_process_spawn(&spawn, error) : NULL;
    return process && wait_until_ready(process, log, interface, error);
}

gboolean xldrv_passt_start(const XldrvDeviceHost *host, const XmlconfInterface *interface, int *fd, GError **error)
{
    int ends[2];
    gboolean ok;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return xldrv_set_system_error(error, errno, "cannot make a socket for interface '%s'", interface->mac);
    ok = spawn(host, interface, ends[1], error);
    close(ends[1]);
    if (ok) {
        *fd = ends[0];
        return TRUE;
    }
    close(ends[0]);
    xldrv_passt_stop(host->driver, host->uuid, interface);
    return FALSE;
}

void xldrv_passt_stop(XldrvDriver *driver, const char *uuid, const XmlconfInterface *interface)
{
    g_autofree char *path = interface->alias ? process_path(driver, uuid, interface) : NULL;

    if (path)
        xldrv_process_end_written(path, PROGRAM, XLDRV_PROCESS_END_MS);
}
