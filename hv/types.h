/* Addresses of the guest as distinct types, so that mixing them does not compile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HV_PAGE_SHIFT 12
#define HV_PAGE_SIZE  4096u
#define HV_PAGE_MASK  4095u

/* Guest physical address, guest frame number (a gpa without its low 12 bits), guest linear address. */
typedef struct {
    uint64_t v;
} hv_gpa;
typedef struct {
    uint64_t v;
} hv_gfn;
typedef struct {
    uint64_t v;
} hv_gva;

static inline hv_gpa hv_gpa_of(uint64_t v)
{
    return (hv_gpa){v};
}

static inline hv_gfn hv_gfn_of(uint64_t v)
{
    return (hv_gfn){v};
}

static inline hv_gva hv_gva_of(uint64_t v)
{
    return (hv_gva){v};
}

static inline hv_gpa hv_gfn_to_gpa(hv_gfn gfn)
{
    return (hv_gpa){gfn.v << HV_PAGE_SHIFT};
}

static inline hv_gfn hv_gpa_to_gfn(hv_gpa gpa)
{
    return (hv_gfn){gpa.v >> HV_PAGE_SHIFT};
}

#define HV_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define HV_ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define HV_MUST_CHECK                      __attribute__((warn_unused_result))
#define HV_PRINTF(f, a)                    __attribute__((format(printf, f, a)))
