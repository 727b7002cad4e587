/* api URI TYPE COUNT: how long libvirt's calls take, for bench of drivers side by side. TYPE is a domain's; definitions of
 * COUNT domains come and go. Prints a line for each row: its name, a number, and its unit.
 *
 * Latencies are medians of single calls, as a client of libvirt's library sees them.
 */
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALLS     1000
#define EVENTS    200
#define CLIENTS   8
#define MEASURE_S 2.0
#define NAME      "api-%04d"

static const char *uri, *type;
static double samples[100000];

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, virGetLastErrorMessage());
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_median(const char *row, int n)
{
    qsort(samples, (size_t)n, sizeof(samples[0]), compare);
    printf("%s\t%.2f\tus\n", row, samples[n / 2] * 1e6);
    fflush(stdout);
}

static virConnectPtr open_connection(void)
{
    virConnectPtr conn = virConnectOpen(uri);

    if (!conn)
        die("open");
    return conn;
}

static virDomainPtr define(virConnectPtr conn, int number)
{
    virDomainPtr domain;
    char xml[600];

    snprintf(xml, sizeof(xml),
             "<domain type='%s'><name>" NAME "</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64'%s"
             "</type><kernel>/boot/vmlinuz</kernel></os><devices><console type='pty'/></devices></domain>",
             type, number, strcmp(type, "xen") == 0 ? " machine='xenpvh'>xenpvh" : " machine='pc'>hvm");
    domain = virDomainDefineXML(conn, xml);
    if (!domain)
        die("define");
    return domain;
}

/* ---- single calls, on a connection and one of its domains */

static void call_version(virConnectPtr conn, virDomainPtr domain)
{
    unsigned long version;

    (void)domain;
    if (virConnectGetLibVersion(conn, &version) < 0)
        die("version");
}

static void call_open(virConnectPtr conn, virDomainPtr domain)
{
    (void)conn, (void)domain;
    virConnectClose(open_connection());
}

static void call_lookup(virConnectPtr conn, virDomainPtr domain)
{
    virDomainPtr found = virDomainLookupByName(conn, virDomainGetName(domain));

    if (!found)
        die("lookup");
    virDomainFree(found);
}

static void call_info(virConnectPtr conn, virDomainPtr domain)
{
    virDomainInfo info;

    (void)conn;
    if (virDomainGetInfo(domain, &info) < 0)
        die("info");
}

static void call_xml(virConnectPtr conn, virDomainPtr domain)
{
    char *xml = virDomainGetXMLDesc(domain, 0);

    (void)conn;
    if (!xml)
        die("XML");
    free(xml);
}

static void call_list(virConnectPtr conn, virDomainPtr domain)
{
    virDomainPtr *list;
    int n = virConnectListAllDomains(conn, &list, 0);

    (void)domain;
    if (n < 0)
        die("list");
    while (n-- > 0)
        virDomainFree(list[n]);
    free(list);
}

static void call_stats(virConnectPtr conn, virDomainPtr domain)
{
    virDomainStatsRecordPtr *records;

    (void)domain;
    if (virConnectGetAllDomainStats(conn, 0, &records, 0) < 0)
        die("stats");
    virDomainStatsRecordListFree(records);
}

static const struct row {
    const char *name;
    void (*call)(virConnectPtr conn, virDomainPtr domain);
    int calls;
} few[] = {{"open and close", call_open, 300},     {"version (one round trip)", call_version, CALLS},
           {"lookup by name", call_lookup, CALLS}, {"info", call_info, CALLS},
           {"XML", call_xml, CALLS}},
  many[] = {{"lookup by name, of all", call_lookup, CALLS}, {"list all", call_list, 50}, {"statistics of all", call_stats, 30}};

static void measure(const struct row *rows, size_t n, virConnectPtr conn, virDomainPtr domain)
{
    for (size_t i = 0; i < n; i++) {
        for (int call = 0; call < rows[i].calls; call++) {
            double start = now();

            rows[i].call(conn, domain);
            samples[call] = now() - start;
        }
        print_median(rows[i].name, rows[i].calls);
    }
}

static void measure_define(virConnectPtr conn, virDomainPtr *domains, int count)
{
    for (int i = 0; i < count; i++) {
        double start = now();

        domains[i] = define(conn, i);
        samples[i] = now() - start;
    }
    print_median("define, one of all", count);
}

static void measure_undefine(virDomainPtr *domains, int count)
{
    for (int i = 0; i < count; i++) {
        double start = now();

        if (virDomainUndefine(domains[i]) < 0)
            die("undefine");
        samples[i] = now() - start;
        virDomainFree(domains[i]);
    }
    print_median("undefine, one of all", count);
}

/* ---- events: from the call on one connection to the callback on another */

static volatile int arrived;

static int on_event(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *opaque)
{
    (void)conn, (void)domain, (void)detail, (void)opaque;
    arrived |= event == VIR_DOMAIN_EVENT_DEFINED;
    return 0;
}

static void measure_events(virConnectPtr conn, int number)
{
    virConnectPtr listener = open_connection();

    if (virConnectDomainEventRegisterAny(listener, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_event),
                                         NULL, NULL) < 0)
        die("events");
    for (int i = 0; i < EVENTS; i++) {
        virDomainPtr domain;
        double start;

        arrived = 0;
        start = now();
        domain = define(conn, number);
        while (!arrived)
            virEventRunDefaultImpl();
        samples[i] = now() - start;
        virDomainUndefine(domain);
        virDomainFree(domain);
    }
    print_median("define to its event", EVENTS);
    virConnectClose(listener);
}

/* ---- many clients at once */

static volatile int go_on = 1;

static void *client(void *opaque)
{
    virConnectPtr conn = open_connection();
    virDomainPtr domain = virDomainLookupByName(conn, opaque);
    long calls = 0;

    if (!domain)
        die("lookup");
    for (; go_on; calls++)
        call_info(conn, domain);
    virDomainFree(domain);
    virConnectClose(conn);
    return (void *)calls;
}

static void measure_clients(virDomainPtr domain)
{
    pthread_t threads[CLIENTS];
    struct timespec wait = {(time_t)MEASURE_S, 0};
    long total = 0;

    for (int i = 0; i < CLIENTS; i++)
        if (pthread_create(&threads[i], NULL, client, (void *)(size_t)virDomainGetName(domain)))
            die("thread");
    nanosleep(&wait, NULL);
    go_on = 0;
    for (int i = 0; i < CLIENTS; i++) {
        void *calls;

        pthread_join(threads[i], &calls);
        total += (long)calls;
    }
    printf("info, of 8 clients\t%.0f\tcalls/s\n", (double)total / MEASURE_S);
}

static void be_silent(void *opaque, virErrorPtr error)
{
    (void)opaque, (void)error;
}

int main(int argc, char **argv)
{
    int count = argc == 4 ? atoi(argv[3]) : 0;
    virDomainPtr *domains = calloc((size_t)count + 1, sizeof(*domains));
    virConnectPtr conn;

    if (count < 1 || count > 100000 || !domains)
        return 2;
    uri = argv[1];
    type = argv[2];
    virSetErrorFunc(NULL, be_silent);
    if (virEventRegisterDefaultImpl() < 0)
        die("events");
    conn = open_connection();
    domains[0] = define(conn, 0);
    measure(few, sizeof(few) / sizeof(few[0]), conn, domains[0]);
    measure_events(conn, count);
    virDomainUndefine(domains[0]);
    virDomainFree(domains[0]);
    measure_define(conn, domains, count);
    measure(many, sizeof(many) / sizeof(many[0]), conn, domains[count / 2]);
    measure_clients(domains[0]);
    printf("READY\n");
    fflush(stdout);
    (void)getchar(); /* whoever started this looks at the daemon's memory */
    measure_undefine(domains, count);
    virConnectClose(conn);
    return 0;
}
