/* Segment descriptors: reading, checking and loading them. What the engines share.
 *
 * Functions return 0, or -EFAULT with *fault to be delivered; nothing is changed then.
 * Source: Intel SDM volume 3, chapters 3 "Protected-Mode Memory Management" and 5 "Protection".
 */
#pragma once

#include "hv/x86/cpu.h"

struct hv_vcpu;

#define HV_SEG_TYPE_CODE       8u /* with HV_SEG_S */
#define HV_SEG_TYPE_CONFORMING 4u /* of code */
#define HV_SEG_TYPE_DOWN       4u /* expand-down, of data */
#define HV_SEG_TYPE_RW         2u /* code is readable, data writable */

#define HV_SYSTEM_LDT       2u
#define HV_SYSTEM_TSS       9u /* 32 or 64 bit, available */
#define HV_SYSTEM_TSS_BUSY  11u
#define HV_SYSTEM_CALL_GATE 12u
#define HV_SYSTEM_TASK_GATE 5u

struct hv_descriptor {
    uint64_t low, high;        /* high: second half of a system descriptor in long mode */
    uint64_t address;          /* linear, of the descriptor */
    struct hv_segment segment; /* unpacked, with the selector */
};

static inline bool hv_selector_is_null(uint16_t selector)
{
    return (selector & ~3u) == 0;
}

static inline bool hv_segment_is_code(const struct hv_segment *s)
{
    return (s->attr & HV_SEG_S) && (HV_SEG_TYPE(s->attr) & HV_SEG_TYPE_CODE);
}

static inline bool hv_segment_is_conforming(const struct hv_segment *s)
{
    return hv_segment_is_code(s) && (HV_SEG_TYPE(s->attr) & HV_SEG_TYPE_CONFORMING);
}

/* Reads the descriptor of @selector from the GDT or LDT. A selector beyond the table gives @vector
 * with the selector (and @ext, 0 or 1) as error code. */
int hv_x86_read_descriptor(struct hv_vcpu *v, uint16_t selector, uint8_t vector, unsigned ext,
                           struct hv_descriptor *out, struct hv_fault *fault) HV_MUST_CHECK;
/* Sets the accessed bit (or @busy, of a TSS) in the table. */
int hv_x86_mark_descriptor(struct hv_vcpu *v, struct hv_descriptor *d, unsigned type_bits,
                           struct hv_fault *fault) HV_MUST_CHECK;

/* MOV, POP, LDS...: loads ES, SS, DS, FS or GS (not CS). */
int hv_x86_load_segment(struct hv_vcpu *v, enum hv_segment_index index, uint16_t selector,
                        struct hv_fault *fault) HV_MUST_CHECK;
/* Checks @selector for SS at privilege @cpl, a fault being @vector (#GP, or #TS during a stack
 * switch), and gives the segment, accessed bit set. A null selector is not looked at here. */
int hv_x86_check_stack(struct hv_vcpu *v, uint16_t selector, unsigned cpl, uint8_t vector,
                       unsigned ext, struct hv_segment *out, struct hv_fault *fault) HV_MUST_CHECK;
/* SS as the processor sets it when it enters 64-bit code at @cpl by an interrupt. */
struct hv_segment hv_x86_null_stack(unsigned cpl);

int hv_x86_load_ldt(struct hv_vcpu *v, uint16_t selector, struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_load_task(struct hv_vcpu *v, uint16_t selector, struct hv_fault *fault) HV_MUST_CHECK;

enum hv_segment_question { HV_ASK_RIGHTS, HV_ASK_LIMIT, HV_ASK_READ, HV_ASK_WRITE };

/* LAR, LSL, VERR, VERW: sets *@answer (rights as LAR gives them, or the limit) and *@yes (ZF). Only
 * page faults. */
int hv_x86_ask_segment(struct hv_vcpu *v, enum hv_segment_question question, uint16_t selector,
                       uint32_t *answer, bool *yes, struct hv_fault *fault) HV_MUST_CHECK;
