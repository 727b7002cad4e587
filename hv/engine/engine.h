/* What an engine is: the thing that executes a vCPU's instructions.
 *
 * Three engines share this interface: interp (reference), bt (translator) and kvm (hardware). An
 * engine knows instructions, page tables and exceptions. All else is above it, written once: CPUID
 * policy, MSRs, ports, MMIO, the local APIC, time and hypercalls (hv/machine/machine.h), which the
 * engine calls while it runs. How a vCPU thread loops around run() is hv/machine/vcpu.c.
 *
 * Interrupts: the loop decides, the engine delivers. Before run() the loop calls inject() when an
 * interrupt is pending and the guest can take it; when it cannot, the loop sets
 * vcpu->irq_window and run() comes back as soon as the guest can.
 */
#pragma once

#include "hv/types.h"

struct hv_domain;
struct hv_translation;
struct hv_vcpu;

enum hv_run {
    HV_RUN_ATTENTION,    /* vcpu->attention was seen set at an instruction boundary */
    HV_RUN_IRQ_WINDOW,   /* vcpu->irq_window is set, IF is 1 and nothing shadows it */
    HV_RUN_HLT,          /* HLT was executed, RIP is past it */
    HV_RUN_TRIPLE_FAULT, /* the guest is beyond help: shut the domain down as crashed */
    HV_RUN_UNSUPPORTED,  /* the engine cannot execute this; vcpu->error says what */
};

/* Where code is that an engine has made ready to run: in guest physical memory, its linear address, and for which mode; what that
 * is only the engine knows. */
struct hv_code_place {
    uint64_t gpa, rip, mode;
};

/* What translated code of a domain takes at most, unless told otherwise. */
#define HV_CODE_CACHE_DEFAULT (64ull << 20)

struct hv_engine_ops {
    const char *name;

    /* Whether this host can run it; NULL if any can. */
    bool (*available)(void);

    /* Engine state that belongs to one vCPU; hung on vcpu->engine_state. 0 or negative errno. */
    int (*vcpu_init)(struct hv_vcpu *v);
    void (*vcpu_fini)(struct hv_vcpu *v);

    /* Executes guest code of @v on the calling thread until one of enum hv_run. vcpu->cpu is
     * complete and exact on entry and on return.
     */
    enum hv_run (*run)(struct hv_vcpu *v);

    /* Delivers external interrupt @vector (or the NMI, vector 2) now. Called outside run() on the
     * vCPU's thread when hv_vcpu_can_take_interrupt() holds.
     */
    void (*inject)(struct hv_vcpu *v, uint8_t vector);

    /* Forgets every translation of @v, guest pages and code alike: guest physical memory changed
     * under it. Called on the vCPU's thread outside run(), or for a paused vCPU.
     */
    void (*flush)(struct hv_vcpu *v);

    /* Forgets what it knows of address spaces, as flush, but keeps code. NULL: flush does. */
    void (*flush_tlb)(struct hv_vcpu *v);

    /* The engine's TLB, for what reaches guest memory by linear address outside of it
     * (hv/x86/linear.h). lookup: the guest physical address of @va for an access of kind @flags
     * (enum hv_access_flags), false if it does not know. enter: remembers a walk that allowed such
     * an access. On the vCPU's thread, or for a paused vCPU. Both NULL for an engine without.
     */
    bool (*tlb_lookup)(struct hv_vcpu *v, uint64_t va, unsigned flags, hv_gpa *gpa);
    void (*tlb_enter)(struct hv_vcpu *v, uint64_t va, unsigned flags,
                      const struct hv_translation *t);

    /* For a guest that is going to run elsewhere, where all of its code would have to be made ready while it waits. list: what @v
     * ran lately, at most @max places, the likeliest first; how many. prepare: makes such code ready, from whatever the guest has
     * in memory there, until @deadline_ns (CLOCK_MONOTONIC); places that make no sense are left out. For a paused vCPU. Both
     * NULL for an engine without. */
    size_t (*list_code)(struct hv_vcpu *v, struct hv_code_place *list, size_t max);
    void (*prepare_code)(struct hv_vcpu *v, const struct hv_code_place *list, size_t count, uint64_t deadline_ns);

    /* Makes run() return soon; vcpu->attention has been set. NULL if looking at that is enough. */
    void (*kick)(struct hv_vcpu *v);

    /* Prints counters of @v ("name value" lines) for `domus-hv run --stats`; all that there are if
     * the domain is `counted`. May be NULL. */
    void (*print_stats)(struct hv_vcpu *v, int fd);
};

extern const struct hv_engine_ops hv_engine_interp;
extern const struct hv_engine_ops hv_engine_bt;

/* Finds an engine by name ("auto" is the best one that works on this host); NULL if there is none. */
const struct hv_engine_ops *hv_engine_find(const char *name);

/* The name of engine @index, counted from 0, the best first; NULL past the last one. */
const char *hv_engine_name(size_t index);
