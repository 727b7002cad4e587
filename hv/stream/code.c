/* Code that a guest will want: the name of the engine, and for each vCPU its number, how many places follow, and these. An engine
 * of another name has no use for it. */
#include "config.h"

#include "hv/stream/code.h"

#include <errno.h>
#include <string.h>

#include "hv/engine/engine.h"
#include "hv/loop.h"

#define NAME_BYTES 16u
#define PLACES_MAX 24576u       /* of a vCPU */
#define READY_NS   300000000ull /* the sender waits for so long, and the guest goes on meanwhile */

static size_t places_each(const struct hv_domain *d)
{
    size_t share = HV_STREAM_CODE_BYTES_MAX / 2 / sizeof(struct hv_code_place) / d->nr_vcpus;

    return share < PLACES_MAX ? share : PLACES_MAX;
}

static void name_of(const struct hv_domain *d, char name[NAME_BYTES])
{
    memset(name, 0, NAME_BYTES);
    memcpy(name, d->engine->name, strnlen(d->engine->name, NAME_BYTES - 1));
}

static void encode_vcpu(struct hv_domain *d, unsigned id, struct hv_encoder *e)
{
    size_t start = e->used, max = places_each(d);
    struct hv_code_place *list;
    uint32_t count;

    hv_encode_u32(e, id);
    hv_encode_u32(e, 0);
    list = hv_encode(e, NULL, max * sizeof(*list));
    if (!list)
        return;
    count = (uint32_t)d->engine->list_code(d->vcpus[id], list, max);
    memcpy(e->data + start + 4, &count, 4);
    e->used = start + 8 + count * sizeof(*list);
}

void hv_stream_encode_code(struct hv_domain *d, struct hv_encoder *e)
{
    char name[NAME_BYTES];

    name_of(d, name);
    hv_encode(e, name, sizeof(name));
    for (unsigned i = 0; d->engine->list_code && i < d->nr_vcpus; i++)
        encode_vcpu(d, i, e);
}

int hv_stream_decode_code(struct hv_domain *d, struct hv_decoder *dec)
{
    uint64_t deadline = hv_loop_now() + READY_NS;
    char name[NAME_BYTES], ours[NAME_BYTES];
    int error = hv_decode(dec, name, sizeof(name));

    name_of(d, ours);
    if (error || memcmp(name, ours, sizeof(ours)) || !d->engine->prepare_code)
        return error;
    while (!error && dec->left) {
        const struct hv_code_place *list;
        uint32_t id, count = 0;

        error = d->nr_vcpus ? hv_decode_count(dec, "vCPU", d->nr_vcpus - 1, &id) : hv_decode_fail(dec, "there is no vCPU");
        if (!error)
            error = hv_decode_count(dec, "number of places", HV_STREAM_CODE_BYTES_MAX / sizeof(*list), &count);
        list = error ? NULL : hv_decode_bytes(dec, count * sizeof(*list));
        if (list)
            d->engine->prepare_code(d->vcpus[id], list, count, deadline);
        else
            error = -EBADMSG;
    }
    return error;
}
