/* libdomctl: hypercalls of the control domain over a domain's control socket.
 *
 * domctl_hypercall carries any hypercall; the rest of the functions put arguments in its data area, call it, and
 * read results out of it. The data area starts at caller address HV_CONTROL_DATA_ADDRESS.
 */
#include "config.h"

#include "hv/hv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hv/control/domctl-private.h"
#include "hv/xen-abi.h"

#define SLACK_KIB     1024 /* what a domain may have beyond its RAM: rings, ACPI tables */
#define KIB_PER_PAGE  4
#define PAGES_PER_GIB (1ull << 18)
#define GIB_ORDER     18

struct domctl {
    int fd; /* -1 with a transport */
    int timeout_ms;
    bool broken; /* a call got no reply: nothing that arrives now can be trusted to be one */
    uint32_t serial;
    uint16_t domid; /* 0 until it is known */
    domctl_transport_fn *transport;
    void *transport_opaque;
    domctl_log_fn *log;
    void *log_opaque;
    bool event_pending[HV_NR_EVENTS]; /* arrived while a call waited for its reply */
    uint64_t event_arg[HV_NR_EVENTS];
};

/* ------------------------------------------------------------------ connection */

static int new_connection(int fd, int timeout_ms, struct domctl **out)
{
    struct domctl *ctl = calloc(1, sizeof(*ctl));

    if (!ctl)
        return -ENOMEM;
    ctl->fd = fd;
    ctl->timeout_ms = timeout_ms;
    *out = ctl;
    return 0;
}

int domctl_connect_fd(int fd, int timeout_ms, struct domctl **out)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return new_connection(fd, timeout_ms, out);
}

int domctl_connect(const char *path, int timeout_ms, struct domctl **out)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, error;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    error = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    if (!error)
        error = new_connection(fd, timeout_ms, out);
    if (error)
        close(fd);
    return error;
}

int domctl_connect_transport(domctl_transport_fn *transport, void *opaque, struct domctl **out)
{
    int error = new_connection(-1, 0, out);

    if (!error) {
        (*out)->transport = transport;
        (*out)->transport_opaque = opaque;
    }
    return error;
}

void domctl_free(struct domctl *ctl)
{
    if (!ctl)
        return;
    if (ctl->fd >= 0)
        close(ctl->fd);
    free(ctl);
}

void domctl_set_log(struct domctl *ctl, domctl_log_fn *fn, void *opaque)
{
    ctl->log = fn;
    ctl->log_opaque = opaque;
}

int domctl_fd(const struct domctl *ctl)
{
    return ctl->fd;
}

/* ------------------------------------------------------------------ messages */

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Waits until the socket can be read or written. 0, -ETIMEDOUT or -EPIPE. */
static int wait_for(struct domctl *ctl, short events, int64_t until_ms)
{
    struct pollfd state = {.fd = ctl->fd, .events = events};

    for (;;) {
        int64_t left = until_ms - now_ms();
        int ready = poll(&state, 1, left > 0 ? (int)left : 0);

        if (ready > 0)
            return state.revents & events ? 0 : -EPIPE;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (left <= 0)
            return -ETIMEDOUT;
    }
}

static void attach_fds(struct msghdr *header, void *buffer, const int *fds, size_t nr_fds)
{
    struct cmsghdr *c;

    if (!nr_fds)
        return;
    header->msg_control = buffer;
    header->msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
    memset(buffer, 0, header->msg_controllen);
    c = CMSG_FIRSTHDR(header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
    memcpy(CMSG_DATA(c), fds, nr_fds * sizeof(int));
}

static int send_call(struct domctl *ctl, struct hv_control_message *message, void *data, const int *fds,
                     size_t nr_fds, int64_t until_ms)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * HV_CONTROL_FDS_MAX)];
    } ancillary;
    struct iovec parts[2] = {{message, sizeof(*message)}, {data, message->data_bytes}};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = message->data_bytes ? 2 : 1};

    attach_fds(&header, &ancillary, fds, nr_fds);
    while (sendmsg(ctl->fd, &header, MSG_NOSIGNAL) < 0) {
        int error;

        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return errno == ECONNRESET ? -EPIPE : -errno;
        error = wait_for(ctl, POLLOUT, until_ms);
        if (error)
            return error;
    }
    return 0;
}

/* Reads one message into @message and @data. 0, -EAGAIN for none, -EPIPE at the end, -EPROTO for a bad one. */
static int receive(struct domctl *ctl, struct hv_control_message *message, void *data, size_t data_bytes)
{
    struct iovec parts[2] = {{message, sizeof(*message)}, {data, data_bytes}};
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = data_bytes ? 2 : 1};
    ssize_t got;

    do
        got = recvmsg(ctl->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? -EAGAIN : -EPIPE;
    if (got == 0)
        return -EPIPE;
    if ((size_t)got < sizeof(*message) || (header.msg_flags & MSG_TRUNC) ||
        message->magic != HV_CONTROL_MAGIC || message->data_bytes != (size_t)got - sizeof(*message))
        return -EPROTO;
    return 0;
}

static void note_event(struct domctl *ctl, const struct hv_control_message *message)
{
    if (message->number == 0 || message->number >= HV_NR_EVENTS)
        return; /* of a newer hypervisor */
    ctl->event_pending[message->number] = true;
    ctl->event_arg[message->number] = message->args[0];
}

/* The reply to call @serial; events that come before it are kept. */
static int receive_reply(struct domctl *ctl, uint32_t serial, void *data, size_t data_bytes,
                         int64_t until_ms, long *result)
{
    struct hv_control_message message;

    for (;;) {
        int error = receive(ctl, &message, data, data_bytes);

        if (error == -EAGAIN)
            error = wait_for(ctl, POLLIN, until_ms);
        else if (!error && message.type == HV_CONTROL_EVENT)
            note_event(ctl, &message);
        else if (!error) {
            if (message.type != HV_CONTROL_REPLY || message.serial != serial ||
                message.data_bytes != data_bytes)
                return -EPROTO;
            *result = (long)message.args[0];
            return 0;
        }
        if (error)
            return error;
    }
}

static int call_socket(struct domctl *ctl, uint64_t number, const uint64_t args[5], void *data,
                       size_t data_bytes, const int *fds, size_t nr_fds, long *result)
{
    struct hv_control_message message = {
        .magic = HV_CONTROL_MAGIC,
        .type = HV_CONTROL_CALL,
        .serial = ++ctl->serial,
        .data_bytes = (uint32_t)data_bytes,
        .number = number,
    };
    int64_t until_ms = now_ms() + ctl->timeout_ms;
    int error;

    memcpy(message.args, args, sizeof(message.args));
    error = send_call(ctl, &message, data, fds, nr_fds, until_ms);
    if (!error)
        error = receive_reply(ctl, ctl->serial, data, data_bytes, until_ms, result);
    ctl->broken = error != 0;
    return error;
}

int domctl_hypercall(struct domctl *ctl, uint64_t number, const uint64_t args[5], void *data,
                     size_t data_bytes, const int *fds, size_t nr_fds, long *result)
{
    char name[64];
    int error;

    if (ctl->broken)
        return -EPIPE;
    if (data_bytes > HV_CONTROL_DATA_MAX || nr_fds > HV_CONTROL_FDS_MAX)
        return -E2BIG;
    if (ctl->log) /* before the call: the data area says which operation it is */
        domctl_name(number, args, data, data_bytes, name, sizeof(name));
    if (ctl->transport)
        error = ctl->transport(ctl->transport_opaque, number, args, data, data_bytes, fds, nr_fds, result);
    else
        error = call_socket(ctl, number, args, data, data_bytes, fds, nr_fds, result);
    if (ctl->log)
        ctl->log(ctl->log_opaque, name, error ? error : *result);
    return error;
}

/* ------------------------------------------------------------------ calls */

/* A call whose result is an error or of no interest. */
static int call(struct domctl *ctl, uint64_t number, uint64_t arg0, uint64_t arg1, void *data,
                size_t data_bytes, const int *fds, size_t nr_fds)
{
    uint64_t args[5] = {arg0, arg1};
    long result;
    int error = domctl_hypercall(ctl, number, args, data, data_bytes, fds, nr_fds, &result);

    if (error)
        return error;
    return result < 0 ? (int)result : 0;
}

/* @bytes: of @u and what it points to, which follows it. */
static int call_domctl(struct domctl *ctl, uint32_t cmd, struct xen_domctl *u, size_t bytes)
{
    u->cmd = cmd;
    u->interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    return call(ctl, __HYPERVISOR_domctl, HV_CONTROL_DATA_ADDRESS, 0, u, bytes, NULL, 0);
}

/* A process holds one domain: a connection that did not create it asks which. */
static int find_domid(struct domctl *ctl)
{
    struct {
        struct xen_sysctl u;
        struct xen_domctl_getdomaininfo info;
    } data;
    int error;

    if (ctl->domid)
        return 0;
    memset(&data, 0, sizeof(data));
    data.u.cmd = XEN_SYSCTL_getdomaininfolist;
    data.u.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    data.u.u.getdomaininfolist.max_domains = 1;
    data.u.u.getdomaininfolist.buffer.p =
        (void *)(uintptr_t)(HV_CONTROL_DATA_ADDRESS + ((char *)&data.info - (char *)&data));
    error = call(ctl, __HYPERVISOR_sysctl, HV_CONTROL_DATA_ADDRESS, 0, &data, sizeof(data), NULL, 0);
    if (error)
        return error;
    if (data.u.u.getdomaininfolist.num_domains != 1)
        return -ESRCH;
    ctl->domid = data.info.domain;
    return 0;
}

int domctl_domctl(struct domctl *ctl, uint32_t cmd, struct xen_domctl *u, size_t bytes)
{
    int error = find_domid(ctl);

    if (error)
        return error;
    u->domain = ctl->domid;
    return call_domctl(ctl, cmd, u, bytes);
}

static int domctl_on_domain(struct domctl *ctl, uint32_t cmd, struct xen_domctl *u)
{
    return domctl_domctl(ctl, cmd, u, sizeof(*u));
}

int domctl_create(struct domctl *ctl, uint16_t domid, const uint8_t uuid[16], unsigned max_vcpus)
{
    struct xen_domctl u = {.domain = domid};
    int error;

    u.u.createdomain.flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap;
    u.u.createdomain.max_vcpus = max_vcpus;
    u.u.createdomain.max_evtchn_port = 4095;
    u.u.createdomain.max_grant_frames = 64;
    u.u.createdomain.max_maptrack_frames = -1;
    u.u.createdomain.grant_opts = XEN_DOMCTL_GRANT_version(2);
    u.u.createdomain.arch.emulation_flags = XEN_X86_EMU_LAPIC;
    memcpy(u.u.createdomain.handle, uuid, sizeof(u.u.createdomain.handle));
    error = call_domctl(ctl, XEN_DOMCTL_createdomain, &u, sizeof(u));
    if (!error)
        ctl->domid = domid;
    return error;
}

/* Makes RAM of one extent. */
static int populate_extent(struct domctl *ctl, uint64_t gfn, unsigned order)
{
    struct {
        struct xen_memory_reservation reservation;
        xen_pfn_t gfn;
    } data = {.gfn = gfn};
    uint64_t args[5] = {XENMEM_populate_physmap, HV_CONTROL_DATA_ADDRESS};
    long done;
    int error;

    data.reservation.extent_start.p =
        (void *)(uintptr_t)(HV_CONTROL_DATA_ADDRESS + ((char *)&data.gfn - (char *)&data));
    data.reservation.nr_extents = 1;
    data.reservation.extent_order = order;
    data.reservation.domid = DOMID_SELF;
    error = domctl_hypercall(ctl, __HYPERVISOR_memory_op, args, &data, sizeof(data), NULL, 0, &done);
    if (error)
        return error;
    if (done < 0)
        return (int)done;
    return done == 1 ? 0 : -ENOMEM;
}

static int populate_range(struct domctl *ctl, uint64_t gfn, uint64_t pages)
{
    int error = 0;

    for (unsigned order = GIB_ORDER; pages && !error;) {
        if (pages < 1ull << order) {
            order--;
            continue;
        }
        error = populate_extent(ctl, gfn, order);
        gfn += 1ull << order;
        pages -= 1ull << order;
    }
    return error;
}

int domctl_memory_options(struct domctl *ctl, unsigned options)
{
    return call(ctl, __HYPERVISOR_domus_op, DOMUS_OP_memory_options, options, NULL, 0, NULL, 0);
}

/* To all vCPUs. */
int domctl_inject_nmi(struct domctl *ctl)
{
    struct domctl_info info;
    int error = domctl_get_info(ctl, &info);

    for (unsigned i = 0; !error && i < info.max_vcpus; i++) {
        struct xen_domctl u = {.u.sendtrigger = {.trigger = XEN_DOMCTL_SENDTRIGGER_NMI, .vcpu = i}};
        error = domctl_on_domain(ctl, XEN_DOMCTL_sendtrigger, &u);
    }
    return error;
}

int domctl_limit_mem(struct domctl *ctl, uint64_t kib)
{
    struct xen_domctl u = {0};

    if (kib > UINT64_MAX / 1024 - SLACK_KIB)
        return -EINVAL;
    u.u.max_mem.max_memkb = kib + SLACK_KIB;
    return domctl_on_domain(ctl, XEN_DOMCTL_max_mem, &u);
}

int domctl_max_mem(struct domctl *ctl, uint64_t kib)
{
    const uint64_t low_pages = 3 * PAGES_PER_GIB; /* up to the MMIO hole; the rest is above 4 GiB */
    uint64_t pages = kib / KIB_PER_PAGE, low = pages < low_pages ? pages : low_pages;
    int error = domctl_limit_mem(ctl, kib);

    if (!error)
        error = populate_range(ctl, 0, low);
    if (!error)
        error = populate_range(ctl, 4 * PAGES_PER_GIB, pages - low);
    return error;
}

int domctl_max_vcpus(struct domctl *ctl, unsigned vcpus)
{
    struct xen_domctl u = {.u.max_vcpus.max = vcpus};

    return domctl_on_domain(ctl, XEN_DOMCTL_max_vcpus, &u);
}

int domctl_build(struct domctl *ctl, int kernel_fd, int ramdisk_fd, const char *cmdline,
                 struct domus_build *build)
{
    struct {
        struct domus_build build;
        char cmdline[4096];
    } data;
    int fds[2] = {kernel_fd, ramdisk_fd};
    size_t bytes = cmdline ? strlen(cmdline) + 1 : 0;
    int error;

    memset(build, 0, sizeof(*build));
    if (bytes > sizeof(data.cmdline)) {
        snprintf(build->error, sizeof(build->error), "the command line is longer than %zu bytes",
                 sizeof(data.cmdline) - 1);
        return -E2BIG;
    }
    memset(&data, 0, sizeof(data));
    if (bytes) {
        memcpy(data.cmdline, cmdline, bytes);
        data.build.cmdline = HV_CONTROL_DATA_ADDRESS + offsetof(__typeof__(data), cmdline);
        data.build.cmdline_bytes = (uint32_t)bytes;
    }
    data.build.has_ramdisk = ramdisk_fd >= 0;
    error = call(ctl, __HYPERVISOR_domus_op, DOMUS_OP_build, HV_CONTROL_DATA_ADDRESS, &data, sizeof(data),
                 fds, ramdisk_fd >= 0 ? 2 : 1);
    *build = data.build;
    build->error[sizeof(build->error) - 1] = '\0';
    return error;
}

int domctl_console_attach(struct domctl *ctl, unsigned console, int tty_fd, int log_fd)
{
    int fds[2] = {tty_fd, log_fd};

    return call(ctl, __HYPERVISOR_domus_op, DOMUS_OP_console_attach, console, NULL, 0, fds,
                log_fd >= 0 ? 2 : 1);
}

int domctl_store_attach(struct domctl *ctl, int guest_fd, int backend_fd)
{
    int fds[2] = {guest_fd, backend_fd};

    return call(ctl, __HYPERVISOR_domus_op, DOMUS_OP_store_attach, 0, NULL, 0, fds, backend_fd >= 0 ? 2 : 1);
}

int domctl_domus_op(struct domctl *ctl, enum domus_op op, void *arg, size_t bytes, const int *fds, size_t nr_fds)
{
    return call(ctl, __HYPERVISOR_domus_op, op, HV_CONTROL_DATA_ADDRESS, arg, bytes, fds, nr_fds);
}

int domctl_vbd_attach(struct domctl *ctl, int image_fd, struct domus_vbd *vbd)
{
    int error = domctl_domus_op(ctl, DOMUS_OP_vbd_attach, vbd, sizeof(*vbd), &image_fd, image_fd >= 0);

    vbd->error[sizeof(vbd->error) - 1] = '\0';
    return error;
}

int domctl_vbd_set_image(struct domctl *ctl, int image_fd, struct domus_vbd_image *image)
{
    int error = domctl_domus_op(ctl, DOMUS_OP_vbd_set_image, image, sizeof(*image), &image_fd, image_fd >= 0);

    image->error[sizeof(image->error) - 1] = '\0';
    return error;
}

int domctl_vbd_set_limits(struct domctl *ctl, struct domus_vbd_limits *limits)
{
    return domctl_domus_op(ctl, DOMUS_OP_vbd_set_limits, limits, sizeof(*limits), NULL, 0);
}

int domctl_vbd_detach(struct domctl *ctl, unsigned devid, bool force)
{
    struct domus_vbd_detach detach = {.devid = devid, .force = force};

    return domctl_domus_op(ctl, DOMUS_OP_vbd_detach, &detach, sizeof(detach), NULL, 0);
}

int domctl_vbd_resize(struct domctl *ctl, unsigned devid, uint64_t size_bytes, uint64_t *now_bytes)
{
    struct domus_vbd_resize resize = {.devid = devid, .size_bytes = size_bytes};
    int error = domctl_domus_op(ctl, DOMUS_OP_vbd_resize, &resize, sizeof(resize), NULL, 0);

    if (now_bytes)
        *now_bytes = resize.size_bytes;
    return error;
}

int domctl_vbd_stats(struct domctl *ctl, unsigned devid, struct domus_vbd_stats *stats)
{
    *stats = (struct domus_vbd_stats){.devid = devid};
    return domctl_domus_op(ctl, DOMUS_OP_vbd_stats, stats, sizeof(*stats), NULL, 0);
}

int domctl_pause(struct domctl *ctl)
{
    struct xen_domctl u = {0};

    return domctl_on_domain(ctl, XEN_DOMCTL_pausedomain, &u);
}

int domctl_unpause(struct domctl *ctl)
{
    struct xen_domctl u = {0};

    return domctl_on_domain(ctl, XEN_DOMCTL_unpausedomain, &u);
}

int domctl_destroy(struct domctl *ctl)
{
    struct xen_domctl u = {0};

    return domctl_on_domain(ctl, XEN_DOMCTL_destroydomain, &u);
}

int domctl_get_info(struct domctl *ctl, struct domctl_info *info)
{
    struct xen_domctl u = {0};
    const struct xen_domctl_getdomaininfo *from = &u.u.getdomaininfo;
    int error = domctl_on_domain(ctl, XEN_DOMCTL_getdomaininfo, &u);

    if (error)
        return error;
    *info = (struct domctl_info){
        .domid = from->domain,
        .paused = from->flags & XEN_DOMINF_paused,
        .blocked = from->flags & XEN_DOMINF_blocked,
        .dying = from->flags & XEN_DOMINF_dying,
        .shutdown = from->flags & XEN_DOMINF_shutdown,
        .shutdown_code = from->flags >> XEN_DOMINF_shutdownshift & XEN_DOMINF_shutdownmask,
        .memory_pages = from->tot_pages,
        .max_pages = from->max_pages,
        .cpu_time_ns = from->cpu_time,
        .online_vcpus = from->nr_online_vcpus,
        .max_vcpus = from->max_vcpu_id + 1, /* XEN_INVALID_MAX_VCPU_ID + 1 is 0 */
    };
    memcpy(info->uuid, from->handle, sizeof(info->uuid));
    return 0;
}

int domctl_get_vcpu_info(struct domctl *ctl, unsigned vcpu, struct domctl_vcpu_info *info)
{
    struct xen_domctl u = {.u.getvcpuinfo.vcpu = vcpu};
    const struct xen_domctl_getvcpuinfo *from = &u.u.getvcpuinfo;
    int error = domctl_on_domain(ctl, XEN_DOMCTL_getvcpuinfo, &u);

    if (error)
        return error;
    *info = (struct domctl_vcpu_info){
        .online = from->online,
        .blocked = from->blocked,
        .running = from->running,
        .cpu_time_ns = from->cpu_time,
        .cpu = from->cpu,
    };
    return 0;
}

/* @map of at most so many bytes goes with the call and comes back. */
#define AFFINITY_BYTES 128u

static int vcpu_affinity(struct domctl *ctl, uint32_t cmd, unsigned vcpu, uint8_t map[static AFFINITY_BYTES])
{
    struct {
        struct xen_domctl u;
        uint8_t map[AFFINITY_BYTES];
    } data = {.u.cmd = cmd, .u.interface_version = XEN_DOMCTL_INTERFACE_VERSION};
    struct xen_domctl_vcpuaffinity *op = &data.u.u.vcpuaffinity;
    int error = find_domid(ctl);

    if (error)
        return error;
    data.u.domain = ctl->domid;
    op->vcpu = vcpu;
    op->flags = XEN_VCPUAFFINITY_HARD;
    op->cpumap_hard.bitmap.p = (void *)(uintptr_t)(HV_CONTROL_DATA_ADDRESS + offsetof(__typeof__(data), map));
    op->cpumap_hard.nr_bits = AFFINITY_BYTES * 8;
    memcpy(data.map, map, sizeof(data.map));
    error = call(ctl, __HYPERVISOR_domctl, HV_CONTROL_DATA_ADDRESS, 0, &data, sizeof(data), NULL, 0);
    memcpy(map, data.map, sizeof(data.map));
    return error;
}

int domctl_set_vcpu_affinity(struct domctl *ctl, unsigned vcpu, const uint8_t *map, size_t bytes)
{
    uint8_t all[AFFINITY_BYTES] = {0};

    memcpy(all, map, bytes < sizeof(all) ? bytes : sizeof(all));
    return vcpu_affinity(ctl, XEN_DOMCTL_setvcpuaffinity, vcpu, all);
}

int domctl_get_vcpu_affinity(struct domctl *ctl, unsigned vcpu, uint8_t *map, size_t bytes)
{
    uint8_t all[AFFINITY_BYTES] = {0};
    int error = vcpu_affinity(ctl, XEN_DOMCTL_getvcpuaffinity, vcpu, all);

    memset(map, 0, bytes);
    memcpy(map, all, bytes < sizeof(all) ? bytes : sizeof(all));
    return error;
}

/* The leaves go with the call and come back. */
struct policy {
    struct xen_domctl u;
    xen_cpuid_leaf_t leaves[DOMCTL_FEATURES_MAX];
};

static int cpu_policy(struct domctl *ctl, uint32_t cmd, unsigned count, struct policy *policy)
{
    struct xen_domctl_cpu_policy *op = &policy->u.u.cpu_policy;
    int error = find_domid(ctl);

    if (error)
        return error;
    policy->u.cmd = cmd;
    policy->u.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    policy->u.domain = ctl->domid;
    op->nr_leaves = count;
    op->leaves.p = (void *)(uintptr_t)(HV_CONTROL_DATA_ADDRESS + offsetof(struct policy, leaves));
    return call(ctl, __HYPERVISOR_domctl, HV_CONTROL_DATA_ADDRESS, 0, policy, sizeof(*policy), NULL, 0);
}

int domctl_get_features(struct domctl *ctl, struct domctl_features *leaves, unsigned *count)
{
    struct policy policy = {0};
    unsigned room = *count < DOMCTL_FEATURES_MAX ? *count : DOMCTL_FEATURES_MAX;
    int error = cpu_policy(ctl, XEN_DOMCTL_get_cpu_policy, room, &policy);

    if (error)
        return error;
    *count = policy.u.u.cpu_policy.nr_leaves < room ? policy.u.u.cpu_policy.nr_leaves : room;
    for (unsigned i = 0; i < *count; i++) {
        const xen_cpuid_leaf_t *from = &policy.leaves[i];

        leaves[i] = (struct domctl_features){from->leaf, from->subleaf, {from->a, from->b, from->c, from->d}};
    }
    return 0;
}

int domctl_set_features(struct domctl *ctl, const struct domctl_features *leaves, unsigned count)
{
    struct policy policy = {0};

    if (count > DOMCTL_FEATURES_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++) {
        const uint32_t *regs = leaves[i].regs;

        policy.leaves[i] = (xen_cpuid_leaf_t){leaves[i].leaf, leaves[i].subleaf, regs[0], regs[1], regs[2], regs[3]};
    }
    return cpu_policy(ctl, XEN_DOMCTL_set_cpu_policy, count, &policy);
}

int domctl_get_domus_info(struct domctl *ctl, struct domus_info *info)
{
    int error = call(ctl, __HYPERVISOR_domus_op, DOMUS_OP_info, HV_CONTROL_DATA_ADDRESS, info, sizeof(*info),
                     NULL, 0);

    if (!error)
        info->engine[sizeof(info->engine) - 1] = '\0';
    return error;
}

/* ------------------------------------------------------------------ events */

int domctl_subscribe(struct domctl *ctl)
{
    return call(ctl, __HYPERVISOR_domus_op, DOMUS_OP_subscribe, 0, NULL, 0, NULL, 0);
}

static int take_event(struct domctl *ctl, enum hv_event *event, uint64_t *arg)
{
    for (unsigned i = 0; i < HV_NR_EVENTS; i++) {
        if (!ctl->event_pending[i])
            continue;
        ctl->event_pending[i] = false;
        *event = (enum hv_event)i;
        *arg = ctl->event_arg[i];
        return 1;
    }
    return 0;
}

int domctl_next_event(struct domctl *ctl, enum hv_event *event, uint64_t *arg)
{
    struct hv_control_message message;
    int error;

    if (take_event(ctl, event, arg))
        return 1;
    if (ctl->broken || ctl->fd < 0)
        return -EPIPE;
    error = receive(ctl, &message, NULL, 0);
    if (error == -EAGAIN)
        return 0;
    if (error || message.type != HV_CONTROL_EVENT)
        return -EPIPE;
    note_event(ctl, &message);
    return take_event(ctl, event, arg);
}
