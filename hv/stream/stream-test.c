/* Streams: a domain with a bit of everything goes into a file and through a socket, and what comes out has the same state;
 * what is damaged, cut short or foreign does not come out at all.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/control/control.h"
#include "hv/machine/dirty.h"
#include "hv/stream/handover.h"
#include "hv/machine/missing.h"
#include "hv/stream/sample.h"

static struct hv_control control = {.pagemap_fd = -1, .userfault_fd = -1}; /* what a domain that is received tells of itself */

/* ------------------------------------------------------------------ running the loop */

static struct hv_loop_source *poll_timer;
static struct hv_domain *waited_for;

static void look(void *opaque)
{
    struct domus_stream_status status;

    (void)opaque;
    hv_stream_get_status(waited_for, &status);
    if (status.phase == DOMUS_STREAM_DONE || status.phase == DOMUS_STREAM_FAILED)
        hv_loop_quit(loop);
    else
        hv_loop_arm(poll_timer, hv_loop_now() + 1000000);
}

static struct domus_stream_status wait_for_end(struct hv_domain *d)
{
    struct domus_stream_status status;

    waited_for = d;
    hv_loop_arm(poll_timer, 1);
    hv_loop_run(loop);
    hv_stream_get_status(d, &status);
    return status;
}

static struct hv_loop_source *moment_timer;

static void moment_over(void *opaque)
{
    (void)opaque;
    hv_loop_quit(loop);
}

static void wait_a_moment(void)
{
    hv_loop_arm(moment_timer, hv_loop_now() + 1000000);
    hv_loop_run(loop);
}

/* ------------------------------------------------------------------ comparing */

/* State without time, which goes on. */
static struct hv_encoder state_of(struct hv_domain *d)
{
    struct hv_encoder e = {0};
    size_t at = 0;

    if (hv_stream_encode_state(d, NULL, &e))
        return e;
    while (at < e.used) {
        struct hv_stream_record record;

        memcpy(&record, e.data + at, sizeof(record));
        if (record.type == HV_RECORD_TIME) {
            memset(e.data + at + offsetof(struct hv_stream_record, crc), 0, sizeof(record.crc));
            memset(e.data + at + sizeof(record), 0, record.bytes);
        }
        at += sizeof(record) + record.bytes;
    }
    return e;
}

static bool same_state(struct hv_domain *a, struct hv_domain *b)
{
    struct hv_encoder x = state_of(a), y = state_of(b);
    bool same = x.used && x.used == y.used && !memcmp(x.data, y.data, x.used);

    for (size_t i = 0; !same && i < x.used && i < y.used; i++)
        if (x.data[i] != y.data[i]) {
            for (size_t at = 0; at < i;) {
                struct hv_stream_record record;

                memcpy(&record, x.data + at, sizeof(record));
                if (i < at + sizeof(record) + record.bytes)
                    printf("# first difference in record %u, %u: byte %zu\n", record.type, record.instance, i - at);
                at += sizeof(record) + record.bytes;
            }
            break;
        }
    hv_encoder_fini(&x);
    hv_encoder_fini(&y);
    return same;
}

static bool same_memory(struct hv_domain *a, struct hv_domain *b)
{
    for (uint64_t gfn = 0; gfn < TEST_PAGES; gfn++) {
        if (hv_memory_type(&a->mem, hv_gfn_of(gfn)) != hv_memory_type(&b->mem, hv_gfn_of(gfn)))
            return false;
        if (hv_memory_type(&a->mem, hv_gfn_of(gfn)) != HV_PAGE_HOLE &&
            memcmp(test_at(a, gfn << 12), test_at(b, gfn << 12), 4096))
            return false;
    }
    return a->mem.ram_pages == b->mem.ram_pages;
}

/* ------------------------------------------------------------------ files */

#define FILE_BASE 8192 /* what the toolstack has before it */

static int new_file(void)
{
    int fd = memfd_create("saved", MFD_CLOEXEC);

    if (fd >= 0 && (ftruncate(fd, FILE_BASE) || lseek(fd, FILE_BASE, SEEK_SET) != FILE_BASE))
        return -1;
    return fd;
}

static int save(struct hv_domain *d)
{
    int fd = new_file();
    struct domus_stream_status status;

    if (hv_stream_save(d, dup(fd)))
        return -1;
    status = wait_for_end(d);
    TAP_OK(status.phase == DOMUS_STREAM_DONE && status.pages >= 0x300 && status.zero_pages > 100 && d->frozen,
           "a domain is saved, %llu pages and %llu of zeroes, and stays frozen", (unsigned long long)status.pages,
           (unsigned long long)status.zero_pages);
    return fd;
}

static int restore(int fd, unsigned flags, struct hv_domain **out, char error[HV_STREAM_ERROR_BYTES])
{
    struct hv_domain *d = empty_domain();
    int rc;

    lseek(fd, FILE_BASE, SEEK_SET);
    rc = hv_stream_restore(d, fd, flags, error);
    if (out && !rc)
        *out = d;
    else
        hv_domain_free(d);
    return rc;
}

static void test_files(struct hv_domain *d, int fd)
{
    char error[HV_STREAM_ERROR_BYTES];

    for (unsigned flags = 0; flags <= DOMUS_RESTORE_COPY; flags++) {
        struct hv_domain *back = NULL;
        int rc = restore(fd, flags, &back, error);

        TAP_OK(!rc, "it comes back%s: %s", flags ? " as a copy" : " mapped", error);
        if (rc)
            continue;
        TAP_OK(same_memory(d, back), "with its memory");
        TAP_OK(same_state(d, back), "and its state");
        TAP_OK(flags || back->mem.over_file, "without reading it");
        TAP_OK(!hv_physmap_release(back, hv_gfn_of(0x200), 1) && !hv_physmap_populate(back, hv_gfn_of(0x200), 1) && hv_stream_page_is_zero(test_at(back, 0x200000)),
               "memory that was given back comes back empty");
        hv_domain_free(back);
    }
}

static bool comes_back(struct hv_domain *d, int fd)
{
    char error[HV_STREAM_ERROR_BYTES];
    struct hv_domain *back = NULL;
    bool same = !restore(fd, 0, &back, error) && same_memory(d, back) && same_state(d, back);

    if (error[0])
        printf("# %s\n", error);
    if (back)
        hv_domain_free(back);
    return same;
}

/* A page that is in the log when the first pass begins is one that vCPUs store to without a word until they are flushed. */
static void test_live_begins(struct hv_domain *d)
{
    int fd = new_file();
    hv_gfn gfn = hv_gfn_of(0x300);

    TAP_OK(!hv_stream_save_live(d, fd), "saving a domain that runs is asked for");
    hv_memory_mark_dirty(&d->mem, gfn);
    d->stream->ops->step(d->stream);
    TAP_OK(d->stream->status.passes == 1 && hv_memory_may_store(&d->mem, gfn),
           "it has begun, and what was written to before is still in the log");
    TAP_OK(!hv_stream_end(d), "and is ended");
}

/* Some of it is written already, at places that move: a page below goes, and comes again; others become zero, and
 * something else. */
static void test_live(struct hv_domain *d)
{
    struct domus_stream_status status;

    for (unsigned round = 0; round < 4; round++) {
        int fd = new_file();

        TAP_OK(!hv_stream_save_live(d, dup(fd)), "saving it while it runs begins");
        for (unsigned i = 0; i < 3; i++)
            d->stream->ops->step(d->stream);
        if (round == 1)
            TAP_OK(!hv_physmap_release(d, hv_gfn_of(0x200), 1), "it gives a page back meanwhile");
        if (round == 2)
            TAP_OK(!hv_physmap_populate(d, hv_gfn_of(0x200), 1), "it gets one meanwhile");
        if (round == 3) {
            memset(hv_memory_at(&d->mem, hv_gpa_of(0x201000), 4096, true), 0, 4096);
            memset(hv_memory_at(&d->mem, hv_gpa_of(0x202000), 4096, true), 0x5a, 4096);
        }
        status = wait_for_end(d);
        TAP_OK(status.phase == DOMUS_STREAM_DONE && status.passes > 1 && d->frozen, "it is done, and frozen: %s",
               status.text);
        TAP_OK(comes_back(d, fd), "what comes back is what it was at the end");
        TAP_OK(hv_stream_end(d) == 0 && !d->frozen, "it goes on");
        close(fd);
    }
}

/* The domain runs on, and it can be tried again. */
static void test_live_ended(struct hv_domain *d)
{
    int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct domus_stream_status status;

    TAP_OK(!hv_stream_save_live(d, new_file()), "saving it while it runs begins");
    d->stream->ops->step(d->stream);
    TAP_OK(!hv_stream_end(d) && !d->frozen && !d->mem.dirty, "and is ended in the middle");
    (void)!fcntl(fd, F_ADD_SEALS, F_SEAL_GROW);
    TAP_OK(!hv_stream_save_live(d, fd), "to a full disk, too");
    status = wait_for_end(d);
    TAP_OK(status.phase == DOMUS_STREAM_FAILED && status.error == EPERM && strstr(status.text, "cannot write") && !d->frozen,
           "fails, and the domain goes on: %s", status.text);
}

static bool refused(int fd, const char *why)
{
    char error[HV_STREAM_ERROR_BYTES];
    int rc = restore(fd, 0, NULL, error);

    if (rc && strstr(error, why))
        return true;
    printf("# %d: '%s', expected '%s'\n", rc, error, why);
    return false;
}

static void flip(int fd, off_t at)
{
    uint8_t byte = 0;

    if (pread(fd, &byte, 1, at) == 1) {
        byte ^= 0x10;
        (void)!pwrite(fd, &byte, 1, at);
    }
}

static void test_damage(int fd)
{
    struct hv_stream_header header;
    off_t size = lseek(fd, 0, SEEK_END), state;
    unsigned bad = 0, tried = 0;

    (void)!pread(fd, &header, sizeof(header), FILE_BASE);
    state = FILE_BASE + (off_t)header.state_offset;
    flip(fd, FILE_BASE);
    TAP_OK(refused(fd, "not a saved domain"), "a foreign file");
    flip(fd, FILE_BASE);
    flip(fd, FILE_BASE + 8);
    TAP_OK(refused(fd, "version"), "another version");
    flip(fd, FILE_BASE + 8);
    flip(fd, FILE_BASE + 32);
    TAP_OK(refused(fd, "header is damaged"), "a damaged header");
    flip(fd, FILE_BASE + 32);
    flip(fd, FILE_BASE + 4096 + 0x150 * 4096 + 17);
    TAP_OK(refused(fd, "page 0x150 is damaged"), "a damaged page");
    flip(fd, FILE_BASE + 4096 + 0x150 * 4096 + 17);
    for (off_t at = state; at < state + (off_t)header.state_bytes; at += 97, tried++) {
        char error[HV_STREAM_ERROR_BYTES];

        flip(fd, at);
        bad += restore(fd, 0, NULL, error) == 0;
        flip(fd, at);
    }
    TAP_OK(!bad && tried > 50, "any byte of the state that is damaged (%u)", tried);
    TAP_OK(!ftruncate(fd, size - 4096) && refused(fd, "cut short"), "a file that is cut short");
    TAP_OK(!ftruncate(fd, FILE_BASE + 4096) && refused(fd, "cut short"), "a file without memory");
    TAP_OK(!ftruncate(fd, FILE_BASE) && refused(fd, "shorter"), "a file without a header");
    TAP_OK(!ftruncate(fd, FILE_BASE + 8192) && refused(fd, "not written to its end"), "a file that was not finished");
}

/* A full disk is not at hand, but a file that may not grow is. */
static void test_full(struct hv_domain *d)
{
    int fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct domus_stream_status status;

    (void)!fcntl(fd, F_ADD_SEALS, F_SEAL_GROW);
    TAP_OK(!hv_stream_save(d, fd), "saving to it begins");
    status = wait_for_end(d);
    TAP_OK(status.phase == DOMUS_STREAM_FAILED && status.error == EPERM && strstr(status.text, "cannot write") && !d->frozen,
           "fails, and the domain goes on: %s", status.text);
}

/* ------------------------------------------------------------------ channels */

static struct hv_domain *receiver(int fd)
{
    struct hv_domain *d = empty_domain();

    d->control = &control;
    return hv_stream_receive(d, fd) ? NULL : d;
}

static void drop_receiver(struct hv_domain *d)
{
    d->control = NULL;
    hv_domain_free(d);
}

/* Lets the loop run until the domain's owner is that. */
static bool owner_becomes(struct hv_domain *d, enum domus_stream_owner owner)
{
    struct domus_stream_status status = {0};

    for (unsigned tries = 0; tries < 10000 && (!tries || status.owner != owner); tries++) {
        wait_a_moment();
        hv_stream_get_status(d, &status);
    }
    return status.owner == owner;
}

static void test_handover(struct hv_domain *d, struct hv_domain *back)
{
    TAP_OK(hv_stream_claim(d) == -ENOENT, "what was sent cannot be asked for");
    TAP_OK(hv_stream_start(back) == -EACCES && hv_stream_end(back) == -EBUSY && back->frozen,
           "what was received does not run before it is given up");
    TAP_OK(hv_stream_claim(back) == 0 && owner_becomes(back, DOMUS_OWNER_RECEIVER), "which it is when it is asked for");
    TAP_OK(hv_stream_claim(back) == 0 && hv_stream_start(back) == 0 && !back->frozen, "then it goes on");
    TAP_OK(owner_becomes(d, DOMUS_OWNER_RECEIVER), "the sender is told");
    TAP_OK(hv_stream_end(d) == -EBUSY && hv_stream_keep(d, true) == -EPERM && d->frozen, "and cannot run it any more");
}

static void test_packed(struct hv_domain *d)
{
    const struct domus_stream_limits limits = {.flags = DOMUS_STREAM_COMPRESS};
    struct domus_stream_status status;
    struct hv_domain *back;
    int fds[2];

    (void)!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    back = receiver(fds[1]);
    TAP_OK(back && !hv_stream_send(d, fds[0], &limits), "a domain is sent packed");
    status = wait_for_end(d);
    TAP_OK(status.phase == DOMUS_STREAM_DONE && status.transferred_bytes < status.pages * HV_PAGE_SIZE / 2,
           "which is less, %llu bytes: %s", (unsigned long long)status.transferred_bytes, status.text);
    TAP_OK(same_memory(d, back) && same_state(d, back), "memory and state are the same");
    drop_receiver(back);
    TAP_OK(hv_stream_end(d) == 0 && !d->frozen, "it goes on when the other side is gone");
}

static void test_channel(struct hv_domain *d)
{
    const struct domus_stream_limits limits = {.flags = 0};
    struct domus_stream_status status;
    struct hv_domain *back;
    int fds[2];

    TAP_OK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), "a socket");
    back = receiver(fds[1]);
    TAP_OK(back && !hv_stream_send(d, fds[0], &limits), "a domain is sent");
    TAP_OK(d->mem.dirty != NULL, "while its writes are logged");
    status = wait_for_end(d);
    TAP_OK(status.phase == DOMUS_STREAM_DONE && status.passes >= 2 && d->frozen, "the other side has it: %s", status.text);
    hv_stream_get_status(back, &status);
    TAP_OK(status.phase == DOMUS_STREAM_DONE, "and says so itself");
    TAP_OK(same_memory(d, back) && same_state(d, back), "memory and state are the same");
    test_handover(d, back);
    drop_receiver(back);
}

/* The receiver, when all was sent; *@end (may be NULL) is a descriptor of its end of the socket. */
static struct hv_domain *sent(struct hv_domain *d, int *end)
{
    const struct domus_stream_limits limits = {.flags = 0};
    struct hv_domain *back;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return NULL;
    if (end)
        *end = dup(fds[1]);
    back = receiver(fds[1]);
    if (!back || hv_stream_send(d, fds[0], &limits) || wait_for_end(d).phase != DOMUS_STREAM_DONE)
        return NULL;
    return back;
}

/* The same for a phase. */
static bool phase_becomes(struct hv_domain *d, enum domus_stream_phase phase)
{
    struct domus_stream_status status = {0};

    for (unsigned tries = 0; tries < 20000; tries++) {
        hv_stream_get_status(d, &status);
        if (status.phase == phase || status.phase == DOMUS_STREAM_FAILED)
            break;
        wait_a_moment();
    }
    if (status.phase != phase)
        TAP_OK(false, "phase %u: %s", status.phase, status.text);
    return status.phase == phase;
}

static void test_kept(struct hv_domain *d)
{
    struct hv_domain *back = sent(d, NULL);

    TAP_OK(back && hv_stream_keep(d, false) == 0, "a domain that was sent can be kept");
    TAP_OK(hv_stream_claim(back) == -EPIPE || owner_becomes(back, DOMUS_OWNER_SENDER), "then the other side does not get it");
    TAP_OK(hv_stream_start(back) == -EACCES && back->frozen, "and cannot run it");
    TAP_OK(hv_stream_end(d) == 0 && !d->frozen, "but this one can");
    drop_receiver(back);
    back = sent(d, NULL);
    TAP_OK(back != NULL, "and be sent again");
    drop_receiver(back);
    TAP_OK(hv_stream_end(d) == 0 && !d->frozen, "it goes on when the other side is gone");
}

/* The receiver asks, and is gone before it hears the answer. */
static void test_doubt(struct hv_domain *d)
{
    int end = -1;
    struct hv_domain *back = sent(d, &end);

    TAP_OK(back && hv_stream_claim(back) == 0, "it is asked for");
    drop_receiver(back);
    TAP_OK(owner_becomes(d, DOMUS_OWNER_GIVEN), "what is given up stays so without an answer");
    close(end);
    TAP_OK(hv_stream_end(d) == -EBUSY && hv_stream_keep(d, false) == -EBUSY && d->frozen, "it does not go on by itself");
    TAP_OK(hv_stream_keep(d, true) == 0 && hv_stream_end(d) == 0 && !d->frozen, "but when it is recalled");
}

/* What was switched in the middle of its first pass, as slowly as it goes on after that. NULL: it does not work here. */
static struct hv_domain *switched(struct hv_domain *d, uint64_t then_bytes_per_second)
{
    const struct domus_stream_limits limits = {.flags = DOMUS_STREAM_SWITCHABLE, .bytes_per_second = 1 << 20,
                                               .postcopy_bytes_per_second = then_bytes_per_second};
    struct hv_domain *back;
    int fds[2];

    control.userfault_fd = hv_userfault_open();
    if (control.userfault_fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return NULL;
    back = receiver(fds[1]);
    TAP_OK(back && !hv_stream_send(d, fds[0], &limits) && !hv_stream_switch(d), "a domain is sent slowly, and switched");
    TAP_OK(phase_becomes(d, DOMUS_STREAM_POSTCOPY) && phase_becomes(back, DOMUS_STREAM_POSTCOPY), "the other side has its state");
    return back;
}

static void test_switched(struct hv_domain *d)
{
    struct hv_domain *back = switched(d, 4 << 20);
    struct domus_stream_status status;

    TAP_OK(back && hv_missing_count(back->mem.missing) > 100, "and not yet its memory");
    TAP_OK(d->frozen && hv_stream_switch(d) == -ENOENT && hv_stream_start(back) == -EACCES, "it runs at neither side");
    TAP_OK(hv_stream_claim(back) == 0 && owner_becomes(back, DOMUS_OWNER_RECEIVER) && owner_becomes(d, DOMUS_OWNER_RECEIVER),
           "until it is asked for");
    TAP_OK(hv_stream_start(back) == 0 && !back->frozen, "then it can go on");
    TAP_OK(hv_stream_end(d) == -EBUSY && hv_stream_keep(d, true) == -EPERM && d->frozen, "but not here");
    TAP_OK(hv_stream_check(back) == -EBUSY && hv_stream_end(back) == -EBUSY, "and is not sent elsewhere yet");
    /* A page that is given back does not come any more; here none is touched, as both sides are one thread. */
    TAP_OK(hv_physmap_release(back, hv_gfn_of(0x300), 1) == 0 && hv_physmap_populate(back, hv_gfn_of(0x300), 1) == 0,
           "a page that is missing is given back, and another one taken");
    hv_stream_get_status(back, &status);
    TAP_OK(status.remaining_bytes > 0, "while memory comes");
    TAP_OK(phase_becomes(d, DOMUS_STREAM_DONE) && phase_becomes(back, DOMUS_STREAM_DONE), "all of it");
    TAP_OK(hv_stream_page_is_zero(test_at(back, 0x300000)), "the new page is empty");
    memcpy(test_at(back, 0x300000), test_at(d, 0x300000), HV_PAGE_SIZE);
    TAP_OK(same_memory(d, back), "memory is the same");
    TAP_OK(hv_stream_check(back) == 0, "then it can go elsewhere");
    drop_receiver(back);
}

static void test_switched_broken(struct hv_domain *d)
{
    struct hv_domain *back = switched(d, 1);

    TAP_OK(back && d->frozen, "and then very slowly");
    drop_receiver(back);
    TAP_OK(phase_becomes(d, DOMUS_STREAM_FAILED) && d->frozen, "the other side is gone: it waits for who decides");
    TAP_OK(hv_stream_keep(d, false) == 0 && hv_stream_end(d) == 0 && !d->frozen, "and goes on, as it was not given up");
    back = switched(d, 1);
    TAP_OK(back && hv_stream_claim(back) == 0 && owner_becomes(back, DOMUS_OWNER_RECEIVER) && owner_becomes(d, DOMUS_OWNER_RECEIVER),
           "again, and given up");
    hv_stream_free(d);
    TAP_OK(phase_becomes(back, DOMUS_STREAM_FAILED), "it is lost when its sender is gone");
    TAP_OK(hv_stream_start(back) == -EIO && back->frozen && hv_stream_check(back) == -EBUSY, "and does not run");
    drop_receiver(back);
    control.userfault_fd = -1;
}

/* Whoever is not root may have none. */
static bool has_userfault(void)
{
    int fd = hv_userfault_open();

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A receiver that cannot wait for pages says so in time. */
static void test_switch_refused(struct hv_domain *d)
{
    const struct domus_stream_limits limits = {.flags = DOMUS_STREAM_SWITCHABLE, .bytes_per_second = 1 << 20}, plain = {.flags = 0};
    struct domus_stream_status status;
    struct hv_domain *back;
    int fds[2];

    (void)!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    control.userfault_fd = -1;
    back = receiver(fds[1]);
    TAP_OK(!hv_stream_send(d, fds[0], &limits) && !hv_stream_switch(d), "a switch to who has no userfaultfd");
    status = wait_for_end(d);
    TAP_OK(status.phase == DOMUS_STREAM_FAILED && !d->frozen, "fails, and the domain goes on: %s", status.text);
    drop_receiver(back);
    (void)!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    TAP_OK(!hv_stream_send(d, fds[0], &plain) && hv_stream_switch(d) == -EINVAL, "what was not to be switched is not");
    TAP_OK(hv_stream_end(d) == 0 && !d->frozen, "and goes on");
    close(fds[1]);
}

static void test_broken_channel(struct hv_domain *d)
{
    const struct domus_stream_limits limits = {.bytes_per_second = 1 << 20};
    struct domus_stream_status status;
    int fds[2];

    (void)!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    TAP_OK(!hv_stream_send(d, fds[0], &limits), "a slow channel");
    close(fds[1]);
    status = wait_for_end(d);
    TAP_OK(status.phase == DOMUS_STREAM_FAILED && !d->frozen && !d->mem.dirty, "that breaks: the domain goes on: %s",
           status.text);
}

static void test_foreign_channel(void)
{
    static const char request[] = "GET / HTTP/1.0\r\nHost: somewhere.else.example.org\r\nAccept: everything\r\n\r\n";
    struct domus_stream_status status;
    struct hv_stream_reply reply = {.error = 0};
    struct hv_domain *back;
    int fds[2];

    (void)!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
    back = receiver(fds[1]);
    (void)!send(fds[0], request, sizeof(request), MSG_NOSIGNAL);
    status = wait_for_end(back);
    TAP_OK(status.phase == DOMUS_STREAM_FAILED && strstr(status.text, "not a saved domain"), "a foreign peer: %s", status.text);
    TAP_OK(recv(fds[0], &reply, sizeof(reply), 0) == sizeof(reply) && reply.error, "which is told");
    close(fds[0]);
    drop_receiver(back);
}

/* ------------------------------------------------------------------ the log of writes */

static void test_log(struct hv_domain *d)
{
    struct hv_memory *mem = &d->mem;
    uint64_t word = 0x300 / 64;

    TAP_OK(hv_memory_may_store(mem, hv_gfn_of(0x300)), "without a log stores need no mark");
    TAP_OK(!hv_memory_log_start(mem) && hv_memory_log_start(mem) == -EBUSY, "there is one log");
    TAP_OK(!hv_memory_may_store(mem, hv_gfn_of(0x300)), "with it they do");
    TAP_OK(!hv_memory_write(mem, hv_gpa_of(0x300ff8), "0123456789abcdef", 16) && hv_memory_log_take(mem, word) == 3,
           "a write of the hypervisor marks both pages");
    TAP_OK(hv_memory_log_take(mem, word) == 0, "a mark is taken once");
    hv_memory_mark_dirty(mem, hv_gfn_of(0x303));
    TAP_OK(hv_memory_may_store(mem, hv_gfn_of(0x303)), "a marked page can be stored to");
    hv_memory_mark_dirty(mem, hv_gfn_of(~0ull));
    hv_memory_log_stop(mem);
    TAP_OK(hv_memory_log_take(mem, word) == 0 && hv_memory_may_store(mem, hv_gfn_of(0x300)), "until it ends");
}

static void test_crc(void)
{
    uint8_t bytes[5000];
    uint32_t in_parts = 0;

    /* RFC 3720, B.4: 32 bytes of zeroes, of ones, and 0 to 31 */
    memset(bytes, 0, 32);
    TAP_OK(hv_crc32c(0, bytes, 32) == 0x8a9136aa, "CRC-32C of zeroes");
    memset(bytes, 0xff, 32);
    TAP_OK(hv_crc32c(0, bytes, 32) == 0x62a8ab43, "of ones");
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    TAP_OK(hv_crc32c(0, bytes, 32) == 0x46dd794e, "of numbers");
    for (unsigned i = 0; i < sizeof(bytes); i += 8)
        in_parts = hv_crc32c(in_parts, bytes + i, 8);
    TAP_OK(hv_crc32c(0, bytes, sizeof(bytes)) == in_parts, "in three lanes as in one");
}

int main(void)
{
    struct hv_domain *d;
    int fd;

    test_crc();
    if (hv_loop_new(&loop))
        return 1;
    poll_timer = hv_loop_add_timer(loop, look, NULL);
    moment_timer = hv_loop_add_timer(loop, moment_over, NULL);
    d = make_domain();
    TAP_OK(d != NULL, "a domain");
    test_log(d);
    fd = save(d);
    test_files(d, fd);
    TAP_OK(hv_stream_save(d, fd) == -EBUSY, "what is frozen is not saved again");
    TAP_OK(hv_stream_end(d) == 0 && !d->frozen, "it goes on when it is told to");
    test_damage(fd);
    close(fd);
    test_full(d);
    test_live_begins(d);
    test_live(d);
    test_live_ended(d);
    test_packed(d);
    test_channel(d);
    hv_domain_free(d); /* it is another's */
    d = make_domain();
    test_kept(d);
    test_doubt(d);
    test_broken_channel(d);
    test_switch_refused(d);
    if (has_userfault()) {
        test_switched_broken(d);
        hv_domain_free(d);
        d = make_domain();
        test_switched(d);
    } else {
        printf("# no userfaultfd for us: what is switched is not tried\n");
    }
    test_foreign_channel();
    hv_loop_remove(poll_timer);
    hv_loop_remove(moment_timer);
    hv_domain_free(d);
    hv_loop_free(loop);
    return tap_done();
}
