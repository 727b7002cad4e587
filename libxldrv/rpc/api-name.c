/* api-name: names of procedures as libvirt's API spells them, for errors. */
#include "config.h"

#include "libxldrv/rpc/api-name.h"

#include <glib.h>
#include <string.h>

/* Words that are not simply written with one capital. */
static const char *const words[] = {"XML", "UUID", "URI", "CPU", "OS", "ID", "NMI", "PM", "MAC", "DHCP", "SEV", "FD",
                                    "SSH", "SCSI", "WWN", "IOThread", "NWFilter", "FSTrim", "FSFreeze", "FSThaw",
                                    "FSInfo", "NWFilters"};

static void append_word(GString *name, const char *word)
{
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++) {
        if (g_ascii_strcasecmp(words[i], word) == 0) {
            g_string_append(name, words[i]);
            return;
        }
    }
    for (const char *c = word; *c; c++)
        g_string_append_c(name, c == word ? *c : g_ascii_tolower(*c));
}

char *xldrv_api_name(const char *procedure)
{
    g_auto(GStrv) parts = g_strsplit(procedure, "_", -1);
    GString *name = g_string_new("vir");

    for (char **part = parts; *part; part++)
        append_word(name, *part);
    return g_string_free(name, FALSE);
}
