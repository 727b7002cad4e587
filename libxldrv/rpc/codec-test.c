/* codec-test: what each letter of a signature is on the wire and in GVariant, byte by byte, and
 * what is refused. Source of the layouts: RFC 4506 and libvirt's remote_protocol.x. */
#include "config.h"

#include "libxldrv/rpc/codec.h"

#include <string.h>

#include "libxldrv/rpc/rpc.h"

#define UUID_HEX  "00010203 04050607 08090a0b 0c0d0e0f "
#define UUID_TEXT "[byte 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]"

/* Both ways. */
static const struct {
    const char *signature, *limits, *value, *hex;
} layouts[] = {
    {"", "", "()", ""},
    {"i", "", "(int32 -2,)", "fffffffe"},
    {"u", "", "(uint32 4294967295,)", "ffffffff"},
    {"x", "", "(int64 -1,)", "ffffffff ffffffff"},
    {"t", "", "(uint64 4294967296,)", "00000001 00000000"},
    {"d", "", "(1.5,)", "3ff80000 00000000"},
    {"b", "", "(true,)", "00000001"},
    {"c", "", "(byte 0x80,)", "00000080"},
    {"q", "", "(uint16 65535,)", "0000ffff"},
    {"s", "", "('',)", "00000000"},
    {"s", "", "('abc',)", "00000003 61626300"},
    {"s", "", "('abcd',)", "00000004 61626364"},
    {"s", "", "('\303\244x',)", "00000003 c3a47800"},
    {"ms", "", "(@ms nothing,)", "00000000"},
    {"ms", "", "(@ms 'a',)", "00000001 00000001 61000000"},
    {"ay", "8", "(@ay [],)", "00000000"},
    {"ay", "8", "([byte 1,2,3,4,5],)", "00000005 01020304 05000000"},
    {"ac", "8", "([byte 0x80,0x41],)", "00000002 00000080 00000041"},
    {"c[3]", "", "([byte 0x78,0x65,0],)", "00000078 00000065 00000000"},
    {"U", "", "(" UUID_TEXT ",)", UUID_HEX},
    {"D", "", "(('vm1'," UUID_TEXT ",int32 -1),)", "00000003 766d3100" UUID_HEX "ffffffff"},
    {"N", "", "(('n'," UUID_TEXT "),)", "00000001 6e000000" UUID_HEX},
    {"P", "", "(('n'," UUID_TEXT "),)", "00000001 6e000000" UUID_HEX},
    {"F", "", "(('n'," UUID_TEXT "),)", "00000001 6e000000" UUID_HEX},
    {"V", "", "(('p','n','k'),)", "00000001 70000000 00000001 6e000000 00000001 6b000000"},
    {"I", "", "(('a','b'),)", "00000001 61000000 00000001 62000000"},
    {"B", "", "(('a','b'),)", "00000001 61000000 00000001 62000000"},
    {"E", "", "(('a',),)", "00000001 61000000"},
    {"S", "", "((" UUID_TEXT ",int32 2,'u'),)", UUID_HEX "00000002 00000001 75000000"},
    {"O", "", "((('n'," UUID_TEXT ")," UUID_TEXT "),)", "00000001 6e000000" UUID_HEX UUID_HEX},
    {"H", "", "(('s',('d'," UUID_TEXT ",int32 1)),)",
     "00000001 73000000 00000001 64000000" UUID_HEX "00000001"},
    {"K", "", "(('s',('d'," UUID_TEXT ",int32 1)),)",
     "00000001 73000000 00000001 64000000" UUID_HEX "00000001"},
    {"mD", "", "(@m(sayi) nothing,)", "00000000"},
    {"T", "", "(('p',<int32 -1>),)", "00000001 70000000 00000001 ffffffff"},
    {"T", "", "(('p',<uint32 1>),)", "00000001 70000000 00000002 00000001"},
    {"T", "", "(('p',<int64 -1>),)", "00000001 70000000 00000003 ffffffff ffffffff"},
    {"T", "", "(('p',<uint64 1>),)", "00000001 70000000 00000004 00000000 00000001"},
    {"T", "", "(('p',<1.0>),)", "00000001 70000000 00000005 3ff00000 00000000"},
    {"T", "", "(('p',<true>),)", "00000001 70000000 00000006 00000001"},
    {"T", "", "(('p',<'v'>),)", "00000001 70000000 00000007 00000001 76000000"},
    {"aT", "2", "(@a(sv) [],)", "00000000"},
    {"ai", "2", "([int32 1,-1],)", "00000002 00000001 ffffffff"},
    {"at", "2", "([uint64 1],)", "00000001 00000000 00000001"},
    {"ad", "2", "([0.0],)", "00000001 00000000 00000000"},
    {"as", "2", "(['a','b'],)", "00000002 00000001 61000000 00000001 62000000"},
    {"a(uiti)ay", "2,8", "([(uint32 1,int32 2,uint64 3,int32 4)],[byte 9])",
     "00000001 00000001 00000002 00000000 00000003 00000004 00000001 09000000"},
    {"i(Dii)", "", "(int32 7,(('vm1'," UUID_TEXT ",int32 1),int32 2,int32 0))",
     "00000007 00000003 766d3100" UUID_HEX "00000001 00000002 00000000"},
    {"cttqt", "", "(byte 1,uint64 2,uint64 3,uint16 4,uint64 5)",
     "00000001 00000000 00000002 00000000 00000003 00000004 00000000 00000005"},
};

/* Decodes, though the encoder writes it differently. */
static const struct {
    const char *signature, *limits, *hex, *value;
} tolerated[] = {
    {"c", "", "ffffff80", "(byte 0x80,)"},
    {"ac", "4", "00000001 ffffffc3", "([byte 0xc3],)"},
    {"q", "", "ffff0001", "(uint16 1,)"},
    {"b", "", "00000002", "(true,)"},
    {"ms", "", "00000002 00000001 61000000", "(@ms 'a',)"},
    {"s", "", "00000001 61ffffff", "('a',)"},
    {"u", "", "00000001 0000", "(uint32 1,)"},
    {"", "", "00000001", "()"},
};

static const struct {
    const char *signature, *limits, *hex, *complaint;
} undecodable[] = {
    {"i", "", "", "ends too early"},
    {"i", "", "000000", "ends too early"},
    {"t", "", "00000000", "ends too early"},
    {"U", "", "00000000 00000000 00000000", "ends too early"},
    {"s", "", "00000002 61", "ends too early"},
    {"s", "", "00000001 6100", "ends too early"},
    {"s", "", "00400001", "too long"},
    {"s", "", "ffffffff", "too long"},
    {"s", "", "00000002 c3280000", "UTF-8"},
    {"s", "", "00000002 61000000", "UTF-8"},
    {"ay", "4", "00000005 01020304 05000000", "too long"},
    {"ay", "4", "00000004 010203", "ends too early"},
    {"ai", "2", "00000003 00000001 00000001 00000001", "too many elements"},
    {"ai", "2", "00000002 00000001", "ends too early"},
    {"as", "1000000", "000f4240 00000000", "ends too early"},
    {"ac", "4", "00000002 00000001", "ends too early"},
    {"c[3]", "", "00000001 00000001", "ends too early"},
    {"ms", "", "00000001", "ends too early"},
    {"T", "", "00000001 70000000 00000000 00000000", "unknown type"},
    {"T", "", "00000001 70000000 00000008 00000000", "unknown type"},
    {"aT", "1", "00000001 00000001 70000000 00000007 00000001", "ends too early"},
};

static const struct {
    const char *signature, *limits, *value;
    virErrorNumber code;
} unencodable[] = {
    {"i", "", "(uint32 1,)", VIR_ERR_INTERNAL_ERROR},
    {"i", "", "()", VIR_ERR_INTERNAL_ERROR},
    {"U", "", "([byte 1],)", VIR_ERR_INTERNAL_ERROR},
    {"c[2]", "", "([byte 1],)", VIR_ERR_INTERNAL_ERROR},
    {"T", "", "(('p',<byte 1>),)", VIR_ERR_INTERNAL_ERROR},
    {"T", "", "(('p',<['a']>),)", VIR_ERR_INTERNAL_ERROR},
    {"ai", "1", "([1,2],)", VIR_ERR_RPC},
    {"as", "1", "(['a','b'],)", VIR_ERR_RPC},
    {"ay", "1", "([byte 1,2],)", VIR_ERR_RPC},
};

static const struct {
    const char *signature, *limits;
} malformed[] = {
    {"z", ""},   {"a", "1"}, {"m", ""},   {"(i", ""},  {"()", ""}, {"c[", ""},    {"c[0]", ""},
    {"c[3", ""}, {"ai", ""}, {"ai", "x"}, {"ai", "0"}, {"i)", ""}, {"aiai", "1"},
};

static GByteArray *from_hex(const char *hex)
{
    GByteArray *bytes = g_byte_array_new();
    while (*hex) {
        if (*hex == ' ') {
            hex++;
            continue;
        }
        guint8 byte = g_ascii_xdigit_value(hex[0]) << 4 | g_ascii_xdigit_value(hex[1]);
        g_byte_array_append(bytes, &byte, 1);
        hex += 2;
    }
    return bytes;
}

static XldrvCodec *compile(const char *signature, const char *limits)
{
    g_autoptr(GError) error = NULL;
    XldrvCodec *codec = xldrv_codec_new(signature, &limits, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(limits, ==, "");
    return codec;
}

static GVariant *parse(const XldrvCodec *codec, const char *text)
{
    g_autoptr(GError) error = NULL;
    GVariant *value =
        g_variant_parse(codec ? xldrv_codec_type(codec) : NULL, text, NULL, NULL, &error);
    g_assert_no_error(error);
    return g_variant_ref_sink(value);
}

static void assert_decodes(const XldrvCodec *codec, const char *hex, const char *text,
                           gboolean to_the_end)
{
    g_autoptr(GByteArray) bytes = from_hex(hex);
    g_autoptr(GVariant) expected = parse(codec, text);
    g_autoptr(GError) error = NULL;
    gsize used;
    g_autoptr(GVariant) value = xldrv_codec_decode(codec, bytes->data, bytes->len, &used, &error);
    g_assert_no_error(error);
    if (!g_variant_equal(value, expected))
        g_error("%s: %s", hex, g_variant_print(value, TRUE));
    g_assert_true(g_variant_is_normal_form(value));
    if (to_the_end)
        g_assert_cmpuint(used, ==, bytes->len);
}

static void test_layouts(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(layouts); i++) {
        g_autoptr(XldrvCodec) codec = compile(layouts[i].signature, layouts[i].limits);
        g_autoptr(GVariant) value = parse(codec, layouts[i].value);
        g_autoptr(GByteArray) expected = from_hex(layouts[i].hex);
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_autoptr(GError) error = NULL;

        g_assert_true(xldrv_codec_encode(codec, value, bytes, &error));
        g_assert_cmpmem(bytes->data, bytes->len, expected->data, expected->len);
        assert_decodes(codec, layouts[i].hex, layouts[i].value, TRUE);
    }
}

static void test_tolerated(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(tolerated); i++) {
        g_autoptr(XldrvCodec) codec = compile(tolerated[i].signature, tolerated[i].limits);
        assert_decodes(codec, tolerated[i].hex, tolerated[i].value, FALSE);
    }
}

static void test_undecodable(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(undecodable); i++) {
        g_autoptr(XldrvCodec) codec = compile(undecodable[i].signature, undecodable[i].limits);
        g_autoptr(GByteArray) bytes = from_hex(undecodable[i].hex);
        /* At the end of its own block, where a sanitizer sees what is read behind it. */
        g_autofree guint8 *exact = g_memdup2(bytes->data, bytes->len);
        g_autoptr(GError) error = NULL;
        g_assert_null(xldrv_codec_decode(codec, exact, bytes->len, NULL, &error));
        g_assert_error(error, XLDRV_ERROR, VIR_ERR_RPC);
        if (!strstr(error->message, undecodable[i].complaint))
            g_error("%s: %s", undecodable[i].hex, error->message);
    }
}

static void test_unencodable(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(unencodable); i++) {
        g_autoptr(XldrvCodec) codec = compile(unencodable[i].signature, unencodable[i].limits);
        g_autoptr(GVariant) value = parse(NULL, unencodable[i].value);
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        g_assert_false(xldrv_codec_encode(codec, value, bytes, &error));
        g_assert_error(error, XLDRV_ERROR, (int)unencodable[i].code);
    }
}

static void test_malformed(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(malformed); i++) {
        g_autoptr(GError) error = NULL;
        const char *limits = malformed[i].limits;
        g_assert_null(xldrv_codec_new(malformed[i].signature, &limits, &error));
        g_assert_error(error, XLDRV_ERROR, VIR_ERR_INTERNAL_ERROR);
    }
}

static GVariant *string_of(gsize length)
{
    char *text = g_malloc(length + 1);
    memset(text, 'a', length);
    text[length] = '\0';
    return g_variant_new_take_string(text);
}

/* A string of exactly 4 MiB passes, one byte more does not; neither does a message above 32 MiB. */
static void test_sizes(void)
{
    g_autoptr(XldrvCodec) one = compile("s", ""), many = compile("as", "16");
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    g_autoptr(GVariant) longest_ref = g_variant_ref_sink(string_of(XLDRV_STRING_MAX));
    GVariant *longest = longest_ref;
    g_autoptr(GVariant) fits = g_variant_ref_sink(g_variant_new_tuple(&longest, 1));
    g_assert_true(xldrv_codec_encode(one, fits, bytes, &error));
    g_autoptr(GVariant) back = xldrv_codec_decode(one, bytes->data, bytes->len, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(g_variant_equal(back, fits));

    GVariant *longer = string_of(XLDRV_STRING_MAX + 1);
    g_autoptr(GVariant) too_long = g_variant_ref_sink(g_variant_new_tuple(&longer, 1));
    g_assert_false(xldrv_codec_encode(one, too_long, bytes, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_RPC);
    g_clear_error(&error);

    GVariant *strings[9];
    for (gsize i = 0; i < G_N_ELEMENTS(strings); i++)
        strings[i] = longest;
    GVariant *array = g_variant_new_array(NULL, strings, G_N_ELEMENTS(strings));
    g_autoptr(GVariant) too_much = g_variant_ref_sink(g_variant_new_tuple(&array, 1));
    g_byte_array_set_size(bytes, 0);
    g_assert_false(xldrv_codec_encode(many, too_much, bytes, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_RPC);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec/layouts", test_layouts);
    g_test_add_func("/codec/tolerated", test_tolerated);
    g_test_add_func("/codec/undecodable", test_undecodable);
    g_test_add_func("/codec/unencodable", test_unencodable);
    g_test_add_func("/codec/malformed", test_malformed);
    g_test_add_func("/codec/sizes", test_sizes);
    return g_test_run();
}
