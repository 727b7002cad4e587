/* A tiny emitter of ACPI machine language: what the DSDT needs and no more. Private to the loader.
 * Source: ACPI 6.4, chapter 20 "ACPI Machine Language (AML) Specification".
 */
#pragma once

#include "hv/types.h"

/* Bytes that grow in a fixed buffer; too many set overflow and are dropped. */
struct hv_aml {
    uint8_t *bytes;
    size_t used, size;
    bool overflow;
};

void hv_aml_byte(struct hv_aml *aml, uint8_t byte);
void hv_aml_dword(struct hv_aml *aml, uint32_t value);
void hv_aml_raw(struct hv_aml *aml, const void *bytes, size_t count);

/* A package length that is known only when its contents are there: begin gives a mark for end. */
size_t hv_aml_begin(struct hv_aml *aml);
void hv_aml_end(struct hv_aml *aml, size_t mark);

/* Scope(\_SB) {: end with hv_aml_end. */
size_t hv_aml_scope_sb(struct hv_aml *aml);
/* Processor(@name, @id, 0, 0) {: end with hv_aml_end. */
size_t hv_aml_processor(struct hv_aml *aml, const char name[4], uint8_t id);
/* Name(@name, Buffer(@count) {@bytes}). At most 255 bytes. */
void hv_aml_name_buffer(struct hv_aml *aml, const char name[4], const void *bytes, uint8_t count);
