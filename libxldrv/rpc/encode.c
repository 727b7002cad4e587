/* encode: GVariant to XDR. */
#include "config.h"

#include "libxldrv/rpc/signature.h"

#include <string.h>

#include "libxldrv/rpc/rpc.h"

typedef struct {
    GByteArray *out;
    gsize start; /* of the payload in @out */
    GError **error;
} Writer;

static gboolean encode_node(Writer *writer, const XldrvNode *node, GVariant *value);

static gboolean too_big(Writer *writer, const char *what, gsize n, gsize max)
{
    xldrv_set_error_from(writer->error, VIR_FROM_RPC, VIR_ERR_RPC,
                         "Unable to encode message payload: %s of %" G_GSIZE_FORMAT
                         " exceeds the limit of %" G_GSIZE_FORMAT,
                         what, n, max);
    return FALSE;
}

/* Room for @n more bytes, zeroed; NULL when the message would become too large. */
static guint8 *extend(Writer *writer, gsize n)
{
    gsize used = writer->out->len - writer->start;
    if (n > XLDRV_PAYLOAD_MAX - used) {
        too_big(writer, "a size", used + n, XLDRV_PAYLOAD_MAX);
        return NULL;
    }
    gsize old = writer->out->len;
    g_byte_array_set_size(writer->out, old + n);
    memset(writer->out->data + old, 0, n);
    return writer->out->data + old;
}

static gboolean write_word(Writer *writer, guint32 value)
{
    guint8 *at = extend(writer, 4);
    if (!at)
        return FALSE;
    value = GUINT32_TO_BE(value);
    memcpy(at, &value, 4);
    return TRUE;
}

static gboolean write_long(Writer *writer, guint64 value)
{
    guint8 *at = extend(writer, 8);
    if (!at)
        return FALSE;
    value = GUINT64_TO_BE(value);
    memcpy(at, &value, 8);
    return TRUE;
}

static gboolean write_counted(Writer *writer, const void *bytes, gsize n, gsize max)
{
    if (n > max)
        return too_big(writer, "a length", n, max);
    if (!write_word(writer, n))
        return FALSE;
    guint8 *at = extend(writer, (n + 3) & ~(gsize)3);
    if (!at)
        return FALSE;
    if (n > 0)
        memcpy(at, bytes, n);
    return TRUE;
}

static gboolean encode_string(Writer *writer, GVariant *value)
{
    gsize length;
    const char *text = g_variant_get_string(value, &length);
    return write_counted(writer, text, length, XLDRV_STRING_MAX);
}

static gboolean encode_opaque(Writer *writer, const XldrvNode *node, GVariant *value)
{
    gsize n;
    const guint8 *bytes = g_variant_get_fixed_array(value, &n, 1);
    return write_counted(writer, bytes, n, node->count);
}

static gboolean encode_uuid(Writer *writer, GVariant *value)
{
    gsize n;
    const guint8 *bytes = g_variant_get_fixed_array(value, &n, 1);
    if (n != 16)
        return xldrv_set_error(writer->error, VIR_ERR_INTERNAL_ERROR,
                               "a UUID has %" G_GSIZE_FORMAT " bytes", n);
    guint8 *at = extend(writer, 16);
    if (!at)
        return FALSE;
    memcpy(at, bytes, 16);
    return TRUE;
}

static guint64 double_bits(double number)
{
    guint64 bits;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

static gboolean encode_scalar(Writer *writer, GVariant *value)
{
    switch (g_variant_classify(value)) {
    case G_VARIANT_CLASS_INT32:
        return write_word(writer, (guint32)g_variant_get_int32(value));
    case G_VARIANT_CLASS_UINT32:
        return write_word(writer, g_variant_get_uint32(value));
    case G_VARIANT_CLASS_INT64:
        return write_long(writer, (guint64)g_variant_get_int64(value));
    case G_VARIANT_CLASS_UINT64:
        return write_long(writer, g_variant_get_uint64(value));
    case G_VARIANT_CLASS_DOUBLE:
        return write_long(writer, double_bits(g_variant_get_double(value)));
    case G_VARIANT_CLASS_BOOLEAN:
        return write_word(writer, g_variant_get_boolean(value));
    case G_VARIANT_CLASS_BYTE:
        return write_word(writer, g_variant_get_byte(value));
    default:
        return write_word(writer, g_variant_get_uint16(value));
    }
}

static gboolean encode_param(Writer *writer, GVariant *value)
{
    g_autoptr(GVariant) name = g_variant_get_child_value(value, 0);
    g_autoptr(GVariant) boxed = g_variant_get_child_value(value, 1);
    g_autoptr(GVariant) inner = g_variant_get_variant(boxed);
    const char *type = g_variant_get_type_string(inner);

    for (gsize i = 0; i < G_N_ELEMENTS(xldrv_param_types); i++) {
        if (xldrv_param_types[i].type != type[0] || type[1] != '\0')
            continue;
        return encode_string(writer, name) &&
               write_word(writer, xldrv_param_types[i].discriminant) &&
               (type[0] == 's' ? encode_string(writer, inner) : encode_scalar(writer, inner));
    }
    return xldrv_set_error(writer->error, VIR_ERR_INTERNAL_ERROR,
                           "typed parameter '%s' cannot be of type '%s'",
                           g_variant_get_string(name, NULL), type);
}

static gboolean encode_tuple(Writer *writer, const XldrvNode *node, GVariant *value)
{
    for (guint i = 0; i < node->n_children; i++) {
        g_autoptr(GVariant) member = g_variant_get_child_value(value, i);
        if (!encode_node(writer, node->children[i], member))
            return FALSE;
    }
    return TRUE;
}

/* The counterpart of the decoder's blocks. */
static gboolean encode_block(Writer *writer, const XldrvNode *element, GVariant *value)
{
    gsize n, size = element->kind == XLDRV_NODE_CHAR ? 1 : element->min_size;
    const guint8 *block = g_variant_get_fixed_array(value, &n, size);
    guint8 *at = extend(writer, n * element->min_size);
    if (!at)
        return FALSE;
    for (gsize i = 0; i < n; i++, at += element->min_size, block += size) {
        if (size == 1) {
            at[3] = *block;
        } else if (size == 4) {
            guint32 word;
            memcpy(&word, block, 4);
            word = GUINT32_TO_BE(word);
            memcpy(at, &word, 4);
        } else {
            guint64 wide;
            memcpy(&wide, block, 8);
            wide = GUINT64_TO_BE(wide);
            memcpy(at, &wide, 8);
        }
    }
    return TRUE;
}

static gboolean encode_elements(Writer *writer, const XldrvNode *element, GVariant *value)
{
    if (element->kind == XLDRV_NODE_WORD || element->kind == XLDRV_NODE_LONG ||
        element->kind == XLDRV_NODE_CHAR)
        return encode_block(writer, element, value);
    gsize n = g_variant_n_children(value);
    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) child = g_variant_get_child_value(value, i);
        if (!encode_node(writer, element, child))
            return FALSE;
    }
    return TRUE;
}

static gboolean encode_array(Writer *writer, const XldrvNode *node, GVariant *value)
{
    gsize n = g_variant_n_children(value);
    if (n > node->count)
        return too_big(writer, "an element count", n, node->count);
    return write_word(writer, n) && encode_elements(writer, node->children[0], value);
}

static gboolean encode_fixed(Writer *writer, const XldrvNode *node, GVariant *value)
{
    gsize n = g_variant_n_children(value);
    if (n != node->count)
        return xldrv_set_error(writer->error, VIR_ERR_INTERNAL_ERROR,
                               "a fixed array has %" G_GSIZE_FORMAT " elements, not %u", n,
                               node->count);
    return encode_elements(writer, node->children[0], value);
}

static gboolean encode_optional(Writer *writer, const XldrvNode *node, GVariant *value)
{
    g_autoptr(GVariant) inner = g_variant_get_maybe(value);
    if (!inner)
        return write_word(writer, 0);
    return write_word(writer, 1) && encode_node(writer, node->children[0], inner);
}

static gboolean encode_node(Writer *writer, const XldrvNode *node, GVariant *value)
{
    switch (node->kind) {
    case XLDRV_NODE_STRING:
        return encode_string(writer, value);
    case XLDRV_NODE_OPAQUE:
        return encode_opaque(writer, node, value);
    case XLDRV_NODE_UUID:
        return encode_uuid(writer, value);
    case XLDRV_NODE_PARAM:
        return encode_param(writer, value);
    case XLDRV_NODE_TUPLE:
        return encode_tuple(writer, node, value);
    case XLDRV_NODE_ARRAY:
        return encode_array(writer, node, value);
    case XLDRV_NODE_FIXED:
        return encode_fixed(writer, node, value);
    case XLDRV_NODE_OPTIONAL:
        return encode_optional(writer, node, value);
    default:
        return encode_scalar(writer, value);
    }
}

gboolean xldrv_codec_encode(const XldrvCodec *codec, GVariant *value, GByteArray *out,
                            GError **error)
{
    Writer writer = {out, out->len, error};
    if (!g_variant_is_of_type(value, codec->root->type))
        return xldrv_set_error(
            error, VIR_ERR_INTERNAL_ERROR, "a value of type '%s' is not of type '%s'",
            g_variant_get_type_string(value), g_variant_type_peek_string(codec->root->type));
    return encode_node(&writer, codec->root, value);
}
