/* keymap: libvirt's and QEMU's names of keyboard layouts, and XKB's. Source: QEMU's pc-bios/keymaps, which are named so. */
#include "config.h"

#include <string.h>

#include "xmlconf/xmlconf.h"

static const struct {
    const char *keymap, *layout;
} keymaps[] = {
    {"ar", "ara"},      {"bepo", "fr(bepo)"}, {"cz", "cz"},       {"da", "dk"},    {"de", "de"},
    {"de-ch", "ch"},    {"en-gb", "gb"},      {"en-us", "us"},    {"es", "es"},    {"et", "ee"},
    {"fi", "fi"},       {"fo", "fo"},         {"fr", "fr"},       {"fr-be", "be"}, {"fr-ca", "ca"},
    {"fr-ch", "ch(fr)"}, {"hr", "hr"},        {"hu", "hu"},       {"is", "is"},    {"it", "it"},
    {"ja", "jp"},       {"lt", "lt"},         {"lv", "lv"},       {"mk", "mk"},    {"nl", "nl"},
    {"no", "no"},       {"pl", "pl"},         {"pt", "pt"},       {"pt-br", "br"}, {"ru", "ru"},
    {"sl", "si"},       {"sv", "se"},         {"th", "th"},       {"tr", "tr"},
};

const char *xmlconf_keymap_layout(const char *keymap)
{
    for (gsize i = 0; i < G_N_ELEMENTS(keymaps); i++) {
        if (strcmp(keymaps[i].keymap, keymap) == 0)
            return keymaps[i].layout;
    }
    return NULL;
}
