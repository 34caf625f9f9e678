/* Dot products of a panel's signed bytes with a few rows of rounded activations, exact in 32 bits.
 *
 * Rows stand in memory as the instructions want them. AVX-512 multiplies unsigned bytes with signed
 * ones: of narrow activations it reads q + 128, of wide ones q + 32768, first the high bytes of all
 * inputs, then the low ones; what these add to a sum is known from a row's total. Other instructions
 * read the q as they are, in 16 bits.
 *
 * sum_panel writes the sums of rows ``row``, ``row`` + 1, ... of which ``bytes`` has ``count``;
 * this and ``wide`` are constants where it is inlined.
 */
#ifndef NEXTWORD_DOTS_H
#define NEXTWORD_DOTS_H

#include "native.h"
#include "vectors.h"

/* Bytes of a row. */
INLINE size_t row_bytes(int inputs, int wide) {
#if defined(USE_AVX512)
    return (size_t)inputs << wide;
#else
    (void)wide;
    return (size_t)inputs * 2;
#endif
}

#if defined(USE_AVX512)
/* 24 sums, 4 weights and 1 or 2 activations: nearly all of the registers. */
enum { TILE_ROWS = 6, WIDE_TILE_ROWS = 3 };

INLINE __m512i four_bytes(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

/* What to begin with, so that the excess of q + 128 or q + 32768 is gone in the end. */
INLINE __m512i less_excess(const int32_t *totals, int wide) {
    __m512i total = _mm512_load_si512(totals);
    __m512i excess = wide ? _mm512_slli_epi32(total, 15) : _mm512_slli_epi32(total, 7);
    return _mm512_sub_epi32(_mm512_setzero_si512(), excess);
}

INLINE void store_sums(__m512i high, __m512i low, int wide, int32_t *sums) {
    _mm512_store_si512(sums, wide ? _mm512_add_epi32(_mm512_slli_epi32(high, 8), low) : high);
}

/* sums += products of four unsigned and four signed bytes each. In assembly, since from the
 * intrinsic gcc makes a copy to and fro, and a store to memory, at every step. */
#define DOT(sums, u, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(u), "v"(w))

/* The sums of row r are eight variables: gcc keeps a struct or an array of them in memory as well,
 * and stores it at every step. */
#define DECLARE_SUMS(r)                                                   \
    __m512i r##l0 = start0, r##l1 = start1, r##l2 = start2, r##l3 = start3, \
            r##h0 = wide ? zero : start0, r##h1 = wide ? zero : start1,     \
            r##h2 = wide ? zero : start2, r##h3 = wide ? zero : start3
#define ADD_PRODUCTS(r, bytes)                       \
    do {                                             \
        __m512i high = four_bytes(bytes);            \
        DOT(r##h0, high, w0);                        \
        DOT(r##h1, high, w1);                        \
        DOT(r##h2, high, w2);                        \
        DOT(r##h3, high, w3);                        \
        if (!wide) break;                            \
        __m512i low = four_bytes((bytes) + inputs);  \
        DOT(r##l0, low, w0);                         \
        DOT(r##l1, low, w1);                         \
        DOT(r##l2, low, w2);                         \
        DOT(r##l3, low, w3);                         \
    } while (0)
#define STORE_SUMS(r, sums)                                        \
    do {                                                           \
        store_sums(r##h0, r##l0, wide, sums);                      \
        store_sums(r##h1, r##l1, wide, sums + 16);                 \
        store_sums(r##h2, r##l2, wide, sums + 32);                 \
        store_sums(r##h3, r##l3, wide, sums + 48);                 \
    } while (0)

INLINE void sum_panel(
    const Matrix *matrix, int panel, const uint8_t *bytes, int row, int count, int wide,
    int32_t (*sums)[PANEL]
) {
    int inputs = matrix->inputs;
    const int8_t *weights = matrix->weights + (size_t)panel * PANEL * inputs;
    const int32_t *totals = matrix->totals + panel * PANEL;
    size_t each = row_bytes(inputs, wide);
    const __m512i zero = _mm512_setzero_si512();
    const __m512i start0 = less_excess(totals, wide), start1 = less_excess(totals + 16, wide);
    const __m512i start2 = less_excess(totals + 32, wide), start3 = less_excess(totals + 48, wide);
    DECLARE_SUMS(a);
    DECLARE_SUMS(b);
    DECLARE_SUMS(c);
    DECLARE_SUMS(d);
    DECLARE_SUMS(e);
    DECLARE_SUMS(f);
    int i = 0;
    do { /* at least one: so the sums after it are those in it */
        __m512i w0 = _mm512_load_si512(weights), w1 = _mm512_load_si512(weights + 64);
        __m512i w2 = _mm512_load_si512(weights + 128), w3 = _mm512_load_si512(weights + 192);
        if (count == 1) { /* then it is the weights that take the time */
            for (int line = 0; line < 256; line += 64)
                _mm_prefetch((const char *)weights + 2048 + line, _MM_HINT_T0);
        } else { /* each tile fetches a quarter of the next panel's weights */
            int line = row / WIDE_TILE_ROWS % 4 * 64;
            _mm_prefetch((const char *)weights + (size_t)PANEL * inputs + line, _MM_HINT_T1);
        }
        ADD_PRODUCTS(a, bytes + i);
        if (count > 1) ADD_PRODUCTS(b, bytes + each + i);
        if (count > 2) ADD_PRODUCTS(c, bytes + 2 * each + i);
        if (count > 3) ADD_PRODUCTS(d, bytes + 3 * each + i);
        if (count > 4) ADD_PRODUCTS(e, bytes + 4 * each + i);
        if (count > 5) ADD_PRODUCTS(f, bytes + 5 * each + i);
        i += 4, weights += 256;
    } while (i < inputs);
    STORE_SUMS(a, sums[0]);
    if (count > 1) STORE_SUMS(b, sums[1]);
    if (count > 2) STORE_SUMS(c, sums[2]);
    if (count > 3) STORE_SUMS(d, sums[3]);
    if (count > 4) STORE_SUMS(e, sums[4]);
    if (count > 5) STORE_SUMS(f, sums[5]);
}

#elif defined(USE_AVX2)
enum { TILE_ROWS = 2, WIDE_TILE_ROWS = 2 };

/* Of a row with 16 outputs, four in each, two sums an output. */
typedef struct {
    __m256i s0, s1, s2, s3;
} Sums;

INLINE __m256i widened(const int8_t *w) {
    return _mm256_cvtepi8_epi16(_mm_load_si128((const void *)w));
}

INLINE void add_products(
    Sums *s, const uint8_t *bytes, __m256i w0, __m256i w1, __m256i w2, __m256i w3
) {
    int64_t four;
    memcpy(&four, bytes, sizeof four);
    __m256i q = _mm256_set1_epi64x(four);
    s->s0 = _mm256_add_epi32(s->s0, _mm256_madd_epi16(w0, q));
    s->s1 = _mm256_add_epi32(s->s1, _mm256_madd_epi16(w1, q));
    s->s2 = _mm256_add_epi32(s->s2, _mm256_madd_epi16(w2, q));
    s->s3 = _mm256_add_epi32(s->s3, _mm256_madd_epi16(w3, q));
}

INLINE void store_eight(__m256i a, __m256i b, int32_t *sums) {
    __m256i mixed = _mm256_hadd_epi32(a, b); /* outputs 0 1 4 5 | 2 3 6 7 */
    _mm256_storeu_si256((void *)sums, _mm256_permute4x64_epi64(mixed, 0xd8));
}

INLINE void sum_panel(
    const Matrix *matrix, int panel, const uint8_t *bytes, int row, int count, int wide,
    int32_t (*sums)[PANEL]
) {
    (void)row, (void)wide;
    int inputs = matrix->inputs;
    __m256i zero = _mm256_setzero_si256();
    for (int block = 0; block < PANEL; block += 16) {
        const int8_t *w = matrix->weights + (size_t)panel * PANEL * inputs + 4 * block;
        Sums a = {zero, zero, zero, zero}, b = a;
        for (int i = 0; i < inputs; i += 4, w += 256) {
            __m256i w0 = widened(w), w1 = widened(w + 16), w2 = widened(w + 32), w3 = widened(w + 48);
            add_products(&a, bytes + 2 * i, w0, w1, w2, w3);
            if (count > 1) add_products(&b, bytes + 2 * inputs + 2 * i, w0, w1, w2, w3);
        }
        store_eight(a.s0, a.s1, sums[0] + block);
        store_eight(a.s2, a.s3, sums[0] + block + 8);
        if (count > 1) store_eight(b.s0, b.s1, sums[1] + block);
        if (count > 1) store_eight(b.s2, b.s3, sums[1] + block + 8);
    }
}

#else
enum { TILE_ROWS = 2, WIDE_TILE_ROWS = 2 };

INLINE void sum_panel(
    const Matrix *matrix, int panel, const uint8_t *bytes, int row, int count, int wide,
    int32_t (*sums)[PANEL]
) {
    (void)row, (void)wide;
    int inputs = matrix->inputs;
    const int8_t *weights = matrix->weights + (size_t)panel * PANEL * inputs;
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int i = 0; i < inputs; i += 4) {
        for (int r = 0; r < count; r++) {
            int16_t q[4];
            memcpy(q, bytes + (size_t)r * 2 * inputs + 2 * i, sizeof q);
            const int8_t *w = weights + 64 * (size_t)i;
            for (int o = 0; o < PANEL; o++, w += 4)
                sums[r][o] += w[0] * q[0] + w[1] * q[1] + w[2] * q[2] + w[3] * q[3];
        }
    }
}
#endif

#endif
