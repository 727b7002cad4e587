/* domus_op on the guest's memory: looks into it, and how fast the guest changes it. ABI: hv/hv.h. */
#include "config.h"

#include "hv/hypercall/domus-memory.h"

#include "hv/control/control.h"
#include "hv/machine/dirty-rate.h"
#include "hv/machine/vcpu.h"
#include "hv/x86/paging.h"

/* What is left of a page from @address on, at most @bytes. */
static size_t part_of_page(uint64_t address, size_t bytes)
{
    size_t room = HV_PAGE_SIZE - (address & HV_PAGE_MASK);

    return bytes < room ? bytes : room;
}

/* As the kernel reaches it, or as a program does: with SMAP the kernel does not reach what is a program's. */
static bool translate(struct hv_vcpu *v, hv_gva va, struct hv_translation *out)
{
    struct hv_fault fault;

    return !hv_x86_translate(v, va, HV_ACCESS_NO_AD, out, &fault) ||
           !hv_x86_translate(v, va, HV_ACCESS_NO_AD | HV_ACCESS_USER, out, &fault);
}

/* The guest physical address of @address, which may be one already. */
static long find(struct hv_domain *d, const struct domus_peek *peek, uint64_t address, hv_gpa *gpa)
{
    struct hv_translation translation;

    *gpa = hv_gpa_of(address);
    if (!(peek->flags & DOMUS_PEEK_VIRTUAL))
        return 0;
    if (!translate(d->vcpus[0], hv_gva_of(address), &translation))
        return -XEN_EFAULT;
    *gpa = translation.gpa;
    return 0;
}

static long copy(struct hv_caller *c, const struct domus_peek *peek)
{
    struct hv_domain *d = c->domain;
    uint8_t page[HV_PAGE_SIZE];
    long error = 0;
    hv_gpa gpa;

    for (size_t done = 0, n; !error && done < peek->bytes; done += n) {
        n = part_of_page(peek->address + done, peek->bytes - done);
        error = find(d, peek, peek->address + done, &gpa);
        if (!error && hv_memory_read(&d->mem, gpa, page, n))
            error = -XEN_EFAULT;
        if (!error)
            error = hv_caller_write(c, peek->buffer + done, page, n);
    }
    return error;
}

/* Page tables are those of one moment, for which the guest stands still. */
long hv_domus_peek(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct domus_peek *peek = arg;
    bool still = peek->flags & DOMUS_PEEK_VIRTUAL;
    long error;

    (void)args;
    if (!c->domain || !c->control->built)
        return -XEN_ESRCH;
    if (peek->flags & ~(uint32_t)DOMUS_PEEK_VIRTUAL || peek->bytes > HV_CONTROL_DATA_MAX ||
        peek->address + peek->bytes < peek->address)
        return -XEN_EINVAL;
    if (still)
        hv_domain_pause(c->domain);
    error = copy(c, peek);
    if (still)
        hv_domain_unpause(c->domain);
    return error;
}

long hv_domus_dirty_rate_start(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct domus_dirty_rate *rate = arg;

    (void)args;
    if (!c->domain || !c->control->built)
        return -XEN_ESRCH;
    if (!rate->seconds || rate->seconds > DOMUS_DIRTY_RATE_SECONDS_MAX)
        return -XEN_EINVAL;
    return hv_dirty_rate_start(c->domain, rate->seconds);
}

long hv_domus_dirty_rate(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    if (!c->domain)
        return -XEN_ESRCH;
    hv_dirty_rate_get(c->domain, arg);
    return 0;
}
