/* All of a domain's state but its memory: one table, in the order in which it is written and read. */
#include "config.h"

#include "hv/stream/parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/console.h"
#include "hv/backend/xenbus.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/grant.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/sched.h"
#include "hv/machine/cpuid-mask.h"
#include "hv/machine/cpuid.h"
#include "hv/machine/time.h"
#include "hv/store/ring.h"

/* ------------------------------------------------------------------ what the domain is */

struct domain_state {
    uint32_t kind, nr_vcpus, domid;
    uint8_t uuid[16];
};

static const struct hv_field domain_fields[] = {
    HV_FIELD(1, struct domain_state, kind),
    HV_FIELD(2, struct domain_state, nr_vcpus),
    HV_FIELD(3, struct domain_state, domid),
    HV_FIELD(4, struct domain_state, uuid),
};

static void encode_domain(struct hv_domain *d, struct hv_encoder *e)
{
    struct domain_state state = {.kind = d->kind, .nr_vcpus = d->nr_vcpus, .domid = d->domid};

    memcpy(state.uuid, d->uuid, sizeof(state.uuid));
    hv_encode_fields(e, domain_fields, HV_ARRAY_LEN(domain_fields), &state);
}

/* Its number and UUID are what the toolstack says. */
static int decode_domain(struct hv_domain *d, struct hv_decoder *dec)
{
    struct domain_state state;
    int error = hv_decode_fields(dec, domain_fields, HV_ARRAY_LEN(domain_fields), &state);

    if (!error && state.kind != d->kind)
        error = hv_decode_fail(dec, "it is of another kind");
    if (!error && state.nr_vcpus != d->nr_vcpus)
        error = hv_decode_fail(dec, "it has %u vCPUs, and its configuration %u", state.nr_vcpus, d->nr_vcpus);
    return error;
}

/* ------------------------------------------------------------------ what its processor has */

static void encode_cpuid(struct hv_domain *d, struct hv_encoder *e)
{
    struct hv_cpuid_features features[HV_CPUID_FEATURE_LEAVES];

    hv_cpuid_get_features(d, features);
    hv_encode_u32(e, hv_cpuid_vendor(d));
    hv_encode_u32(e, HV_CPUID_FEATURE_LEAVES);
    hv_encode(e, features, sizeof(features));
}

static int decode_cpuid(struct hv_domain *d, struct hv_decoder *dec)
{
    struct hv_cpuid_features features[HV_CPUID_FEATURE_LEAVES];
    uint32_t vendor, count = 0;
    unsigned bad;
    int error = hv_decode_u32(dec, &vendor);

    if (!error)
        error = hv_decode_u32(dec, &count);
    if (!error && count != HV_CPUID_FEATURE_LEAVES)
        return hv_decode_fail(dec, "there are %u leaves of CPUID with features, not %u", count, HV_CPUID_FEATURE_LEAVES);
    if (!error)
        error = hv_decode(dec, features, sizeof(features));
    if (error)
        return error;
    if (vendor != (uint32_t)hv_cpuid_vendor(d))
        return hv_decode_fail(dec, "the guest's processor is of another maker than this host's");
    if (hv_cpuid_set_features(d, features, count, &bad))
        return hv_decode_fail(dec, "the guest's processor has features in CPUID leaf 0x%x.%u that this host's has not",
                              features[bad].leaf, features[bad].subleaf);
    return 0;
}

/* ------------------------------------------------------------------ what may be missing */

static void encode_console(struct hv_domain *d, struct hv_encoder *e)
{
    if (d->console)
        hv_console_encode(d->console, e);
}

static int decode_console(struct hv_domain *d, struct hv_decoder *dec)
{
    hv_gfn gfn = hv_gfn_of(hv_param_get(d, HVM_PARAM_CONSOLE_PFN));

    if (!dec->left)
        return 0;
    if (hv_memory_type(&d->mem, gfn) != HV_PAGE_RAM ||
        hv_console_new(d, gfn, (uint32_t)hv_param_get(d, HVM_PARAM_CONSOLE_EVTCHN)))
        return hv_decode_fail(dec, "its ring cannot be at page 0x%llx", (unsigned long long)gfn.v);
    return hv_console_decode(d->console, dec);
}

static void encode_store(struct hv_domain *d, struct hv_encoder *e)
{
    if (d->store)
        hv_store_ring_encode(d, e);
}

static int decode_store(struct hv_domain *d, struct hv_decoder *dec)
{
    return dec->left ? hv_store_ring_decode(d, dec) : 0;
}

/* The memory's contents come in between: see hv_stream_decode_state. */
static void encode_nothing(struct hv_domain *d, struct hv_encoder *e)
{
    (void)d, (void)e;
}

static void encode_time(struct hv_domain *d, struct hv_encoder *e)
{
    hv_time_encode(d, e);
}

static void encode_params(struct hv_domain *d, struct hv_encoder *e)
{
    hv_params_encode(d, e);
}

static void encode_sched(struct hv_domain *d, struct hv_encoder *e)
{
    hv_sched_encode(d, e);
}

/* ------------------------------------------------------------------ the table */

struct part {
    enum hv_stream_record_type type;
    const char *name;
    void (*encode)(struct hv_domain *d, struct hv_encoder *e);
    int (*decode)(struct hv_domain *d, struct hv_decoder *dec);
    bool each_vcpu; /* functions of a vCPU in their place */
};

/* Memory before what is in it, ports and grants before those who use them, vCPUs before devices. */
static const struct part parts[] = {
    {HV_RECORD_DOMAIN, "domain", encode_domain, decode_domain, false},
    {HV_RECORD_CPUID, "CPUID", encode_cpuid, decode_cpuid, false},
    {HV_RECORD_MEMORY, "memory map", hv_physmap_encode, hv_physmap_decode, false},
    {HV_RECORD_CHECKSUMS, "memory", encode_nothing, NULL, false},
    {HV_RECORD_TIME, "time", encode_time, hv_time_decode, false},
    {HV_RECORD_PARAMS, "parameters", encode_params, hv_params_decode, false},
    {HV_RECORD_SHARED_INFO, "shared_info", hv_shared_info_encode, hv_shared_info_decode, false},
    {HV_RECORD_GRANTS, "grant table", hv_gnttab_encode, hv_gnttab_decode, false},
    {HV_RECORD_EVTCHN, "event channels", hv_evtchn_encode, hv_evtchn_decode, false},
    {HV_RECORD_SCHED, "watchdogs", encode_sched, hv_sched_decode, false},
    {HV_RECORD_VCPU, "vCPU", NULL, NULL, true},
    {HV_RECORD_CONSOLE, "console", encode_console, decode_console, false},
    {HV_RECORD_STORE, "store ring", encode_store, decode_store, false},
    {HV_RECORD_DEVICES, "devices", hv_xenbus_encode, hv_xenbus_decode, false},
};

/* ------------------------------------------------------------------ writing */

static size_t begin_record(struct hv_encoder *e)
{
    size_t at = e->used;

    hv_encode(e, NULL, sizeof(struct hv_stream_record));
    return at;
}

static void end_record(struct hv_encoder *e, size_t at, uint16_t type, uint16_t instance)
{
    struct hv_stream_record record = {.type = type, .instance = instance};

    if (e->failed)
        return;
    record.bytes = e->used - at - sizeof(record);
    record.crc = hv_stream_record_crc(&record, e->data + at + sizeof(record));
    memcpy(e->data + at, &record, sizeof(record));
}

void hv_stream_encode_record(struct hv_encoder *e, enum hv_stream_record_type type, const void *payload, size_t bytes)
{
    size_t at = begin_record(e);

    hv_encode(e, payload, bytes);
    end_record(e, at, (uint16_t)type, 0);
}

static void encode_vcpus(struct hv_domain *d, struct hv_encoder *e)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++) {
        size_t at = begin_record(e);

        hv_stream_encode_vcpu(d->vcpus[i], e);
        end_record(e, at, HV_RECORD_VCPU, (uint16_t)i);
    }
}

int hv_stream_encode_state(struct hv_domain *d, const struct hv_encoder *checksums, struct hv_encoder *e)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(parts); i++) {
        size_t at;

        if (parts[i].each_vcpu) {
            encode_vcpus(d, e);
            continue;
        }
        at = begin_record(e);
        if (parts[i].type == HV_RECORD_CHECKSUMS && checksums)
            hv_encode(e, checksums->data, checksums->used);
        else
            parts[i].encode(d, e);
        end_record(e, at, (uint16_t)parts[i].type, 0);
    }
    hv_stream_encode_record(e, HV_RECORD_END, NULL, 0);
    return e->failed ? -ENOMEM : 0;
}

/* ------------------------------------------------------------------ reading */

/* The next record, which has to be the one of @part. */
static int next_record(struct hv_decoder *all, const struct part *part, uint16_t instance, struct hv_decoder *out)
{
    struct hv_stream_record record;

    if (hv_decode(all, &record, sizeof(record)))
        return -EBADMSG;
    if (record.type != part->type || record.instance != instance)
        return hv_decode_fail(all, "a record of kind %u is where that of the %s should be", record.type, part->name);
    if (record.bytes > all->left)
        return hv_decode_fail(all, "the record of the %s is cut short", part->name);
    if (record.crc != hv_stream_record_crc(&record, all->at))
        return hv_decode_fail(all, "the record of the %s is damaged", part->name);
    if (hv_decode_part(all, record.bytes, out))
        return -EBADMSG;
    out->what = part->name;
    return 0;
}

struct reading {
    struct hv_domain *domain;
    struct hv_decoder all;
    hv_stream_memory_fn *memory;
    void *opaque;
};

static int decode_vcpus(struct reading *r, const struct part *part)
{
    struct hv_decoder dec;
    int error = 0;

    for (unsigned i = 0; !error && i < r->domain->nr_vcpus; i++) {
        error = next_record(&r->all, part, (uint16_t)i, &dec);
        if (!error)
            error = hv_stream_decode_vcpu(r->domain->vcpus[i], &dec);
        if (!error)
            error = hv_decode_end(&dec);
    }
    return error;
}

static int decode_part(struct reading *r, const struct part *part)
{
    struct hv_decoder dec;
    int error;

    if (part->each_vcpu)
        return decode_vcpus(r, part);
    error = next_record(&r->all, part, 0, &dec);
    if (error)
        return error;
    error = part->decode ? part->decode(r->domain, &dec) : r->memory(r->domain, &dec, r->opaque);
    return error ? error : hv_decode_end(&dec);
}

int hv_stream_decode_state(struct hv_domain *d, const void *state, size_t bytes, hv_stream_memory_fn *memory, void *opaque,
                           char error[HV_STREAM_ERROR_BYTES])
{
    static const struct part end = {HV_RECORD_END, "end", NULL, NULL, false};
    struct reading r = {
        .domain = d,
        .all = {.at = state, .left = bytes, .what = "state", .error = error, .error_bytes = HV_STREAM_ERROR_BYTES},
        .memory = memory,
        .opaque = opaque,
    };
    struct hv_decoder dec;
    int rc = 0;

    error[0] = '\0';
    for (size_t i = 0; !rc && i < HV_ARRAY_LEN(parts); i++)
        rc = decode_part(&r, &parts[i]);
    if (!rc)
        rc = next_record(&r.all, &end, 0, &dec);
    if (!rc)
        rc = hv_decode_end(&r.all);
    if (rc && !error[0])
        snprintf(error, HV_STREAM_ERROR_BYTES, "%s", strerror(-rc));
    return rc;
}
