/* Floating point: x87, scalar and vector, with and without FMA. */
#include "guestbench.h"

int w_fp_nbody(struct res *r, unsigned long n)
{
    double x[5] = {0, 4.84, 8.34, 12.89, 15.37}, y[5] = {0, -1.16, 4.12, -15.11, -25.91},
           z[5] = {0, -.10, -.40, -.22, .17}, vx[5] = {0, .60, -1.01, 1.08, .97},
           vy[5] = {0, 2.81, 1.82, .86, .59}, vz[5] = {0, -.02, .008, -.01, -.03},
           m[5] = {39.47, .037, .011, .0017, .002};
    double t = now();
    for (unsigned long k = 0; k < n; k++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double dx = x[i] - x[j], dy = y[i] - y[j], dz = z[i] - z[j];
                double d2 = dx * dx + dy * dy + dz * dz;
                double mag = 0.01 / (d2 * __builtin_sqrt(d2));
                vx[i] -= dx * m[j] * mag;
                vy[i] -= dy * m[j] * mag;
                vz[i] -= dz * m[j] * mag;
                vx[j] += dx * m[i] * mag;
                vy[j] += dy * m[i] * mag;
                vz[j] += dz * m[i] * mag;
            }
        for (int i = 0; i < 5; i++) {
            x[i] += 0.01 * vx[i];
            y[i] += 0.01 * vy[i];
            z[i] += 0.01 * vz[i];
        }
    }
    r->sec = now() - t;
    r->ops = n;
    memcpy(&r->sum, &x[1], 8);
    return 0;
}

int w_fp_x87(struct res *r, unsigned long n)
{
    long double a = 1.0L, b = 0.5L;
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        b = b * 1.0000001L + 1.0L / (a + 2.0L);
        a = a * 0.999999L + b * 0.001L;
        if (b > 100.0L)
            b -= 99.0L;
    }
    r->sec = now() - t;
    r->ops = n;
    double d = (double)(a + b);
    memcpy(&r->sum, &d, 8);
    return 0;
}

#define DOTN 4096
static float fa[DOTN] __attribute__((aligned(64))), fb[DOTN] __attribute__((aligned(64)));

static void dot_init(void)
{
    for (int i = 0; i < DOTN; i++) {
        fa[i] = (i % 97) * 0.25f + 0.125f;
        fb[i] = (i % 89) * 0.5f - 11.0f;
    }
}

static uint64_t fbits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

int w_fp_sse2_dot(struct res *r, unsigned long n)
{
    dot_init();
    __m128 acc = _mm_setzero_ps(), acc2 = acc, k = _mm_set1_ps(0.5f);
    double t = now();
    for (unsigned long i = 0; i < n; i++) {
        for (int j = 0; j < DOTN; j += 8) {
            acc = _mm_add_ps(acc, _mm_mul_ps(_mm_load_ps(fa + j), _mm_load_ps(fb + j)));
            acc2 = _mm_add_ps(acc2, _mm_mul_ps(_mm_load_ps(fa + j + 4), _mm_load_ps(fb + j + 4)));
        }
        acc = _mm_mul_ps(acc, k);
        acc2 = _mm_mul_ps(acc2, k);
    }
    r->sec = now() - t;
    r->ops = n;
    float o[4];
    _mm_storeu_ps(o, _mm_add_ps(acc, acc2));
    r->sum = fbits(o[0]) << 32 ^ fbits(o[1]) ^ fbits(o[2]) << 16 ^ fbits(o[3]) << 8;
    return 0;
}

TARGET("avx2") static NOINLINE void avx2_dot(unsigned long n, float o[8])
{
    __m256 acc = _mm256_setzero_ps(), acc2 = acc, k = _mm256_set1_ps(0.5f);
    for (unsigned long i = 0; i < n; i++) {
        for (int j = 0; j < DOTN; j += 16) {
            acc = _mm256_add_ps(acc, _mm256_mul_ps(_mm256_load_ps(fa + j), _mm256_load_ps(fb + j)));
            acc2 = _mm256_add_ps(
                acc2, _mm256_mul_ps(_mm256_load_ps(fa + j + 8), _mm256_load_ps(fb + j + 8)));
        }
        acc = _mm256_mul_ps(acc, k);
        acc2 = _mm256_mul_ps(acc2, k);
    }
    _mm256_storeu_ps(o, _mm256_add_ps(acc, acc2));
}

TARGET("avx2,fma") static NOINLINE void fma_dot(unsigned long n, float o[8])
{
    __m256 acc = _mm256_setzero_ps(), acc2 = acc, k = _mm256_set1_ps(0.5f);
    for (unsigned long i = 0; i < n; i++) {
        for (int j = 0; j < DOTN; j += 16) {
            acc = _mm256_fmadd_ps(_mm256_load_ps(fa + j), _mm256_load_ps(fb + j), acc);
            acc2 = _mm256_fmadd_ps(_mm256_load_ps(fa + j + 8), _mm256_load_ps(fb + j + 8), acc2);
        }
        acc = _mm256_mul_ps(acc, k);
        acc2 = _mm256_mul_ps(acc2, k);
    }
    _mm256_storeu_ps(o, _mm256_add_ps(acc, acc2));
}

static int dot8(struct res *r, unsigned long n, void (*f)(unsigned long, float[8]))
{
    float o[8];
    dot_init();
    double t = now();
    f(n, o);
    r->sec = now() - t;
    r->ops = n;
    for (int i = 0; i < 8; i++)
        r->sum = mix(r->sum, fbits(o[i]));
    return 0;
}

int w_fp_avx2_dot(struct res *r, unsigned long n)
{
    return __builtin_cpu_supports("avx2") ? dot8(r, n, avx2_dot) : skip(r, "no AVX2");
}

int w_fp_fma_dot(struct res *r, unsigned long n)
{
    return __builtin_cpu_supports("fma") ? dot8(r, n, fma_dot) : skip(r, "no FMA");
}

int w_fp_sse2_mandel(struct res *r, unsigned long n)
{
    const int W = 128, H = 96, IT = 100;
    uint64_t sum = 0;
    double t = now();
    for (unsigned long k = 0; k < n; k++)
        for (int py = 0; py < H; py++)
            for (int px = 0; px < W; px += 2) {
                double x0 = -2.0 + 3.0 * px / W, x1 = -2.0 + 3.0 * (px + 1) / W;
                __m128d cx = _mm_set_pd(x1, x0), cy = _mm_set1_pd(-1.2 + 2.4 * py / H + k * 1e-6);
                __m128d x = cx, y = cy, four = _mm_set1_pd(4.0);
                int c = 0, m;
                for (int i = 0; i < IT; i++) {
                    __m128d xx = _mm_mul_pd(x, x), yy = _mm_mul_pd(y, y), xy = _mm_mul_pd(x, y);
                    m = _mm_movemask_pd(_mm_cmple_pd(_mm_add_pd(xx, yy), four));
                    if (!m)
                        break;
                    c += (m & 1) + (m >> 1);
                    x = _mm_add_pd(_mm_sub_pd(xx, yy), cx);
                    y = _mm_add_pd(_mm_add_pd(xy, xy), cy);
                }
                sum += c;
            }
    r->sec = now() - t;
    r->ops = n;
    r->sum = sum;
    return 0;
}

TARGET("avx2") static NOINLINE uint64_t avx2_mandel(unsigned long n)
{
    const int W = 128, H = 96, IT = 100;
    uint64_t sum = 0;
    for (unsigned long k = 0; k < n; k++)
        for (int py = 0; py < H; py++)
            for (int px = 0; px < W; px += 4) {
                double b = -2.0 + 3.0 * px / W, d = 3.0 / W;
                __m256d cx = _mm256_set_pd(b + 3 * d, b + 2 * d, b + d, b);
                __m256d cy = _mm256_set1_pd(-1.2 + 2.4 * py / H + k * 1e-6);
                __m256d x = cx, y = cy, four = _mm256_set1_pd(4.0);
                int c = 0, m;
                for (int i = 0; i < IT; i++) {
                    __m256d xx = _mm256_mul_pd(x, x), yy = _mm256_mul_pd(y, y),
                            xy = _mm256_mul_pd(x, y);
                    m = _mm256_movemask_pd(_mm256_cmp_pd(_mm256_add_pd(xx, yy), four, _CMP_LE_OQ));
                    if (!m)
                        break;
                    c += (m & 1) + (m >> 1 & 1) + (m >> 2 & 1) + (m >> 3);
                    x = _mm256_add_pd(_mm256_sub_pd(xx, yy), cx);
                    y = _mm256_add_pd(_mm256_add_pd(xy, xy), cy);
                }
                sum += c;
            }
    return sum;
}

int w_fp_avx2_mandel(struct res *r, unsigned long n)
{
    if (!__builtin_cpu_supports("avx2"))
        return skip(r, "no AVX2");
    double t = now();
    r->sum = avx2_mandel(n);
    r->sec = now() - t;
    r->ops = n;
    return 0;
}
