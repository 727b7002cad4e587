/* The console backend: ring, backlog, back-pressure, terminals that hang up. Fact: xen/io/console.h. */
#include "config.h"

#include "hv/backend/console.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/test-domain.h"
#include "hv/log.h"
#include "hv/tap.h"

#define RING_GFN 0x80u

static struct hv_loop *loop;
static struct hv_domain *d;
static struct xencons_interface *ring;
static struct hv_loop_source *timer;
static uint32_t port;

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void stop(void *opaque)
{
    (void)opaque;
    hv_loop_quit(loop);
}

static void run_for(unsigned ms)
{
    hv_loop_arm(timer, (now_ms() + ms) * 1000000);
    hv_loop_run(loop);
}

static bool start(void)
{
    d = test_domain_new(loop, 1);
    ring = test_at(d, RING_GFN << 12);
    timer = hv_loop_add_timer(loop, stop, NULL);
    return !hv_evtchn_alloc_unbound(d, &port) && !hv_console_new(d, hv_gfn_of(RING_GFN), port);
}

static void end(void)
{
    hv_loop_remove(timer);
    hv_domain_free(d);
}

static void notify(void)
{
    struct evtchn_send s = {.port = port};

    test_op(d->vcpus[0], __HYPERVISOR_event_channel_op, EVTCHNOP_send, &s, sizeof(s));
}

static void guest_writes(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ring->out[MASK_XENCONS_IDX(ring->out_prod + i, ring->out)] = bytes[i];
    ring->out_prod += (uint32_t)count;
    notify();
    run_for(20);
}

static size_t read_all(int fd, char *out, size_t room)
{
    size_t used = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t got;

        run_for(5);
        if (used == room || poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))
            return used;
        got = read(fd, out + used, room - used);
        if (got <= 0)
            return used;
        used += (size_t)got;
    }
}

static void test_socket(void)
{
    char text[4096];
    int ends[2], log = memfd_create("log", 0);

    if (!TAP_OK(start() && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a console"))
        return;
    guest_writes("before ", 7);
    TAP_OK(hv_console_attach(d, ends[0], dup(log)) == 0, "a terminal comes late");
    guest_writes("after", 5);
    TAP_OK(read_all(ends[1], text, sizeof(text)) == 12 && memcmp(text, "before after", 12) == 0,
           "and reads what came before");
    TAP_OK(ring->out_cons == ring->out_prod, "the ring is empty");
    TAP_OK(pread(log, text, sizeof(text), 0) == 5 && memcmp(text, "after", 5) == 0, "the log has its part");
    hv_console_write(d, "emergency", 9);
    TAP_OK(read_all(ends[1], text, sizeof(text)) == 9, "the emergency console comes out as well");
    TAP_OK(write(ends[1], "input", 5) == 5, "somebody types");
    run_for(20);
    TAP_OK(ring->in_prod == 5 && memcmp(ring->in, "input", 5) == 0 &&
               d->shared_info->evtchn_pending[0] & 1ul << port,
           "and the guest is told");
    close(ends[1]);
    guest_writes("lost", 4);
    TAP_OK(ring->out_cons == ring->out_prod, "a terminal that is gone stops nobody");
    close(log);
    end();
}

/* The output of a guest goes to one file after the other; the meter tells when it is time. */
static void test_logs(void)
{
    int first = memfd_create("first", 0), second = memfd_create("second", 0);
    struct hv_log_meter meter;
    char text[64];

    if (!TAP_OK(start() && first >= 0 && second >= 0, "a console with a log"))
        return;
    hv_console_set_log(d->console, dup(first), 8);
    guest_writes("one", 3);
    run_for(5);
    hv_console_write(d, "last", 4); /* another thread's, which is still on its way */
    hv_console_set_log(d->console, dup(second), 8);
    guest_writes("two", 3);
    run_for(5);
    TAP_OK(pread(first, text, sizeof(text), 0) == 7 && !memcmp(text, "onelast", 7), "what came before is in the first log");
    TAP_OK(pread(second, text, sizeof(text), 0) == 3 && !memcmp(text, "two", 3), "what comes then in the second");
    hv_log_meter_start(&meter, second, 8); /* has 3 */
    TAP_OK(!hv_log_meter_add(&meter, 4) && hv_log_meter_add(&meter, 1) && !hv_log_meter_add(&meter, 7) &&
               hv_log_meter_add(&meter, 1) && !hv_log_meter_add(&meter, 15) && hv_log_meter_add(&meter, 1000) &&
               !hv_log_meter_add(&meter, 900),
           "it tells when the limit is reached, and at each doubling");
    hv_log_meter_start(&meter, -1, 0);
    TAP_OK(!hv_log_meter_add(&meter, SIZE_MAX), "and without a limit none");
    close(first);
    close(second);
    end();
}

static void test_backlog(void)
{
    static char all[100000], got[100000];
    int ends[2];
    size_t count;

    if (!TAP_OK(start() && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a console nobody reads"))
        return;
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (char)(i * 7919 >> 5);
    for (size_t i = 0; i < sizeof(all); i += 2000) {
        for (size_t j = 0; j < 2000; j++)
            ring->out[MASK_XENCONS_IDX(ring->out_prod + j, ring->out)] = all[i + j];
        ring->out_prod += 2000;
        notify();
        run_for(2);
    }
    TAP_OK(ring->out_cons == ring->out_prod, "the guest is never stopped");
    TAP_OK(hv_console_attach(d, ends[0], -1) == 0, "then somebody reads");
    count = read_all(ends[1], got, sizeof(got));
    TAP_OK(count == HV_CONSOLE_BACKLOG_BYTES &&
               memcmp(got, all + sizeof(all) - count, HV_CONSOLE_BACKLOG_BYTES) == 0,
           "the last 64 KiB");
    close(ends[1]);
    end();
}

static void test_back_pressure(void)
{
    static char bytes[5000];
    int ends[2];
    uint64_t used;
    clock_t before;

    if (!TAP_OK(start() && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a guest that does not read"))
        return;
    memset(bytes, 'x', sizeof(bytes));
    TAP_OK(hv_console_attach(d, ends[0], -1) == 0 && write(ends[1], bytes, sizeof(bytes)) == 5000, "gets much");
    run_for(20);
    TAP_OK(ring->in_prod == sizeof(ring->in), "as much as fits");
    before = clock();
    run_for(200);
    used = (uint64_t)(clock() - before) * 1000 / CLOCKS_PER_SEC;
    TAP_OK(used < 100, "waiting for it costs nothing (%llu ms)", (unsigned long long)used);
    ring->in_cons += 100;
    notify();
    run_for(20);
    TAP_OK(ring->in_prod == sizeof(ring->in) + 100, "the rest comes when there is room");
    close(ends[1]);
    end();
}

static void test_hostile(void)
{
    int ends[2];
    char text[64];

    if (!TAP_OK(start() && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a guest that plays with indexes"))
        return;
    (void)!hv_console_attach(d, ends[0], -1);
    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t noise = i * 2654435761u;

        ring->out_prod = noise;
        ring->out_cons = noise - 2049 - (i << 20);
        ring->in_prod = ~noise;
        ring->in_cons = noise << 3;
        notify();
        if (i % 500 == 0)
            run_for(2);
    }
    run_for(10);
    TAP_OK(recv(ends[1], text, sizeof(text), MSG_DONTWAIT) <= 0, "harms nobody, and gets nothing out");
    memset(ring, 0, sizeof(*ring));
    guest_writes("sane", 4);
    TAP_OK(read_all(ends[1], text, sizeof(text)) == 4, "and can come to its senses");
    close(ends[1]);
    end();
}

static void test_pty(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
    char name[64], text[64];
    clock_t before;
    uint64_t used;

    if (!TAP_OK(start() && master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0 &&
                    ptsname_r(master, name, sizeof(name)) == 0,
                "a pty"))
        return;
    TAP_OK(hv_console_attach(d, dup(master), -1) == 0, "is a terminal");
    slave = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
    guest_writes("one\n", 4);
    TAP_OK(read(slave, text, sizeof(text)) == 4, "its slave reads");
    run_for(20);
    TAP_OK(ring->in_prod == 0, "output does not come back as input");
    close(slave);
    guest_writes("two\n", 4);
    before = clock();
    run_for(300);
    used = (uint64_t)(clock() - before) * 1000 / CLOCKS_PER_SEC;
    TAP_OK(used < 100, "a slave that is closed costs nothing (%llu ms)", (unsigned long long)used);
    slave = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
    run_for(300);
    guest_writes("three\n", 6);
    TAP_OK(read(slave, text, sizeof(text)) >= 6, "one that comes back reads on");
    TAP_OK(write(slave, "key", 3) == 3, "and types");
    run_for(20);
    TAP_OK(ring->in_prod == 3, "to the guest");
    close(slave);
    close(master);
    end();
}

/* A listening socket gives one terminal after the other; what nobody read waits for the next. */
static void test_listen(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[64];
    int listener, peer;

    snprintf(address.sun_path, sizeof(address.sun_path), "%cconsole-test-%d", 0, (int)getpid());
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (!TAP_OK(start() && bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 4) == 0,
                "a console that listens"))
        return;
    TAP_OK(hv_console_attach(d, dup(listener), -1) == 0, "is attached");
    for (unsigned i = 0; i < 3; i++) {
        hv_console_write(d, "hello", 5);
        peer = socket(AF_UNIX, SOCK_STREAM, 0);
        TAP_OK(connect(peer, (struct sockaddr *)&address, sizeof(address)) == 0 &&
                   read_all(peer, text, sizeof(text)) == 5 && memcmp(text, "hello", 5) == 0,
               "peer %u reads what came before", i);
        close(peer);
        run_for(20);
    }
    close(listener);
    end();
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    if (hv_loop_new(&loop))
        return 1;
    test_socket();
    test_logs();
    test_backlog();
    test_back_pressure();
    test_hostile();
    test_pty();
    test_listen();
    hv_loop_free(loop);
    return tap_done();
}
