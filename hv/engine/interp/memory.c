/* Guest memory where the TLB has no answer: misses, accesses over two pages, devices, segments. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#include "hv/machine/machine.h"

/* ---- accesses that the TLB does not answer */

static bool crosses(uint64_t va, unsigned bytes)
{
    return (va & HV_PAGE_MASK) + bytes > HV_PAGE_SIZE;
}

static uint64_t wrap(const struct interp *x, uint64_t va)
{
    return hv_cpu_long_mode(&x->v->cpu) ? va : va & 0xffffffff;
}

static void look(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes, bool write)
{
    if (INTERP_UNLIKELY(x->watching || x->aligning))
        interp_watch(x, op, va, bytes, write);
}

static uint64_t read_page(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    uint64_t value = 0;
    hv_gpa gpa;
    uint8_t *host = interp_walk(x, op, va, 0, &gpa);

    if (!host)
        return hv_mmio_read(x->v, gpa, bytes);
    if (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8)
        return interp_load_host(host, bytes);
    memcpy(&value, host, bytes);
    return value;
}

uint64_t interp_read_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    uint64_t value = 0;

    look(x, op, va, bytes, false);
    if (!crosses(va, bytes))
        return read_page(x, op, va, bytes);
    interp_read_bytes(x, op, va, &value, bytes);
    return value;
}

void interp_write_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes,
                       uint64_t value)
{
    hv_gpa gpa;
    uint8_t *host;

    look(x, op, va, bytes, true);
    if (crosses(va, bytes)) {
        interp_write_bytes(x, op, va, &value, bytes);
        return;
    }
    host = interp_walk(x, op, va, HV_ACCESS_WRITE, &gpa);
    if (!host) {
        hv_mmio_write(x->v, gpa, bytes, value);
        x->stale = true;
        return;
    }
    interp_store_host(host, bytes, value);
    interp_stored(x, op, host, bytes);
}

static unsigned piece_of(uint64_t va, unsigned bytes)
{
    unsigned room = HV_PAGE_SIZE - (unsigned)(va & HV_PAGE_MASK);

    return bytes < room ? bytes : room;
}

/* Devices see naturally aligned accesses of 1, 2, 4 or 8 bytes. */
static void device_bytes(struct interp *x, hv_gpa gpa, uint8_t *buf, unsigned bytes, bool write)
{
    while (bytes) {
        unsigned n = 8;
        uint64_t value = 0;

        while (n > bytes || (gpa.v & (n - 1)))
            n >>= 1;
        if (write) {
            memcpy(&value, buf, n);
            hv_mmio_write(x->v, gpa, n, value);
        } else {
            value = hv_mmio_read(x->v, gpa, n);
            memcpy(buf, &value, n);
        }
        gpa.v += n;
        buf += n;
        bytes -= n;
    }
}

void interp_read_bytes(struct interp *x, struct interp_op *op, uint64_t va, void *buf,
                       unsigned bytes)
{
    uint8_t *out = buf;

    while (bytes) {
        unsigned n = piece_of(va, bytes);
        hv_gpa gpa;
        uint8_t *host = interp_walk(x, op, va, 0, &gpa);

        if (host)
            memcpy(out, host, n);
        else
            device_bytes(x, gpa, out, n, false);
        va = wrap(x, va + n);
        out += n;
        bytes -= n;
    }
}

void interp_check_write(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    while (bytes) {
        unsigned n = piece_of(va, bytes);
        hv_gpa gpa;

        interp_walk(x, op, va, HV_ACCESS_WRITE, &gpa);
        va = wrap(x, va + n);
        bytes -= n;
    }
}

static void write_pieces(struct interp *x, struct interp_op *op, uint64_t va, const uint8_t *in,
                         unsigned bytes)
{
    while (bytes) {
        unsigned n = piece_of(va, bytes);
        hv_gpa gpa;
        uint8_t *host = interp_walk(x, op, va, HV_ACCESS_WRITE, &gpa);

        if (host) {
            memcpy(host, in, n);
            interp_stored(x, op, host, n);
        } else {
            device_bytes(x, gpa, (uint8_t *)in, n, true);
            x->stale = true;
        }
        va = wrap(x, va + n);
        in += n;
        bytes -= n;
    }
}

void interp_split_begin(struct interp *x)
{
    pthread_mutex_lock(&x->v->domain->split_lock);
    x->split = true;
}

void interp_split_end(struct interp *x)
{
    if (x->split)
        pthread_mutex_unlock(&x->v->domain->split_lock);
    x->split = false;
}

void interp_write_bytes(struct interp *x, struct interp_op *op, uint64_t va, const void *buf,
                        unsigned bytes)
{
    if (!crosses(va, bytes)) {
        write_pieces(x, op, va, buf, bytes);
        return;
    }
    interp_check_write(x, op, va, bytes);
    if (!x->split)
        interp_split_begin(x);
    write_pieces(x, op, va, buf, bytes);
    interp_split_end(x);
}

void *interp_modify_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    void *host = interp_host(x, op, va, bytes, true);

    if (host)
        return host;
    interp_check_write(x, op, va, bytes);
    if (crosses(va, bytes))
        interp_split_begin(x);
    if (bytes <= 8)
        x->bounce[0] = interp_read_slow(x, op, va, bytes);
    else
        interp_read_bytes(x, op, va, x->bounce, bytes);
    return x->bounce;
}

void interp_modified_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    if (bytes <= 8)
        interp_write_slow(x, op, va, bytes, interp_load_host(x->bounce, bytes));
    else
        interp_write_bytes(x, op, va, x->bounce, bytes);
}

void *interp_host(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes, bool write)
{
    struct interp_tlb_entry *e = interp_tlb_at(x, va);
    hv_gpa gpa;

    look(x, op, va, bytes, write);
    if (crosses(va, bytes))
        return NULL;
    if ((write ? e->write : e->read) == interp_tag(x, va, bytes))
        return (void *)(va + e->addend);
    return interp_walk(x, op, va, write ? HV_ACCESS_WRITE : 0, &gpa);
}

void interp_code_written(struct interp *x, struct interp_op *op, uint64_t gpa, unsigned bytes)
{
    struct interp_block *b = x->block;

    if (!hv_codemap_written_slow(x->v->domain->mem.code, hv_gpa_of(gpa), bytes))
        return;
    x->stale_blocks++;
    if (op && b && op >= b->ops && op + 1 < b->ops + b->nr_ops &&
        b->generation != __atomic_load_n(b->generation_now, __ATOMIC_RELAXED))
        op[1].fn = interp_op_stop;
}

/* ---- addresses with segments */

static uint64_t segment_fault(struct interp *x, struct interp_op *op, unsigned seg)
{
    interp_raise_code(x, op, seg == HV_SS ? HV_VEC_SS : HV_VEC_GP, 0);
}

static bool segment_allows(const struct hv_segment *s, uint64_t offset, unsigned bytes, bool write)
{
    uint64_t last = offset + bytes - 1;
    unsigned type = HV_SEG_TYPE(s->attr);

    if (!(s->attr & HV_SEG_P))
        return false;
    if (type & 8) { /* code: readable at most */
        if (write || !(type & 2))
            return false;
    } else if (write && !(type & 2)) {
        return false;
    }
    if (!(type & 8) && (type & 4)) /* expand-down */
        return offset > s->limit && last <= (s->attr & HV_SEG_DB ? 0xffffffff : 0xffff);
    return last <= s->limit;
}

uint64_t interp_linear(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned seg,
                       uint64_t offset, unsigned bytes, bool write)
{
    const struct hv_segment *s = &cpu->seg[seg];

    if ((x->mode & INTERP_MODE_SIZE) == INTERP_MODE_64)
        return offset + (seg >= HV_FS ? s->base : 0);
    if ((x->mode & INTERP_MODE_FLAT) && seg < HV_FS && !(seg == HV_CS && write))
        return offset & 0xffffffff;
    if (x->mode & INTERP_MODE_PROTECTED) {
        if (!segment_allows(s, offset, bytes ? bytes : 1, write))
            return segment_fault(x, op, seg);
    } else if (offset + bytes - 1 > s->limit) {
        return segment_fault(x, op, seg);
    }
    return (s->base + offset) & 0xffffffff;
}

uint64_t interp_offset(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint64_t a = (uint64_t)op->disp;

    if (op->flags & INTERP_OP_RIP_BASE)
        a += x->block_rip;
    if (op->base != INTERP_NO_REG)
        a += cpu->gpr[op->base];
    if (op->index != INTERP_NO_REG)
        a += cpu->gpr[op->index] << op->scale;
    return a & interp_mask(op->address_bytes);
}

uint64_t interp_ea_slow(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint64_t offset = interp_offset(cpu, op, x);

    if (op->seg == INTERP_NO_REG) /* LEA */
        return offset;
    return interp_linear(cpu, op, x, op->seg, offset, op->mem_bytes,
                         op->flags & INTERP_OP_MEM_WRITE);
}
