/* The control channel: a real server on one end of a socket pair, libdomctl on the other. */
#include "config.h"

#include "hv/control/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hv/control/domctl-private.h"
#include "hv/hypercall/test-domain.h"
#include "hv/loader/sample.h"
#include "hv/log.h"
#include "hv/tap.h"

static struct hv_loop *loop;
static struct hv_control *control;
static pthread_t server;
static char socket_path[64];

static const uint8_t uuid[16] = "0123456789abcde";

static void *serve(void *opaque)
{
    hv_loop_run(opaque);
    return NULL;
}

/* Everything of the server is made here and then belongs to its thread until stop(). */
static bool start(int fd)
{
    struct hv_control_options options = {.engine = &test_engine, .name = "test"};

    if (hv_loop_new(&loop))
        return false;
    options.loop = loop;
    return !hv_control_new(&options, &control) && !hv_control_serve(control, fd) &&
           !pthread_create(&server, NULL, serve, loop);
}

static void stop(void)
{
    hv_loop_quit(loop);
    pthread_join(server, NULL);
    hv_control_free(control);
    hv_loop_free(loop);
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 5) < 0)
        return -1;
    return fd;
}

static long raw_domctl(struct domctl *ctl, uint32_t cmd, uint32_t version, uint16_t domain)
{
    struct xen_domctl u = {.cmd = cmd, .interface_version = version, .domain = domain};
    uint64_t args[5] = {HV_CONTROL_DATA_ADDRESS};
    long result;

    return domctl_hypercall(ctl, __HYPERVISOR_domctl, args, &u, sizeof(u), NULL, 0, &result) ? 1 : result;
}

static unsigned logged;
static char last_name[64];

static void count_calls(void *opaque, const char *name, long result)
{
    (void)opaque, (void)result;
    logged++;
    snprintf(last_name, sizeof(last_name), "%s", name);
}

static void test_features(struct domctl *ctl)
{
    struct domctl_features all[DOMCTL_FEATURES_MAX], less[DOMCTL_FEATURES_MAX], bad;
    unsigned count = 2;

    TAP_OK(domctl_get_features(ctl, all, &count) == -ENOBUFS, "features want room");
    count = DOMCTL_FEATURES_MAX;
    TAP_OK(domctl_get_features(ctl, all, &count) == 0 && count > 3 && all[0].leaf == 1 && all[0].regs[3] & 1u << 26,
           "SSE2 is among them");
    bad = all[0];
    bad.regs[3] &= ~(1u << 26);
    TAP_OK(domctl_set_features(ctl, &bad, 1) == 0 && domctl_get_features(ctl, less, &count) == 0 &&
               less[0].regs[3] == bad.regs[3] && less[0].regs[2] == all[0].regs[2] &&
               memcmp(&less[1], &all[1], (count - 1) * sizeof(all[0])) == 0,
           "and can be taken away, nothing else goes");
    TAP_OK(domctl_set_features(ctl, all, count) == 0 && domctl_get_features(ctl, less, &count) == 0 &&
               memcmp(less, all, count * sizeof(all[0])) == 0,
           "and given back");
    bad = all[0];
    bad.regs[3] |= 1u << 30; /* IA-64 */
    TAP_OK(domctl_set_features(ctl, &bad, 1) == -EINVAL, "what there is not cannot be given");
    bad = (struct domctl_features){.leaf = 2};
    TAP_OK(domctl_set_features(ctl, &bad, 1) == -EINVAL && domctl_set_features(ctl, all, DOMCTL_FEATURES_MAX + 1) == -EINVAL,
           "leaves without features and endless lists are refused");
}

/* What XENMEM_get_vnumainfo answers to a caller with room for so many ranges. */
static long get_vnuma(struct domctl *ctl, unsigned ranges, struct xen_vnuma_topology_info *out, unsigned distance[4],
                      unsigned vcpu_node[2], struct xen_vmemrange range[3])
{
    struct {
        struct xen_vnuma_topology_info info;
        unsigned distance[4], vcpu_node[2];
        struct xen_vmemrange range[3];
    } data = {.info = {.domid = DOMID_SELF, .nr_vnodes = 2, .nr_vcpus = 2, .nr_vmemranges = ranges}};
    uint64_t args[5] = {XENMEM_get_vnumainfo, HV_CONTROL_DATA_ADDRESS};
    long result = 1;

    data.info.vdistance.pad = HV_CONTROL_DATA_ADDRESS + offsetof(__typeof__(data), distance);
    data.info.vcpu_to_vnode.pad = HV_CONTROL_DATA_ADDRESS + offsetof(__typeof__(data), vcpu_node);
    data.info.vmemrange.pad = HV_CONTROL_DATA_ADDRESS + offsetof(__typeof__(data), range);
    if (domctl_hypercall(ctl, __HYPERVISOR_memory_op, args, &data, sizeof(data), NULL, 0, &result))
        return 1;
    *out = data.info;
    memcpy(distance, data.distance, sizeof(data.distance));
    memcpy(vcpu_node, data.vcpu_node, sizeof(data.vcpu_node));
    memcpy(range, data.range, sizeof(data.range));
    return result;
}

/* Each row is a topology that makes no sense, made of one that does. */
static void test_bad_vnuma(struct domctl *ctl)
{
    static const struct {
        unsigned nodes, vcpus, vcpu_node[2], distances[4];
        uint64_t memory_kib[2];
        const char *name;
    } rows[] = {
        {0, 2, {0, 0}, {10, 20, 20, 10}, {8192, 8192}, "no nodes"},
        {65, 2, {0, 0}, {10, 20, 20, 10}, {8192, 8192}, "too many nodes"},
        {2, 1, {0, 1}, {10, 20, 20, 10}, {8192, 8192}, "too few vCPUs"},
        {2, 2, {0, 2}, {10, 20, 20, 10}, {8192, 8192}, "a vCPU of no node"},
        {2, 2, {0, 1u << 31}, {10, 20, 20, 10}, {8192, 8192}, "one of none that could be"},
        {2, 2, {0, 1}, {11, 20, 20, 10}, {8192, 8192}, "a node that is far from itself"},
        {2, 2, {0, 1}, {10, 10, 20, 10}, {8192, 8192}, "two that are one"},
        {2, 2, {0, 1}, {10, 256, 20, 10}, {8192, 8192}, "one beyond all distances"},
        {2, 2, {0, 1}, {10, 20, 20, 10}, {8190, 8194}, "half a page"},
        {2, 2, {0, 1}, {10, 20, 20, 10}, {8192, 1ull << 30}, "memory beyond all addresses"},
        {2, 2, {0, 1}, {10, 20, 20, 10}, {8192, UINT64_MAX}, "and beyond all numbers"},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        const struct domctl_vnuma vnuma = {rows[i].nodes, rows[i].vcpus, rows[i].memory_kib, rows[i].vcpu_node,
                                           rows[i].distances};
        TAP_OK(domctl_set_vnuma(ctl, &vnuma) == -EINVAL, "NUMA nodes: %s: refused", rows[i].name);
    }
}

static void test_vnuma(struct domctl *ctl)
{
    static const uint64_t memory_kib[2] = {2u << 20, 2u << 20}; /* more than it has, so that they reach past the hole */
    static const unsigned nodes[2] = {1, 0}, distances[4] = {10, 21, 31, 10};
    const struct domctl_vnuma vnuma = {2, 2, memory_kib, nodes, distances};
    struct xen_vnuma_topology_info info;
    struct xen_vmemrange range[3];
    unsigned distance[4], vcpu_node[2];

    TAP_OK(get_vnuma(ctl, 3, &info, distance, vcpu_node, range) == -XEN_EOPNOTSUPP, "there are no NUMA nodes");
    test_bad_vnuma(ctl);
    TAP_OK(domctl_set_vnuma(ctl, &vnuma) == 0, "until they are set");
    TAP_OK(get_vnuma(ctl, 2, &info, distance, vcpu_node, range) == -XEN_ENOBUFS && info.nr_vnodes == 2 && info.nr_vcpus == 2 &&
               info.nr_vmemranges == 3,
           "they want room, and say how much");
    TAP_OK(get_vnuma(ctl, 3, &info, distance, vcpu_node, range) == 0 && !memcmp(distance, distances, sizeof(distances)) &&
               !memcmp(vcpu_node, nodes, sizeof(nodes)),
           "distances and vCPUs are as set");
    TAP_OK(range[0].start == 0 && range[0].end == 2ull << 30 && range[0].nid == 0 && range[1].start == 2ull << 30 &&
               range[1].end == 3ull << 30 && range[1].nid == 1 && range[2].start == 4ull << 30 &&
               range[2].end == 5ull << 30 && range[2].nid == 1,
           "and memory leaves the hole out");
}

static bool any(const uint8_t *bytes, size_t count)
{
    bool found = false;

    for (size_t i = 0; i < count; i++)
        found |= bytes[i] != 0;
    return found;
}

static void test_creation(struct domctl *ctl)
{
    struct domctl_info info;
    struct domctl_vcpu_info vcpu;
    struct domus_info domus;
    const uint8_t none[4] = {0}, one[1] = {1};
    uint8_t map[300];

    TAP_OK(domctl_get_info(ctl, &info) == -ESRCH, "there is no domain yet");
    TAP_OK(domctl_create(ctl, 0, uuid, 2) == -EINVAL && domctl_create(ctl, 0x7ff0, uuid, 2) == -EINVAL,
           "a domain has a number of its own");
    TAP_OK(domctl_create(ctl, 7, uuid, 0) == -EINVAL && domctl_create(ctl, 7, uuid, 65) == -EINVAL,
           "and some vCPUs");
    TAP_OK(domctl_create(ctl, 7, uuid, 2) == 0, "it is created");
    TAP_OK(domctl_create(ctl, 7, uuid, 2) == -EEXIST, "once");
    TAP_OK(domctl_max_vcpus(ctl, 3) == -EINVAL && domctl_max_vcpus(ctl, 2) == 0, "with the vCPUs announced");
    TAP_OK(domctl_memory_options(ctl, DOMUS_MEMORY_HUGE << 1) == -EINVAL && domctl_memory_options(ctl, DOMUS_MEMORY_IMMEDIATE) == 0,
           "its memory is taken at once");
    TAP_OK(domctl_max_mem(ctl, 1ull << 50) == -EINVAL, "not with all the memory in the world");
    TAP_OK(domctl_max_mem(ctl, 16 * 1024) == 0, "with 16 MiB");
    TAP_OK(domctl_memory_options(ctl, 0) == -EBUSY && domctl_get_domus_info(ctl, &domus) == 0 &&
               domus.resident_bytes > 16u << 20,
           "which it is, and that is that");
    TAP_OK(domctl_limit_mem(ctl, UINT64_MAX) == -EINVAL && domctl_limit_mem(ctl, 8 * 1024) == 0 &&
               domctl_get_info(ctl, &info) == 0 && info.memory_pages == 4096 && info.max_pages < 4096,
           "a limit below that takes nothing");
    TAP_OK(domctl_limit_mem(ctl, 16 * 1024) == 0, "and is lifted");
    TAP_OK(domctl_get_info(ctl, &info) == 0 && info.domid == 7 && memcmp(info.uuid, uuid, 16) == 0 &&
               info.paused && !info.shutdown && info.max_vcpus == 2 && info.online_vcpus == 1,
           "and says so");
    TAP_OK(domctl_get_vcpu_info(ctl, 0, &vcpu) == 0 && vcpu.online && domctl_get_vcpu_info(ctl, 2, &vcpu) == -ESRCH,
           "each vCPU, too");
    TAP_OK(domctl_get_vcpu_affinity(ctl, 1, map, sizeof(map)) == 0 && any(map, sizeof(map)),
           "which runs on this host's CPUs");
    TAP_OK(domctl_get_vcpu_affinity(ctl, 2, map, sizeof(map)) == -ESRCH && domctl_set_vcpu_affinity(ctl, 2, map, 1) == -ESRCH,
           "not one that is not there");
    TAP_OK(domctl_set_vcpu_affinity(ctl, 1, none, sizeof(none)) == -EINVAL, "and not on none of them");
    TAP_OK(domctl_set_vcpu_affinity(ctl, 1, one, sizeof(one)) == 0 &&
               domctl_get_vcpu_affinity(ctl, 1, map, 1) == 0 && map[0] == one[0],
           "on one of them, if that is wished");
    test_features(ctl);
    test_vnuma(ctl);
    TAP_OK(domctl_get_domus_info(ctl, &domus) == 0 && strcmp(domus.engine, "none") == 0 &&
               domus.resident_bytes > 0,
           "and the process");
    TAP_OK(domctl_unpause(ctl) == -EINVAL, "without a kernel it does not run");
    TAP_OK(domctl_console_attach(ctl, 0, 0, -1) == -ENODEV && domctl_store_attach(ctl, 0, -1) == -ENODEV,
           "nor has it a console or a store");
}

static void test_versions(struct domctl *ctl)
{
    uint64_t args[5] = {HV_CONTROL_DATA_ADDRESS - 1};
    char data[16];
    long result;

    TAP_OK(raw_domctl(ctl, XEN_DOMCTL_pausedomain, 0x14, 7) == -XEN_EACCES, "another interface version");
    TAP_OK(raw_domctl(ctl, XEN_DOMCTL_pausedomain, XEN_DOMCTL_INTERFACE_VERSION, 8) == -XEN_ESRCH,
           "another domain");
    TAP_OK(raw_domctl(ctl, XEN_DOMCTL_shadow_op, XEN_DOMCTL_INTERFACE_VERSION, 7) == -XEN_ENOSYS &&
               raw_domctl(ctl, 5000, XEN_DOMCTL_INTERFACE_VERSION, 7) == -XEN_ENOSYS,
           "operations that there are not");
    TAP_OK(domctl_hypercall(ctl, __HYPERVISOR_domctl, args, data, sizeof(data), NULL, 0, &result) == 0 &&
               result == -XEN_EFAULT,
           "a structure that is not all in the data area");
    TAP_OK(domctl_hypercall(ctl, __HYPERVISOR_vcpu_op, args, NULL, 0, NULL, 0, &result) == 0 &&
               result == -XEN_EPERM,
           "what is for guests only");
}

static int sample_kernel(void)
{
    static uint8_t elf[SAMPLE_MAX_BYTES];
    size_t bytes = sample_elf64(elf, XEN_ELFNOTE_PHYS32_ENTRY);
    int fd = memfd_create("kernel", MFD_CLOEXEC);

    return fd >= 0 && write(fd, elf, bytes) == (ssize_t)bytes ? fd : -1;
}

static void test_build(struct domctl *ctl)
{
    static const unsigned node[2], near = 10;
    static const uint64_t all_kib = 16 * 1024;
    static const struct domctl_vnuma one_node = {1, 2, &all_kib, node, &near};
    struct domus_build build;
    int kernel = sample_kernel(), empty = memfd_create("empty", MFD_CLOEXEC), ends[2];
    char *line = malloc(5000);

    memset(line, 'x', 4999);
    line[4999] = '\0';
    TAP_OK(domctl_build(ctl, empty, -1, NULL, &build) < 0 && build.error[0], "no kernel: %s", build.error);
    TAP_OK(domctl_build(ctl, kernel, -1, line, &build) == -E2BIG && build.error[0], "%s", build.error);
    free(line);
    TAP_OK(domctl_build(ctl, kernel, -1, "quiet", &build) == 0, "a kernel (%s)", build.error);
    TAP_OK(build.store_evtchn && build.console_evtchn && build.store_gfn && build.console_gfn,
           "and the guest's ends of store and console");
    TAP_OK(domctl_build(ctl, kernel, -1, NULL, &build) == -EEXIST, "once");
    TAP_OK(domctl_set_vnuma(ctl, &one_node) == -EBUSY, "NUMA nodes come before that");
    TAP_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && domctl_console_attach(ctl, 16, ends[0], -1) == -ENOENT &&
               domctl_console_attach(ctl, 0, ends[0], -1) == 0 && domctl_log_file(ctl, 0, ends[0], 10) == 0 &&
               domctl_log_file(ctl, 1, ends[0], 10) == -ENODEV && domctl_log_file(ctl, 16, ends[0], 10) == -ENODEV &&
               domctl_log_file(ctl, DOMUS_LOG_OWN, 1, 1 << 20) == 0,
           "a terminal for the console");
    close(ends[0]);
    close(ends[1]);
    close(kernel);
    close(empty);
}

static bool wait_event(struct domctl *ctl, enum hv_event *event, uint64_t *arg)
{
    for (unsigned i = 0; i < 50; i++) {
        struct pollfd p = {.fd = domctl_fd(ctl), .events = POLLIN};

        if (domctl_next_event(ctl, event, arg) == 1)
            return true;
        poll(&p, 1, 100);
    }
    return false;
}

static void test_life(struct domctl *ctl)
{
    struct domctl *watcher;
    struct domctl_info info;
    enum hv_event event;
    uint64_t arg, args[5] = {SCHEDOP_remote_shutdown, HV_CONTROL_DATA_ADDRESS};
    struct sched_remote_shutdown r = {.domain_id = 7, .reason = SHUTDOWN_reboot};
    long result;

    TAP_OK(domctl_connect(socket_path, 5000, &watcher) == 0 && domctl_subscribe(watcher) == 0, "somebody watches");
    TAP_OK(domctl_next_event(watcher, &event, &arg) == 0, "nothing happens");
    TAP_OK(domctl_pause(ctl) == 0 && domctl_unpause(ctl) == 0 && domctl_get_info(ctl, &info) == 0 && info.paused,
           "pauses nest");
    TAP_OK(domctl_unpause(ctl) == 0 && domctl_get_info(ctl, &info) == 0 && !info.paused, "it runs");
    TAP_OK(domctl_unpause(ctl) == -EINVAL, "more than that it cannot");
    TAP_OK(domctl_hypercall(ctl, __HYPERVISOR_sched_op, args, &r, sizeof(r), NULL, 0, &result) == 0 && result == 0,
           "it is shut down");
    TAP_OK(wait_event(watcher, &event, &arg) && event == HV_EVENT_SHUTDOWN && arg == SHUTDOWN_reboot,
           "who watches hears of it");
    TAP_OK(domctl_get_info(ctl, &info) == 0 && info.shutdown && info.shutdown_code == SHUTDOWN_reboot,
           "and who asks");
    domctl_free(watcher);
    TAP_OK(domctl_connect(socket_path, 5000, &watcher) == 0 && domctl_subscribe(watcher) == 0 &&
               wait_event(watcher, &event, &arg) && arg == SHUTDOWN_reboot,
           "who comes late hears of it, too");
    domctl_free(watcher);
    logged = 0;
    domctl_set_log(ctl, count_calls, NULL);
    TAP_OK(domctl_destroy(ctl) == 0 && logged == 1 && strcmp(last_name, "domctl destroydomain") == 0,
           "the last call is answered, and logged by name");
    pthread_join(server, NULL);
    hv_control_free(control);
    hv_loop_free(loop);
    TAP_OK(domctl_get_info(ctl, &info) == -EPIPE, "and nobody is there any more");
}

/* A connection that sent @bytes is closed; the server lives on. */
static bool is_dropped(const void *bytes, size_t count)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char reply[64];
    bool dropped;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    dropped = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
              send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count && poll(&p, 1, 2000) == 1 &&
              recv(fd, reply, sizeof(reply), 0) <= 0;
    close(fd);
    return dropped;
}

static void test_garbage(void)
{
    struct hv_control_message good = {.magic = HV_CONTROL_MAGIC, .type = HV_CONTROL_CALL}, m;
    static uint8_t large[sizeof(good) + HV_CONTROL_DATA_MAX + 1];
    bool all = true;

    TAP_OK(is_dropped("x", 1) && is_dropped(&good, sizeof(good) - 1), "a message too short");
    m = good, m.magic ^= 1;
    TAP_OK(is_dropped(&m, sizeof(m)), "another magic number");
    m = good, m.type = HV_CONTROL_REPLY;
    TAP_OK(is_dropped(&m, sizeof(m)), "a reply to nothing");
    m = good, m.data_bytes = 1;
    TAP_OK(is_dropped(&m, sizeof(m)), "data that is not there");
    m.data_bytes = 0xffffffff;
    TAP_OK(is_dropped(&m, sizeof(m)), "much of it");
    good.data_bytes = HV_CONTROL_DATA_MAX + 1;
    memcpy(large, &good, sizeof(good));
    TAP_OK(is_dropped(large, sizeof(large)), "more than a message may have");
    for (unsigned seed = 1; seed < 200; seed++) {
        uint32_t noise[40];

        for (unsigned i = 0; i < 40; i++)
            noise[i] = (seed + i) * 2654435761u;
        all = all && is_dropped(noise, 16 + seed % 140);
    }
    TAP_OK(all, "noise");
}

/* Every hypercall number and operation, with arguments that point nowhere or into the data area. */
static void test_noise_calls(struct domctl *ctl)
{
    static uint8_t data[512];
    unsigned answered = 0, asked = 0;

    for (uint64_t number = 0; number < 64; number++) {
        for (uint64_t op = 0; op < 40; op++) {
            uint64_t args[5] = {op, HV_CONTROL_DATA_ADDRESS + (op % 3) * 200, op << 3, ~op, number};
            long result;

            for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (uint8_t)((i * 31 + op * 7) >> 2);
            asked++;
            answered += domctl_hypercall(ctl, number, args, data, sizeof(data), NULL, 0, &result) == 0;
        }
    }
    TAP_OK(answered == asked, "%u of %u calls of noise are answered", answered, asked);
}

static void test_names(void)
{
    uint64_t args[5] = {XENMEM_populate_physmap};
    uint32_t cmd = XEN_DOMCTL_max_mem;
    char name[32];

    domctl_name(__HYPERVISOR_memory_op, args, NULL, 0, name, sizeof(name));
    TAP_OK(strcmp(name, "memory_op populate_physmap") == 0, "%s", name);
    domctl_name(__HYPERVISOR_domctl, args, &cmd, sizeof(cmd), name, sizeof(name));
    TAP_OK(strcmp(name, "domctl max_mem") == 0, "%s", name);
    domctl_name(99, args, NULL, 0, name, sizeof(name));
    TAP_OK(strcmp(name, "hypercall 99") == 0, "%s", name);
}

static void test_slow_server(void)
{
    int ends[2];
    struct domctl *ctl;
    struct domctl_info info;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0 || domctl_connect_fd(ends[0], 50, &ctl))
        return;
    TAP_OK(domctl_get_info(ctl, &info) == -ETIMEDOUT, "a server that does not answer");
    TAP_OK(domctl_get_info(ctl, &info) == -EPIPE, "is not asked again");
    domctl_free(ctl);
    close(ends[1]);
}

static void test_pair(void)
{
    struct domctl *ctl;
    int ends[2];

    if (!TAP_OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0 && start(ends[1]) &&
                    domctl_connect_fd(ends[0], 5000, &ctl) == 0,
                "a server on a connected socket"))
        return;
    test_creation(ctl);
    test_versions(ctl);
    test_noise_calls(ctl);
    domctl_free(ctl);
    stop();
}

static void test_listener(void)
{
    char dir[] = "/tmp/control-test-XXXXXX";
    struct domctl *ctl;

    if (!mkdtemp(dir))
        return;
    snprintf(socket_path, sizeof(socket_path), "%s/socket", dir);
    if (TAP_OK(start(listen_at(socket_path)) && domctl_connect(socket_path, 5000, &ctl) == 0,
               "a server that listens")) {
        test_garbage();
        TAP_OK(domctl_create(ctl, 7, uuid, 1) == 0 && domctl_max_vcpus(ctl, 1) == 0 &&
                   domctl_max_mem(ctl, 64 * 1024) == 0,
               "is none the worse");
        test_build(ctl);
        test_life(ctl);
        domctl_free(ctl);
    }
    unlink(socket_path);
    rmdir(dir);
}

int main(void)
{
    hv_log_set_level(HV_LOG_ERROR); /* what is refused here is many lines */
    test_names();
    test_slow_server();
    test_pair();
    test_listener();
    return tap_done();
}
