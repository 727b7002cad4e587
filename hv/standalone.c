/* One domain without a toolstack.
 *
 * Builds it with libdomctl, as any toolstack does, only that the calls stay within the process; then gives up
 * what is not needed any more and runs the event loop until the guest stops or the user has had enough.
 */
#include "config.h"

#include "hv/standalone.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/control/control.h"
#include "hv/control/domctl-private.h"
#include "hv/engine/engine.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/machine/vcpu.h"
#include "hv/sandbox.h"
#include "hv/stdio-console.h"
#include "hv/store/store.h"
#include "hv/xen-abi.h"

#define DOMID 1

/* Xen's virtual device numbers: major 202, 16 minors for each of xvda, xvdb ... */
#define XVDA      51712u
#define PER_DISK  16u

struct standalone {
    const struct hv_standalone_options *options;
    struct hv_loop *loop;
    struct hv_control *control;
    struct domctl *ctl;
    struct hv_stdio *stdio;
    struct domus_build build;
    uint8_t uuid[16];
    int signal_fd;
    pid_t store;
    struct hv_standalone_port nics[HV_STANDALONE_NICS_MAX];
    struct hv_store_nic nic_nodes[HV_STANDALONE_NICS_MAX];
    unsigned nr_nics; /* open */
    int exit_code;
};

/* ------------------------------------------------------------------ calls within the process */

/* Descriptors are duplicated, as a socket would do it. */
static int transport(void *opaque, uint64_t number, const uint64_t args[5], void *data, size_t data_bytes,
                     const int *fds, size_t nr_fds, long *result)
{
    struct hv_control *control = opaque;
    int own[HV_CONTROL_FDS_MAX];

    for (size_t i = 0; i < nr_fds; i++)
        own[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
    *result = hv_control_call(control, number, args, data, data_bytes, own, nr_fds);
    for (size_t i = 0; i < nr_fds; i++)
        if (own[i] >= 0)
            close(own[i]);
    return 0;
}

/* ------------------------------------------------------------------ what ends the run */

static int exit_code_of(uint64_t shutdown_code)
{
    static const uint8_t codes[] = {
        [SHUTDOWN_poweroff] = HV_EXIT_POWEROFF, [SHUTDOWN_reboot] = HV_EXIT_REBOOT,
        [SHUTDOWN_suspend] = HV_EXIT_SUSPEND,   [SHUTDOWN_crash] = HV_EXIT_CRASH,
        [SHUTDOWN_watchdog] = HV_EXIT_WATCHDOG, [SHUTDOWN_soft_reset] = HV_EXIT_REBOOT,
    };

    return shutdown_code < HV_ARRAY_LEN(codes) ? codes[shutdown_code] : HV_EXIT_CRASH;
}

static void on_event(void *opaque, enum hv_event event, uint64_t arg)
{
    struct standalone *s = opaque;

    if (event == HV_EVENT_STORE_LOST)
        hv_log(HV_LOG_WARNING, "the store is gone");
    if (event != HV_EVENT_SHUTDOWN)
        return;
    s->exit_code = exit_code_of(arg);
    hv_loop_quit(s->loop);
}

static void on_quit_key(void *opaque)
{
    struct standalone *s = opaque;

    hv_loop_quit(s->loop);
}

static void on_signal(void *opaque, int fd, uint32_t events)
{
    struct standalone *s = opaque;
    struct signalfd_siginfo info;

    (void)events;
    if (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        hv_loop_quit(s->loop);
}

/* A terminal in raw mode must be restored whatever ends the run. */
static int watch_signals(struct standalone *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0)
        return -errno;
    return hv_loop_add_fd(s->loop, s->signal_fd, EPOLLIN, on_signal, s) ? 0 : -ENOMEM;
}

/* ------------------------------------------------------------------ building */

static int fail(const char *what, int error)
{
    hv_log(HV_LOG_ERROR, "%s: %s", what, strerror(-error));
    return error;
}

static int open_image(const char *path, int *fd)
{
    *fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    return path && *fd < 0 ? fail(path, -errno) : 0;
}

static int load(struct standalone *s)
{
    int kernel = -1, ramdisk = -1;
    int error = open_image(s->options->kernel, &kernel);

    if (!error)
        error = open_image(s->options->ramdisk, &ramdisk);
    if (!error) {
        error = domctl_build(s->ctl, kernel, ramdisk, s->options->cmdline, &s->build);
        if (error)
            hv_log(HV_LOG_ERROR, "%s", s->build.error[0] ? s->build.error : strerror(-error));
    }
    if (kernel >= 0)
        close(kernel);
    if (ramdisk >= 0)
        close(ramdisk);
    return error;
}

static int make_domain(struct standalone *s)
{
    const struct hv_standalone_options *o = s->options;
    struct hv_control_options options = {.loop = s->loop,
                                         .engine = o->engine,
                                         .name = o->name,
                                         .code_cache_bytes = o->code_cache_bytes,
                                         .counted = o->stats};
    int error = hv_control_new(&options, &s->control);

    if (!error)
        error = domctl_connect_transport(transport, s->control, &s->ctl);
    if (error)
        return fail("control channel", error);
    hv_control_observe(s->control, on_event, s);
    error = o->control_fd >= 0 ? hv_control_serve(s->control, o->control_fd) : 0;
    if (error)
        return fail("the socket of the control channel", error);
    if (getrandom(s->uuid, sizeof(s->uuid), 0) != (ssize_t)sizeof(s->uuid))
        return fail("getrandom", -errno);
    error = domctl_create(s->ctl, DOMID, s->uuid, o->vcpus);
    if (!error)
        error = domctl_max_vcpus(s->ctl, o->vcpus);
    if (error)
        return fail("creating the domain", error);
    error = domctl_max_mem(s->ctl, o->memory_kib);
    return error ? fail("guest memory", error) : load(s);
}

/* Nothing that needs a path or a privilege comes after this. */
static int confine(void)
{
    int error = hv_drop_privileges(false, 0, 0);

    if (!error)
        error = hv_sandbox_enter();
    return error ? fail("giving up privileges", error) : 0;
}

static uint32_t disk_number(unsigned i)
{
    return XVDA + i * PER_DISK;
}

static int open_nics(struct standalone *s)
{
    int error = 0;

    for (unsigned i = 0; i < s->options->nr_nics && !error; i++) {
        const struct domus_vif *vif = &s->nics[i].vif;

        error = hv_standalone_nic_open(&s->options->nics[i], i, s->uuid, &s->nics[i]);
        s->nr_nics = i + 1;
        s->nic_nodes[i] = (struct hv_store_nic){.devid = i, .mtu = vif->mtu};
        memcpy(s->nic_nodes[i].mac, vif->mac, sizeof(vif->mac));
    }
    return error;
}

static int attach_nics(struct standalone *s)
{
    int error = 0;

    for (unsigned i = 0; i < s->nr_nics && !error; i++)
        error = hv_standalone_nic_attach(s->ctl, &s->nics[i]);
    return error;
}

static int attach_store(struct standalone *s)
{
    struct hv_store_disk disks[HV_STANDALONE_DISKS_MAX];
    struct hv_store_domain nodes = {
        .domid = DOMID,
        .name = s->options->name,
        .memory_kib = s->options->memory_kib,
        .nr_vcpus = s->options->vcpus,
        .store_gfn = s->build.store_gfn,
        .console_gfn = s->build.console_gfn,
        .store_port = s->build.store_evtchn,
        .console_port = s->build.console_evtchn,
        .disks = disks,
        .nr_disks = s->options->nr_disks,
        .nics = s->nic_nodes,
        .nr_nics = s->nr_nics,
    };
    int fds[2], error;

    if (!s->options->store)
        return 0;
    memcpy(nodes.uuid, s->uuid, sizeof(nodes.uuid));
    for (unsigned i = 0; i < nodes.nr_disks; i++)
        disks[i] = (struct hv_store_disk){disk_number(i), s->options->disks[i].read_only};
    error = hv_store_spawn(&nodes, confine, fds, &s->store);
    if (error)
        return fail("starting the store", error);
    error = domctl_store_attach(s->ctl, fds[0], fds[1]);
    close(fds[0]);
    close(fds[1]);
    return error ? fail("attaching the store", error) : 0;
}

static int attach_disk(struct standalone *s, unsigned i)
{
    const struct hv_standalone_disk *disk = &s->options->disks[i];
    struct domus_vbd vbd = {
        .devid = disk_number(i),
        .flags = DOMUS_VBD_DISCARD | (disk->read_only ? DOMUS_VBD_READ_ONLY : 0),
    };
    int fd = open(disk->path, (disk->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    int error;

    if (fd < 0)
        return fail(disk->path, -errno);
    error = domctl_vbd_attach(s->ctl, fd, &vbd);
    if (error)
        hv_log(HV_LOG_ERROR, "%s: %s", disk->path, vbd.error[0] ? vbd.error : strerror(-error));
    close(fd);
    return error;
}

static int attach_disks(struct standalone *s)
{
    int error = 0;

    for (unsigned i = 0; !error && i < s->options->nr_disks; i++)
        error = attach_disk(s, i);
    return error;
}

/* A path may be a terminal, or else a file that gets what the guest writes. */
static int attach_path(struct standalone *s, const char *path)
{
    struct stat about;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC, 0600);
    int error;

    if (fd < 0 || fstat(fd, &about) < 0)
        return fail(path, -errno);
    if (S_ISREG(about.st_mode))
        error = domctl_console_attach(s->ctl, 0, -1, fd);
    else
        error = domctl_console_attach(s->ctl, 0, fd, -1);
    close(fd);
    return error ? fail(path, error) : 0;
}

static int attach_console(struct standalone *s)
{
    int fd, error;

    if (strcmp(s->options->console, "stdio") != 0)
        return attach_path(s, s->options->console);
    error = hv_stdio_new(on_quit_key, s, &fd, &s->stdio);
    if (error)
        return fail("standard input and output", error);
    error = domctl_console_attach(s->ctl, 0, fd, -1);
    close(fd);
    return error ? fail("console", error) : 0;
}

static int start(struct standalone *s)
{
    int error = hv_loop_new(&s->loop);

    if (error)
        return fail("event loop", error);
    error = watch_signals(s);
    if (error)
        return fail("signals", error);
    error = make_domain(s);
    if (!error)
        error = open_nics(s);
    if (!error)
        error = attach_store(s); /* before there are threads */
    if (!error)
        error = attach_disks(s);
    if (!error)
        error = attach_nics(s);
    if (!error)
        error = attach_console(s);
    if (!error)
        error = confine();
    if (!error)
        error = domctl_unpause(s->ctl);
    return error;
}

/* ------------------------------------------------------------------ the end */

static void print_stats(struct standalone *s)
{
    struct hv_domain *d = s->control->domain;

    hv_domain_pause(d);
    for (unsigned i = 0; i < d->nr_vcpus; i++) {
        dprintf(STDERR_FILENO, "vcpu%u cpu_ms %llu\n", i,
                (unsigned long long)(hv_vcpu_cpu_time_ns(d->vcpus[i]) / 1000000));
        if (d->engine->print_stats)
            d->engine->print_stats(d->vcpus[i], STDERR_FILENO);
    }
}

static void stop(struct standalone *s)
{
    domctl_free(s->ctl);
    hv_control_free(s->control); /* and the domain: its console and store connections close */
    hv_stdio_free(s->stdio);
    for (unsigned i = 0; i < s->nr_nics; i++)
        hv_standalone_nic_close(&s->nics[i]);
    if (s->store > 0)
        waitpid(s->store, NULL, 0);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
    hv_loop_free(s->loop);
}

int hv_standalone_run(const struct hv_standalone_options *options)
{
    struct standalone s = {
        .options = options,
        .signal_fd = -1,
        .exit_code = HV_EXIT_QUIT,
    };

    if (start(&s))
        s.exit_code = HV_EXIT_FAILURE;
    else
        hv_loop_run(s.loop);
    if (options->stats && s.exit_code != HV_EXIT_FAILURE)
        print_stats(&s);
    stop(&s);
    return s.exit_code;
}
