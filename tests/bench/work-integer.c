/* Integer code and memory: branches, multiplication, hashing, pointer chasing, copies. */
#include "guestbench.h"

#include <sys/mman.h>

int w_int_sieve(struct res *r, unsigned long n)
{
    static unsigned char s[500000];
    uint64_t sum = 0;
    double t = now();
    for (unsigned long k = 0; k < n; k++) {
        memset(s, 1, sizeof s);
        for (unsigned i = 2; i * i < sizeof s; i++)
            if (s[i])
                for (unsigned j = i * i; j < sizeof s; j += i)
                    s[j] = 0;
        unsigned c = 0;
        for (unsigned i = 2; i < sizeof s; i++)
            c += s[i];
        sum = mix(sum, c + k);
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = sum;
    return 0;
}

NOINLINE uint64_t collatz(uint64_t from, uint64_t to)
{
    uint64_t best = 0, total = 0;
    for (uint64_t i = from; i < to; i++) {
        uint64_t x = i, c = 0;
        while (x != 1) {
            if (x & 1)
                x = 3 * x + 1;
            else
                x >>= 1;
            c++;
        }
        total += c;
        if (c > best)
            best = c;
    }
    return total * 1000 + best;
}

int w_int_collatz(struct res *r, unsigned long n)
{
    double t = now();
    r->sum = collatz(1, n);
    r->sec = now() - t;
    r->ops = n;
    return 0;
}

int w_int_muldiv(struct res *r, unsigned long n)
{
    volatile uint64_t vm = 0xffffffffffffffc5ULL;
    uint64_t m = vm, a = 3, sum = 0;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        unsigned __int128 p = (unsigned __int128)a * (a + i);
        uint64_t hi = (uint64_t)(p >> 64) % (m >> 1), lo = (uint64_t)p, q, rem;
        __asm__("divq %4" : "=a"(q), "=d"(rem) : "a"(lo), "d"(hi), "r"(m) : "cc");
        sum += q;
        a = rem | 1;
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = mix(sum, a);
    return 0;
}

const uint32_t K256[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t ror(uint32_t x, int k)
{
    return x >> k | x << (32 - k);
}

static NOINLINE void sha256_c(uint32_t h[8], const unsigned char *p, size_t blocks)
{
    for (; blocks--; p += 64) {
        uint32_t w[64], s[8];
        for (int i = 0; i < 16; i++) {
            uint32_t v;
            memcpy(&v, p + 4 * i, 4);
            w[i] = __builtin_bswap32(v);
        }
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] +
                   (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(s, h, 32);
        for (int i = 0; i < 64; i++) {
            uint32_t t1 = s[7] + (ror(s[4], 6) ^ ror(s[4], 11) ^ ror(s[4], 25)) +
                          ((s[4] & s[5]) ^ (~s[4] & s[6])) + K256[i] + w[i];
            uint32_t t2 = (ror(s[0], 2) ^ ror(s[0], 13) ^ ror(s[0], 22)) +
                          ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            s[7] = s[6];
            s[6] = s[5];
            s[5] = s[4];
            s[4] = s[3] + t1;
            s[3] = s[2];
            s[2] = s[1];
            s[1] = s[0];
            s[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            h[i] += s[i];
    }
}

static unsigned char shabuf[16384];
static const uint32_t sha_iv[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

int w_int_sha256(struct res *r, unsigned long n)
{
    uint32_t h[8];
    memcpy(h, sha_iv, 32);
    memset(shabuf, 0x5a, sizeof shabuf);
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        sha256_c(h, shabuf, sizeof shabuf / 64);
    r->sec = now() - t;
    r->ops = n;
    r->mb = n * sizeof shabuf / 1e6;
    r->sum = (uint64_t)h[0] << 32 | h[7];
    return 0;
}

static int chase(struct res *r, unsigned long n, int thp)
{
    size_t len = 16 * MIB, cnt = len / 64;
    char *m = big(len, thp);
    uint32_t *ord = malloc(cnt * sizeof *ord);
    if (!m || !ord)
        return skip(r, "no memory");
    for (size_t i = 0; i < cnt; i++)
        ord[i] = i;
    rng_seed(12345);
    for (size_t i = cnt - 1; i > 0; i--) {
        size_t j = rng() % (i + 1);
        uint32_t x = ord[i];
        ord[i] = ord[j];
        ord[j] = x;
    }
    for (size_t i = 0; i < cnt; i++)
        *(void **)(m + 64UL * ord[i]) = m + 64UL * ord[(i + 1) % cnt];
    void **p = (void **)m;
    double t = now();
    for (unsigned long i = 0; i < n; i++)
        p = *p;
    r->sec = now() - t;
    r->ops = n;
    r->sum = (char *)p - m;
    free(ord);
    munmap(m, len);
    return 0;
}

int w_mem_chase(struct res *r, unsigned long n)
{
    return chase(r, n, 0);
}
int w_mem_chase_thp(struct res *r, unsigned long n)
{
    return chase(r, n, 1);
}

int w_mem_copy(struct res *r, unsigned long n)
{
    size_t len = 4 * MIB;
    char *a = big(len, 0), *b = big(len, 0);
    if (!a || !b)
        return skip(r, "no memory");
    for (size_t i = 0; i < len; i++)
        a[i] = i * 7;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        memcpy(i & 1 ? a : b, i & 1 ? b : a, len);
        __asm__ volatile("" ::: "memory");
    }
    r->sec = now() - t;
    r->ops = n;
    r->mb = n * len / 1e6;
    for (size_t i = 0; i < len; i += 4093)
        r->sum = mix(r->sum, (unsigned char)a[i] + 256 * (unsigned char)b[i]);
    munmap(a, len);
    munmap(b, len);
    return 0;
}

int w_mem_random(struct res *r, unsigned long n)
{
    size_t len = 16 * MIB, mask = len / 8 - 1;
    uint64_t *m = big(len, 0), x = 88172645463325252ULL, s = 0;
    if (!m)
        return skip(r, "no memory");
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        x = x * 6364136223846793005ULL + 1442695040888963407ULL;
        uint64_t *p = &m[(x >> 24) & mask];
        s += *p;
        *p ^= x;
    }
    r->sec = now() - t;
    r->ops = n;
    r->sum = s;
    munmap(m, len);
    return 0;
}
