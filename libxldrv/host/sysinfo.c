/* SMBIOS strings, as the kernel shows them in /sys/class/dmi/id, in libvirt's sysinfo XML. */
#include "config.h"

#include "libxldrv/host/host.h"

#define DMI_DIR "/sys/class/dmi/id"

static const struct {
    const char *element; /* of libvirt's XML; rows of one element stand together */
    const char *entry;
    const char *file;
} rows[] = {
    {"bios", "vendor", "bios_vendor"},
    {"bios", "version", "bios_version"},
    {"bios", "date", "bios_date"},
    {"bios", "release", "bios_release"},
    {"system", "manufacturer", "sys_vendor"},
    {"system", "product", "product_name"},
    {"system", "version", "product_version"},
    {"system", "serial", "product_serial"},
    {"system", "uuid", "product_uuid"},
    {"system", "sku", "product_sku"},
    {"system", "family", "product_family"},
    {"baseBoard", "manufacturer", "board_vendor"},
    {"baseBoard", "product", "board_name"},
    {"baseBoard", "version", "board_version"},
    {"baseBoard", "serial", "board_serial"},
    {"baseBoard", "asset", "board_asset_tag"},
    {"chassis", "manufacturer", "chassis_vendor"},
    {"chassis", "version", "chassis_version"},
    {"chassis", "serial", "chassis_serial"},
    {"chassis", "asset", "chassis_asset_tag"},
};

/* NULL if the firmware says nothing there. */
static char *read_entry(const char *file)
{
    g_autofree char *path = g_build_filename(DMI_DIR, file, NULL);
    g_autofree char *text = NULL;
    g_autofree char *valid = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    valid = g_utf8_make_valid(g_strstrip(text), -1);
    for (char *c = valid; *c; c++) {
        if ((guchar)*c < ' ')
            *c = ' '; /* not allowed in XML */
    }
    return *valid ? g_markup_escape_text(valid, -1) : NULL;
}

char *xldrv_host_sysinfo(void)
{
    g_autoptr(GString) xml = g_string_new("<sysinfo type='smbios'>\n");
    const char *open = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *value = read_entry(rows[i].file);
        if (!value)
            continue;
        if (g_strcmp0(open, rows[i].element) != 0) {
            if (open)
                g_string_append_printf(xml, "  </%s>\n", open);
            g_string_append_printf(xml, "  <%s>\n", rows[i].element);
            open = rows[i].element;
        }
        g_string_append_printf(xml, "    <entry name='%s'>%s</entry>\n", rows[i].entry, value);
    }
    if (!open)
        return NULL;
    g_string_append_printf(xml, "  </%s>\n</sysinfo>\n", open);
    return g_strdup(xml->str);
}
