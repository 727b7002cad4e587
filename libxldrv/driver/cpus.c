/* What CPUs there are: the map of names, the host's, and the one that the hypervisor gives to guests. */
#include "config.h"

#include "libxldrv/driver/cpus.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/host/cpuid.h"
#include "libxldrv/rpc/rpc.h"

#define MAP_FOLDER       "/usr/share/libvirt/cpu_map"
#define CONTROL_FD       "3"
#define PROBE_TIMEOUT_MS 15000

_Static_assert(sizeof(XmlconfCpuidLeaf) == sizeof(struct domctl_features), "one is copied to the other");

struct _XldrvCpus {
    const char *hypervisor, *engine; /* immutable */
    GMutex lock;
    XmlconfCpuMap *map;         /* written under lock once, then immutable, as the next two */
    XmlconfCpuHave host, guest; /* have a map once they are known */
    char signature[13];
};

XldrvCpus *xldrv_cpus_new(const char *hypervisor, const char *engine)
{
    XldrvCpus *cpus = g_new0(XldrvCpus, 1);

    g_mutex_init(&cpus->lock);
    cpus->hypervisor = hypervisor;
    cpus->engine = engine;
    return cpus;
}

void xldrv_cpus_free(XldrvCpus *cpus)
{
    if (!cpus)
        return;
    xmlconf_cpu_have_clear(&cpus->host);
    xmlconf_cpu_have_clear(&cpus->guest);
    xmlconf_cpu_map_free(cpus->map);
    g_mutex_clear(&cpus->lock);
    g_free(cpus);
}

static gboolean load_map_locked(XldrvCpus *cpus, GError **error)
{
    XmlconfCpuidLeaf leaves[XLDRV_HOST_LEAVES];
    g_autoptr(GError) why = NULL;

    if (cpus->map)
        return TRUE;
    cpus->map = xmlconf_cpu_map_load(MAP_FOLDER, &why);
    if (!cpus->map)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "CPU models are not known: %s", why->message);
    xldrv_host_cpuid(leaves, cpus->signature);
    xmlconf_cpu_have_init(&cpus->host, cpus->map, cpus->signature, leaves, XLDRV_HOST_LEAVES);
    return TRUE;
}

const XmlconfCpuMap *xldrv_cpus_map(XldrvCpus *cpus, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&cpus->lock);

    return load_map_locked(cpus, error) ? cpus->map : NULL;
}

const XmlconfCpuHave *xldrv_cpus_host(XldrvCpus *cpus, GError **error)
{
    return xldrv_cpus_map(cpus, error) ? &cpus->host : NULL;
}

/* ---- a guest's, asked of a hypervisor that makes a domain for just that */

static int ask(int fd, struct domctl_features *leaves, unsigned *count)
{
    const guint8 uuid[16] = {0};
    struct domctl *ctl = NULL;
    int rc = domctl_connect_fd(fd, PROBE_TIMEOUT_MS, &ctl);

    if (rc < 0) {
        close(fd);
        return rc;
    }
    rc = domctl_create(ctl, 1, uuid, 1);
    if (rc == 0)
        rc = domctl_max_vcpus(ctl, 1);
    if (rc == 0)
        rc = domctl_get_features(ctl, leaves, count);
    domctl_destroy(ctl);
    domctl_free(ctl);
    return rc;
}

static void end(XldrvProcess *process)
{
    if (!xldrv_process_wait(process, PROBE_TIMEOUT_MS)) {
        xldrv_process_kill(process, SIGKILL);
        xldrv_process_wait(process, PROBE_TIMEOUT_MS);
    }
    xldrv_process_free(process);
}

static gboolean probe(XldrvCpus *cpus, struct domctl_features *leaves, unsigned *count, GError **error)
{
    const char *argv[] = {cpus->hypervisor, "--control-fd", CONTROL_FD, cpus->engine ? "--engine" : NULL, cpus->engine, NULL};
    XldrvSpawn spawn = {.argv = argv, .n_fds = 1};
    XldrvProcess *process;
    int pair[2], rc;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "socketpair: %s", g_strerror(errno));
    spawn.fds = &pair[1];
    process = xldrv_process_spawn(&spawn, error);
    close(pair[1]);
    if (!process) {
        close(pair[0]);
        return FALSE;
    }
    rc = ask(pair[0], leaves, count);
    end(process);
    return rc == 0 || xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                                      "the hypervisor does not tell what CPU a guest can have: %s", g_strerror(-rc));
}

const XmlconfCpuHave *xldrv_cpus_guest(XldrvCpus *cpus, GError **error)
{
    struct domctl_features leaves[DOMCTL_FEATURES_MAX] = {0};
    XmlconfCpuidLeaf copies[DOMCTL_FEATURES_MAX];
    unsigned count = DOMCTL_FEATURES_MAX;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&cpus->lock);

    if (!load_map_locked(cpus, error))
        return NULL;
    if (cpus->guest.map)
        return &cpus->guest;
    if (!probe(cpus, leaves, &count, error))
        return NULL;
    memcpy(copies, leaves, sizeof(copies));
    xmlconf_cpu_have_init(&cpus->guest, cpus->map, cpus->signature, copies, count);
    return &cpus->guest;
}

/* ---- a domain's */

typedef struct {
    struct domctl_features leaves[DOMCTL_FEATURES_MAX];
    unsigned count;
} Features;

static int get_features(struct domctl *ctl, gpointer data)
{
    Features *features = data;

    return domctl_get_features(ctl, features->leaves, &features->count);
}

static int set_features(struct domctl *ctl, gpointer data)
{
    const Features *features = data;

    return domctl_set_features(ctl, features->leaves, features->count);
}

static gboolean resolve(XldrvCpus *cpus, const XmlconfCpu *cpu, Features *features, GError **error)
{
    XmlconfCpuidLeaf leaves[DOMCTL_FEATURES_MAX];
    XmlconfCpuFeatures wanted;
    XmlconfCpuHave have;
    g_autoptr(GError) why = NULL;
    gboolean ok;

    memcpy(leaves, features->leaves, sizeof(leaves));
    xmlconf_cpu_have_init(&have, cpus->map, cpus->signature, leaves, features->count);
    ok = xmlconf_cpu_resolve(&have, cpu, &wanted, &why);
    xmlconf_cpu_have_clear(&have);
    if (!ok)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "%s", why->message);
    xmlconf_cpu_mask(cpus->map, &wanted, leaves, features->count);
    memcpy(features->leaves, leaves, sizeof(leaves));
    return TRUE;
}

gboolean xldrv_cpus_apply(XldrvCpus *cpus, XldrvInstance *instance, const XmlconfCpu *cpu, GError **error)
{
    Features features = {.count = DOMCTL_FEATURES_MAX};

    if (!cpu->model && !cpu->vendor && (!cpu->features || !cpu->features->len))
        return TRUE;
    return xldrv_cpus_map(cpus, error) &&
           xldrv_instance_control(instance, "get the CPU features of", get_features, &features, error) &&
           resolve(cpus, cpu, &features, error) &&
           xldrv_instance_control(instance, "set the CPU features of", set_features, &features, error);
}
