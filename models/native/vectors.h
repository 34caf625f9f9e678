/* Sixteen floats at a time, in the compiler's own vectors, whatever the processor's are.
 *
 * Sums run in a fixed order, and a product and a sum are rounded once only where `fused` says so:
 * every set of instructions gives the same bits.
 */
#ifndef NEXTWORD_VECTORS_H
#define NEXTWORD_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef int16_t Shorts __attribute__((vector_size(32)));

INLINE Floats load(const float *p) {
    Floats x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void store(float *p, Floats x) { memcpy(p, &x, sizeof x); }

INLINE Floats all(float x) {
    return (Floats){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

INLINE Ints bits(Floats x) {
    Ints i;
    memcpy(&i, &x, sizeof i);
    return i;
}

INLINE Floats from_bits(Ints i) {
    Floats x;
    memcpy(&x, &i, sizeof x);
    return x;
}

/* ``mask`` is all ones or all zeros in each lane. */
INLINE Floats choose(Ints mask, Floats a, Floats b) {
    return from_bits((bits(a) & mask) | (bits(b) & ~mask));
}

/* The lanes of ``x`` whose byte has this bit; 0 for all others. */
INLINE Floats where(const uint8_t *bytes, uint8_t bit, Floats x) {
    uint8_t given __attribute__((vector_size(16)));
    memcpy(&given, bytes, sizeof given);
    return from_bits(bits(x) & (__builtin_convertvector(given & bit, Ints) != 0));
}

INLINE Floats absolute(Floats x) { return from_bits(bits(x) & 0x7fffffff); }

#if defined(USE_AVX512)
INLINE Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(USE_AVX2)
/* As in plain C, which gcc compiles badly: b where either is no number. */
#define BY_HALVES(name, instruction)                                       \
    INLINE Floats name(Floats a, Floats b) {                               \
        __m256 x[2], y[2];                                                 \
        memcpy(x, &a, sizeof a), memcpy(y, &b, sizeof b);                  \
        for (int i = 0; i < 2; i++) x[i] = instruction(x[i], y[i]);        \
        memcpy(&a, x, sizeof a);                                           \
        return a;                                                          \
    }
BY_HALVES(larger, _mm256_max_ps)
BY_HALVES(smaller, _mm256_min_ps)
#undef BY_HALVES
#else
INLINE Floats larger(Floats a, Floats b) { return choose(a > b, a, b); }
INLINE Floats smaller(Floats a, Floats b) { return choose(a < b, a, b); }
#endif

/* a * b + c, rounded once. */
INLINE Floats fused(Floats a, Floats b, Floats c) {
#if defined(USE_AVX512)
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(USE_AVX2)
    __m256 x[2], y[2], z[2];
    memcpy(x, &a, sizeof a), memcpy(y, &b, sizeof b), memcpy(z, &c, sizeof c);
    for (int i = 0; i < 2; i++) x[i] = _mm256_fmadd_ps(x[i], y[i], z[i]);
    memcpy(&a, x, sizeof a);
    return a;
#else
    for (int i = 0; i < 16; i++) a[i] = fmaf(a[i], b[i], c[i]);
    return a;
#endif
}

/* The sum of all lanes: those 8 apart first, then 4, 2 and 1. */
INLINE float sum(Floats x) {
#if defined(USE_AVX512)
    __m256 eight = _mm256_add_ps(
        _mm512_castps512_ps256((__m512)x),
        _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd((__m512)x), 1)));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
#else
    float y[16];
    memcpy(y, &x, sizeof y);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) y[i] += y[i + width];
    return y[0];
#endif
}

INLINE float largest(Floats x) {
#if defined(USE_AVX512)
    return _mm512_reduce_max_ps((__m512)x);
#else
    float y[16];
    memcpy(y, &x, sizeof y);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) y[i] = y[i] > y[i + width] ? y[i] : y[i + width];
    return y[0];
#endif
}

#if defined(USE_AVX512)
/* The sums of up to eight vectors' lanes, each in the order of `sum`. In every step two vectors come
 * to share one, so that it takes a few instructions a vector. */
INLINE void sum_of_each(const Floats *rows, int count, float *sums) {
    __m512 x[8];
    for (int i = 0; i < 8; i++) x[i] = (__m512)rows[i < count ? i : 0];
    for (int i = 0; i < 8; i += 2)
        x[i / 2] = _mm512_add_ps(_mm512_shuffle_f32x4(x[i], x[i + 1], 0x44),
                                 _mm512_shuffle_f32x4(x[i], x[i + 1], 0xee));
    for (int i = 0; i < 4; i += 2)
        x[i / 2] = _mm512_add_ps(_mm512_shuffle_f32x4(x[i], x[i + 1], 0x88),
                                 _mm512_shuffle_f32x4(x[i], x[i + 1], 0xdd));
    x[0] = _mm512_add_ps(_mm512_shuffle_ps(x[0], x[1], 0x44), _mm512_shuffle_ps(x[0], x[1], 0xee));
    x[0] = _mm512_add_ps(_mm512_shuffle_ps(x[0], x[0], 0x88), _mm512_shuffle_ps(x[0], x[0], 0xdd));
    float found[LANES]; /* of rows 0, 4, -, -, 1, 5, -, -, ... */
    memcpy(found, &x[0], sizeof found);
    for (int i = 0; i < count; i++) sums[i] = found[i % 4 * 4 + i / 4];
}
#else
INLINE void sum_of_each(const Floats *rows, int count, float *sums) {
    for (int i = 0; i < count; i++) sums[i] = sum(rows[i]);
}
#endif

/* The nearest whole number, ties to even, of |x| < 2^22: adding 1.5 * 2^23 leaves no room for a
 * fraction. */
INLINE Ints nearest(Floats x) {
    return bits(x + 12582912.0f) - 0x4b400000;
}

INLINE Floats to_floats(Ints i) { return __builtin_convertvector(i, Floats); }

INLINE Floats load_shorts(const int16_t *p) {
#if defined(USE_AVX512)
    __m512i wide = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)p));
    return (Floats)_mm512_cvtepi32_ps(wide);
#elif defined(USE_AVX2)
    __m256i low = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)p));
    __m256i high = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)(p + 8)));
    __m256 halves[2] = {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)};
    Floats x;
    memcpy(&x, halves, sizeof x);
    return x;
#else
    Shorts x;
    memcpy(&x, p, sizeof x);
    return to_floats(__builtin_convertvector(x, Ints));
#endif
}

/* e to the power of x, relative error below 4e-7; x is held to -87..88. */
INLINE Floats exponential(Floats x) {
    x = smaller(larger(x, all(-87.0f)), all(88.0f));
    Ints n = nearest(x * 1.44269504f);
    Floats k = to_floats(n);
    Floats r = x - k * 0.693359375f; /* ln 2 in two parts, the first exact in a product with k */
    r = r - k * -2.12194440e-4f;
    /* 1 + r + r^2 p(r), p fitted for |r| < 0.3475: relative error 1.1e-7. */
    Floats y = r * 8.3123976e-3f + 4.1891284e-2f;
    y = y * r + 0.16667120f;
    y = y * r + 0.49999225f;
    y = y * r * r + r + 1.0f;
    return from_bits(bits(y) + (n << 23));
}

/* e to the power of x - reference, with a relative error below 1e-4; 2^-125 where it is less than
 * that, and more than 1e30 where it is more than that. */
INLINE Floats rough_exponential(Floats x, float reference) {
    Floats t = fused(x, all(1.44269504f), all(reference * -1.44269504f));
    t = larger(t, all(-125.0f));
#if defined(USE_AVX512)
    Floats f = (Floats)_mm512_reduce_ps((__m512)t, 8); /* less the nearest whole number */
#else
    t = smaller(t, all(127.0f));
    Ints n = nearest(t);
    Floats f = t - to_floats(n);
#endif
    /* 2^f for |f| <= 0.5, fitted: relative error 7.5e-5. */
    Floats y = fused(f, all(5.517145e-2f), all(2.4261061e-1f));
    y = fused(y, f, all(6.9326097e-1f));
    y = fused(y, f, all(9.999281e-1f));
#if defined(USE_AVX512)
    return (Floats)_mm512_scalef_ps((__m512)y, _mm512_roundscale_ps((__m512)t, 8));
#else
    return from_bits(bits(y) + (n << 23));
#endif
}

INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

/* Near 0, where (1 - e) / (1 + e) loses digits, an odd polynomial fitted to tanh on |x| < 0.625. */
INLINE Floats hyperbolic_tangent(Floats x) {
    Floats a = absolute(x);
    Floats e = exponential(-2.0f * a);
    Floats far = (1.0f - e) / (1.0f + e);
    Floats s = a * a;
    Floats p = s * -0.0056039f + 0.0205517f;
    p = p * s + -0.0537141f;
    p = p * s + 0.1333115f;
    p = p * s + -0.3333327f;
    Floats near = a + a * s * p;
    Floats y = choose(a < 0.625f, near, far);
    return from_bits(bits(y) | (bits(x) & (int32_t)0x80000000));
}

#endif
