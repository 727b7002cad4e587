/* domus-hv: the hypervisor of one domain.
 *
 * `domus-hv --control-fd N` serves a control channel on a socket that its parent made: the toolstack builds the
 * domain through it and the process lives as long as the domain. `domus-hv run` builds and runs a domain by
 * itself. Either way: descriptors first, then privileges and system calls are given up, and guest code runs last.
 * To start reading: hv/domain.h for what a domain is, hv/hypercall/table.c for what can be asked of it,
 * hv/machine/vcpu.c for how it runs.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/control/server.h"
#include "hv/engine/engine.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/sandbox.h"
#include "hv/standalone.h"

enum mode { RUN = 1, CONTROL = 2, BOTH = RUN | CONTROL };

#define CODE_CACHE_MIB_MAX 65536

struct arguments {
    enum mode mode;
    struct hv_standalone_options run;
    int control_fd;
    bool change_user;
    uid_t uid;
    gid_t gid;
};

typedef bool option_fn(struct arguments *a, const char *name, const char *value);

/* ------------------------------------------------------------------ values */

static bool complain(const char *name, const char *value, const char *what)
{
    fprintf(stderr, "domus-hv: --%s %s: %s\n", name, value, what);
    return false;
}

static bool parse_number(const char *text, unsigned long long min, unsigned long long max,
                         unsigned long long *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *out >= min && *out <= max;
}

static bool set_kernel(struct arguments *a, const char *name, const char *value)
{
    (void)name;
    a->run.kernel = value;
    return true;
}

static bool set_ramdisk(struct arguments *a, const char *name, const char *value)
{
    (void)name;
    a->run.ramdisk = value;
    return true;
}

static bool set_cmdline(struct arguments *a, const char *name, const char *value)
{
    (void)name;
    a->run.cmdline = value;
    return true;
}

static bool set_memory(struct arguments *a, const char *name, const char *value)
{
    unsigned long long mib;

    /* The guest's address space, less the MMIO hole. */
    if (!parse_number(value, 1, (1ull << (HV_GPA_BITS - 20)) - 4096, &mib))
        return complain(name, value, "not a number of MiB that a guest can have");
    a->run.memory_kib = mib * 1024;
    return true;
}

static bool set_vcpus(struct arguments *a, const char *name, const char *value)
{
    unsigned long long count;

    if (!parse_number(value, 1, HV_MAX_VCPUS, &count))
        return complain(name, value, "not a number of vCPUs that a guest can have");
    a->run.vcpus = (unsigned)count;
    return true;
}

/* Prints the names of the engines, one a line, and exits. */
static void list_engines(void)
{
    const char *engine;

    for (size_t i = 0; (engine = hv_engine_name(i)); i++)
        puts(engine);
    exit(0);
}

static bool set_engine(struct arguments *a, const char *name, const char *value)
{
    if (strcmp(value, "help") == 0)
        list_engines();
    a->run.engine = hv_engine_find(value);
    return a->run.engine || complain(name, value, "there is no such engine");
}

static bool set_code_cache(struct arguments *a, const char *name, const char *value)
{
    unsigned long long mib;

    if (!parse_number(value, 1, CODE_CACHE_MIB_MAX, &mib))
        return complain(name, value, "not a number of MiB from 1 to 65536");
    a->run.code_cache_bytes = mib << 20;
    return true;
}

static bool set_console(struct arguments *a, const char *name, const char *value)
{
    (void)name;
    a->run.console = value;
    return true;
}

static bool set_stats(struct arguments *a, const char *name, const char *value)
{
    (void)name, (void)value;
    a->run.stats = true;
    return true;
}

static bool set_store(struct arguments *a, const char *name, const char *value)
{
    if (strcmp(value, "none") != 0 && strcmp(value, "own") != 0)
        return complain(name, value, "not one of: own, none");
    a->run.store = strcmp(value, "own") == 0;
    return true;
}

/* PATH, or PATH,ro: a path that itself ends so is written with another ",rw". */
static bool set_disk(struct arguments *a, const char *name, const char *value)
{
    struct hv_standalone_disk *disk = &a->run.disks[a->run.nr_disks];
    const char *comma = strrchr(value, ',');
    size_t length = strlen(value);

    if (a->run.nr_disks == HV_STANDALONE_DISKS_MAX)
        return complain(name, value, "there are 16 disks already");
    disk->read_only = comma && !strcmp(comma, ",ro");
    if (disk->read_only || (comma && !strcmp(comma, ",rw")))
        length = (size_t)(comma - value);
    if (length == 0 || length >= sizeof(disk->path))
        return complain(name, value, "not a path");
    memcpy(disk->path, value, length);
    disk->path[length] = '\0';
    a->run.nr_disks++;
    return true;
}

static bool set_nic(struct arguments *a, const char *name, const char *value)
{
    const char *wrong;

    if (a->run.nr_nics == HV_STANDALONE_NICS_MAX)
        return complain(name, value, "too many network interfaces");
    wrong = hv_standalone_nic_parse(value, &a->run.nics[a->run.nr_nics++]);
    return !wrong || complain(name, value, wrong);
}

static bool set_name(struct arguments *a, const char *name, const char *value)
{
    (void)name;
    a->run.name = value;
    return true;
}

static bool set_control_fd(struct arguments *a, const char *name, const char *value)
{
    unsigned long long fd;

    if (!parse_number(value, 0, 1u << 20, &fd))
        return complain(name, value, "not a descriptor");
    a->control_fd = (int)fd;
    return true;
}

static bool set_user(struct arguments *a, const char *name, const char *value)
{
    char text[64];
    char *colon;
    unsigned long long uid, gid;

    snprintf(text, sizeof(text), "%s", value);
    colon = strchr(text, ':');
    if (colon)
        *colon = '\0';
    if (!colon || !parse_number(text, 1, UINT32_MAX - 1, &uid) ||
        !parse_number(colon + 1, 1, UINT32_MAX - 1, &gid))
        return complain(name, value, "not UID:GID of an ordinary user");
    a->change_user = true;
    a->uid = (uid_t)uid;
    a->gid = (gid_t)gid;
    return true;
}

static bool set_debug(struct arguments *a, const char *name, const char *value)
{
    (void)a, (void)name, (void)value;
    hv_log_set_level(HV_LOG_DEBUG);
    return true;
}

/* ------------------------------------------------------------------ options */

static const struct {
    const char *name;
    const char *value; /* NULL: none */
    enum mode modes;
    option_fn *set;
    const char *help;
} options[] = {
    {"kernel", "FILE", RUN, set_kernel, "kernel: bzImage or ELF with a PVH entry note"},
    {"ramdisk", "FILE", RUN, set_ramdisk, "initial ramdisk"},
    {"cmdline", "TEXT", RUN, set_cmdline, "kernel command line"},
    {"memory", "MIB", RUN, set_memory, "guest memory"},
    {"vcpus", "N", RUN, set_vcpus, "number of vCPUs (1)"},
    {"disk", "FILE[,ro]", RUN, set_disk, "virtual disk: xvda, again for xvdb ...; raw file or block device"},
    {"nic", "user|tap=NAME", RUN, set_nic, "network interface; more: ,mac=MAC ,mtu=N ,queues=N"},
    {"console", "stdio|PATH", RUN, set_console, "console: this terminal (Ctrl-] quits), another, or a file"},
    {"store", "own|none", RUN, set_store, "with a xenstore of its own (own)"},
    {"stats", NULL, RUN, set_stats, "print the engine's counters at the end"},
    {"control-fd", "N", BOTH, set_control_fd, "serve the control channel on socket N"},
    {"user", "UID:GID", CONTROL, set_user, "become this user before any guest code runs"},
    {"engine", "NAME", BOTH, set_engine, "what executes guest code (auto); \"help\" lists"},
    {"code-cache", "MIB", BOTH, set_code_cache, "the most that translated code may take (64)"},
    {"name", "NAME", BOTH, set_name, "name of the domain, for messages"},
    {"debug", NULL, BOTH, set_debug, "log more"},
};

#define NR_OPTIONS HV_ARRAY_LEN(options)
enum { OPTION_HELP = 1000, OPTION_VERSION };

static void print_usage(FILE *out)
{
    fprintf(out, "Usage: domus-hv run --kernel FILE --memory MIB [OPTION]...\n"
                 "       domus-hv --control-fd N [OPTION]...\n"
                 "The hypervisor of one domain.\n\n");
    for (size_t i = 0; i < NR_OPTIONS; i++) {
        char left[40];

        snprintf(left, sizeof(left), "--%s %s", options[i].name, options[i].value ? options[i].value : "");
        fprintf(out, "  %-22s %s\n", left, options[i].help);
    }
    fprintf(out, "  %-22s this text\n  %-22s version\n", "--help", "--version");
}

static void fill_getopt(struct option list[NR_OPTIONS + 3])
{
    memset(list, 0, (NR_OPTIONS + 3) * sizeof(*list));
    for (size_t i = 0; i < NR_OPTIONS; i++) {
        list[i].name = options[i].name;
        list[i].has_arg = options[i].value ? required_argument : no_argument;
        list[i].val = (int)i;
    }
    list[NR_OPTIONS] = (struct option){"help", no_argument, NULL, OPTION_HELP};
    list[NR_OPTIONS + 1] = (struct option){"version", no_argument, NULL, OPTION_VERSION};
}

static bool apply(struct arguments *a, int index)
{
    if (options[index].modes & a->mode)
        return options[index].set(a, options[index].name, optarg);
    fprintf(stderr, "domus-hv: --%s is for `domus-hv %s`\n", options[index].name,
            options[index].modes == RUN ? "run" : "--control-fd N");
    return false;
}

/* Exits by itself for --help, --version and mistakes. */
static void parse(struct arguments *a, int argc, char **argv)
{
    struct option list[NR_OPTIONS + 3];
    int found;

    fill_getopt(list);
    while ((found = getopt_long(argc, argv, "", list, NULL)) != -1) {
        if (found == OPTION_HELP) {
            print_usage(stdout);
            exit(0);
        }
        if (found == OPTION_VERSION) {
            printf("domus-hv %s\n", DOMUS_VERSION);
            exit(0);
        }
        if (found == '?' || !apply(a, found))
            exit(HV_EXIT_USAGE);
    }
    if (optind < argc) {
        fprintf(stderr, "domus-hv: what is \"%s\"? (domus-hv --help)\n", argv[optind]);
        exit(HV_EXIT_USAGE);
    }
}

static void require(bool given, const char *what)
{
    if (given)
        return;
    fprintf(stderr, "domus-hv: %s is missing (domus-hv --help)\n", what);
    exit(HV_EXIT_USAGE);
}

/* ------------------------------------------------------------------ control mode */

static int serve(struct hv_loop *loop, const struct arguments *a)
{
    struct hv_control_options options_ = {.loop = loop,
                                          .engine = a->run.engine,
                                          .name = a->run.name,
                                          .code_cache_bytes = a->run.code_cache_bytes};
    struct hv_control *control;
    int error = hv_control_new(&options_, &control);

    if (error)
        return error;
    error = hv_control_serve(control, a->control_fd);
    if (!error)
        error = hv_drop_privileges(a->change_user, a->uid, a->gid);
    if (!error)
        error = hv_sandbox_enter();
    if (!error)
        hv_loop_run(loop); /* until destroydomain */
    hv_control_free(control);
    return error;
}

static int serve_control(const struct arguments *a)
{
    struct hv_loop *loop;
    int error = hv_loop_new(&loop);

    if (!error) {
        error = serve(loop, a);
        hv_loop_free(loop);
    }
    if (error)
        hv_log(HV_LOG_ERROR, "control channel on descriptor %d: %s", a->control_fd, strerror(-error));
    return error ? HV_EXIT_FAILURE : 0;
}

int main(int argc, char **argv)
{
    struct arguments a = {
        .mode = CONTROL,
        .control_fd = -1,
        .run = {.vcpus = 1, .console = "stdio", .name = "domus", .store = true},
    };

    signal(SIGPIPE, SIG_IGN); /* who hangs up is told by errno */
    if (argc > 1 && strcmp(argv[1], "run") == 0) {
        a.mode = RUN;
        argc--;
        argv++;
    }
    a.run.engine = hv_engine_find("auto");
    parse(&a, argc, argv);
    if (a.mode == CONTROL) {
        require(a.control_fd >= 0, "--control-fd");
        return serve_control(&a);
    }
    require(a.run.store || !a.run.nr_nics, "--store own, which --nic needs,");
    require(a.run.kernel, "--kernel");
    require(a.run.memory_kib, "--memory");
    require(a.run.store || !a.run.nr_disks, "--store own, which --disk needs,");
    a.run.control_fd = a.control_fd;
    return hv_standalone_run(&a.run);
}
