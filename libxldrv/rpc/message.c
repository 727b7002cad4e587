/* message: header and bookkeeping of messages. */
#include "config.h"

#include "libxldrv/rpc/message.h"

#include <string.h>
#include <unistd.h>

static guint32 get_word(const guint8 *bytes)
{
    guint32 word;
    memcpy(&word, bytes, 4);
    return GUINT32_FROM_BE(word);
}

void xldrv_header_decode(const guint8 bytes[XLDRV_HEADER_SIZE], XldrvHeader *header)
{
    header->length = get_word(bytes);
    header->program = get_word(bytes + 4);
    header->version = get_word(bytes + 8);
    header->procedure = (gint32)get_word(bytes + 12);
    header->type = get_word(bytes + 16);
    header->serial = get_word(bytes + 20);
    header->status = get_word(bytes + 24);
}

XldrvMessage *xldrv_message_new(XldrvOutKind kind, const XldrvHeader *header)
{
    XldrvMessage *message = g_new0(XldrvMessage, 1);
    guint32 words[XLDRV_HEADER_SIZE / 4] = {
        0,
        header->program,
        header->version,
        (guint32)header->procedure,
        header->type,
        header->serial,
        header->status,
    };
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        words[i] = GUINT32_TO_BE(words[i]);
    message->kind = kind;
    message->bytes = g_byte_array_sized_new(128);
    g_byte_array_append(message->bytes, (const guint8 *)words, sizeof(words));
    return message;
}

XldrvMessage *xldrv_message_new_whole(XldrvOutKind kind, GByteArray *bytes)
{
    XldrvMessage *message = g_new0(XldrvMessage, 1);

    message->kind = kind;
    message->bytes = bytes;
    return message;
}

void xldrv_message_set_serial(XldrvMessage *message, guint32 serial)
{
    guint32 word = GUINT32_TO_BE(serial);
    memcpy(message->bytes->data + 20, &word, 4);
}

void xldrv_message_seal(XldrvMessage *message)
{
    guint32 length = GUINT32_TO_BE(message->bytes->len);
    memcpy(message->bytes->data, &length, 4);
}

void xldrv_message_free(XldrvMessage *message)
{
    g_byte_array_unref(message->bytes);
    xldrv_fds_free(message->fds);
    g_clear_pointer(&message->stream, xldrv_stream_unref);
    if (message->done)
        message->done(message->done_data);
    g_free(message);
}

void xldrv_fds_free(GArray *fds)
{
    if (!fds)
        return;
    for (guint i = 0; i < fds->len; i++)
        close(g_array_index(fds, int, i));
    g_array_unref(fds);
}
