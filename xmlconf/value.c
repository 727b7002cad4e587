/* value: the types of the table's values. */
#include "config.h"

#include "xmlconf/value.h"

#include <string.h>

#include "xmlconf/fields.h"

gboolean xmlconf_fail(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_propagate_error(error, g_error_new_valist(XMLCONF_ERROR, XMLCONF_ERROR_XML, format, args));
    va_end(args);
    return FALSE;
}

/* The driver names files after domains, with a suffix. */
#define NAME_MAX_BYTES 200

/* "element <on_crash>" or "attribute 'current' of element <vcpu>": how messages name a row. */
static char *describe(const XmlconfField *field)
{
    const char *at = strchr(field->path, '@');
    gsize length = at ? (gsize)(at - field->path) : strlen(field->path);
    g_autofree char *element = g_strndup(field->path, length);
    const char *base = strrchr(element, '/') ? strrchr(element, '/') + 1 : element;

    if (!at)
        return g_strdup_printf("element <%s>", base);
    return *base ? g_strdup_printf("attribute '%s' of element <%s>", at + 1, base)
                 : g_strdup_printf("attribute '%s'", at + 1);
}

gboolean xmlconf_value_error(const XmlconfField *field, XmlconfError code, const char *text,
                             const char *problem, GError **error)
{
    g_autofree char *where = describe(field);

    if (text)
        g_set_error(error, XMLCONF_ERROR, code, "value '%s' of %s %s", text, where, problem);
    else
        g_set_error(error, XMLCONF_ERROR, code, "%s %s", where, problem);
    return FALSE;
}

static char *stripped(const char *text)
{
    return g_strstrip(g_strdup(text));
}

static char *write_string(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value,
                          gboolean live G_GNUC_UNUSED)
{
    const char *text = *(char *const *)value;

    return text && *text ? g_strdup(text) : NULL;
}

static gboolean read_string(const XmlconfField *field G_GNUC_UNUSED, xmlNode *element G_GNUC_UNUSED,
                            const char *text, gpointer value, GError **error G_GNUC_UNUSED)
{
    if (*text)
        *(char **)value = g_strdup(text);
    return TRUE;
}

const XmlconfValueType xmlconf_value_string = {read_string, write_string, TRUE};

static gboolean read_name(const XmlconfField *field, xmlNode *element, const char *text,
                          gpointer value, GError **error)
{
    const char *problem = NULL;

    if (!*text)
        problem = "is empty";
    else if (strchr(text, '/'))
        problem = "contains '/'";
    else if (strlen(text) > NAME_MAX_BYTES)
        problem = "is longer than " G_STRINGIFY(NAME_MAX_BYTES) " bytes";
    for (const char *p = text; *p && !problem; p++) {
        if (g_ascii_iscntrl(*p))
            problem = "contains a control character";
    }
    if (problem)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, problem, error);
    return read_string(field, element, text, value, error);
}

const XmlconfValueType xmlconf_value_name = {read_name, write_string, TRUE};

static gboolean read_line(const XmlconfField *field, xmlNode *element, const char *text,
                          gpointer value, GError **error)
{
    if (strchr(text, '\n'))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, NULL, "must not contain a newline",
                                   error);
    return read_string(field, element, text, value, error);
}

const XmlconfValueType xmlconf_value_line = {read_line, write_string, TRUE};

static gboolean read_path(const XmlconfField *field, xmlNode *element, const char *text,
                          gpointer value, GError **error)
{
    if (*text && (*text != '/' || !text[1]))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text,
                                   "is not the absolute path of a file", error);
    if (strpbrk(text, "\r\n"))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "has a line end in it", error);
    return read_string(field, element, text, value, error);
}

const XmlconfValueType xmlconf_value_path = {read_path, write_string, TRUE};

/* 32 hexadecimal digits; dashes may stand between any two bytes, as in libvirt. */
static gboolean read_uuid(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                          const char *text, gpointer value, GError **error)
{
    g_autofree char *trimmed = stripped(text);
    g_autoptr(GString) uuid = g_string_new(NULL);
    guint digits = 0;

    for (const char *p = trimmed; *p; p++) {
        if (*p == '-' && digits % 2 == 0)
            continue;
        if (!g_ascii_isxdigit(*p) || digits == 32)
            return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a UUID", error);
        if (digits == 8 || digits == 12 || digits == 16 || digits == 20)
            g_string_append_c(uuid, '-');
        g_string_append_c(uuid, g_ascii_tolower(*p));
        digits++;
    }
    if (digits != 32)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a UUID", error);
    *(char **)value = g_strdup(uuid->str);
    return TRUE;
}

const XmlconfValueType xmlconf_value_uuid = {read_uuid, write_string, TRUE};

/* Bytes of a libvirt unit: "b", "bytes", "KB" (1000), "k" or "KiB" (1024), and so on to E. 0: no
 * unit. */
static guint64 unit_bytes(const char *unit)
{
    static const char letters[] = "kmgtpe";

    if (!g_ascii_strcasecmp(unit, "b") || !g_ascii_strcasecmp(unit, "byte") ||
        !g_ascii_strcasecmp(unit, "bytes"))
        return 1;

    const char *letter = *unit ? strchr(letters, g_ascii_tolower(*unit)) : NULL;
    if (!letter)
        return 0;
    gboolean binary = !unit[1] || !g_ascii_strcasecmp(unit + 1, "ib");
    if (!binary && g_ascii_strcasecmp(unit + 1, "b") != 0)
        return 0;

    guint64 bytes = 1;
    for (const char *p = letters; p <= letter; p++)
        bytes *= binary ? 1024 : 1000;
    return bytes;
}

static gboolean range_error(const XmlconfField *field, const char *text, GError **error)
{
    g_autofree char *problem = g_strdup_printf(
        "is not a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, field->min, field->max);
    return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, problem, error);
}

static gboolean memory_range_error(const XmlconfField *field, const char *text, GError **error)
{
    g_autofree char *problem = g_strdup_printf("is not an amount from %" G_GUINT64_FORMAT
                                               " MiB to %" G_GUINT64_FORMAT " GiB",
                                               field->min >> 10, field->max >> 20);
    return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, problem, error);
}

static gboolean read_memory(const XmlconfField *field, xmlNode *element, const char *text,
                            gpointer value, GError **error)
{
    g_autofree char *trimmed = stripped(text);
    xmlChar *unit = xmlGetNoNsProp(element, BAD_CAST "unit");
    guint64 scale = unit ? unit_bytes((const char *)unit) : 1024;
    guint64 number = 0, bytes = 0;
    gboolean known = scale != 0;

    if (!known)
        xmlconf_value_error(field, XMLCONF_ERROR_XML, (const char *)unit, "is not a unit of memory",
                            error);
    xmlFree(unit);
    if (!known)
        return FALSE;
    if (!g_ascii_string_to_unsigned(trimmed, 10, 0, G_MAXUINT64, &number, NULL) ||
        !g_uint64_checked_mul(&bytes, number, scale))
        return memory_range_error(field, text, error);

    guint64 kib = bytes / 1024 + (bytes % 1024 != 0);
    if (kib < field->min || kib > field->max)
        return memory_range_error(field, text, error);
    *(guint64 *)value = kib;
    return TRUE;
}

static char *write_memory(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value,
                          gboolean live G_GNUC_UNUSED)
{
    return g_strdup_printf("%" G_GUINT64_FORMAT, *(const guint64 *)value);
}

const XmlconfValueType xmlconf_value_memory = {read_memory, write_memory, FALSE};

static gboolean read_uint(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                          const char *text, gpointer value, GError **error)
{
    g_autofree char *trimmed = stripped(text);
    guint64 number;

    if (!g_ascii_string_to_unsigned(trimmed, 10, field->min, field->max, &number, NULL))
        return range_error(field, text, error);
    *(guint *)value = (guint)number;
    return TRUE;
}

static char *write_uint(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value,
                        gboolean live G_GNUC_UNUSED)
{
    return g_strdup_printf("%u", *(const guint *)value);
}

const XmlconfValueType xmlconf_value_uint = {read_uint, write_uint, FALSE};

static gboolean read_count(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text, gpointer value,
                           GError **error)
{
    g_autofree char *trimmed = stripped(text);
    guint64 number;

    if (!g_ascii_string_to_unsigned(trimmed, 10, 0, field->max, &number, NULL) || (number && number < field->min))
        return range_error(field, text, error);
    *(guint64 *)value = number;
    return TRUE;
}

static char *write_count(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    guint64 number = *(const guint64 *)value;

    return number ? g_strdup_printf("%" G_GUINT64_FORMAT, number) : NULL;
}

const XmlconfValueType xmlconf_value_count = {read_count, write_count, FALSE};

static gboolean read_uint64(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text, gpointer value,
                            GError **error)
{
    g_autofree char *trimmed = stripped(text);

    return g_ascii_string_to_unsigned(trimmed, 10, field->min, field->max, value, NULL) ||
           range_error(field, text, error);
}
const XmlconfValueType xmlconf_value_uint64 = {read_uint64, write_count, FALSE};

static gboolean read_quota(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                           GError **error)
{
    g_autofree char *trimmed = stripped(text);
    gint64 number;

    if (!g_ascii_string_to_signed(trimmed, 10, G_MININT64, G_MAXINT64, &number, NULL) || number >= 0)
        return read_count(field, element, text, value, error);
    *(gint64 *)value = -1;
    return TRUE;
}

static char *write_quota(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    gint64 number = *(const gint64 *)value;

    return number ? g_strdup_printf("%" G_GINT64_FORMAT, number) : NULL;
}

const XmlconfValueType xmlconf_value_quota = {read_quota, write_quota, FALSE};

static char *write_id(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live)
{
    int id = *(const int *)value;

    return live && id >= 0 ? g_strdup_printf("%d", id) : NULL;
}

const XmlconfValueType xmlconf_value_id = {read_uint, write_id, FALSE};

static const XmlconfChoice *find_choice(const XmlconfField *field, const char *text, GError **error)
{
    g_autofree char *trimmed = stripped(text);

    for (const XmlconfChoice *choice = field->choices; choice->word; choice++) {
        if (strcmp(choice->word, trimmed) != 0)
            continue;
        if (!choice->refusal)
            return choice;
        g_autofree char *problem = g_strdup_printf("is not supported: %s", choice->refusal);
        xmlconf_value_error(field, XMLCONF_ERROR_UNSUPPORTED, trimmed, problem, error);
        return NULL;
    }
    xmlconf_value_error(field, field->code, text, "is not known", error);
    return NULL;
}

static gboolean read_enum(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                          const char *text, gpointer value, GError **error)
{
    const XmlconfChoice *choice = find_choice(field, text, error);

    if (!choice)
        return FALSE;
    *(int *)value = choice->value;
    return TRUE;
}

static char *write_enum(const XmlconfField *field, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    for (const XmlconfChoice *choice = field->choices; choice->word; choice++) {
        if (choice->value == *(const int *)value)
            return g_strdup(choice->word);
    }
    return NULL;
}

const XmlconfValueType xmlconf_value_enum = {read_enum, write_enum, FALSE};

static gboolean read_word(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                          const char *text, gpointer value, GError **error)
{
    const XmlconfChoice *choice = find_choice(field, text, error);

    if (!choice)
        return FALSE;
    *(char **)value = g_strdup(choice->word);
    return TRUE;
}

const XmlconfValueType xmlconf_value_word = {read_word, write_string, TRUE};

/* A word that is checked where it stands, and kept. */
static gboolean read_checked(const XmlconfField *field, xmlNode *element, const char *text,
                           gpointer value G_GNUC_UNUSED, GError **error)
{
    int ignored = 0;

    return read_enum(field, element, text, &ignored, error);
}

const XmlconfValueType xmlconf_value_checked = {read_checked, NULL, FALSE};

static gboolean read_switch(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                            const char *text, gpointer value, GError **error)
{
    gboolean on = strcmp(text, "on") == 0;

    if (!on && strcmp(text, "off") != 0)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is neither 'on' nor 'off'",
                                   error);
    *(gboolean *)value = on;
    return TRUE;
}

static char *write_switch(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value,
                          gboolean live G_GNUC_UNUSED)
{
    return *(const gboolean *)value ? g_strdup("on") : NULL;
}

const XmlconfValueType xmlconf_value_switch = {read_switch, write_switch, FALSE};

static gboolean read_yes(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text, gpointer value,
                         GError **error)
{
    gboolean yes = strcmp(text, "yes") == 0;

    if (!yes && strcmp(text, "no") != 0)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is neither 'yes' nor 'no'", error);
    *(gboolean *)value = yes;
    return TRUE;
}

static char *write_yes(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    return *(const gboolean *)value ? g_strdup("yes") : NULL;
}

const XmlconfValueType xmlconf_value_yes = {read_yes, write_yes, FALSE};

static gboolean read_present(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                             const char *text, gpointer value, GError **error)
{
    if (text[strspn(text, " \t\r\n")])
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, NULL, "must not contain text", error);
    *(gboolean *)value = TRUE;
    return TRUE;
}

static char *write_present(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value,
                           gboolean live G_GNUC_UNUSED)
{
    return *(const gboolean *)value ? g_strdup("") : NULL;
}

const XmlconfValueType xmlconf_value_present = {read_present, write_present, FALSE};

static gboolean parse_cpu(const char **text, guint64 *cpu)
{
    char *end;

    if (!g_ascii_isdigit(**text))
        return FALSE;
    *cpu = g_ascii_strtoull(*text, &end, 10);
    *text = end;
    return *cpu <= G_MAXUINT16;
}

/* One part of a CPU list, "3", "0-3" or "^2", put into @map. */
static gboolean parse_cpus(const char **text, GByteArray *map)
{
    gboolean exclude = **text == '^';
    guint64 first, last;

    *text += exclude;
    if (!parse_cpu(text, &first))
        return FALSE;
    last = first;
    if (**text == '-' && !exclude) {
        (*text)++;
        if (!parse_cpu(text, &last) || last < first)
            return FALSE;
    }
    for (; first <= last; first++) {
        guint8 bit = 1 << first % 8;
        while (map->len <= first / 8)
            g_byte_array_append(map, (const guint8 *)"", 1);
        map->data[first / 8] = exclude ? map->data[first / 8] & ~bit : map->data[first / 8] | bit;
    }
    return TRUE;
}

GByteArray *xmlconf_cpuset_parse(const char *text)
{
    g_autoptr(GByteArray) map = g_byte_array_new();

    for (;; text++) {
        if (!parse_cpus(&text, map))
            return NULL;
        if (*text != ',')
            break;
    }
    while (map->len && !map->data[map->len - 1])
        g_byte_array_set_size(map, map->len - 1);
    return *text == '\0' && map->len ? g_steal_pointer(&map) : NULL;
}

char *xmlconf_cpuset_format(const guint8 *map, gsize bytes)
{
    GString *out = g_string_new(NULL);
    guint n = (guint)MIN(bytes, G_MAXUINT16 / 8) * 8;

    for (guint first = 0, last; first < n; first = last + 1) {
        last = first;
        if (!(map[first / 8] >> first % 8 & 1))
            continue;
        while (last + 1 < n && map[(last + 1) / 8] >> (last + 1) % 8 & 1)
            last++;
        g_string_append_printf(out, last > first ? "%s%u-%u" : "%s%u", out->len ? "," : "", first, last);
    }
    return g_string_free(out, FALSE);
}

static gboolean read_cpuset(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                            const char *text, gpointer value, GError **error)
{
    g_autofree char *trimmed = stripped(text);
    g_autoptr(GByteArray) map = xmlconf_cpuset_parse(trimmed);

    if (!map)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a list of CPUs", error);
    *(char **)value = g_steal_pointer(&trimmed);
    return TRUE;
}

const XmlconfValueType xmlconf_value_cpuset = {read_cpuset, write_string, TRUE};

static gboolean read_fixed(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                           const char *text, gpointer value G_GNUC_UNUSED, GError **error)
{
    g_autofree char *problem = NULL;

    if (strcmp(text, field->fallback) == 0)
        return TRUE;
    problem = g_strdup_printf("is not supported: it must be '%s'", field->fallback);
    return xmlconf_value_error(field, field->code ? field->code : XMLCONF_ERROR_UNSUPPORTED, text,
                               problem, error);
}

static char *write_fallback(const XmlconfField *field, gconstpointer value G_GNUC_UNUSED,
                            gboolean live G_GNUC_UNUSED)
{
    return g_strdup(field->fallback);
}

const XmlconfValueType xmlconf_value_fixed = {read_fixed, write_fallback, FALSE};

static gboolean read_unit(const XmlconfField *field G_GNUC_UNUSED, xmlNode *element G_GNUC_UNUSED,
                          const char *text G_GNUC_UNUSED, gpointer value G_GNUC_UNUSED,
                          GError **error G_GNUC_UNUSED)
{
    return TRUE;
}

const XmlconfValueType xmlconf_value_unit = {read_unit, write_fallback, FALSE};

static gboolean read_refused(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED,
                             const char *text G_GNUC_UNUSED, gpointer value G_GNUC_UNUSED,
                             GError **error)
{
    g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, field->fallback);
    return FALSE;
}

const XmlconfValueType xmlconf_value_refused = {read_refused, NULL, FALSE};
