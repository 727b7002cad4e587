/* The control channel under fire: messages that are mostly valid calls, and damaged ones, with descriptors of all
 * kinds, by clients that come and go. The server must answer each valid call with a reply of its shape, hang up on
 * everything else, and keep no descriptor.
 *
 * control-fuzz [SEED [ROUNDS]] is deterministic; `make check` replays a short run.
 */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hv/control/server.h"
#include "hv/fuzz.h"
#include "hv/hypercall/test-domain.h"
#include "hv/loader/sample.h"
#include "hv/log.h"
#include "hv/tap.h"

#define PATIENCE_MS 20000
#define FDS_MOST    12u
#define DOMID       7u

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static uint8_t kernel[SAMPLE_MAX_BYTES];
static size_t kernel_bytes;
static uint32_t serial;

struct request {
    struct hv_control_message head;
    uint8_t data[4096];
    size_t data_bytes; /* as sent; a valid header says the same */
    int fds[FDS_MOST];
    size_t nr_fds;
};

/* ------------------------------------------------------------------ descriptors */

static int make_fd(void)
{
    int pair[2], fd;

    switch (fuzz_random(6)) {
    case 0:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case 1:
        return pipe(pair) < 0 ? -1 : (close(pair[1]), pair[0]);
    case 2:
        return pipe(pair) < 0 ? -1 : (close(pair[0]), pair[1]);
    case 3:
        return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ? -1 : (close(pair[1]), pair[0]);
    case 4:
        fd = posix_openpt(O_RDWR | O_NOCTTY);
        return fd;
    default:
        return sample_file(kernel, fuzz_random(4) ? kernel_bytes : fuzz_random((uint32_t)kernel_bytes));
    }
}

static unsigned count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* ------------------------------------------------------------------ requests */

static uint64_t small_or_edge(void)
{
    return fuzz_random(8) ? fuzz_random(40) : fuzz_edge();
}

static void fill(void *bytes, size_t count)
{
    for (size_t i = 0; i + 4 <= count; i += 4) {
        uint32_t value = (uint32_t)small_or_edge();

        if (fuzz_random(3))
            memcpy((uint8_t *)bytes + i, &value, 4);
    }
}

/* Never destroydomain: the process would end, as it should. */
static void make_domctl(struct request *r)
{
    static const uint32_t likely[] = {
        XEN_DOMCTL_createdomain,  XEN_DOMCTL_pausedomain,     XEN_DOMCTL_unpausedomain, XEN_DOMCTL_getdomaininfo,
        XEN_DOMCTL_max_mem,       XEN_DOMCTL_setdomainhandle, XEN_DOMCTL_max_vcpus,     XEN_DOMCTL_getvcpuinfo,   XEN_DOMCTL_setvcpuaffinity, XEN_DOMCTL_getvcpuaffinity, XEN_DOMCTL_get_cpu_policy, XEN_DOMCTL_set_cpu_policy,
        XEN_DOMCTL_sendtrigger, XEN_DOMCTL_setvnumainfo,
    };
    struct xen_domctl u;

    memset(&u, 0, sizeof(u));
    fill(&u.u, sizeof(u.u));
    u.cmd = fuzz_random(8) ? likely[fuzz_random(HV_ARRAY_LEN(likely))] : (uint32_t)small_or_edge();
    if (u.cmd == XEN_DOMCTL_destroydomain)
        u.cmd = 0;
    u.interface_version = fuzz_random(16) ? XEN_DOMCTL_INTERFACE_VERSION : (uint32_t)fuzz_edge();
    u.domain = fuzz_random(16) ? DOMID : (domid_t)small_or_edge();
    if (u.cmd == XEN_DOMCTL_createdomain && fuzz_random(2)) {
        u.u.createdomain = (struct xen_domctl_createdomain){
            .flags = XEN_DOMCTL_CDF_hvm, .max_vcpus = 1 + fuzz_random(3), .max_grant_frames = -1};
        u.u.createdomain.arch.emulation_flags = XEN_X86_EMU_LAPIC;
    }
    if (u.cmd == XEN_DOMCTL_max_mem)
        u.u.max_mem.max_memkb = 33 * 1024 + fuzz_random(2);
    memcpy(r->data, &u, sizeof(u));
    r->head.number = __HYPERVISOR_domctl;
    r->head.args[0] = HV_CONTROL_DATA_ADDRESS;
    r->data_bytes = sizeof(u);
}

static void make_sysctl(struct request *r)
{
    struct xen_sysctl u;

    memset(&u, 0, sizeof(u));
    fill(&u.u, sizeof(u.u));
    u.cmd = fuzz_random(4) ? (fuzz_random(2) ? XEN_SYSCTL_physinfo : XEN_SYSCTL_getdomaininfolist)
                           : (uint32_t)small_or_edge();
    u.interface_version = fuzz_random(16) ? XEN_SYSCTL_INTERFACE_VERSION : (uint32_t)fuzz_edge();
    if (u.cmd == XEN_SYSCTL_getdomaininfolist && fuzz_random(2))
        u.u.getdomaininfolist.buffer.p = (void *)(uintptr_t)(HV_CONTROL_DATA_ADDRESS + sizeof(u));
    memcpy(r->data, &u, sizeof(u));
    r->head.number = __HYPERVISOR_sysctl;
    r->head.args[0] = HV_CONTROL_DATA_ADDRESS;
    r->data_bytes = sizeof(u) + fuzz_random(1024);
}

static void make_domus_op(struct request *r)
{
    struct domus_build build = {.cmdline = HV_CONTROL_DATA_ADDRESS + sizeof(build)};

    build.cmdline_bytes = fuzz_random(4) ? 8 : (uint32_t)small_or_edge();
    build.has_ramdisk = fuzz_random(2);
    memcpy(r->data, &build, sizeof(build));
    memcpy(r->data + sizeof(build), "console", 8);
    r->head.number = __HYPERVISOR_domus_op;
    r->head.args[0] = fuzz_random(8) ? 1 + fuzz_random(5) : fuzz_random(2) ? DOMUS_OP_set_log : small_or_edge();
    r->head.args[1] = r->head.args[0] == DOMUS_OP_console_attach || r->head.args[0] == DOMUS_OP_set_log
                          ? fuzz_random(2) : HV_CONTROL_DATA_ADDRESS;
    r->head.args[2] = fuzz_random(4);
    r->data_bytes = sizeof(build) + 8;
    if (fuzz_random(2))
        r->fds[r->nr_fds++] = fuzz_random(3) ? make_fd() : sample_file(kernel, kernel_bytes);
    if (r->nr_fds && build.has_ramdisk)
        r->fds[r->nr_fds++] = make_fd();
}

/* Families that guests have, too. */
static void make_other(struct request *r)
{
    static const uint32_t numbers[] = {
        __HYPERVISOR_memory_op,        __HYPERVISOR_hvm_op,      __HYPERVISOR_event_channel_op,
        __HYPERVISOR_grant_table_op,   __HYPERVISOR_xen_version, __HYPERVISOR_multicall,
    };
    uint64_t list = HV_CONTROL_DATA_ADDRESS + 512;

    r->head.number = fuzz_random(16) ? numbers[fuzz_random(HV_ARRAY_LEN(numbers))] : small_or_edge();
    r->head.args[0] = small_or_edge();
    r->head.args[1] = HV_CONTROL_DATA_ADDRESS + fuzz_random(2) * 8;
    r->head.args[2] = small_or_edge();
    r->data_bytes = 1024;
    fill(r->data, r->data_bytes);
    if (fuzz_random(2)) /* extent_start, frame_list ... */
        memcpy(r->data, &list, sizeof(list));
    if (r->head.number == __HYPERVISOR_memory_op && fuzz_random(2)) {
        struct xen_memory_reservation m = {.nr_extents = 16, .extent_order = 9, .domid = DOMID};

        m.extent_start.p = (void *)(uintptr_t)list;
        r->head.args[0] = fuzz_random(8) ? XENMEM_populate_physmap : XENMEM_decrease_reservation;
        r->head.args[1] = HV_CONTROL_DATA_ADDRESS;
        memcpy(r->data, &m, sizeof(m));
        for (uint64_t i = 0, gfn = 0; i < 16; i++, gfn += 512)
            memcpy(r->data + 512 + i * 8, &gfn, 8);
    }
}

static void make_call(struct request *r)
{
    static void (*const makers[])(struct request *) = {make_domctl, make_domctl, make_sysctl, make_domus_op,
                                                       make_other};

    memset(r, 0, sizeof(*r));
    makers[fuzz_random(HV_ARRAY_LEN(makers))](r);
    if (fuzz_random(16) == 0)
        r->data_bytes = fuzz_random(sizeof(r->data));
    r->head.magic = HV_CONTROL_MAGIC;
    r->head.type = HV_CONTROL_CALL;
    r->head.serial = ++serial;
    r->head.data_bytes = (uint32_t)r->data_bytes;
    while (r->nr_fds < FDS_MOST && fuzz_random(30) == 0)
        r->fds[r->nr_fds++] = make_fd();
}

/* True if the message is still a valid call. */
static bool damage(struct request *r)
{
    switch (fuzz_random(6)) {
    case 0:
        r->head.magic ^= 1u << fuzz_random(32);
        return false;
    case 1:
        r->head.type = 2 + fuzz_random(9);
        return false;
    case 2:
        r->head.data_bytes += 1 + fuzz_random(1u << 20);
        return false;
    case 3:
        while (r->nr_fds < FDS_MOST) /* more than the server takes */
            r->fds[r->nr_fds++] = make_fd();
        return false;
    default:
        /* The domctl elsewhere in the data could be destroydomain. */
        r->head.args[r->head.number == __HYPERVISOR_domctl ? 1 : fuzz_random(2)] ^= 1ull << fuzz_random(64);
        return true;
    }
}

/* ------------------------------------------------------------------ the client */

static int connect_client(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool send_request(int fd, const struct request *r, size_t bytes)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MOST)];
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)r, .iov_len = bytes};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

    memset(&control, 0, sizeof(control));
    if (r->nr_fds) {
        header.msg_control = &control;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * r->nr_fds);
        control.align = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int) * r->nr_fds), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.align), r->fds, sizeof(int) * r->nr_fds);
    }
    return sendmsg(fd, &header, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static void close_fds(struct request *r)
{
    for (size_t i = 0; i < r->nr_fds; i++)
        close(r->fds[i]);
    r->nr_fds = 0;
}

/* The next reply, past events. Its length, 0 for a hang-up, -1 for nothing within patience. */
static ssize_t next_reply(int fd, struct request *reply)
{
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t got;

        if (poll(&wait, 1, PATIENCE_MS) != 1)
            return -1;
        got = recv(fd, reply, offsetof(struct request, data_bytes), 0);
        if (got <= 0)
            return 0;
        if (reply->head.type != HV_CONTROL_EVENT)
            return got;
    }
}

/* One request to *@fd, which is made anew when the server hangs up. False: the server misbehaved. */
static bool one_round(int *fd)
{
    static struct request r, reply;
    bool valid = true, ok;
    ssize_t got;

    make_call(&r);
    if (fuzz_random(12) == 0)
        valid = damage(&r);
    ok = send_request(*fd, &r, sizeof(r.head) + r.data_bytes);
    close_fds(&r);
    if (fuzz_random(32) == 0) { /* goes without waiting */
        close(*fd);
        *fd = connect_client();
        return *fd >= 0;
    }
    got = ok ? next_reply(*fd, &reply) : 0;
    if (got == 0) {
        close(*fd);
        *fd = connect_client();
        return !valid && *fd >= 0;
    }
    return valid && got == (ssize_t)(sizeof(r.head) + r.data_bytes) && reply.head.magic == HV_CONTROL_MAGIC &&
           reply.head.type == HV_CONTROL_REPLY && reply.head.serial == r.head.serial &&
           reply.head.data_bytes == r.data_bytes;
}

/* ------------------------------------------------------------------ the server */

static void *serve(void *opaque)
{
    hv_loop_run(opaque);
    return NULL;
}

static int listen_here(void)
{
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "domus-control-fuzz-%d", (int)getpid());
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
        return -1;
    return fd;
}

static bool run(unsigned long rounds, unsigned long *done)
{
    struct hv_control_options options = {.engine = &test_engine, .name = "fuzz"};
    struct hv_control *control;
    pthread_t server;
    bool ok = true;
    int client;

    if (hv_loop_new(&options.loop) || hv_control_new(&options, &control) ||
        hv_control_serve(control, listen_here()) || pthread_create(&server, NULL, serve, options.loop))
        return false;
    client = connect_client();
    for (; ok && client >= 0 && *done < rounds; ++*done)
        ok = one_round(&client);
    close(client);
    hv_loop_quit(options.loop);
    pthread_join(server, NULL);
    hv_control_free(control);
    hv_loop_free(options.loop);
    return ok;
}

int main(int argc, char **argv)
{
    unsigned long seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 4000, done = 0;
    unsigned before, after;
    bool ok;

    signal(SIGPIPE, SIG_IGN);
    hv_log_set_level(HV_LOG_ERROR);
    fuzz_seed(seed);
    kernel_bytes = sample_elf64(kernel, XEN_ELFNOTE_PHYS32_ENTRY);
    before = count_fds();
    ok = run(rounds, &done);
    after = count_fds();
    TAP_OK(ok, "seed %lu: %lu of %lu rounds", seed, done, rounds);
    TAP_OK(before == after, "no descriptor is kept (%u before, %u after)", before, after);
    return tap_done();
}
