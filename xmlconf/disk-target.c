/* disk-target: the numbers that Xen gives to the names of disks. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

/* ---- names and numbers: docs/man/xen-vbd-interface of Xen */

/* Letters count as digits do without a zero: a..z, aa, ab ... */
static gboolean parse_letters(const char **text, guint *disk)
{
    guint n = 0;

    for (; g_ascii_islower(**text); (*text)++) {
        if (n > G_MAXUINT16)
            return FALSE;
        n = n * 26 + (guint)(**text - 'a') + 1;
    }
    *disk = n - 1;
    return n > 0;
}

/* Nothing is the whole disk, 0. */
static gboolean parse_partition(const char *text, guint *partition)
{
    guint64 n = 0;

    if (*text && (*text == '0' || !g_ascii_string_to_unsigned(text, 10, 1, 255, &n, NULL)))
        return FALSE;
    *partition = (guint)n;
    return TRUE;
}

static const struct {
    const char *prefix;
    guint disks, partitions; /* most of them */
} name_classes[] = {
    {"xvd", 1u << 16, 256},
    {"sd", 16, 16},
    {"hd", 4, 64},
};

static guint xvd_number(guint disk, guint partition)
{
    if (disk < 16 && partition < 16)
        return 202u << 8 | disk << 4 | partition;
    return 1u << 28 | disk << 8 | partition;
}

static guint hd_number(guint disk, guint partition)
{
    return (disk < 2 ? 3u : 22u) << 8 | (disk & 1) << 6 | partition;
}

gboolean xmlconf_disk_vdev(const char *target, guint *vdev)
{
    for (gsize i = 0; i < G_N_ELEMENTS(name_classes); i++) {
        const char *rest = target + strlen(name_classes[i].prefix);
        guint disk, partition;

        if (!g_str_has_prefix(target, name_classes[i].prefix))
            continue;
        if (!parse_letters(&rest, &disk) || !parse_partition(rest, &partition) ||
            disk >= name_classes[i].disks || partition >= name_classes[i].partitions)
            return FALSE;
        *vdev = *target == 'x'   ? xvd_number(disk, partition)
                : *target == 's' ? 8u << 8 | disk << 4 | partition
                                 : hd_number(disk, partition);
        return TRUE;
    }
    return FALSE;
}
