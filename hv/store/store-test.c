/* The store: what xenstore.txt says of nodes, permissions, transactions, watches, domains and quotas, and that the
 * journal brings all of it back. Source of the facts: Xen docs/misc/xenstore.txt and the defaults of xenstored.
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/store/domain-nodes.h"
#include "hv/store/journal.h"
#include "hv/store/talk.h"
#include "hv/tap.h"

/* A dialogue: who says what in which transaction, and what is answered. */
struct line {
    unsigned who;      /* index of the connection */
    uint32_t type;
    unsigned tx;       /* 0: none; else the slot that XS_TRANSACTION_START filled */
    const char *says;
    const char *answer; /* NULL: a transaction's number, kept in slot tx */
};

struct hosts {
    struct hv_xs xs;
    struct hv_xs_conn *conns[4]; /* of domains 0, 5, 6, 0 */
    uint32_t tx[8];
};

static void init_hosts(struct hosts *h)
{
    static const uint16_t domids[] = {0, 5, 6, 0};

    memset(h, 0, sizeof(*h));
    if (hv_xs_init(&h->xs) < 0)
        abort();
    for (size_t i = 0; i < HV_ARRAY_LEN(h->conns); i++)
        h->conns[i] = talk_connect(&h->xs, domids[i]);
}

static void run_dialogue(const char *name, const struct line *lines, size_t count)
{
    struct hosts h;
    bool ok = true;

    init_hosts(&h);
    for (size_t i = 0; i < count && ok; i++) {
        const struct line *l = &lines[i];
        bool start = l->type == XS_TRANSACTION_START && !l->answer;
        const char *got = talk(h.conns[l->who], l->type, start ? 0 : h.tx[l->tx], l->says);

        if (start) {
            h.tx[l->tx] = (uint32_t)strtoul(got, NULL, 10);
            ok = h.tx[l->tx] != 0;
        } else {
            ok = !strcmp(got, l->answer);
        }
        if (!ok)
            printf("# line %zu: type %u \"%s\": got \"%s\", not \"%s\"\n", i, l->type, l->says, got,
                   l->answer ? l->answer : "a number");
    }
    TAP_OK(ok, "%s", name);
    hv_xs_fini(&h.xs);
}

#define DIALOGUE(name, ...)                                                                                            \
    do {                                                                                                               \
        static const struct line lines[] = {__VA_ARGS__};                                                              \
        run_dialogue(name, lines, HV_ARRAY_LEN(lines));                                                                \
    } while (0)

static void test_nodes(void)
{
    DIALOGUE("write, read, overwrite", {0, XS_WRITE, 0, "/a/b|one", "OK"}, {0, XS_READ, 0, "/a/b", "one"},
             {0, XS_WRITE, 0, "/a/b|", "OK"}, {0, XS_READ, 0, "/a/b", ""}, {0, XS_READ, 0, "/a", ""});
    DIALOGUE("mkdir makes what is above and leaves what is there", {0, XS_MKDIR, 0, "/x/y/z", "OK"},
             {0, XS_WRITE, 0, "/x/y|v", "OK"}, {0, XS_MKDIR, 0, "/x/y", "OK"}, {0, XS_READ, 0, "/x/y", "v"},
             {0, XS_DIRECTORY, 0, "/x", "y"});
    DIALOGUE("rm takes all below; a second time it is no error; the root stays", {0, XS_WRITE, 0, "/a/b/c|1", "OK"},
             {0, XS_RM, 0, "/a/b", "OK"}, {0, XS_READ, 0, "/a/b/c", "ENOENT"}, {0, XS_RM, 0, "/a/b", "OK"},
             {0, XS_RM, 0, "/no/such", "ENOENT"}, {0, XS_RM, 0, "/", "EINVAL"}, {0, XS_DIRECTORY, 0, "/a", ""});
    DIALOGUE("paths that are none", {0, XS_READ, 0, "", "EINVAL"}, {0, XS_READ, 0, "/a//b", "EINVAL"},
             {0, XS_READ, 0, "/a/", "EINVAL"}, {0, XS_READ, 0, "/a b", "EINVAL"}, {0, XS_READ, 0, "@x", "EINVAL"},
             {0, XS_WRITE, 0, "/\xff|1", "EINVAL"}, {0, XS_READ, 0, "/", ""});
    DIALOGUE("relative paths are below the domain's home", {0, XS_WRITE, 0, "/local/domain/5/d|x", "OK"},
             {0, XS_SET_PERMS, 0, "/local/domain/5/d|n5", "OK"}, {1, XS_READ, 0, "d", "x"},
             {0, XS_WRITE, 0, "e|y", "OK"}, {0, XS_READ, 0, "/local/domain/0/e", "y"});
    DIALOGUE("unknown and malformed requests", {0, XS_TYPE_COUNT, 0, "", "ENOSYS"}, {0, XS_SET_TARGET + 1, 0, "", "ENOSYS"},
             {0, XS_WATCH_EVENT, 0, "a|b", "ENOSYS"}, {0, XS_ERROR, 0, "EINVAL", "ENOSYS"},
             {0, XS_WATCH, 0, "/a", "EINVAL"}, {0, XS_SET_PERMS, 0, "/", "EINVAL"},
             {0, XS_SET_PERMS, 0, "/|x5", "EINVAL"}, {0, XS_SET_PERMS, 0, "/|r99999", "EINVAL"},
             {0, XS_TRANSACTION_END, 0, "T", "ENOENT"}, {0, XS_TRANSACTION_END, 0, "X", "EINVAL"},
             {0, XS_CONTROL, 0, "nonsense", "EINVAL"}, {0, XS_INTRODUCE, 0, "0|1|1", "EINVAL"},
             {0, XS_INTRODUCE, 0, "5|1|0", "EINVAL"}, {0, XS_INTRODUCE, 0, "5|x|1", "EINVAL"});
}

static void test_permissions(void)
{
    DIALOGUE("a domain sees what it may see",
             {0, XS_WRITE, 0, "/local/domain/5|", "OK"}, {0, XS_SET_PERMS, 0, "/local/domain/5|n0|r5", "OK"},
             {1, XS_READ, 0, "/local/domain/5", ""}, {2, XS_READ, 0, "/local/domain/5", "EACCES"},
             {1, XS_WRITE, 0, "/local/domain/5|x", "EACCES"}, {1, XS_WRITE, 0, "mine|x", "EACCES"},
             {1, XS_READ, 0, "nothing", "ENOENT"}, {2, XS_READ, 0, "/local/domain/5/nothing", "EACCES"},
             {1, XS_DIRECTORY, 0, "/local", "EACCES"}, {1, XS_RM, 0, "/local/domain/5", "EACCES"});
    DIALOGUE("a domain owns what it makes, below where it may write",
             {0, XS_WRITE, 0, "/s|", "OK"}, {0, XS_SET_PERMS, 0, "/s|n0|b5|r6", "OK"},
             {1, XS_WRITE, 0, "/s/a/b|v", "OK"}, {1, XS_GET_PERMS, 0, "/s/a", "n5"}, {2, XS_READ, 0, "/s/a/b", "v"},
             {2, XS_WRITE, 0, "/s/a/b|w", "EACCES"}, {1, XS_SET_PERMS, 0, "/s/a/b|b5", "OK"},
             {2, XS_WRITE, 0, "/s/a/b|w", "OK"}, {2, XS_SET_PERMS, 0, "/s/a/b|b6", "EACCES"},
             {1, XS_SET_PERMS, 0, "/s/a/b|b6", "EPERM"}, {1, XS_RM, 0, "/s/a", "OK"});
    DIALOGUE("privileged operations", {1, XS_CONTROL, 0, "help", "EACCES"}, {1, XS_INTRODUCE, 0, "7|1|1", "EACCES"},
             {1, XS_RELEASE, 0, "6", "EACCES"}, {1, XS_RESUME, 0, "6", "EACCES"},
             {1, XS_SET_TARGET, 0, "5|6", "EACCES"}, {1, XS_IS_DOMAIN_INTRODUCED, 0, "0", "EACCES"},
             {1, XS_CONTROL, 0, "domain-connection|6", "EACCES"},
             {1, XS_GET_DOMAIN_PATH, 0, "6", "/local/domain/6"});
    DIALOGUE("a target's rights",
             {0, XS_INTRODUCE, 0, "5|1|1", "OK"}, {0, XS_SET_TARGET, 0, "5|6", "ENOENT"},
             {0, XS_INTRODUCE, 0, "6|1|1", "OK"}, {0, XS_SET_TARGET, 0, "5|0", "EINVAL"},
             {0, XS_WRITE, 0, "/t|v", "OK"}, {0, XS_SET_PERMS, 0, "/t|n6", "OK"}, {1, XS_READ, 0, "/t", "EACCES"},
             {0, XS_SET_TARGET, 0, "5|6", "OK"}, {1, XS_READ, 0, "/t", "v"}, {0, XS_RELEASE, 0, "6", "OK"},
             {0, XS_WRITE, 0, "/t|v", "OK"}, {0, XS_SET_PERMS, 0, "/t|n6", "OK"}, {1, XS_READ, 0, "/t", "EACCES"});
}

static void test_transactions(void)
{
    DIALOGUE("changes are seen inside, then outside", {0, XS_TRANSACTION_START, 1, "", NULL},
             {0, XS_WRITE, 1, "/a|1", "OK"}, {0, XS_READ, 1, "/a", "1"}, {3, XS_READ, 0, "/a", "ENOENT"},
             {0, XS_TRANSACTION_END, 1, "T", "OK"}, {3, XS_READ, 0, "/a", "1"},
             {0, XS_READ, 1, "/a", "ENOENT"});
    DIALOGUE("a transaction can be dropped", {0, XS_TRANSACTION_START, 1, "", NULL}, {0, XS_WRITE, 1, "/a|1", "OK"},
             {0, XS_TRANSACTION_END, 1, "F", "OK"}, {0, XS_READ, 0, "/a", "ENOENT"});
    DIALOGUE("a node that was read has changed: EAGAIN", {0, XS_WRITE, 0, "/a|1", "OK"},
             {0, XS_TRANSACTION_START, 1, "", NULL}, {0, XS_READ, 1, "/a", "1"}, {3, XS_WRITE, 0, "/a|2", "OK"},
             {0, XS_READ, 1, "/a", "1"}, {0, XS_WRITE, 1, "/b|1", "OK"}, {0, XS_TRANSACTION_END, 1, "T", "EAGAIN"},
             {0, XS_READ, 0, "/b", "ENOENT"});
    DIALOGUE("a node that was missing has come: EAGAIN", {0, XS_TRANSACTION_START, 1, "", NULL},
             {0, XS_READ, 1, "/a", "ENOENT"}, {3, XS_WRITE, 0, "/a|2", "OK"},
             {0, XS_TRANSACTION_END, 1, "T", "EAGAIN"});
    DIALOGUE("of two that make the same node, the second fails", {0, XS_TRANSACTION_START, 1, "", NULL},
             {3, XS_TRANSACTION_START, 2, "", NULL}, {0, XS_WRITE, 1, "/d/a|1", "OK"},
             {3, XS_WRITE, 2, "/d/b|1", "OK"}, {0, XS_TRANSACTION_END, 1, "T", "OK"},
             {3, XS_TRANSACTION_END, 2, "T", "EAGAIN"}, {0, XS_DIRECTORY, 0, "/d", "a"});
    DIALOGUE("changes elsewhere do not matter", {0, XS_MKDIR, 0, "/p", "OK"}, {0, XS_MKDIR, 0, "/q", "OK"},
             {0, XS_TRANSACTION_START, 1, "", NULL}, {0, XS_WRITE, 1, "/p/a|1", "OK"}, {3, XS_WRITE, 0, "/q/b|1", "OK"},
             {0, XS_TRANSACTION_END, 1, "T", "OK"}, {0, XS_READ, 0, "/p/a", "1"}, {0, XS_READ, 0, "/q/b", "1"});
    DIALOGUE("remove and make again inside", {0, XS_WRITE, 0, "/a/b/c|1", "OK"},
             {0, XS_TRANSACTION_START, 1, "", NULL}, {0, XS_RM, 1, "/a/b", "OK"}, {0, XS_WRITE, 1, "/a/b|2", "OK"},
             {0, XS_DIRECTORY, 1, "/a/b", ""}, {0, XS_TRANSACTION_END, 1, "T", "OK"},
             {0, XS_READ, 0, "/a/b/c", "ENOENT"}, {0, XS_READ, 0, "/a/b", "2"}, {0, XS_DIRECTORY, 0, "/a", "b"});
    DIALOGUE("a transaction is its connection's", {0, XS_TRANSACTION_START, 1, "", NULL},
             {3, XS_WRITE, 1, "/a|1", "ENOENT"}, {3, XS_TRANSACTION_END, 1, "T", "ENOENT"},
             {0, XS_TRANSACTION_START, 1, "", "EBUSY"}, {0, XS_RESET_WATCHES, 0, "", "OK"},
             {0, XS_TRANSACTION_END, 1, "T", "ENOENT"});
}

static void test_watches(void)
{
    struct hosts h;
    struct hv_xs_conn *c, *other;

    init_hosts(&h);
    c = h.conns[0];
    other = h.conns[3];
    TAP_OK(!strcmp(talk(c, XS_WATCH, 0, "/w|tok"), "OK") && !strcmp(talk_events(c), "/w=tok"),
           "a watch fires when it is set, after its answer");
    TAP_OK(!strcmp(talk(c, XS_WATCH, 0, "/w|tok"), "EEXIST") && !strcmp(talk(c, XS_WATCH, 0, "/w|other"), "OK"),
           "one watch per path and token");
    TAP_OK(!strcmp(talk(c, XS_UNWATCH, 0, "/w|other"), "OK") && !strcmp(talk(c, XS_UNWATCH, 0, "/w|other"), "ENOENT"),
           "unwatch");
    talk_events(c);
    talk(other, XS_WRITE, 0, "/w/a/b|1");
    talk(other, XS_WRITE, 0, "/wx|1");
    TAP_OK(!strcmp(talk_events(c), "/w/a/b=tok"), "it fires for what is below, not for what begins alike");
    talk(c, XS_WATCH, 0, "/w/a/b|deep");
    talk_events(c);
    talk(other, XS_RM, 0, "/w/a");
    TAP_OK(!strcmp(talk_events(c), "/w/a=tok /w/a/b=deep"), "removal fires on what went with it, once above");
    talk(other, XS_SET_PERMS, 0, "/w|n0|r5");
    TAP_OK(!strcmp(talk_events(c), "/w=tok"), "a change of permissions fires");
    talk(other, XS_TRANSACTION_START, 0, "");
    talk(c, XS_WATCH, 0, "rel|r");
    TAP_OK(!strcmp(talk_events(c), "rel=r"), "relative watch");
    talk(other, XS_WRITE, 0, "/local/domain/0/rel/x|1");
    TAP_OK(!strcmp(talk_events(c), "rel/x=r"), "its events are relative too");
    for (unsigned i = 0; i < 5; i++)
        talk(other, XS_WRITE, 0, "/w|1");
    TAP_OK(strlen(talk_events(c)) <= strlen("/w=tok /w=tok"), "equal events that wait are one");
    TAP_OK(!strcmp(talk(c, XS_RESET_WATCHES, 0, ""), "OK"), "reset watches");
    talk(other, XS_WRITE, 0, "/w|1");
    TAP_OK(!strcmp(talk_events(c), ""), "nothing fires any more");
    hv_xs_fini(&h.xs);
}

static void test_watch_transactions_and_rights(void)
{
    struct hosts h;
    char id[16];
    uint32_t tx;

    init_hosts(&h);
    talk(h.conns[0], XS_WATCH, 0, "/w|t");
    talk_events(h.conns[0]);
    snprintf(id, sizeof(id), "%s", talk(h.conns[3], XS_TRANSACTION_START, 0, ""));
    tx = (uint32_t)strtoul(id, NULL, 10);
    talk(h.conns[3], XS_WRITE, tx, "/w/a|1");
    talk(h.conns[3], XS_WRITE, tx, "/w/b|1");
    TAP_OK(!strcmp(talk_events(h.conns[0]), ""), "a transaction fires nothing while it is open");
    talk(h.conns[3], XS_TRANSACTION_END, tx, "T");
    TAP_OK(!strcmp(talk_events(h.conns[0]), "/w/a=t /w/b=t"), "it fires when it is committed");

    talk(h.conns[1], XS_WATCH, 0, "/|all");
    talk_events(h.conns[1]);
    talk(h.conns[0], XS_WRITE, 0, "/secret|1");
    TAP_OK(!strcmp(talk_events(h.conns[1]), ""), "a domain learns nothing of nodes that it may not read");
    talk(h.conns[0], XS_SET_PERMS, 0, "/secret|n0|r5");
    TAP_OK(!strcmp(talk_events(h.conns[1]), "/secret=all"), "it learns of a node that it may read now");
    talk(h.conns[0], XS_RM, 0, "/secret");
    TAP_OK(!strcmp(talk_events(h.conns[1]), "/secret=all"), "and that the node is gone");

    talk(h.conns[0], XS_WATCH, 0, "@introduceDomain|i");
    talk(h.conns[0], XS_WATCH, 0, "@releaseDomain|r");
    talk(h.conns[1], XS_WATCH, 0, "@releaseDomain|r");
    talk_events(h.conns[0]);
    talk_events(h.conns[1]);
    talk(h.conns[3], XS_INTRODUCE, 0, "9|1|1");
    TAP_OK(!strcmp(talk_events(h.conns[0]), "@introduceDomain=i"), "@introduceDomain");
    talk(h.conns[3], XS_INTRODUCE, 0, "9|2|2");
    TAP_OK(!strcmp(talk_events(h.conns[0]), ""), "not again for a known domain");
    talk(h.conns[3], XS_RELEASE, 0, "9");
    TAP_OK(!strcmp(talk_events(h.conns[0]), "@releaseDomain=r"), "@releaseDomain");
    TAP_OK(!strcmp(talk_events(h.conns[1]), ""), "not for a domain that has not been given the right");
    hv_xs_fini(&h.xs);
}

static void test_domains(void)
{
    struct hosts h;

    DIALOGUE("introduction", {0, XS_IS_DOMAIN_INTRODUCED, 0, "5", "F"}, {0, XS_INTRODUCE, 0, "5|1044478|3", "OK"},
             {0, XS_IS_DOMAIN_INTRODUCED, 0, "5", "T"}, {0, XS_IS_DOMAIN_INTRODUCED, 0, "0", "T"},
             {0, XS_RESUME, 0, "5", "OK"}, {0, XS_RESUME, 0, "6", "ENOENT"}, {0, XS_RELEASE, 0, "6", "ENOENT"},
             {0, XS_RELEASE, 0, "5", "OK"}, {0, XS_IS_DOMAIN_INTRODUCED, 0, "5", "F"});
    DIALOGUE("release removes what the domain owned, and its rights", {0, XS_INTRODUCE, 0, "5|1|1", "OK"},
             {0, XS_WRITE, 0, "/s|", "OK"}, {0, XS_SET_PERMS, 0, "/s|n0|b5|r6", "OK"}, {1, XS_WRITE, 0, "/s/a/b|1", "OK"},
             {0, XS_RELEASE, 0, "5", "OK"}, {0, XS_DIRECTORY, 0, "/s", ""}, {0, XS_READ, 0, "/s/a/b", "ENOENT"},
             {0, XS_GET_PERMS, 0, "/s", "n0"});
    init_hosts(&h);
    talk(h.conns[0], XS_INTRODUCE, 0, "5|1|1");
    talk(h.conns[0], XS_RELEASE, 0, "5");
    TAP_OK(hv_xs_conn_closing(h.conns[1]) && !hv_xs_conn_closing(h.conns[2]), "release closes its connections");
    TAP_OK(!strcmp(talk(h.conns[3], XS_CONTROL, 0, "domain-connection|0"), "EINVAL") &&
               !strcmp(talk(h.conns[3], XS_CONTROL, 0, "domain-connection|7"), "OK") &&
               hv_xs_conn_who(h.conns[3])->domid == 7 && !hv_xs_conn_who(h.conns[3])->privileged &&
               !strcmp(talk(h.conns[3], XS_CONTROL, 0, "domain-connection|0"), "EACCES"),
           "a connection becomes a domain's, for good");
    hv_xs_fini(&h.xs);
}

static const char *talkf(struct hv_xs_conn *c, uint32_t type, const char *format, ...) HV_PRINTF(3, 4);
static const char *talkf(struct hv_xs_conn *c, uint32_t type, const char *format, ...)
{
    char text[XENSTORE_PAYLOAD_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return talk(c, type, 0, text);
}

/* Repeats a request with a growing number until it fails. Gives how often it worked. */
static unsigned repeat(struct hv_xs_conn *c, uint32_t type, const char *format, const char *error)
{
    char text[128];

    for (unsigned i = 0; i < 5000; i++) {
        const char *got;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof(text), format, i);
#pragma GCC diagnostic pop
        got = talk(c, type, 0, text);
        if (!strcmp(got, error))
            return i;
    }
    return 9999;
}

static void test_quotas(void)
{
    struct hosts h;
    struct hv_xs_conn *guest;
    char value[3000];
    unsigned count;

    init_hosts(&h);
    guest = h.conns[1];
    talk(h.conns[0], XS_WRITE, 0, "/local/domain/5/data|");
    talk(h.conns[0], XS_SET_PERMS, 0, "/local/domain/5/data|n5");
    for (unsigned i = 0; i < 8; i++)
        talkf(guest, XS_MKDIR, "data/%u", i);
    count = repeat(guest, XS_MKDIR, "data/3/%u", "ENOSPC");
    TAP_OK(count > 400 && count < 540, "a node's own size is limited (%u children)", count);
    for (unsigned i = 0; i < 8; i++)
        repeat(guest, XS_MKDIR, i < 4 ? "data/1/%u" : "data/2/%u", "ENOSPC");
    count = h.xs.domains[5]->nodes;
    TAP_OK(count == 1000, "a domain owns at most 1000 nodes (%u)", count);
    TAP_OK(!strcmp(talk(guest, XS_WRITE, 0, "data/7/x|1"), "ENOSPC") && !strcmp(talk(guest, XS_RM, 0, "data/3"), "OK") &&
               !strcmp(talk(guest, XS_WRITE, 0, "data/7/x|1"), "OK"),
           "removal makes room");
    TAP_OK(repeat(guest, XS_WATCH, "data/%u|t", "E2BIG") == 128, "128 watches");
    TAP_OK(repeat(guest, XS_TRANSACTION_START, "", "ENOSPC") == 10, "10 transactions");
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    TAP_OK(!strcmp(talkf(guest, XS_WRITE, "data/7/x|%s", value), "ENOSPC") &&
               !strcmp(talkf(guest, XS_WRITE, "data/7/x|%.2000s", value), "OK") &&
               !strcmp(talkf(h.conns[0], XS_WRITE, "/big|%s", value), "OK"),
           "a node of at most 2048 bytes, but for domain 0");
    TAP_OK(!strcmp(talk(guest, XS_SET_PERMS, 0, "data/7|n5|r1|r2|r3|r4"), "OK") &&
               !strcmp(talk(guest, XS_SET_PERMS, 0, "data/7|n5|r1|r2|r3|r4|r6"), "ENOSPC"),
           "5 permissions");
    memset(value, 'p', sizeof(value) - 1);
    TAP_OK(!strcmp(talkf(guest, XS_READ, "%.2049s", value), "EINVAL") &&
               !strcmp(talkf(guest, XS_READ, "data/%.2000s", value), "ENOENT") &&
               !strcmp(talkf(h.conns[0], XS_READ, "/%s", value), "ENOENT"),
           "2048 bytes of relative path");
    hv_xs_fini(&h.xs);
}

/* Requests are no longer read while 20 answers wait; a message of more than 4096 bytes ends the connection. */
static void test_limits_of_a_connection(void)
{
    struct hosts h;
    struct hv_xs_conn *c;
    struct xsd_sockmsg read_root = {.type = XS_READ, .len = 2}, huge = {.type = XS_READ, .len = 4097};
    uint8_t many[30 * 18];
    size_t taken;

    init_hosts(&h);
    c = h.conns[1];
    for (size_t i = 0; i < 30; i++) {
        memcpy(many + i * 18, &read_root, 16);
        memcpy(many + i * 18 + 16, "/", 2);
    }
    taken = hv_xs_conn_input(c, many, sizeof(many));
    TAP_OK(taken == 20 * 18 && !hv_xs_conn_wants_input(c), "20 answers outstanding");
    talk_events(c);
    TAP_OK(hv_xs_conn_wants_input(c) && hv_xs_conn_input(c, many + taken, sizeof(many) - taken) == 10 * 18,
           "it goes on when they are taken");
    talk_events(c);
    for (size_t i = 0; i < 18; i++)
        hv_xs_conn_input(c, many + i, 1);
    TAP_OK(!strcmp(talk_events(c), "(answer)="), "a request may come byte by byte");
    hv_xs_conn_input(c, (uint8_t *)&huge, sizeof(huge));
    TAP_OK(hv_xs_conn_closing(c), "a message that is too long ends it");
    hv_xs_fini(&h.xs);
}

static void test_directory_part(void)
{
    struct hosts h;
    struct talk_message m;
    size_t names = 0, offset = 0;
    char generation[32] = "";
    bool same = true, end = false;

    init_hosts(&h);
    for (unsigned i = 0; i < 1000; i++)
        talkf(h.conns[0], XS_MKDIR, "/many/child-%04u", i);
    TAP_OK(!strcmp(talk(h.conns[0], XS_DIRECTORY, 0, "/many"), "E2BIG"), "a directory of 11000 bytes is too big");
    for (unsigned part = 0; part < 10 && !end; part++) {
        char text[64];
        size_t at, start;

        snprintf(text, sizeof(text), "/many%c%zu", 0, offset);
        talk_send(h.conns[0], XS_DIRECTORY_PART, 0, text, 6 + strlen(text + 6) + 1);
        if (!talk_next(h.conns[0], &m))
            break;
        same &= part == 0 || !strcmp(generation, m.payload);
        snprintf(generation, sizeof(generation), "%.30s", m.payload);
        start = at = strlen(m.payload) + 1;
        while (at < m.header.len && m.payload[at]) {
            names++;
            at += strlen(m.payload + at) + 1;
        }
        offset += at - start;
        end = at + 1 == m.header.len;
    }
    TAP_OK(end && same && names == 1000, "in parts it comes whole (%zu names)", names);
    hv_xs_fini(&h.xs);
}

/* ---- the journal */

static char state_path[] = "/tmp/domus-store-test-XXXXXX";

static void open_again(struct hv_xs *xs)
{
    if (hv_xs_init_empty(xs) < 0 || hv_xs_journal_open(xs, state_path) < 0 || hv_xs_add_roots(xs) < 0)
        abort();
}

static void close_store(struct hv_xs *xs)
{
    hv_xs_journal_close(xs);
    hv_xs_fini(xs);
}

static void test_journal(void)
{
    struct hv_xs xs;
    struct hv_xs_conn *c;
    struct stat st;
    uint32_t tx;
    int fd = mkstemp(state_path);

    close(fd);
    open_again(&xs);
    c = talk_connect(&xs, 0);
    talk(c, XS_WRITE, 0, "/a/b|value");
    talk(c, XS_SET_PERMS, 0, "/a/b|r5|b6");
    talk(c, XS_WRITE, 0, "/gone/x|1");
    talk(c, XS_RM, 0, "/gone");
    talk(c, XS_INTRODUCE, 0, "5|77|8");
    talk(c, XS_INTRODUCE, 0, "6|77|8");
    talk(c, XS_RELEASE, 0, "6");
    tx = (uint32_t)strtoul(talk(c, XS_TRANSACTION_START, 0, ""), NULL, 10);
    talk(c, XS_WRITE, tx, "/never|1");
    close_store(&xs);

    open_again(&xs);
    c = talk_connect(&xs, 0);
    TAP_OK(!strcmp(talk(c, XS_READ, 0, "/a/b"), "value") && !strcmp(talk(c, XS_GET_PERMS, 0, "/a/b"), "r5"),
           "values and permissions come back");
    TAP_OK(!strcmp(talk(c, XS_READ, 0, "/gone"), "ENOENT") && !strcmp(talk(c, XS_READ, 0, "/never"), "ENOENT"),
           "what was removed or not committed does not");
    TAP_OK(!strcmp(talk(c, XS_IS_DOMAIN_INTRODUCED, 0, "5"), "T") && xs.domains[5]->gfn == 77 &&
               xs.domains[5]->port == 8 && !strcmp(talk(c, XS_IS_DOMAIN_INTRODUCED, 0, "6"), "F"),
           "domains come back");
    TAP_OK(!strcmp(talk(c, XS_DIRECTORY, 0, "/a"), "b"), "children come back");
    stat(state_path, &st);
    talk(c, XS_WRITE, 0, "/last|1");
    close_store(&xs);

    /* A batch that is cut short is dropped; what was before stays and the file is written on. */
    if (truncate(state_path, st.st_size + 10) < 0)
        abort();
    open_again(&xs);
    c = talk_connect(&xs, 0);
    TAP_OK(!strcmp(talk(c, XS_READ, 0, "/last"), "ENOENT") && !strcmp(talk(c, XS_READ, 0, "/a/b"), "value"),
           "a torn end is dropped");
    talk(c, XS_WRITE, 0, "/after|1");
    for (unsigned i = 0; i < 3000; i++)
        talkf(c, XS_WRITE, "/after|%0500u", i);
    stat(state_path, &st);
    TAP_OK(st.st_size < 1200000, "the file is rewritten when it has grown (%ld bytes)", (long)st.st_size);
    close_store(&xs);
    open_again(&xs);
    c = talk_connect(&xs, 0);
    TAP_OK(strstr(talk(c, XS_READ, 0, "/after"), "0002999"), "with the last value");
    TAP_OK(!strcmp(talk(c, XS_READ, 0, "/a/b"), "value"), "and the others");
    close_store(&xs);

    fd = open(state_path, O_WRONLY | O_TRUNC);
    if (write(fd, "something else entirely", 23) != 23)
        abort();
    close(fd);
    if (hv_xs_init_empty(&xs) < 0)
        abort();
    TAP_OK(hv_xs_journal_open(&xs, state_path) == -EINVAL, "a file of another kind is refused");
    hv_xs_fini(&xs);
    unlink(state_path);
}

/* A full disk, or a limit like it: the request fails, the tree is as before, and it goes on when there is room. */
static void test_full_disk(void)
{
    struct rlimit old, small;
    struct hv_xs xs;
    struct hv_xs_conn *c;
    struct stat st;
    bool refused, unchanged;

    strcpy(state_path, "/tmp/domus-store-test-XXXXXX");
    close(mkstemp(state_path));
    open_again(&xs);
    c = talk_connect(&xs, 0);
    talk(c, XS_WRITE, 0, "/a|before");
    stat(state_path, &st);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){.rlim_cur = (rlim_t)st.st_size + 10, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    refused = !strcmp(talk(c, XS_WRITE, 0, "/a|during"), "ENOSPC");
    unchanged = !strcmp(talk(c, XS_READ, 0, "/a"), "before");
    setrlimit(RLIMIT_FSIZE, &old);
    TAP_OK(refused && unchanged, "a full disk: ENOSPC, nothing changed");
    TAP_OK(!strcmp(talk(c, XS_WRITE, 0, "/b|after"), "OK"), "and on when there is room");
    close_store(&xs);
    open_again(&xs);
    c = talk_connect(&xs, 0);
    TAP_OK(!strcmp(talk(c, XS_READ, 0, "/a"), "before") && !strcmp(talk(c, XS_READ, 0, "/b"), "after"),
           "the file is whole");
    close_store(&xs);
    unlink(state_path);
}

static void test_domain_nodes(void)
{
    static const struct hv_store_domain domain = {.domid = 5, .name = "g1", .uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9},
                                                  .memory_kib = 262144, .nr_vcpus = 2, .store_gfn = 0xfefff,
                                                  .store_port = 1, .console_port = 2};
    struct hosts h;

    init_hosts(&h);
    TAP_OK(hv_xs_write_domain_nodes(&h.xs, &domain) == 0, "a domain's nodes are written");
    TAP_OK(!strcmp(talk(h.conns[1], XS_READ, 0, "vm"), "/vm/01020304-0506-0708-0900-000000000000") &&
               !strcmp(talk(h.conns[1], XS_READ, 0, "cpu/1/availability"), "online") &&
               !strcmp(talk(h.conns[1], XS_READ, 0, "memory/target"), "262144"),
           "the domain can read them");
    TAP_OK(!strcmp(talk(h.conns[1], XS_WRITE, 0, "control/shutdown|poweroff"), "OK") &&
               !strcmp(talk(h.conns[1], XS_WRITE, 0, "name|other"), "EACCES") &&
               !strcmp(talk(h.conns[2], XS_READ, 0, "/local/domain/5/name"), "EACCES"),
           "it can write its own, and no other can read them");
    hv_xs_fini(&h.xs);
}

/* The store in a process of its own, for `domus-hv run`. */
/* The child's; that it is called is seen by its serving. */
static int confined(void)
{
    return 0;
}

static void test_spawn(void)
{
    static const struct hv_store_domain domain = {.domid = 1, .name = "alone", .memory_kib = 4096, .nr_vcpus = 1};
    static const struct { struct xsd_sockmsg h; char path[5]; } request = {{.type = XS_READ, .len = 5}, "name"};
    struct { struct xsd_sockmsg h; char value[5]; } answer = {0};
    int fds[2], status;
    pid_t pid;

    if (hv_store_spawn(&domain, confined, fds, &pid) < 0)
        abort();
    for (int i = 0; i < 2; i++) {
        struct pollfd p = {.events = POLLIN, .fd = fds[i]};

        if (write(p.fd, &request, sizeof(request.h) + 5) != sizeof(request.h) + 5 || poll(&p, 1, 10000) != 1)
            abort();
        TAP_OK(read(p.fd, &answer, sizeof(answer.h) + 5) == sizeof(answer.h) + 5 && !memcmp(answer.value, "alone", 5),
               "a store for one domain answers on connection %d", i);
    }
    close(fds[0]);
    TAP_OK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
           "and ends with its first connection");
    close(fds[1]);
}

int main(void)
{
    test_nodes();
    test_permissions();
    test_transactions();
    test_watches();
    test_watch_transactions_and_rights();
    test_domains();
    test_quotas();
    test_limits_of_a_connection();
    test_directory_part();
    test_journal();
    test_full_disk();
    test_domain_nodes();
    test_spawn();
    return tap_done();
}
