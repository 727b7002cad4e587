/* What the fuzzers of this room share: numbers that are random, but the same in every run. */
#pragma once

#include <stdint.h>

static uint64_t fuzz_state;

__attribute__((unused)) static void fuzz_seed(uint64_t seed)
{
    fuzz_state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* xorshift64*: 0 to @below - 1. */
__attribute__((unused)) static uint32_t fuzz_random(uint32_t below)
{
    fuzz_state ^= fuzz_state >> 12;
    fuzz_state ^= fuzz_state << 25;
    fuzz_state ^= fuzz_state >> 27;
    return (uint32_t)((fuzz_state * UINT64_C(0x2545f4914f6cdd1d)) >> 32) % below;
}

__attribute__((unused)) static uint64_t fuzz_random64(void)
{
    return (uint64_t)fuzz_random(UINT32_MAX) << 32 | fuzz_random(UINT32_MAX);
}

/* Values that tend to be on some edge. */
__attribute__((unused)) static uint64_t fuzz_edge(void)
{
    static const uint64_t edges[] = {
        0,          1,          2,          0xff,        0xfff,       0x1000,
        0x7fff,     0xffff,     0x10000,    0x7fffffff,  0x80000000,  0xffffffff,
        1ull << 28, 1ull << 39, 1ull << 40, 1ull << 47,  1ull << 52,  INT64_MAX,
        1ull << 63, ~0ull - 1,  ~0ull,      0xfffff000u, 0xfffffffcu, ~0xfffull,
    };

    return edges[fuzz_random(sizeof(edges) / sizeof(edges[0]))];
}
