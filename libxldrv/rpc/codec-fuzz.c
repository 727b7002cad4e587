/* codec-fuzz: every signature of the procedure table, with random values and damaged ones.
 *
 * Bytes are made from the signature alone, without the encoder; decoding takes them to the last
 * byte and encoding gives them back. Damaged ones either fail or decode to something that survives
 * a round trip. Deterministic: the seed is the procedure; DOMUS_FUZZ_ROUNDS changes how long it
 * takes. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "libxldrv/driver/procedures.h"
#include "libxldrv/rpc/signature.h"

#define ROUNDS   20
#define DAMAGES  20
#define ELEMENTS 4

typedef struct {
    GRand *rand;
    GByteArray *bytes;
} Maker;

static guint below(Maker *maker, guint n)
{
    return g_rand_int(maker->rand) % n;
}

static void put_word(Maker *maker, guint32 word)
{
    word = GUINT32_TO_BE(word);
    g_byte_array_append(maker->bytes, (const guint8 *)&word, 4);
}

static guint32 any_word(Maker *maker)
{
    static const guint32 edges[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff};
    return below(maker, 2) ? g_rand_int(maker->rand) : edges[below(maker, G_N_ELEMENTS(edges))];
}

static void put_counted(Maker *maker, const char *alphabet, guint max)
{
    guint n = below(maker, MIN(max, 12) + 1);
    put_word(maker, n);
    for (guint i = 0; i < (n + 3) / 4 * 4; i++) {
        guint8 byte = i >= n     ? 0
                      : alphabet ? (guint8)alphabet[below(maker, strlen(alphabet))]
                                 : below(maker, 256);
        g_byte_array_append(maker->bytes, &byte, 1);
    }
}

static void put_param(Maker *maker)
{
    put_counted(maker, "abc._", 80);
    guint type = 1 + below(maker, 7);
    put_word(maker, type);
    if (type == 7) {
        put_counted(maker, "value", 80);
        return;
    }
    put_word(maker, type == 6 ? below(maker, 2) : any_word(maker));
    if (type >= 3 && type <= 5)
        put_word(maker, any_word(maker));
}

static void put_node(Maker *maker, const XldrvNode *node)
{
    guint n;
    switch (node->kind) {
    case XLDRV_NODE_WORD:
        put_word(maker, any_word(maker));
        break;
    case XLDRV_NODE_LONG:
        put_word(maker, any_word(maker));
        put_word(maker, any_word(maker));
        break;
    case XLDRV_NODE_BOOL:
        put_word(maker, below(maker, 2));
        break;
    case XLDRV_NODE_CHAR:
        put_word(maker, below(maker, 256));
        break;
    case XLDRV_NODE_SHORT:
        put_word(maker, below(maker, 65536));
        break;
    case XLDRV_NODE_STRING:
        put_counted(maker, "name-<x/>", 80);
        break;
    case XLDRV_NODE_OPAQUE:
        put_counted(maker, NULL, node->count);
        break;
    case XLDRV_NODE_UUID:
        for (n = 0; n < 4; n++)
            put_word(maker, any_word(maker));
        break;
    case XLDRV_NODE_PARAM:
        put_param(maker);
        break;
    case XLDRV_NODE_TUPLE:
        for (n = 0; n < node->n_children; n++)
            put_node(maker, node->children[n]);
        break;
    case XLDRV_NODE_ARRAY:
        n = below(maker, MIN(node->count, ELEMENTS) + 1);
        put_word(maker, n);
        for (; n > 0; n--)
            put_node(maker, node->children[0]);
        break;
    case XLDRV_NODE_FIXED:
        for (n = 0; n < node->count; n++)
            put_node(maker, node->children[0]);
        break;
    case XLDRV_NODE_OPTIONAL:
        n = below(maker, 2);
        put_word(maker, n);
        if (n)
            put_node(maker, node->children[0]);
        break;
    }
}

static void check_valid(const XldrvCodec *codec, const GByteArray *bytes)
{
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *exact = g_memdup2(bytes->data, bytes->len);
    gsize used;

    g_autoptr(GVariant) value = xldrv_codec_decode(codec, exact, bytes->len, &used, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(used, ==, bytes->len);
    g_assert_true(g_variant_is_normal_form(value));
    g_assert_true(xldrv_codec_encode(codec, value, again, &error));
    g_assert_cmpmem(again->data, again->len, bytes->data, bytes->len);
}

static void damage(Maker *maker, GByteArray *bytes)
{
    static const guint8 edges[] = {0, 1, 0x7f, 0x80, 0xff};
    for (guint n = 1 + below(maker, 3); n > 0 && bytes->len > 0; n--) {
        guint at = below(maker, bytes->len);
        switch (below(maker, 4)) {
        case 0:
            g_byte_array_set_size(bytes, at);
            break;
        case 1:
            bytes->data[at] = edges[below(maker, G_N_ELEMENTS(edges))];
            break;
        case 2:
            g_byte_array_remove_range(bytes, at, MIN(4, bytes->len - at));
            break;
        default:
            bytes->data[at] ^= 1u << below(maker, 8);
            break;
        }
    }
}

static void check_damaged(const XldrvCodec *codec, const GByteArray *bytes)
{
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *exact = g_memdup2(bytes->data, bytes->len);

    g_autoptr(GVariant) value = xldrv_codec_decode(codec, exact, bytes->len, NULL, &error);
    if (!value) {
        g_assert_error(error, XLDRV_ERROR, VIR_ERR_RPC);
        return;
    }
    g_assert_no_error(error);
    g_assert_true(g_variant_is_normal_form(value));
    g_assert_true(xldrv_codec_encode(codec, value, again, &error));
    g_autoptr(GVariant) second = xldrv_codec_decode(codec, again->data, again->len, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(GByteArray) third = g_byte_array_new();
    g_assert_true(xldrv_codec_encode(codec, second, third, &error));
    /* Bytes, not values: a number may be no number, which equals nothing. */
    g_assert_cmpmem(again->data, again->len, third->data, third->len);
}

static guint rounds(void)
{
    const char *text = g_getenv("DOMUS_FUZZ_ROUNDS");
    return text ? MAX(strtoul(text, NULL, 10), 1) : ROUNDS;
}

static void fuzz(const XldrvCodec *codec, guint seed)
{
    Maker maker = {g_rand_new_with_seed(seed), g_byte_array_new()};

    for (guint round = 0; round < rounds(); round++) {
        g_byte_array_set_size(maker.bytes, 0);
        put_node(&maker, codec->root);
        check_valid(codec, maker.bytes);
        for (guint i = 0; i < DAMAGES; i++) {
            g_autoptr(GByteArray) damaged = g_byte_array_new();
            g_byte_array_append(damaged, maker.bytes->data, maker.bytes->len);
            damage(&maker, damaged);
            check_damaged(codec, damaged);
        }
    }
    g_rand_free(maker.rand);
    g_byte_array_unref(maker.bytes);
}

static void test_procedures(void)
{
    for (guint i = 0; i < xldrv_remote_program.n_procedures; i++) {
        const XldrvProcedure *procedure = &xldrv_remote_program.procedures[i];
        const char *limits = procedure->limits;
        g_autoptr(GError) error = NULL;

        g_autoptr(XldrvCodec) args = xldrv_codec_new(procedure->args, &limits, &error);
        g_assert_no_error(error);
        g_autoptr(XldrvCodec) ret = xldrv_codec_new(procedure->ret, &limits, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(limits, ==, "");
        fuzz(args, 2 * procedure->number);
        fuzz(ret, 2 * procedure->number + 1);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec/fuzz", test_procedures);
    return g_test_run();
}
