/* Index discipline of a ring in memory shared with the guest: each index is read once, ordered, and compared by
 * unsigned distance. Works on any ring of DEFINE_RING_TYPES (xen/io/ring.h), whose index fields have these names.
 */
#pragma once

#include "hv/types.h"

/* The producer index of requests. What is written before it is visible afterwards. */
#define HV_RING_REQUESTS(sring) __atomic_load_n(&(sring)->req_prod, __ATOMIC_ACQUIRE)

/* Asks for an event when the request with index @at is made. The caller looks at HV_RING_REQUESTS once more. */
#define HV_RING_WANT_EVENT(sring, at)                                \
    do {                                                             \
        __atomic_store_n(&(sring)->req_event, (at), __ATOMIC_RELAXED); \
        __atomic_thread_fence(__ATOMIC_SEQ_CST);                     \
    } while (0)

/* Publishes responses up to @prod, of which [@from, @prod) are new. True when the guest wants to be told. */
#define HV_RING_PUBLISH(sring, from, prod)                                 \
    ({                                                                     \
        __atomic_store_n(&(sring)->rsp_prod, (prod), __ATOMIC_RELEASE);    \
        __atomic_thread_fence(__ATOMIC_SEQ_CST);                           \
        (uint32_t)((prod)-__atomic_load_n(&(sring)->rsp_event, __ATOMIC_RELAXED)) < \
            (uint32_t)((prod) - (from));                                   \
    })
