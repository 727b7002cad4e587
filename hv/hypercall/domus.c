/* domus_op: what Xen leaves to domain 0's kernel and user space. ABI: hv/hv.h. */
#include "config.h"

#include "hv/hypercall/families.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/backend/console-device.h"
#include "hv/backend/console.h"
#include "hv/backend/xenbus.h"
#include "hv/control/control.h"
#include "hv/engine/engine.h"
#include "hv/hypercall/domus-console.h"
#include "hv/hypercall/domus-fb.h"
#include "hv/hypercall/domus-memory.h"
#include "hv/hypercall/domus-stream.h"
#include "hv/hypercall/domus-vbd.h"
#include "hv/hypercall/domus-vif.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/subop.h"
#include "hv/loader/e820.h"
#include "hv/loader/loader.h"
#include "hv/machine/hugepages.h"
#include "hv/store/ring.h"

#define CMDLINE_MAX 4096u

/* ------------------------------------------------------------------ build */

/* A ring page of zeroes and an unbound port for it, announced to the guest as HVM parameters. */
static long make_channel(struct hv_domain *d, uint64_t gfn, unsigned pfn_param, unsigned evtchn_param,
                         uint32_t *port)
{
    void *page;
    long error = hv_physmap_populate(d, hv_gfn_of(gfn), 1);

    if (error)
        return error;
    page = hv_memory_at(&d->mem, hv_gfn_to_gpa(hv_gfn_of(gfn)), HV_PAGE_SIZE, true);
    if (!page)
        return -XEN_EFAULT;
    memset(page, 0, HV_PAGE_SIZE);
    error = hv_evtchn_alloc_unbound(d, port);
    if (error)
        return error;
    hv_param_set(d, pfn_param, gfn);
    hv_param_set(d, evtchn_param, *port);
    return 0;
}

static void store_lost(struct hv_domain *d)
{
    hv_control_notify(d, HV_EVENT_STORE_LOST, 0);
}

static long make_backends(struct hv_domain *d, struct domus_build *build)
{
    long error;

    build->store_gfn = HV_SPECIAL_GFN_STORE;
    build->console_gfn = HV_SPECIAL_GFN_CONSOLE;
    error = make_channel(d, build->store_gfn, HVM_PARAM_STORE_PFN, HVM_PARAM_STORE_EVTCHN,
                         &build->store_evtchn);
    if (!error)
        error = make_channel(d, build->console_gfn, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_CONSOLE_EVTCHN,
                             &build->console_evtchn);
    if (!error)
        error = hv_console_new(d, hv_gfn_of(build->console_gfn), build->console_evtchn);
    if (!error)
        error = hv_store_ring_new(d, hv_gfn_of(build->store_gfn), build->store_evtchn);
    if (!error)
        hv_store_ring_set_lost(d, store_lost);
    return error;
}

/* What XENMEM_memory_map will say is what the start info says. */
static long announce_memory(struct hv_domain *d)
{
    struct hv_e820_entry map[HV_E820_MAX];
    struct hv_bios_e820 entries[HV_E820_MAX];
    unsigned count = hv_e820_build(&d->mem, map);

    for (unsigned i = 0; i < count; i++)
        entries[i] = (struct hv_bios_e820){map[i].start, map[i].bytes, map[i].type};
    return hv_physmap_set_e820(d, entries, count);
}

/* A copy of the command line; *@out is NULL for none. */
static long read_cmdline(struct hv_caller *c, const struct domus_build *build, char **out)
{
    char *line;

    *out = NULL;
    if (!build->cmdline)
        return 0;
    if (build->cmdline_bytes == 0 || build->cmdline_bytes > CMDLINE_MAX)
        return -XEN_EINVAL;
    line = malloc(build->cmdline_bytes);
    if (!line)
        return -XEN_ENOMEM;
    if (hv_caller_read(c, build->cmdline, line, build->cmdline_bytes) ||
        line[build->cmdline_bytes - 1] != '\0') {
        free(line);
        return -XEN_EFAULT;
    }
    *out = line;
    return 0;
}

static long load(struct hv_caller *c, struct domus_build *build)
{
    struct hv_domain *d = c->domain;
    struct hv_loaded loaded;
    char *cmdline;
    long error = read_cmdline(c, build, &cmdline);

    if (error) {
        snprintf(build->error, sizeof(build->error), "the command line is longer than %u bytes or malformed",
                 CMDLINE_MAX - 1);
        return error;
    }
    error = hv_loader_pvh(d, c->fds[0], build->has_ramdisk ? c->fds[1] : -1, cmdline ? cmdline : "",
                          &loaded, build->error);
    free(cmdline);
    if (!error)
        hv_loader_enter_pvh(d->vcpus[0], &loaded);
    return error;
}

static long build_domain(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct domus_build *build = arg;
    struct hv_control *control = c->control;
    long error;

    (void)args;
    if (!c->domain)
        return -XEN_ESRCH;
    if (control->built)
        return -XEN_EEXIST;
    memset(build->error, 0, sizeof(build->error));
    if (c->domain->nr_vcpus == 0 || c->nr_fds != (build->has_ramdisk ? 2u : 1u))
        return -XEN_EINVAL;
    error = load(c, build);
    if (error)
        return error;
    error = make_backends(c->domain, build);
    if (!error)
        error = announce_memory(c->domain);
    control->built = !error;
    if (error)
        snprintf(build->error, sizeof(build->error), "console and store rings: %s", strerror((int)-error));
    return error;
}

/* ------------------------------------------------------------------ the rest */

/* Takes descriptor @i from the request; -1 where none was passed. */
static int take_fd(struct hv_caller *c, size_t i)
{
    int fd = i < c->nr_fds ? c->fds[i] : -1;

    if (i < c->nr_fds)
        c->fds[i] = -1;
    return fd;
}

static void give_back_fd(struct hv_caller *c, size_t i, int fd)
{
    if (i < c->nr_fds)
        c->fds[i] = fd;
}

static long console_attach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    int tty, log;
    long error;

    (void)arg;
    if (!c->domain || !c->domain->console)
        return -XEN_ENODEV;
    if (args[1] >= HV_CONSOLES_MAX)
        return -XEN_ENOENT;
    if (c->nr_fds < 1 || c->nr_fds > 2)
        return -XEN_EINVAL;
    tty = take_fd(c, 0);
    log = take_fd(c, 1);
    error = args[1] ? hv_console_device_attach(c->domain, (uint32_t)args[1], tty, log)
                    : hv_console_attach(c->domain, tty, log);
    if (error) {
        give_back_fd(c, 0, tty);
        give_back_fd(c, 1, log);
    }
    return error;
}

static void own_log_full(void *opaque)
{
    hv_control_notify(opaque, HV_EVENT_LOG_FULL, DOMUS_LOG_OWN);
}

/* The descriptor stays the request's: it is duplicated. */
static long set_own_log(struct hv_caller *c, uint64_t limit_bytes)
{
    struct hv_log_watch *watch = &c->control->log_watch;
    long error = hv_log_redirect(c->fds[0]);

    if (error)
        return error;
    hv_log_meter_start(&watch->meter, c->fds[0], limit_bytes);
    watch->full = own_log_full;
    watch->opaque = c->domain;
    hv_log_set_watch(watch);
    return 0;
}

static long set_log(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    int fd;
    long error;

    (void)arg;
    if (!c->domain)
        return -XEN_ESRCH;
    if (c->nr_fds != 1)
        return -XEN_EINVAL;
    if (args[1] == DOMUS_LOG_OWN)
        return set_own_log(c, args[2]);
    if (args[1] >= HV_CONSOLES_MAX || (args[1] == 0 && !c->domain->console))
        return -XEN_ENODEV;
    fd = take_fd(c, 0);
    if (args[1] == 0) {
        hv_console_set_log(c->domain->console, fd, args[2]);
        return 0;
    }
    error = hv_console_device_set_log(c->domain, (uint32_t)args[1], fd, args[2]);
    if (error)
        give_back_fd(c, 0, fd);
    return error;
}

static long store_attach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error;

    (void)args, (void)arg;
    if (!c->domain || !c->domain->store)
        return -XEN_ENODEV;
    if (c->nr_fds < 1 || c->nr_fds > 2)
        return -XEN_EINVAL;
    error = hv_store_ring_attach(c->domain, take_fd(c, 0));
    if (!error && c->nr_fds == 2)
        error = hv_xenbus_attach_store(c->domain, take_fd(c, 1));
    return error;
}

static long subscribe(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    if (!c->connection) /* this process itself uses hv_control_observe */
        return -XEN_EINVAL;
    hv_control_subscribe(c->control, c->connection);
    return 0;
}

/* The second number of /proc/self/statm is the resident set, in pages. */
static uint64_t resident_bytes(const struct hv_control *control)
{
    char text[128];
    unsigned long long pages = 0;
    ssize_t got = control->statm_fd >= 0 ? pread(control->statm_fd, text, sizeof(text) - 1, 0) : -1;

    if (got <= 0)
        return 0;
    text[got] = '\0';
    if (sscanf(text, "%*u %llu", &pages) != 1)
        return 0;
    return pages * HV_PAGE_SIZE;
}

static long info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct domus_info *out = arg;

    (void)args;
    snprintf(out->engine, sizeof(out->engine), "%s", c->control->engine->name);
    out->resident_bytes = resident_bytes(c->control);
    return 0;
}

static long memory_options(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct hv_domain *d = c->domain;
    long error = 0;

    (void)arg;
    if (!d)
        return -XEN_ESRCH;
    if (args[1] & ~(uint64_t)(DOMUS_MEMORY_LOCKED | DOMUS_MEMORY_IMMEDIATE | DOMUS_MEMORY_HUGE))
        return -XEN_EINVAL;
    pthread_mutex_lock(&d->lock);
    if (d->mem.ram_pages)
        error = -XEN_EBUSY;
    else if (args[1] & DOMUS_MEMORY_HUGE)
        error = hv_hugepages_enable(&d->mem);
    if (!error) {
        d->mem.locked = args[1] & DOMUS_MEMORY_LOCKED;
        d->mem.immediate = args[1] & DOMUS_MEMORY_IMMEDIATE;
    }
    pthread_mutex_unlock(&d->lock);
    return error;
}

#define CONTROL HV_CALLER_CONTROL

static const struct hv_subop ops[] = {
    [DOMUS_OP_build] = {"build", build_domain, sizeof(struct domus_build), HV_ARG_IN | HV_ARG_ALWAYS,
                        CONTROL},
    [DOMUS_OP_console_attach] = {"console_attach", console_attach, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_set_log] = {"set_log", set_log, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_console_detach] = {"console_detach", hv_domus_console_detach, sizeof(struct domus_console_detach), HV_ARG_IN,
                                 CONTROL},
    [DOMUS_OP_console_info] = {"console_info", hv_domus_console_info, sizeof(struct domus_console_info),
                               HV_ARG_IN | HV_ARG_OUT, CONTROL},
    [DOMUS_OP_store_attach] = {"store_attach", store_attach, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_memory_options] = {"memory_options", memory_options, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_subscribe] = {"subscribe", subscribe, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_vif_attach] = {"vif_attach", hv_domus_vif_attach, sizeof(struct domus_vif),
                             HV_ARG_IN | HV_ARG_ALWAYS, CONTROL},
    [DOMUS_OP_vif_detach] = {"vif_detach", hv_domus_vif_detach, sizeof(struct domus_vif_detach), HV_ARG_IN, CONTROL},
    [DOMUS_OP_vif_set_link] = {"vif_set_link", hv_domus_vif_set_link, sizeof(struct domus_vif_link), HV_ARG_IN,
                               CONTROL},
    [DOMUS_OP_vif_set_port] = {"vif_set_port", hv_domus_vif_set_port, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_vif_stats] = {"vif_stats", hv_domus_vif_stats, sizeof(struct domus_vif_stats), HV_ARG_IN | HV_ARG_OUT,
                            CONTROL},
    [DOMUS_OP_vif_set_limits] = {"vif_set_limits", hv_domus_vif_set_limits, sizeof(struct domus_vif_limits), HV_ARG_IN,
                                 CONTROL},
    [DOMUS_OP_info] = {"info", info, sizeof(struct domus_info), HV_ARG_OUT, CONTROL},
    [DOMUS_OP_vbd_attach] = {"vbd_attach", hv_domus_vbd_attach, sizeof(struct domus_vbd),
                             HV_ARG_IN | HV_ARG_ALWAYS, CONTROL},
    [DOMUS_OP_vbd_detach] = {"vbd_detach", hv_domus_vbd_detach, sizeof(struct domus_vbd_detach), HV_ARG_IN, CONTROL},
    [DOMUS_OP_vbd_resize] = {"vbd_resize", hv_domus_vbd_resize, sizeof(struct domus_vbd_resize),
                             HV_ARG_IN | HV_ARG_OUT, CONTROL},
    [DOMUS_OP_vbd_set_image] = {"vbd_set_image", hv_domus_vbd_set_image, sizeof(struct domus_vbd_image),
                                HV_ARG_IN | HV_ARG_ALWAYS, CONTROL},
    [DOMUS_OP_vbd_set_limits] = {"vbd_set_limits", hv_domus_vbd_set_limits, sizeof(struct domus_vbd_limits), HV_ARG_IN,
                                 CONTROL},
    [DOMUS_OP_save] = {"save", hv_domus_save, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_save_live] = {"save_live", hv_domus_save_live, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_dump] = {"dump", hv_domus_dump, sizeof(struct domus_dump), HV_ARG_IN, CONTROL},
    [DOMUS_OP_peek] = {"peek", hv_domus_peek, sizeof(struct domus_peek), HV_ARG_IN, CONTROL},
    [DOMUS_OP_dirty_rate_start] = {"dirty_rate_start", hv_domus_dirty_rate_start, sizeof(struct domus_dirty_rate),
                                   HV_ARG_IN, CONTROL},
    [DOMUS_OP_dirty_rate] = {"dirty_rate", hv_domus_dirty_rate, sizeof(struct domus_dirty_rate), HV_ARG_OUT, CONTROL},
    [DOMUS_OP_restore] = {"restore", hv_domus_restore, sizeof(struct domus_restore), HV_ARG_IN | HV_ARG_ALWAYS, CONTROL},
    [DOMUS_OP_send] = {"send", hv_domus_send, sizeof(struct domus_stream_limits), HV_ARG_IN, CONTROL},
    [DOMUS_OP_receive] = {"receive", hv_domus_receive, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_stream_status] = {"stream_status", hv_domus_stream_status, sizeof(struct domus_stream_status), HV_ARG_OUT,
                                CONTROL},
    [DOMUS_OP_stream_limits] = {"stream_limits", hv_domus_stream_limits, sizeof(struct domus_stream_limits), HV_ARG_IN,
                                CONTROL},
    [DOMUS_OP_stream_end] = {"stream_end", hv_domus_stream_end, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_stream_claim] = {"stream_claim", hv_domus_stream_claim, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_stream_keep] = {"stream_keep", hv_domus_stream_keep, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_stream_recall] = {"stream_recall", hv_domus_stream_recall, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_stream_switch] = {"stream_switch", hv_domus_stream_switch, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_vbd_stats] = {"vbd_stats", hv_domus_vbd_stats, sizeof(struct domus_vbd_stats), HV_ARG_IN | HV_ARG_OUT,
                            CONTROL},
    [DOMUS_OP_vfb_attach] = {"vfb_attach", hv_domus_vfb_attach, sizeof(struct domus_vfb), HV_ARG_IN, CONTROL},
    [DOMUS_OP_vkbd_attach] = {"vkbd_attach", hv_domus_vkbd_attach, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_vkbd_send] = {"vkbd_send", hv_domus_vkbd_send, sizeof(struct domus_vkbd_keys), HV_ARG_IN, CONTROL},
    [DOMUS_OP_display_attach] = {"display_attach", hv_domus_display_attach, 0, HV_ARG_NONE, CONTROL},
    [DOMUS_OP_display_write] = {"display_write", hv_domus_display_write, sizeof(struct domus_picture), HV_ARG_OUT,
                                CONTROL},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("domus_op", ops);

/* args: operation, its argument. */
long hv_domus_op(struct hv_caller *c, const uint64_t args[5])
{
    return hv_subop_run(&family, c, (uint32_t)args[0], args, args[1]);
}
