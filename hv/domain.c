/* A domain: how its parts come and go, and what stops it. */
#include "config.h"

#include "hv/domain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "hv/xen-abi.h"

#include "hv/backend/console.h"
#include "hv/backend/fb/display.h"
#include "hv/backend/xenbus.h"
#include "hv/control/server.h"
#include "hv/engine/engine.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/grant.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/sched.h"
#include "hv/machine/cpuid-mask.h"
#include "hv/machine/cpuid.h"
#include "hv/machine/dirty-rate.h"
#include "hv/machine/time.h"
#include "hv/machine/vcpu.h"
#include "hv/machine/vnuma.h"
#include "hv/store/ring.h"
#include "hv/stream/job.h"

static int shared_info_init(struct hv_domain *d)
{
    void *page;
    int rc = hv_memory_alloc_shared(&d->mem, &d->shared_info_index, &page);

    if (!rc)
        d->shared_info = page;
    return rc;
}

static void shared_info_fini(struct hv_domain *d)
{
    d->shared_info = NULL; /* the page goes with the memory */
}

static int memory_init(struct hv_domain *d)
{
    return hv_memory_init(&d->mem);
}

static void memory_fini(struct hv_domain *d)
{
    hv_memory_fini(&d->mem);
}

/* The parts every domain has, in the order in which they are made; they go in reverse. */
static const struct {
    int (*init)(struct hv_domain *d);
    void (*fini)(struct hv_domain *d);
} parts[] = {
    {memory_init, memory_fini},       {shared_info_init, shared_info_fini},
    {hv_time_init, hv_time_fini},     {hv_cpuid_init, hv_cpuid_fini},
    {hv_cpuid_mask_init, hv_cpuid_mask_fini}, {hv_params_init, hv_params_fini}, {hv_evtchn_init, hv_evtchn_fini},
    {hv_gnttab_init, hv_gnttab_fini}, {hv_physmap_init, hv_physmap_fini},
    {hv_sched_init, hv_sched_fini},   {hv_display_init, hv_display_fini}, {hv_xenbus_init, hv_xenbus_fini},
};

static void parts_fini(struct hv_domain *d, size_t count)
{
    while (count)
        parts[--count].fini(d);
}

int hv_domain_new(const struct hv_engine_ops *engine, struct hv_loop *loop, struct hv_domain **out)
{
    struct hv_domain *d = calloc(1, sizeof(*d));

    if (!d)
        return -ENOMEM;
    d->engine = engine;
    d->code_cache_bytes = HV_CODE_CACHE_DEFAULT;
    d->loop = loop;
    atomic_init(&d->shutdown_code, -1);
    pthread_mutex_init(&d->lock, NULL);
    pthread_mutex_init(&d->split_lock, NULL);
    for (size_t i = 0; i < HV_ARRAY_LEN(parts); i++) {
        int rc = parts[i].init(d);

        if (rc) {
            parts_fini(d, i);
            pthread_mutex_destroy(&d->split_lock);
            pthread_mutex_destroy(&d->lock);
            free(d);
            return rc;
        }
    }
    *out = d;
    return 0;
}

void hv_domain_free(struct hv_domain *d)
{
    if (!d)
        return;
    hv_vcpus_join(d);
    hv_stream_free(d);
    hv_dirty_rate_free(d);
    if (d->store)
        hv_store_ring_free(d);
    if (d->console)
        hv_console_free(d);
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_vcpu_free(d->vcpus[i]);
    d->nr_vcpus = 0;
    hv_vnuma_fini(d);
    parts_fini(d, HV_ARRAY_LEN(parts));
    pthread_mutex_destroy(&d->split_lock);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void hv_domain_shutdown(struct hv_domain *d, unsigned code)
{
    int alive = -1;

    if (!atomic_compare_exchange_strong(&d->shutdown_code, &alive, (int)(code & 0xff)))
        return;
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_vcpu_pause_nosync(d->vcpus[i]); /* and nobody undoes it */
    hv_control_notify(d, HV_EVENT_SHUTDOWN, code & 0xff);
}

void hv_domain_crash(struct hv_domain *d, const char *format, ...)
{
    char why[256];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    hv_log_guest(d, HV_LOG_ERROR, "crashed: %s", why);
    hv_domain_shutdown(d, SHUTDOWN_crash);
}
