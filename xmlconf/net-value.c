/* net-value: values that describe network devices. */
#include "config.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>

#include "xmlconf/value.h"

#define MAC_BYTES 6

static gboolean parse_mac(const char *text, guint8 mac[static MAC_BYTES])
{
    for (int i = 0; i < MAC_BYTES; i++) {
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]) ||
            text[2] != (i + 1 < MAC_BYTES ? ':' : '\0'))
            return FALSE;
        mac[i] = (guint8)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 3;
    }
    return TRUE;
}

static gboolean read_mac(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text,
                         gpointer value, GError **error)
{
    static const guint8 zero[MAC_BYTES];
    guint8 mac[MAC_BYTES];

    if (!parse_mac(text, mac))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a MAC address", error);
    if (mac[0] & 1)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is a multicast address", error);
    if (memcmp(mac, zero, sizeof(mac)) == 0)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is no address", error);
    *(char **)value = g_ascii_strdown(text, -1);
    return TRUE;
}

static char *write_text(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return xmlconf_value_string.write(field, value, live);
}

const XmlconfValueType xmlconf_value_mac = {read_mac, write_text, TRUE};

/* Names that the kernel and libvirt's schema both take. */
static gboolean read_device(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    gboolean ok = *text && strlen(text) < IFNAMSIZ && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;

    for (const char *p = text; *p && ok; p++)
        ok = g_ascii_isalnum(*p) || strchr("_.-", *p) != NULL;
    if (!ok)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a name of a network device", error);
    return xmlconf_value_string.read(field, element, text, value, error);
}

const XmlconfValueType xmlconf_value_netdev = {read_device, write_text, TRUE};

static gboolean read_ip(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    guint8 bytes[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, text, bytes) != 1 && inet_pton(AF_INET6, text, bytes) != 1)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not an IP address", error);
    return xmlconf_value_string.read(field, element, text, value, error);
}

const XmlconfValueType xmlconf_value_ip = {read_ip, write_text, TRUE};

static char *write_nonzero(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return *(const guint *)value ? xmlconf_value_uint.write(field, value, live) : NULL;
}

static gboolean read_number(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                         GError **error)
{
    return xmlconf_value_uint.read(field, element, text, value, error);
}

const XmlconfValueType xmlconf_value_nonzero = {read_number, write_nonzero, FALSE};
