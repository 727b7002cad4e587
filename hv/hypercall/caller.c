/* Memory of whoever made a hypercall: the vCPU's virtual memory, or the data area of a control request. */
#include "config.h"

#include "hv/hypercall/hypercall.h"

#include <string.h>

#include "hv/hv.h"
#include "hv/x86/paging.h"

/* Who pauses, ends or flushes a vCPU waits for it. */
#define IMPATIENT (HV_ATTN_PAUSE | HV_ATTN_EXIT | HV_ATTN_FLUSH)

bool hv_caller_must_yield(const struct hv_caller *c)
{
    return hv_caller_is_guest(c) && !c->in_multicall &&
           (atomic_load_explicit(&c->vcpu->attention, memory_order_relaxed) & IMPATIENT);
}

void hv_caller_continue(struct hv_caller *c, const uint64_t args[5])
{
    c->unfinished = true;
    memcpy(c->again, args, sizeof(c->again));
}

/* Host memory of the part of @va..@va+@bytes that lies in its first page; *@run is its length. */
static void *guest_run(struct hv_caller *c, uint64_t va, size_t bytes, bool write, size_t *run)
{
    unsigned flags = HV_ACCESS_IMPLICIT | (write ? HV_ACCESS_WRITE : 0);
    struct hv_translation found;
    struct hv_fault fault;
    size_t room = HV_PAGE_SIZE - (va & HV_PAGE_MASK);

    *run = bytes < room ? bytes : room;
    if (hv_x86_translate(c->vcpu, hv_gva_of(va), flags, &found, &fault))
        return NULL;
    return hv_memory_at(&c->domain->mem, found.gpa, *run, write);
}

static int guest_copy(struct hv_caller *c, uint64_t va, uint8_t *buf, size_t bytes, bool write)
{
    while (bytes) {
        size_t run;
        void *host = guest_run(c, va, bytes, write, &run);

        if (!host)
            return -XEN_EFAULT;
        if (write)
            memcpy(host, buf, run);
        else
            memcpy(buf, host, run);
        va += run;
        buf += run;
        bytes -= run;
    }
    return 0;
}

/* The bytes of the data area at caller address @address, or NULL when they are not all in it. */
static uint8_t *control_at(struct hv_caller *c, uint64_t address, size_t bytes)
{
    uint64_t offset = address - HV_CONTROL_DATA_ADDRESS;

    if (address < HV_CONTROL_DATA_ADDRESS || offset > c->data_bytes || bytes > c->data_bytes - offset)
        return NULL;
    return c->data + offset;
}

int hv_caller_read(struct hv_caller *c, uint64_t address, void *buf, size_t bytes)
{
    const uint8_t *from;

    if (!bytes)
        return 0;
    if (hv_caller_is_guest(c))
        return guest_copy(c, address, buf, bytes, false);
    from = control_at(c, address, bytes);
    if (!from)
        return -XEN_EFAULT;
    memcpy(buf, from, bytes);
    return 0;
}

int hv_caller_write(struct hv_caller *c, uint64_t address, const void *buf, size_t bytes)
{
    uint8_t *to;

    if (!bytes)
        return 0;
    if (hv_caller_is_guest(c)) /* guest_copy only reads buf when it writes to the guest */
        return guest_copy(c, address, (uint8_t *)(uintptr_t)buf, bytes, true);
    to = control_at(c, address, bytes);
    if (!to)
        return -XEN_EFAULT;
    memcpy(to, buf, bytes);
    return 0;
}
