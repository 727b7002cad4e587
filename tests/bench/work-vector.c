/* Integer vectors and the instructions for cryptography. */
#include "guestbench.h"

static unsigned char sa[16384] __attribute__((aligned(64))), sb[16384] __attribute__((aligned(64)));

static void simd_init(void)
{
    for (unsigned i = 0; i < sizeof sa; i++) {
        sa[i] = i * 13 + (i >> 5);
        sb[i] = i * 29 + (i >> 3);
    }
}

int w_simd_sse2(struct res *r, unsigned long n)
{
    simd_init();
    __m128i s = _mm_setzero_si128(), u = s;
    double t = now();
    for (unsigned long k = 0; k < n; k++)
        for (unsigned i = 0; i < sizeof sa; i += 16) {
            __m128i a = _mm_load_si128((void *)(sa + i)), b = _mm_load_si128((void *)(sb + i));
            s = _mm_add_epi64(s, _mm_sad_epu8(a, b));
            a = _mm_add_epi16(_mm_mullo_epi16(a, b), _mm_unpacklo_epi8(b, a));
            u = _mm_xor_si128(_mm_add_epi32(u, a), _mm_srli_epi32(b, 3));
        }
    r->sec = now() - t;
    r->ops = n;
    uint64_t o[4];
    _mm_storeu_si128((void *)o, s);
    _mm_storeu_si128((void *)(o + 2), u);
    for (int i = 0; i < 4; i++)
        r->sum = mix(r->sum, o[i]);
    return 0;
}

TARGET("avx2") static NOINLINE void simd_avx2(unsigned long n, uint64_t o[8])
{
    __m256i s = _mm256_setzero_si256(), u = s;
    for (unsigned long k = 0; k < n; k++)
        for (unsigned i = 0; i < sizeof sa; i += 32) {
            __m256i a = _mm256_load_si256((void *)(sa + i)),
                    b = _mm256_load_si256((void *)(sb + i));
            s = _mm256_add_epi64(s, _mm256_sad_epu8(a, b));
            a = _mm256_add_epi16(_mm256_mullo_epi16(a, b), _mm256_unpacklo_epi8(b, a));
            u = _mm256_xor_si256(_mm256_add_epi32(u, a), _mm256_srli_epi32(b, 3));
        }
    _mm256_storeu_si256((void *)o, s);
    _mm256_storeu_si256((void *)(o + 4), u);
}

int w_simd_avx2(struct res *r, unsigned long n)
{
    uint64_t o[8];
    if (!__builtin_cpu_supports("avx2"))
        return skip(r, "no AVX2");
    simd_init();
    double t = now();
    simd_avx2(n, o);
    r->sec = now() - t;
    r->ops = n;
    for (int i = 0; i < 8; i++)
        r->sum = mix(r->sum, o[i]);
    return 0;
}

TARGET("aes,sse4.1") static NOINLINE uint64_t aes_ni(unsigned long n)
{
    __m128i k[11], c[4];
    uint64_t o[2], sum = 0;
    for (int i = 0; i < 11; i++)
        k[i] = _mm_set1_epi32(0x01020304 * (i + 1));
    for (int i = 0; i < 4; i++)
        c[i] = _mm_set1_epi8(i);
    for (unsigned long j = 0; j < n; j++)
        for (int i = 0; i < 256; i++) { /* 256 x 4 blocks = 16 KiB */
            for (int b = 0; b < 4; b++)
                c[b] = _mm_xor_si128(c[b], k[0]);
            for (int rd = 1; rd < 10; rd++)
                for (int b = 0; b < 4; b++)
                    c[b] = _mm_aesenc_si128(c[b], k[rd]);
            for (int b = 0; b < 4; b++)
                c[b] = _mm_aesenclast_si128(c[b], k[10]);
        }
    for (int b = 0; b < 4; b++) {
        _mm_storeu_si128((void *)o, c[b]);
        sum = mix(mix(sum, o[0]), o[1]);
    }
    return sum;
}

int w_aes_ni(struct res *r, unsigned long n)
{
    unsigned a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (!(c & bit_AES))
        return skip(r, "no AES-NI");
    double t = now();
    r->sum = aes_ni(n);
    r->sec = now() - t;
    r->ops = n;
    r->mb = n * 16384 / 1e6;
    return 0;
}

TARGET("pclmul,sse4.1") static NOINLINE uint64_t pclmul(unsigned long n)
{
    __m128i x = _mm_set_epi64x(0x123456789abcdefLL, 0x42f0e1eba9ea3693LL),
            k = _mm_set_epi64x(0x87, 0x1b5a3);
    for (unsigned long i = 0; i < n * 1024; i++) {
        __m128i lo = _mm_clmulepi64_si128(x, k, 0x00), hi = _mm_clmulepi64_si128(x, k, 0x11);
        x = _mm_xor_si128(_mm_xor_si128(lo, hi), _mm_set1_epi64x(i));
    }
    uint64_t o[2];
    _mm_storeu_si128((void *)o, x);
    return mix(o[0], o[1]);
}

int w_pclmul(struct res *r, unsigned long n)
{
    unsigned a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (!(c & bit_PCLMUL))
        return skip(r, "no PCLMULQDQ");
    double t = now();
    r->sum = pclmul(n);
    r->sec = now() - t;
    r->ops = n;
    return 0;
}

TARGET("sha,sse4.1") static NOINLINE uint64_t sha_ni(unsigned long n)
{
    /* The SHA-256 instructions in the proportion of the real block function
     * (32 rnds2, 12 msg1, 12 msg2 for 64 bytes). */
    __m128i s0 = _mm_set1_epi32(0x6a09e667), s1 = _mm_set1_epi32(0xbb67ae85);
    __m128i w[4];
    for (int i = 0; i < 4; i++)
        w[i] = _mm_set1_epi32(0x5a5a5a5a + i);
    for (unsigned long j = 0; j < n * 256; j++)
        for (int i = 0; i < 16; i++) {
            __m128i m = _mm_add_epi32(w[i & 3], _mm_loadu_si128((void *)(K256 + 4 * i)));
            s1 = _mm_sha256rnds2_epu32(s1, s0, m);
            s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(m, 0x0e));
            if (i < 12)
                w[i & 3] = _mm_sha256msg2_epu32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]),
                                                w[(i + 3) & 3]);
        }
    uint64_t o[4];
    _mm_storeu_si128((void *)o, s0);
    _mm_storeu_si128((void *)(o + 2), s1);
    return mix(mix(o[0], o[1]), mix(o[2], o[3]));
}

int w_sha_ni(struct res *r, unsigned long n)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 29))
        return skip(r, "no SHA-NI");
    double t = now();
    r->sum = sha_ni(n);
    r->sec = now() - t;
    r->ops = n;
    r->mb = n * 16384 / 1e6;
    return 0;
}
