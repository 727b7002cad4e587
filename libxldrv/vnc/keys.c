/* Keys of a keyboard by the symbols on them. */
#include "config.h"

#include "libxldrv/vnc/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <xkbcommon/xkbcommon.h>

#define XKB_OFFSET 8 /* of XKB's numbers from Linux's */

/* A symbol's place: of several, the one with the lowest level, then the lowest key. */
struct entry {
    uint32_t symbol, level, key;
};

struct vnc_keys {
    struct entry *entries; /* sorted by symbol, level and key */
    size_t count, room;
    int failed;
};

static void add(struct vnc_keys *keys, uint32_t symbol, uint32_t level, uint32_t key)
{
    if (keys->count == keys->room) {
        size_t room = keys->room ? keys->room * 2 : 256;
        struct entry *larger = realloc(keys->entries, room * sizeof(*larger));

        if (!larger) {
            keys->failed = 1;
            return;
        }
        keys->entries = larger;
        keys->room = room;
    }
    keys->entries[keys->count++] = (struct entry){symbol, level, key};
}

static void add_key(struct xkb_keymap *keymap, xkb_keycode_t code, void *opaque)
{
    struct vnc_keys *keys = opaque;

    if (code < XKB_OFFSET || xkb_keymap_num_layouts_for_key(keymap, code) == 0)
        return;
    for (xkb_level_index_t level = 0; level < xkb_keymap_num_levels_for_key(keymap, code, 0); level++) {
        const xkb_keysym_t *symbols;
        int n = xkb_keymap_key_get_syms_by_level(keymap, code, 0, level, &symbols);

        for (int i = 0; i < n; i++)
            add(keys, symbols[i], level, code - XKB_OFFSET);
    }
}

static int compare(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;

    if (left->symbol != right->symbol)
        return left->symbol < right->symbol ? -1 : 1;
    if (left->level != right->level)
        return left->level < right->level ? -1 : 1;
    return left->key < right->key ? -1 : left->key > right->key;
}

struct vnc_keys *vnc_keys_new(const char *layout)
{
    const struct xkb_rule_names names = {.rules = "evdev", .model = "pc105", .layout = layout, .variant = ""};
    struct xkb_context *context = xkb_context_new(XKB_CONTEXT_NO_ENVIRONMENT_NAMES);
    struct xkb_keymap *keymap = context ? xkb_keymap_new_from_names(context, &names, 0) : NULL;
    struct vnc_keys *keys = keymap ? calloc(1, sizeof(*keys)) : NULL;

    if (keys) {
        xkb_keymap_key_for_each(keymap, add_key, keys);
        qsort(keys->entries, keys->count, sizeof(*keys->entries), compare);
    }
    xkb_keymap_unref(keymap);
    xkb_context_unref(context);
    if (keys && !keys->failed && keys->count)
        return keys;
    fprintf(stderr, "domus-vnc: error: keyboard layout '%s' cannot be had from XKB's files\n", layout);
    return NULL;
}

uint32_t vnc_keys_find(const struct vnc_keys *keys, uint32_t symbol)
{
    size_t low = 0, high = keys->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (keys->entries[middle].symbol < symbol)
            low = middle + 1;
        else
            high = middle;
    }
    return low < keys->count && keys->entries[low].symbol == symbol ? keys->entries[low].key : 0;
}
