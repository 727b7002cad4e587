/* UUIDs. */
#include "config.h"

#include "libxldrv/state/uuid.h"

#include <string.h>

gboolean xldrv_uuid_parse(const char *text, guint8 uuid[XLDRV_UUID_BYTES])
{
    if (!text || !g_uuid_string_is_valid(text))
        return FALSE;
    for (guint i = 0; i < XLDRV_UUID_BYTES; i++) {
        if (*text == '-')
            text++;
        uuid[i] = g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]);
        text += 2;
    }
    return TRUE;
}

void xldrv_uuid_format(const guint8 uuid[XLDRV_UUID_BYTES], char text[XLDRV_UUID_CHARS + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (guint i = 0; i < XLDRV_UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *text++ = '-';
        *text++ = digits[uuid[i] >> 4];
        *text++ = digits[uuid[i] & 15];
    }
    *text = '\0';
}

guint xldrv_uuid_hash(gconstpointer uuid)
{
    guint32 word[4];

    memcpy(word, uuid, sizeof(word));
    return word[0] ^ word[1] * 31 ^ word[2] * 1021 ^ word[3] * 65599;
}

gboolean xldrv_uuid_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, XLDRV_UUID_BYTES) == 0;
}
