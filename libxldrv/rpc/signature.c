/* signature: compiles the letters of a signature into a tree. */
#include "config.h"

#include "libxldrv/rpc/signature.h"

#include <string.h>

#include "libxldrv/rpc/rpc.h"

/* Objects are structs of other letters. */
static const struct {
    char letter;
    const char *members;
} objects[] = {
    {'D', "sUi"}, {'N', "sU"}, {'P', "sU"}, {'V', "sss"}, {'I', "ss"}, {'E', "s"},
    {'S', "Uis"}, {'F', "sU"}, {'B', "ss"}, {'O', "NU"},  {'H', "sD"}, {'K', "sD"},
};

static const struct {
    char letter;
    XldrvNodeKind kind;
    const char *type;
    gsize size;
} scalars[] = {
    {'i', XLDRV_NODE_WORD, "i", 4},      {'u', XLDRV_NODE_WORD, "u", 4},
    {'x', XLDRV_NODE_LONG, "x", 8},      {'t', XLDRV_NODE_LONG, "t", 8},
    {'d', XLDRV_NODE_LONG, "d", 8},      {'b', XLDRV_NODE_BOOL, "b", 4},
    {'c', XLDRV_NODE_CHAR, "y", 4},      {'q', XLDRV_NODE_SHORT, "q", 4},
    {'s', XLDRV_NODE_STRING, "s", 4},    {'U', XLDRV_NODE_UUID, "ay", 16},
    {'T', XLDRV_NODE_PARAM, "(sv)", 12},
};

const XldrvParamType xldrv_param_types[7] = {
    {1, 'i'}, {2, 'u'}, {3, 'x'}, {4, 't'}, {5, 'd'}, {6, 'b'}, {7, 's'},
};

typedef struct {
    const char *at;      /* next letter */
    const char **limits; /* next limit */
} Parser;

static XldrvNode *parse_type(Parser *parser);

static void node_free(XldrvNode *node)
{
    for (guint i = 0; i < node->n_children; i++)
        node_free(node->children[i]);
    g_free(node->children);
    g_clear_pointer(&node->type, g_variant_type_free);
    g_free(node);
}

static XldrvNode *node_new(XldrvNodeKind kind, const char *type, gsize min_size)
{
    XldrvNode *node = g_new0(XldrvNode, 1);
    node->kind = kind;
    node->type = type ? g_variant_type_new(type) : NULL;
    node->min_size = min_size;
    return node;
}

static XldrvNode *node_new_wrapper(XldrvNodeKind kind, XldrvNode *element, gsize min_size)
{
    XldrvNode *node = node_new(kind, NULL, min_size);
    node->type = kind == XLDRV_NODE_OPTIONAL ? g_variant_type_new_maybe(element->type)
                                             : g_variant_type_new_array(element->type);
    node->children = g_new(XldrvNode *, 1);
    node->children[0] = element;
    node->n_children = 1;
    return node;
}

static gboolean take_limit(Parser *parser, guint *limit)
{
    char *end;
    guint64 value = g_ascii_strtoull(*parser->limits, &end, 10);
    if (end == *parser->limits || value == 0 || value > XLDRV_PAYLOAD_MAX)
        return FALSE;
    *parser->limits = *end == ',' ? end + 1 : end;
    *limit = value;
    return TRUE;
}

/* Members up to @end, which is consumed unless it is the NUL of the string. */
static XldrvNode *parse_tuple(Parser *parser, char end)
{
    g_autoptr(GPtrArray) members = g_ptr_array_new_with_free_func((GDestroyNotify)node_free);
    g_autoptr(GString) type = g_string_new("(");
    gsize min_size = 0;

    while (*parser->at != end) {
        XldrvNode *member = parse_type(parser);
        if (!member)
            return NULL;
        g_ptr_array_add(members, member);
        g_string_append_len(type, g_variant_type_peek_string(member->type),
                            g_variant_type_get_string_length(member->type));
        min_size += member->min_size;
    }
    if (end)
        parser->at++;
    g_string_append_c(type, ')');

    XldrvNode *node = node_new(XLDRV_NODE_TUPLE, type->str, min_size);
    g_ptr_array_set_free_func(members, NULL);
    node->n_children = members->len;
    node->children = (XldrvNode **)g_ptr_array_free(g_steal_pointer(&members), FALSE);
    return node;
}

static XldrvNode *parse_array(Parser *parser)
{
    guint limit;
    if (!take_limit(parser, &limit))
        return NULL;

    XldrvNode *node;
    if (*parser->at == 'y') {
        parser->at++;
        node = node_new(XLDRV_NODE_OPAQUE, "ay", 4);
    } else {
        XldrvNode *element = parse_type(parser);
        if (!element)
            return NULL;
        node = node_new_wrapper(XLDRV_NODE_ARRAY, element, 4);
    }
    node->count = limit;
    return node;
}

/* X[n] after X: takes @element. */
static XldrvNode *parse_count(Parser *parser, XldrvNode *element)
{
    char *end;
    guint64 count = g_ascii_strtoull(parser->at, &end, 10);
    if (end == parser->at || *end != ']' || count == 0 || count > XLDRV_PAYLOAD_MAX) {
        node_free(element);
        return NULL;
    }
    parser->at = end + 1;
    XldrvNode *node = node_new_wrapper(XLDRV_NODE_FIXED, element, count * element->min_size);
    node->count = count;
    return node;
}

static XldrvNode *parse_letter(Parser *parser)
{
    char letter = *parser->at;
    if (letter == '\0')
        return NULL;
    parser->at++;

    for (gsize i = 0; i < G_N_ELEMENTS(scalars); i++)
        if (scalars[i].letter == letter)
            return node_new(scalars[i].kind, scalars[i].type, scalars[i].size);
    for (gsize i = 0; i < G_N_ELEMENTS(objects); i++)
        if (objects[i].letter == letter)
            return parse_tuple(&(Parser){objects[i].members, parser->limits}, '\0');

    if (letter == 'a')
        return parse_array(parser);
    if (letter == '(' && *parser->at != ')')
        return parse_tuple(parser, ')');
    if (letter == 'm') {
        XldrvNode *element = parse_type(parser);
        return element ? node_new_wrapper(XLDRV_NODE_OPTIONAL, element, 4) : NULL;
    }
    return NULL;
}

static XldrvNode *parse_type(Parser *parser)
{
    XldrvNode *node = parse_letter(parser);
    if (node && *parser->at == '[') {
        parser->at++;
        return parse_count(parser, node);
    }
    return node;
}

XldrvCodec *xldrv_codec_new(const char *signature, const char **limits, GError **error)
{
    Parser parser = {signature, limits};
    XldrvNode *root = parse_tuple(&parser, '\0');
    if (!root) {
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "bad signature '%s' near '%s', limits '%s'",
                        signature, parser.at, *limits);
        return NULL;
    }
    XldrvCodec *codec = g_new0(XldrvCodec, 1);
    codec->root = root;
    return codec;
}

void xldrv_codec_free(XldrvCodec *codec)
{
    node_free(codec->root);
    g_free(codec);
}

const GVariantType *xldrv_codec_type(const XldrvCodec *codec)
{
    return codec->root->type;
}
