/* Emission of ACPI machine language. */
#include "config.h"

#include "hv/loader/aml.h"

#include <string.h>

enum {
    AML_NAME = 0x08,
    AML_BYTE_PREFIX = 0x0a,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11,
    AML_EXTENDED = 0x5b,
    AML_EXTENDED_PROCESSOR = 0x83,
};

#define PKG_LENGTH_BYTES 3 /* the form that holds 20 bits */

void hv_aml_raw(struct hv_aml *aml, const void *bytes, size_t count)
{
    if (count > aml->size - aml->used) {
        aml->overflow = true;
        return;
    }
    memcpy(aml->bytes + aml->used, bytes, count);
    aml->used += count;
}

void hv_aml_byte(struct hv_aml *aml, uint8_t byte)
{
    hv_aml_raw(aml, &byte, 1);
}

void hv_aml_dword(struct hv_aml *aml, uint32_t value)
{
    hv_aml_raw(aml, &value, sizeof(value));
}

size_t hv_aml_begin(struct hv_aml *aml)
{
    size_t mark = aml->used;

    hv_aml_raw(aml, "\0\0", PKG_LENGTH_BYTES);
    return mark;
}

/* The length counts its own bytes. Lead byte: how many follow in bits 6-7, the low 4 bits of the length. */
void hv_aml_end(struct hv_aml *aml, size_t mark)
{
    size_t length = aml->used - mark;

    if (aml->overflow || length >> 20) {
        aml->overflow = true;
        return;
    }
    aml->bytes[mark] = (uint8_t)((PKG_LENGTH_BYTES - 1) << 6 | (length & 0xf));
    aml->bytes[mark + 1] = (uint8_t)(length >> 4);
    aml->bytes[mark + 2] = (uint8_t)(length >> 12);
}

size_t hv_aml_scope_sb(struct hv_aml *aml)
{
    size_t mark;

    hv_aml_byte(aml, AML_SCOPE);
    mark = hv_aml_begin(aml);
    hv_aml_raw(aml, "\\_SB_", 5);
    return mark;
}

size_t hv_aml_processor(struct hv_aml *aml, const char name[4], uint8_t id)
{
    size_t mark;

    hv_aml_byte(aml, AML_EXTENDED);
    hv_aml_byte(aml, AML_EXTENDED_PROCESSOR);
    mark = hv_aml_begin(aml);
    hv_aml_raw(aml, name, 4);
    hv_aml_byte(aml, id);
    hv_aml_dword(aml, 0); /* no P_BLK */
    hv_aml_byte(aml, 0);
    return mark;
}

void hv_aml_name_buffer(struct hv_aml *aml, const char name[4], const void *bytes, uint8_t count)
{
    size_t mark;

    hv_aml_byte(aml, AML_NAME);
    hv_aml_raw(aml, name, 4);
    hv_aml_byte(aml, AML_BUFFER);
    mark = hv_aml_begin(aml);
    hv_aml_byte(aml, AML_BYTE_PREFIX);
    hv_aml_byte(aml, count);
    hv_aml_raw(aml, bytes, count);
    hv_aml_end(aml, mark);
}
