/* Network interfaces of a domain without a toolstack. Source: Linux Documentation/networking/tuntap.rst, passt(1). */
#include "config.h"

#include "hv/standalone-nic.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/log.h"

#define PASST_FD 3 /* in the child */

/* ------------------------------------------------------------------ the option */

typedef const char *part_fn(const char *value, struct hv_standalone_nic *out);

static const char *parse_user(const char *value, struct hv_standalone_nic *out)
{
    out->user = true;
    return value ? "user takes no value" : NULL;
}

static const char *parse_tap(const char *value, struct hv_standalone_nic *out)
{
    if (!value || !value[0] || strlen(value) >= sizeof(out->tap))
        return "not the name of a tap";
    strcpy(out->tap, value);
    return NULL;
}

static const char *parse_mac(const char *value, struct hv_standalone_nic *out)
{
    unsigned b[6];
    int end = 0;

    if (!value || sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) != 6 ||
        value[end] || (b[0] & 1))
        return "not the MAC address of an interface";
    for (unsigned i = 0; i < 6; i++)
        out->mac[i] = (uint8_t)b[i];
    return NULL;
}

static bool parse_count(const char *value, unsigned long max, unsigned *out)
{
    char *end;
    unsigned long number;

    if (!value || value[0] < '0' || value[0] > '9')
        return false;
    number = strtoul(value, &end, 10);
    *out = (unsigned)number;
    return !*end && number >= 1 && number <= max;
}

static const char *parse_mtu(const char *value, struct hv_standalone_nic *out)
{
    return parse_count(value, 65521, &out->mtu) && out->mtu >= 68 ? NULL : "not an MTU";
}

static const char *parse_queues(const char *value, struct hv_standalone_nic *out)
{
    return parse_count(value, DOMUS_VIF_QUEUES_MAX, &out->queues) ? NULL : "not a number of queues";
}

static const char *parse_part(const char *name, const char *value, struct hv_standalone_nic *out)
{
    static const struct {
        const char *name;
        part_fn *parse;
    } parts[] = {
        {"user", parse_user}, {"tap", parse_tap}, {"mac", parse_mac}, {"mtu", parse_mtu}, {"queues", parse_queues},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(parts); i++)
        if (!strcmp(name, parts[i].name))
            return parts[i].parse(value, out);
    return "not user|tap=NAME[,mac=MAC][,mtu=N][,queues=N]";
}

const char *hv_standalone_nic_parse(const char *text, struct hv_standalone_nic *out)
{
    char copy[128], *next = copy, *part;
    const char *wrong = NULL;

    memset(out, 0, sizeof(*out));
    out->mtu = 1500;
    out->queues = 1;
    if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy))
        return "too long";
    while (!wrong && (part = strsep(&next, ","))) {
        char *value = strchr(part, '=');

        if (value)
            *value++ = '\0';
        wrong = parse_part(part, value, out);
    }
    if (!wrong && out->user == (out->tap[0] != '\0'))
        wrong = "one of user and tap=NAME is needed";
    if (!wrong && out->user && out->queues != 1)
        wrong = "a user's network has one queue";
    return wrong;
}

/* ------------------------------------------------------------------ taps */

static int open_tap_queue(const struct hv_standalone_nic *nic, int *fd)
{
    struct ifreq request = {0};
    int error;

    request.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (nic->queues > 1 ? IFF_MULTI_QUEUE : 0));
    strcpy(request.ifr_name, nic->tap);
    *fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (*fd >= 0 && ioctl(*fd, TUNSETIFF, &request) == 0)
        return 0;
    error = -errno;
    hv_log(HV_LOG_ERROR, "tap %s: %s", nic->tap, strerror(-error));
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return error;
}

/* ------------------------------------------------------------------ passt */

static _Noreturn void run_passt(int fd, unsigned mtu, int report)
{
    char mtu_text[16], fd_text[16];
    int null = open("/dev/null", O_RDWR), error;
    sigset_t none;

    snprintf(mtu_text, sizeof(mtu_text), "%u", mtu);
    snprintf(fd_text, sizeof(fd_text), "%d", PASST_FD);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C is for the guest's side */
    if (null >= 0) { /* its complaints go to syslog, and to the terminal only where there is no syslog */
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
    }
    /* The report stays until exec closes it; both are moved above the place of the other first. */
    report = fcntl(report, F_DUPFD_CLOEXEC, PASST_FD + 1);
    if (report >= 0 && (fd == PASST_FD ? fcntl(fd, F_SETFD, 0) : dup3(fd, PASST_FD, 0)) >= 0 &&
        close_range(PASST_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
        execlp("passt", "passt", "--quiet", "--foreground", "--mtu", mtu_text, "--fd", fd_text, (char *)NULL);
    error = errno;
    if (write(report, &error, sizeof(error)) < 0)
        _exit(1);
    _exit(1);
}

/* Starts passt on @fd; waits until it runs. */
static int start_passt(int fd, unsigned mtu, pid_t *pid)
{
    int report[2], error = 0;

    if (pipe2(report, O_CLOEXEC) < 0)
        return -errno;
    *pid = fork();
    if (*pid == 0)
        run_passt(fd, mtu, report[1]);
    if (*pid < 0)
        error = errno;
    close(report[1]);
    if (!error && read(report[0], &error, sizeof(error)) == (ssize_t)sizeof(error))
        waitpid(*pid, NULL, 0);
    close(report[0]);
    if (error)
        *pid = 0;
    return -error;
}

static int open_user(const struct hv_standalone_nic *nic, struct hv_standalone_port *out)
{
    int ends[2], error;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    error = start_passt(ends[1], nic->mtu, &out->child);
    close(ends[1]);
    if (!error) {
        out->fds[0] = ends[0];
        return 0;
    }
    close(ends[0]);
    hv_log(HV_LOG_ERROR, "a user's network needs passt: %s", strerror(-error));
    return error;
}

/* ------------------------------------------------------------------ together */

/* Of Xen's range, the rest taken from the domain's UUID. */
static void choose_mac(const struct hv_standalone_nic *nic, unsigned devid, const uint8_t uuid[16], uint8_t mac[6])
{
    static const uint8_t none[6];
    const uint8_t made[6] = {0x00, 0x16, 0x3e, uuid[13], uuid[14], (uint8_t)(uuid[15] + devid)};

    memcpy(mac, memcmp(nic->mac, none, sizeof(none)) ? nic->mac : made, 6);
}

int hv_standalone_nic_open(const struct hv_standalone_nic *nic, unsigned devid, const uint8_t uuid[16],
                           struct hv_standalone_port *out)
{
    int error = 0;

    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < DOMUS_VIF_QUEUES_MAX; i++)
        out->fds[i] = -1;
    out->vif.devid = devid;
    out->vif.port = nic->user ? DOMUS_VIF_STREAM : DOMUS_VIF_TAP;
    out->vif.queues = nic->queues;
    out->vif.mtu = nic->mtu;
    choose_mac(nic, devid, uuid, out->vif.mac);
    if (nic->user)
        return open_user(nic, out);
    for (unsigned i = 0; i < nic->queues && !error; i++)
        error = open_tap_queue(nic, &out->fds[i]);
    return error;
}

static void close_fds(struct hv_standalone_port *port)
{
    for (unsigned i = 0; i < port->vif.queues; i++) {
        if (port->fds[i] >= 0)
            close(port->fds[i]);
        port->fds[i] = -1;
    }
}

int hv_standalone_nic_attach(struct domctl *ctl, struct hv_standalone_port *port)
{
    int error = domctl_vif_attach(ctl, &port->vif, port->fds);

    close_fds(port);
    if (error)
        hv_log(HV_LOG_ERROR, "network interface %u: %s", port->vif.devid,
               port->vif.error[0] ? port->vif.error : strerror(-error));
    return error;
}

void hv_standalone_nic_close(struct hv_standalone_port *port)
{
    close_fds(port);
    if (port->child > 0)
        waitpid(port->child, NULL, 0);
    port->child = 0;
}
