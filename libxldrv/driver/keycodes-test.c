/* Numbers of keys: facts of several of libvirt's code sets. */
#include "config.h"

#include "libxldrv/driver/keycodes.h"

#include <libvirt/libvirt.h>
#include <linux/input-event-codes.h>

static const struct {
    guint codeset, code, key;
} rows[] = {
    {VIR_KEYCODE_SET_LINUX, 30, KEY_A},       {VIR_KEYCODE_SET_LINUX, KEY_CNT, 0},
    {VIR_KEYCODE_SET_XT, 0x1e, KEY_A},        {VIR_KEYCODE_SET_XT, 0xe01d, KEY_RIGHTCTRL},
    {VIR_KEYCODE_SET_ATSET1, 0x3b, KEY_F1},   {VIR_KEYCODE_SET_ATSET2, 0x1c, KEY_A},
    {VIR_KEYCODE_SET_ATSET2, 0xe075, KEY_UP}, {VIR_KEYCODE_SET_ATSET3, 0x76, KEY_NUMLOCK},
    {VIR_KEYCODE_SET_OSX, 0, KEY_A},          {VIR_KEYCODE_SET_OSX, 0x35, KEY_ESC},
    {VIR_KEYCODE_SET_OSX, 0xff, 0},           {VIR_KEYCODE_SET_XT_KBD, 0x11d, KEY_RIGHTCTRL},
    {VIR_KEYCODE_SET_XT_KBD, 0x1e, KEY_A},    {VIR_KEYCODE_SET_USB, 4, KEY_A},
    {VIR_KEYCODE_SET_USB, 0xe3, KEY_LEFTMETA}, {VIR_KEYCODE_SET_USB, 0, 0},
    {VIR_KEYCODE_SET_WIN32, 0x41, KEY_A},     {VIR_KEYCODE_SET_WIN32, 0x0d, KEY_ENTER},
    {VIR_KEYCODE_SET_QNUM, 0x9d, KEY_RIGHTCTRL}, {VIR_KEYCODE_SET_QNUM, 0x1e, KEY_A},
    {VIR_KEYCODE_SET_QNUM, 0x10000 | 0x1e, 0}, {10, 30, 0},
};

static void test_rows(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_test_message("set %u, %#x", rows[i].codeset, rows[i].code);
        g_assert_cmpuint(xldrv_keycode_to_linux(rows[i].codeset, rows[i].code), ==, rows[i].key);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keycodes/rows", test_rows);
    return g_test_run();
}
