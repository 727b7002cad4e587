/* Values of sysfs files. */
#include "config.h"

#include "libxldrv/host/sysfs.h"

#include <stdio.h>

/* More CPUs or nodes than any kernel numbers. */
#define MAX_NUMBER 65536

char *xldrv_sysfs_line(const char *path)
{
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    return g_strchomp(text);
}

gboolean xldrv_sysfs_number(const char *path, guint64 *value)
{
    g_autofree char *text = xldrv_sysfs_line(path);

    return text && g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, value, NULL);
}

GArray *xldrv_sysfs_list(const char *path)
{
    g_autofree char *text = xldrv_sysfs_line(path);
    g_auto(GStrv) ranges = g_strsplit(text ? text : "", ",", -1);
    GArray *numbers = g_array_new(FALSE, FALSE, sizeof(guint));

    for (char **range = ranges; *range; range++) {
        guint first, last;
        int n = sscanf(*range, "%u-%u", &first, &last);
        if (n < 1)
            continue;
        for (guint i = first; i <= (n == 2 ? last : first) && i < MAX_NUMBER; i++)
            g_array_append_val(numbers, i);
    }
    return numbers;
}
