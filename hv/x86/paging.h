/* Guest page tables: linear to guest physical addresses, for engines (to fill their TLB) and for
 * hypercalls (to reach their arguments).
 */
#pragma once

#include "hv/x86/cpu.h"

struct hv_vcpu;

enum hv_access_flags {
    HV_ACCESS_WRITE = 1u << 0,
    HV_ACCESS_FETCH = 1u << 1,
    HV_ACCESS_USER = 1u << 2,     /* as CPL 3; without it, as supervisor */
    HV_ACCESS_IMPLICIT = 1u << 3, /* a descriptor table or hypercall access: SMAP ignores EFLAGS.AC */
    HV_ACCESS_NO_AD = 1u << 4,    /* a look only: leave accessed and dirty bits alone */
};

/* What a walk found. The permissions are those of all levels together, so that a TLB entry made from
 * them can answer other kinds of access without a new walk.
 */
struct hv_translation {
    hv_gpa gpa;          /* of the byte asked for */
    uint64_t page_bytes; /* 4096, 2 MiB, 4 MiB or 1 GiB: size of the guest's mapping */
    bool writable;       /* by supervisor, CR0.WP set */
    bool user;
    bool executable;
    bool global;
    bool dirty; /* the dirty bit of the leaf is set */
};

/* Translates @va for an access of kind @flags (enum hv_access_flags) with the current CR0, CR3, CR4
 * and EFER of @v; sets accessed and dirty bits in the guest's tables (atomically) unless NO_AD.
 * 0, or -EFAULT with *@fault a page fault ready for delivery. Any thread may call it for a paused
 * vCPU, the owner for a running one.
 * Source: Intel SDM volume 3, chapter 4 "Paging".
 */
int hv_x86_translate(struct hv_vcpu *v, hv_gva va, unsigned flags, struct hv_translation *out,
                     struct hv_fault *fault) HV_MUST_CHECK;
