/* The stream to a guest agent, whoever is at its other end: one that answers, one that is late, silent, hostile.
 *
 * What an agent sends is that of qemu-ga 7.2: an error for the byte 0xff, then 0xff and the answer to the sync. */
#include "config.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/host/agent-json.h"
#include "libxldrv/host/agent-link.h"
#include "libxldrv/rpc/rpc.h"

#define COMPLAINT "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray input\"}}\n"

typedef struct {
    XldrvAgentLink *link;
    int fd; /* the guest's end */
} Pair;

static Pair pair_new(void)
{
    int ends[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
    return (Pair){xldrv_agent_link_new(ends[0]), ends[1]};
}

static void pair_clear(Pair *pair)
{
    xldrv_agent_link_free(pair->link);
    if (pair->fd >= 0)
        close(pair->fd);
}

static XldrvAgentWait within(guint ms)
{
    return (XldrvAgentWait){.deadline_us = g_get_monotonic_time() + (gint64)ms * G_TIME_SPAN_MILLISECOND};
}

static gboolean put(int fd, const char *bytes, gsize left)
{
    while (left > 0) {
        gssize n = send(fd, bytes, left, MSG_NOSIGNAL);
        if (n < 0)
            return FALSE;
        bytes += n;
        left -= (gsize)n;
    }
    return TRUE;
}

static gboolean say(int fd, const char *text)
{
    return put(fd, text, strlen(text));
}

/* ---- a guest on a thread of its own */

typedef enum { WELL, NOISY, WRONG_ID, LONG_LINE, LONG_REPLY, SILENT, TALKATIVE, DEAF_TO_COMMANDS, HANG_UP } Manner;

typedef struct {
    int fd;
    Manner manner;
} Guest;

static gboolean say_much(int fd, gsize bytes)
{
    static const char noise[4096] = "no line end here";

    for (gsize i = 0; i < bytes; i += sizeof(noise)) {
        if (!put(fd, noise, sizeof(noise)))
            return FALSE;
    }
    return TRUE;
}

static gboolean answer_sync(const Guest *guest, const char *line)
{
    gint64 id = g_ascii_strtoll(strstr(line, "\"id\":") + 5, NULL, 10);
    g_autofree char *text = NULL;

    if (guest->manner == WRONG_ID)
        id++;
    if (guest->manner == NOISY && (!say(guest->fd, line) || !say(guest->fd, "login: \n{\"return\": 1}\n\xff{\"ret\n")))
        return FALSE;
    if (guest->manner == LONG_LINE && !say_much(guest->fd, 1 << 20))
        return FALSE;
    text = g_strdup_printf("%s\xff{\"return\": %" G_GINT64_FORMAT "}\n", *line == '\xff' ? COMPLAINT : "", id);
    return say(guest->fd, text);
}

static gboolean answer(const Guest *guest, const char *line)
{
    if (guest->manner == SILENT)
        return TRUE;
    if (guest->manner == TALKATIVE) {
        while (say_much(guest->fd, 1 << 20))
            continue;
        return FALSE;
    }
    if (strstr(line, "guest-sync-delimited"))
        return answer_sync(guest, line);
    if (guest->manner == LONG_REPLY)
        return say_much(guest->fd, XLDRV_AGENT_REPLY_MAX + 4096);
    if (guest->manner == HANG_UP)
        return FALSE;
    if (guest->manner == DEAF_TO_COMMANDS || strstr(line, "guest-shutdown"))
        return TRUE;
    return say(guest->fd, strstr(line, "guest-bad") ? "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"not found\"}}\n"
                                                    : "{\"return\": {\"word\": \"x\", \"number\": 7}}\n");
}

static gpointer guest_main(gpointer data)
{
    const Guest *guest = data;
    g_autoptr(GString) in = g_string_new(NULL);
    char bytes[4096], *end;
    gssize got;

    while ((got = recv(guest->fd, bytes, sizeof(bytes), 0)) > 0) {
        g_string_append_len(in, bytes, got);
        while ((end = strchr(in->str, '\n'))) {
            g_autofree char *line = g_strndup(in->str, (gsize)(end - in->str) + 1);
            g_string_erase(in, 0, (gssize)strlen(line));
            if (!answer(guest, line)) {
                shutdown(guest->fd, SHUT_RDWR);
                return NULL;
            }
        }
    }
    return NULL;
}

typedef struct {
    Pair pair;
    Guest guest;
    GThread *thread;
} World;

static void world_begin(World *world, Manner manner)
{
    world->pair = pair_new();
    world->guest = (Guest){world->pair.fd, manner};
    world->thread = g_thread_new("guest", guest_main, &world->guest);
}

static void world_end(World *world)
{
    shutdown(world->pair.fd, SHUT_RDWR);
    g_thread_join(world->thread);
    pair_clear(&world->pair);
}

static JsonNode *run(XldrvAgentLink *link, const char *command, guint ms, GError **error)
{
    const XldrvAgentWait wait = within(ms);
    gsize length = 0;
    g_autofree char *line = xldrv_agent_link_call(link, command, &wait, &length, error);

    return line ? xldrv_agent_reply_parse(line, length, "guest-x", error) : NULL;
}

/* ---- tests */

static void test_well(gconstpointer manner)
{
    const XldrvAgentWait wait = within(20000);
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonNode) reply = NULL;
    gint64 number = 0;
    World world;

    world_begin(&world, (Manner)GPOINTER_TO_INT(manner));
    g_assert_true(xldrv_agent_link_sync(world.pair.link, &wait, &error));
    g_assert_no_error(error);
    reply = run(world.pair.link, "{\"execute\":\"guest-x\"}", 20000, &error);
    g_assert_no_error(error);
    g_assert_true(xldrv_agent_get_int(reply, "number", &number, &error));
    g_assert_cmpint(number, ==, 7);
    g_assert_false(xldrv_agent_get_int(reply, "word", &number, &error));
    g_assert_nonnull(strstr(error->message, "'word' missing"));
    g_clear_error(&error);
    g_assert_null(run(world.pair.link, "{\"execute\":\"guest-bad\"}", 20000, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_OPERATION_UNSUPPORTED);
    world_end(&world);
}

static void test_bad_sync(gconstpointer manner)
{
    const XldrvAgentWait wait = within(300);
    g_autoptr(GError) error = NULL;
    World world;

    world_begin(&world, (Manner)GPOINTER_TO_INT(manner));
    g_assert_false(xldrv_agent_link_sync(world.pair.link, &wait, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_AGENT_UNRESPONSIVE);
    world_end(&world);
}

/* A command that is not answered in time, or by too much, or by the channel's end. */
static void test_bad_command(gconstpointer manner)
{
    const XldrvAgentWait wait = within(20000);
    g_autoptr(GError) error = NULL;
    World world;

    world_begin(&world, (Manner)GPOINTER_TO_INT(manner));
    g_assert_true(xldrv_agent_link_sync(world.pair.link, &wait, &error));
    g_assert_null(run(world.pair.link, "{\"execute\":\"guest-x\"}", GPOINTER_TO_INT(manner) == LONG_REPLY ? 20000 : 300,
                      &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_AGENT_UNRESPONSIVE);
    world_end(&world);
}

static gboolean count_down(gpointer left)
{
    return --*(int *)left < 0;
}

/* Who waits for ever can still give up, be the guest silent or never so. */
static void test_given_up(gconstpointer manner)
{
    int left = 1;
    const XldrvAgentWait wait = {.deadline_us = -1, .given_up = count_down, .data = &left};
    g_autoptr(GError) error = NULL;
    World world;
    gsize length;

    world_begin(&world, (Manner)GPOINTER_TO_INT(manner));
    if (GPOINTER_TO_INT(manner) == SILENT)
        g_assert_false(xldrv_agent_link_sync(world.pair.link, &wait, &error));
    else
        g_assert_null(xldrv_agent_link_call(world.pair.link, "{}", &wait, &length, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_AGENT_UNRESPONSIVE);
    world_end(&world);
}

/* An answer that comes too late is not taken for that to the next command. */
static void test_late(void)
{
    Pair pair = pair_new();
    World world = {.guest = {.fd = pair.fd}};
    const XldrvAgentWait wait = within(20000);
    g_autoptr(JsonNode) reply = NULL;
    gint64 number = 0;

    g_assert_null(run(pair.link, "{\"execute\":\"guest-x\"}", 50, NULL));
    g_assert_true(say(pair.fd, "{\"return\": {\"number\": 1}}\n"));
    world.thread = g_thread_new("guest", guest_main, &world.guest);
    g_assert_true(xldrv_agent_link_sync(pair.link, &wait, NULL));
    reply = run(pair.link, "{\"execute\":\"guest-x\"}", 20000, NULL);
    g_assert_true(xldrv_agent_get_int(reply, "number", &number, NULL));
    g_assert_cmpint(number, ==, 7);
    world.pair = pair;
    world_end(&world);
}

static void test_silent_command(void)
{
    const XldrvAgentWait wait = within(20000);
    char *line = NULL;
    gsize length = 0;
    World world;

    world_begin(&world, WELL);
    g_assert_true(xldrv_agent_link_sync(world.pair.link, &wait, NULL));
    g_assert_true(xldrv_agent_link_call_silent(world.pair.link, "{\"execute\":\"guest-shutdown\"}", &wait, &line, &length,
                                               NULL));
    g_assert_null(line);
    g_assert_true(xldrv_agent_link_call_silent(world.pair.link, "{\"execute\":\"guest-bad\"}", &wait, &line, &length, NULL));
    g_assert_nonnull(line);
    g_free(line);
    world_end(&world);
    world_begin(&world, HANG_UP);
    g_assert_true(xldrv_agent_link_call_silent(world.pair.link, "{\"execute\":\"guest-x\"}", &wait, &line, &length, NULL));
    g_assert_null(line);
    world_end(&world);
}

/* Without anybody there, no more is sent than its console can hold; its first answer starts it again. */
static void test_pings(void)
{
    Pair pair = pair_new();
    char bytes[4096];
    guint n = 0;
    gssize got;
    g_autofree char *all = NULL;
    g_autofree char *text = NULL;

    while (xldrv_agent_link_ping(pair.link))
        n++;
    got = recv(pair.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    g_assert_cmpint(got, >, 0);
    g_assert_cmpint(got, <, 1024);
    g_assert_cmpuint(n, ==, 8);
    g_assert_cmpint(xldrv_agent_link_listen(pair.link), ==, XLDRV_AGENT_SILENCE);
    g_assert_true(say(pair.fd, "login: \n"));
    g_assert_cmpint(xldrv_agent_link_listen(pair.link), ==, XLDRV_AGENT_NOISE);
    all = g_strndup(bytes, (gsize)got);
    text = g_strdup_printf("\xff{\"return\": %" G_GINT64_FORMAT "}\n",
                           g_ascii_strtoll(strstr(all, "\"id\":") + 5, NULL, 10));
    g_assert_true(say(pair.fd, text));
    g_assert_cmpint(xldrv_agent_link_listen(pair.link), ==, XLDRV_AGENT_ANSWER);
    g_assert_true(xldrv_agent_link_ping(pair.link));
    close(pair.fd);
    pair.fd = -1;
    g_assert_cmpint(xldrv_agent_link_listen(pair.link), ==, XLDRV_AGENT_GONE);
    pair_clear(&pair);
}

static char *repeat(const char *what, guint n)
{
    GString *text = g_string_new("{\"return\": ");

    for (guint i = 0; i < n; i++)
        g_string_append(text, what);
    return g_string_free(text, FALSE);
}

/* What would take a parser's stack or the host's memory is not parsed. */
static void test_bounds(void)
{
    g_autofree char *deep = repeat("[", 1000000), *hidden = repeat("[\"\\\"]]]\",", 1000), *many = repeat("[],", 70000);
    const char *const texts[] = {deep, hidden, many, "", "{", "{\"return\"", "[1]", "7", "{\"return\": 1}\xff", "{}",
                                 "{\"error\": 5}", "{\"error\": {\"desc\": []}}", "{\"return\":1,}"};

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(xldrv_agent_reply_parse(texts[i], strlen(texts[i]), "guest-x", &error));
        g_assert_error(error, XLDRV_ERROR, VIR_ERR_INTERNAL_ERROR);
    }
}

static void test_mutations(void)
{
    static const char seed_text[] = "{\"return\": [{\"name\": \"/dev/xvda\", \"n\": 1.5e3, \"b\": true, \"a\": [null, \"\\u00e9\"]}]}";
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (guint i = 0; i < 100000; i++) {
        g_autofree char *text = g_memdup2(seed_text, sizeof(seed_text));
        gsize length = sizeof(seed_text) - 1 - (gsize)g_rand_int_range(rand, 0, 4);
        g_autoptr(JsonNode) reply = NULL;
        JsonArray *array;
        gint64 number;

        for (guint j = 0; j < 1 + i % 4; j++)
            text[g_rand_int_range(rand, 0, (gint32)length)] = (char)g_rand_int_range(rand, 0, 256);
        reply = xldrv_agent_reply_parse(text, length, "guest-x", NULL);
        array = reply ? xldrv_agent_array(reply, 4, NULL) : NULL;
        if (array && json_array_get_length(array))
            xldrv_agent_get_int(json_array_get_element(array, 0), "n", &number, NULL);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        Manner manner;
        GTestDataFunc test;
    } cases[] = {
        {"/agent/well", WELL, test_well},
        {"/agent/noisy", NOISY, test_well},
        {"/agent/long-line", LONG_LINE, test_well},
        {"/agent/sync/wrong-id", WRONG_ID, test_bad_sync},
        {"/agent/sync/silent", SILENT, test_bad_sync},
        {"/agent/sync/talkative", TALKATIVE, test_bad_sync},
        {"/agent/command/silent", DEAF_TO_COMMANDS, test_bad_command},
        {"/agent/command/long", LONG_REPLY, test_bad_command},
        {"/agent/command/hang-up", HANG_UP, test_bad_command},
        {"/agent/given-up/silent", SILENT, test_given_up},
        {"/agent/given-up/deaf", DEAF_TO_COMMANDS, test_given_up},
    };

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        g_test_add_data_func(cases[i].name, GINT_TO_POINTER(cases[i].manner), cases[i].test);
    g_test_add_func("/agent/late", test_late);
    g_test_add_func("/agent/silent-command", test_silent_command);
    g_test_add_func("/agent/pings", test_pings);
    g_test_add_func("/agent/bounds", test_bounds);
    g_test_add_func("/agent/mutations", test_mutations);
    return g_test_run();
}
