/* CRC-32C: by the processor's instruction where there is one, three streams at once to hide its latency; else by a table.
 * The checksums of the streams are joined by shifting them over zeroes (multiplication by x^n in GF(2) modulo the
 * polynomial), for which a table is made at first use.
 */
#include "config.h"

#include "hv/stream/codec.h"

#include <nmmintrin.h>
#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */
#define LANE       1344u       /* bytes; three of them and a little are a page */

static pthread_once_t once = PTHREAD_ONCE_INIT;
/* Immutable after the first call: of a byte; of a CRC moved over LANE zeroes, by each of its bytes. */
static uint32_t byte_table[256], shift_table[4][256];

static uint32_t step(uint32_t crc, uint8_t byte)
{
    return byte_table[(crc ^ byte) & 0xff] ^ (crc >> 8);
}

static uint32_t over_zeroes(uint32_t crc)
{
    for (unsigned zero = 0; zero < LANE; zero++)
        crc = step(crc, 0);
    return crc;
}

/* Moving is linear, so that bits are moved one by one, and all else is made of them: moving all would take milliseconds, which a
 * guest that is restored waits. */
static void make_shift_table(unsigned byte)
{
    for (uint32_t i = 1; i < 256; i++) {
        uint32_t rest = i & (i - 1);

        shift_table[byte][i] = rest ? shift_table[byte][rest] ^ shift_table[byte][i ^ rest] : over_zeroes(i << (8 * byte));
    }
}

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        byte_table[i] = crc;
    }
    for (unsigned byte = 0; byte < 4; byte++)
        make_shift_table(byte);
}

static uint32_t shift(uint32_t crc)
{
    return shift_table[0][crc & 0xff] ^ shift_table[1][crc >> 8 & 0xff] ^ shift_table[2][crc >> 16 & 0xff] ^
           shift_table[3][crc >> 24];
}

static uint64_t load(const uint8_t *p)
{
    uint64_t value;

    memcpy(&value, p, sizeof(value));
    return value;
}

__attribute__((target("sse4.2"))) static uint32_t three_lanes(uint32_t crc, const uint8_t *p)
{
    uint64_t a = crc, b = 0, c = 0;

    for (const uint8_t *end = p + LANE; p < end; p += 8) {
        a = _mm_crc32_u64(a, load(p));
        b = _mm_crc32_u64(b, load(p + LANE));
        c = _mm_crc32_u64(c, load(p + 2 * LANE));
    }
    return shift(shift((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

__attribute__((target("sse4.2"))) static uint32_t fast(uint32_t crc, const uint8_t *p, size_t count)
{
    uint64_t wide;

    for (; count >= 3 * LANE; p += 3 * LANE, count -= 3 * LANE)
        crc = three_lanes(crc, p);
    wide = crc;
    for (; count >= 8; p += 8, count -= 8)
        wide = _mm_crc32_u64(wide, load(p));
    crc = (uint32_t)wide;
    for (; count; p++, count--)
        crc = _mm_crc32_u8(crc, *p);
    return crc;
}

uint32_t hv_crc32c(uint32_t crc, const void *bytes, size_t count)
{
    const uint8_t *p = bytes;

    pthread_once(&once, make_tables);
    crc = ~crc;
    if (__builtin_cpu_supports("sse4.2"))
        return ~fast(crc, p, count);
    for (; count; count--)
        crc = step(crc, *p++);
    return ~crc;
}
