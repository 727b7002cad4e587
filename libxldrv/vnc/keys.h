/* From what VNC clients say of keys, X's symbols, to the keys of a keyboard with some layout. By libxkbcommon. */
#pragma once

#include <stdint.h>

struct vnc_keys;

/* @layout as XKB has it: "de", "ch(fr)". Reads XKB's files. NULL: it cannot be had, which was said on standard error. */
struct vnc_keys *vnc_keys_new(const char *layout);
/* Linux's number of the key that gives @symbol with as few modifiers as possible; 0: none does. Any thread. */
uint32_t vnc_keys_find(const struct vnc_keys *keys, uint32_t symbol);
