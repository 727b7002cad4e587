/* decode: XDR to GVariant. */
#include "config.h"

#include "libxldrv/rpc/signature.h"

#include <string.h>

#include "libxldrv/rpc/rpc.h"

typedef struct {
    const guint8 *at;
    gsize left;
    GError **error;
} Reader;

static GVariant *decode_node(Reader *reader, const XldrvNode *node);

static gboolean fail(Reader *reader, const char *what)
{
    xldrv_set_error_from(reader->error, VIR_FROM_RPC, VIR_ERR_RPC,
                         "Unable to decode message payload: %s", what);
    return FALSE;
}

static gboolean read_bytes(Reader *reader, gsize n, const guint8 **bytes)
{
    if (n > reader->left)
        return fail(reader, "it ends too early");
    *bytes = reader->at;
    reader->at += n;
    reader->left -= n;
    return TRUE;
}

static gboolean read_word(Reader *reader, guint32 *value)
{
    const guint8 *bytes;
    if (!read_bytes(reader, 4, &bytes))
        return FALSE;
    memcpy(value, bytes, 4);
    *value = GUINT32_FROM_BE(*value);
    return TRUE;
}

static gboolean read_long(Reader *reader, guint64 *value)
{
    const guint8 *bytes;
    if (!read_bytes(reader, 8, &bytes))
        return FALSE;
    memcpy(value, bytes, 8);
    *value = GUINT64_FROM_BE(*value);
    return TRUE;
}

/* Length, bytes and padding of a string or opaque. */
static gboolean read_counted(Reader *reader, gsize max, const guint8 **bytes, gsize *length)
{
    guint32 n;
    if (!read_word(reader, &n))
        return FALSE;
    if (n > max)
        return fail(reader, "a string or byte array is too long");
    *length = n;
    gsize padded = ((gsize)n + 3) & ~(gsize)3;
    return read_bytes(reader, padded, bytes);
}

static GVariant *take_data(const GVariantType *type, gpointer data, gsize size)
{
    return g_variant_new_from_data(type, data, size, TRUE, g_free, data);
}

static GVariant *new_bytes(const guint8 *bytes, gsize length)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, length ? bytes : NULL, length, 1);
}

static GVariant *decode_string(Reader *reader)
{
    const guint8 *bytes;
    gsize length;
    if (!read_counted(reader, XLDRV_STRING_MAX, &bytes, &length))
        return NULL;
    /* With a length, GLib also refuses NUL. */
    if (!g_utf8_validate((const char *)bytes, length, NULL)) {
        fail(reader, "a string is not valid UTF-8 text");
        return NULL;
    }
    char *text = g_malloc(length + 1);
    memcpy(text, bytes, length);
    text[length] = '\0';
    return take_data(G_VARIANT_TYPE_STRING, text, length + 1);
}

static GVariant *decode_opaque(Reader *reader, const XldrvNode *node)
{
    const guint8 *bytes;
    gsize length;
    if (!read_counted(reader, node->count, &bytes, &length))
        return NULL;
    return new_bytes(bytes, length);
}

static GVariant *decode_uuid(Reader *reader)
{
    const guint8 *bytes;
    if (!read_bytes(reader, 16, &bytes))
        return NULL;
    return new_bytes(bytes, 16);
}

static GVariant *new_word(char type, guint32 value)
{
    return type == 'i' ? g_variant_new_int32((gint32)value) : g_variant_new_uint32(value);
}

static GVariant *new_long(char type, guint64 value)
{
    if (type == 'x')
        return g_variant_new_int64((gint64)value);
    if (type == 't')
        return g_variant_new_uint64(value);
    double number;
    memcpy(&number, &value, sizeof(number));
    return g_variant_new_double(number);
}

/* The scalars of 4 and 8 bytes, by the letter of their GVariant type. */
static GVariant *decode_scalar(Reader *reader, char type)
{
    guint64 wide;
    guint32 word;

    if (type == 'x' || type == 't' || type == 'd')
        return read_long(reader, &wide) ? new_long(type, wide) : NULL;
    if (!read_word(reader, &word))
        return NULL;
    switch (type) {
    case 'b':
        return g_variant_new_boolean(word != 0);
    case 'y':
        return g_variant_new_byte(word & 0xff);
    case 'q':
        return g_variant_new_uint16(word & 0xffff);
    default:
        return new_word(type, word);
    }
}

static GVariant *decode_param_value(Reader *reader)
{
    guint32 discriminant;
    if (!read_word(reader, &discriminant))
        return NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(xldrv_param_types); i++) {
        char type = xldrv_param_types[i].type;
        if (xldrv_param_types[i].discriminant == discriminant)
            return type == 's' ? decode_string(reader) : decode_scalar(reader, type);
    }
    fail(reader, "a typed parameter has an unknown type");
    return NULL;
}

static GVariant *decode_param(Reader *reader)
{
    GVariant *members[2];
    members[0] = decode_string(reader);
    if (!members[0])
        return NULL;
    GVariant *value = decode_param_value(reader);
    if (!value) {
        g_variant_unref(members[0]);
        return NULL;
    }
    members[1] = g_variant_new_variant(value);
    return g_variant_new_tuple(members, 2);
}

/* Decodes @n values, all of @nodes[0] or each of its own, into @values. On failure none is left. */
static gboolean decode_values(Reader *reader, XldrvNode *const *nodes, gboolean each,
                              GVariant **values, gsize n)
{
    for (gsize i = 0; i < n; i++) {
        values[i] = decode_node(reader, nodes[each ? i : 0]);
        if (!values[i]) {
            while (i-- > 0)
                g_variant_unref(values[i]);
            return FALSE;
        }
    }
    return TRUE;
}

static GVariant *decode_tuple(Reader *reader, const XldrvNode *node)
{
    g_autofree GVariant **members = g_new(GVariant *, MAX(node->n_children, 1));
    if (!decode_values(reader, node->children, TRUE, members, node->n_children))
        return NULL;
    return g_variant_new_tuple(members, node->n_children);
}

/* Arrays of 4-byte and 8-byte numbers and of characters become one block, without a GVariant per
 * element. */
static GVariant *decode_block(Reader *reader, const XldrvNode *node, gsize n)
{
    const XldrvNode *element = node->children[0];
    const guint8 *bytes;
    if (!read_bytes(reader, n * element->min_size, &bytes))
        return NULL;

    gsize size = element->kind == XLDRV_NODE_CHAR ? 1 : element->min_size;
    guint8 *block = g_malloc(MAX(n * size, 1));
    for (gsize i = 0; i < n; i++, bytes += element->min_size) {
        if (size == 1) {
            block[i] = bytes[3];
        } else if (size == 4) {
            guint32 word;
            memcpy(&word, bytes, 4);
            ((guint32 *)(gpointer)block)[i] = GUINT32_FROM_BE(word);
        } else {
            guint64 wide;
            memcpy(&wide, bytes, 8);
            ((guint64 *)(gpointer)block)[i] = GUINT64_FROM_BE(wide);
        }
    }
    return take_data(node->type, block, n * size);
}

static GVariant *decode_elements(Reader *reader, const XldrvNode *node, gsize n)
{
    const XldrvNode *element = node->children[0];
    if (n > reader->left / element->min_size) {
        fail(reader, "it ends too early");
        return NULL;
    }
    if (element->kind == XLDRV_NODE_WORD || element->kind == XLDRV_NODE_LONG ||
        element->kind == XLDRV_NODE_CHAR)
        return decode_block(reader, node, n);

    g_autofree GVariant **values = g_new(GVariant *, MAX(n, 1));
    if (!decode_values(reader, node->children, FALSE, values, n))
        return NULL;
    return g_variant_new_array(element->type, values, n);
}

static GVariant *decode_array(Reader *reader, const XldrvNode *node)
{
    guint32 n;
    if (!read_word(reader, &n))
        return NULL;
    if (n > node->count) {
        fail(reader, "an array has too many elements");
        return NULL;
    }
    return decode_elements(reader, node, n);
}

static GVariant *decode_optional(Reader *reader, const XldrvNode *node)
{
    guint32 present;
    if (!read_word(reader, &present))
        return NULL;
    if (!present)
        return g_variant_new_maybe(node->children[0]->type, NULL);
    GVariant *value = decode_node(reader, node->children[0]);
    return value ? g_variant_new_maybe(NULL, value) : NULL;
}

/* A floating value, or NULL with the reader's error set. */
static GVariant *decode_node(Reader *reader, const XldrvNode *node)
{
    switch (node->kind) {
    case XLDRV_NODE_STRING:
        return decode_string(reader);
    case XLDRV_NODE_OPAQUE:
        return decode_opaque(reader, node);
    case XLDRV_NODE_UUID:
        return decode_uuid(reader);
    case XLDRV_NODE_PARAM:
        return decode_param(reader);
    case XLDRV_NODE_TUPLE:
        return decode_tuple(reader, node);
    case XLDRV_NODE_ARRAY:
        return decode_array(reader, node);
    case XLDRV_NODE_FIXED:
        return decode_elements(reader, node, node->count);
    case XLDRV_NODE_OPTIONAL:
        return decode_optional(reader, node);
    default:
        return decode_scalar(reader, *g_variant_type_peek_string(node->type));
    }
}

GVariant *xldrv_codec_decode(const XldrvCodec *codec, const guint8 *data, gsize length, gsize *used,
                             GError **error)
{
    Reader reader = {data, length, error};
    GVariant *value = decode_node(&reader, codec->root);
    if (!value)
        return NULL;
    if (used)
        *used = length - reader.left;
    return g_variant_ref_sink(value);
}
