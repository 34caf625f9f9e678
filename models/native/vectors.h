/* Sixteen floats at a time, in the compiler's own vectors, whatever the processor's are.
 *
 * Sums run in a fixed order and nothing is contracted to a fused multiply-add, so that every set of
 * instructions gives the same bits.
 */
#ifndef NEXTWORD_VECTORS_H
#define NEXTWORD_VECTORS_H

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

INLINE Floats absolute(Floats x) { return from_bits(bits(x) & 0x7fffffff); }

#if defined(USE_AVX512)
INLINE Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
#else
INLINE Floats larger(Floats a, Floats b) { return choose(a > b, a, b); }
INLINE Floats smaller(Floats a, Floats b) { return choose(a < b, a, b); }
#endif

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

/* The same for x <= 0 with a relative error below 1e-4, in half the time. */
INLINE Floats rough_exponential(Floats x) {
    Floats t = larger(x, all(-87.0f)) * 1.44269504f;
    Floats shifted = t + 12582912.0f; /* as in `nearest`; its lowest bits are the whole number */
    Floats f = t - (shifted - 12582912.0f);
    /* 2^f for |f| <= 0.5, fitted: relative error 7.5e-5. */
    Floats y = f * 5.517145e-2f + 2.4261061e-1f;
    y = y * f + 6.9326097e-1f;
    y = y * f + 9.999281e-1f;
    return from_bits(bits(y) + (bits(shifted) << 23));
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
