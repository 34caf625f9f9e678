/* Exact products of signed bytes with 16-bit activations, for a few rows at a time.
 *
 * A row of activations x is rounded to whole numbers q = x / scale, |q| <= the matrix' ``largest``.
 * The dot products of bytes and q are exact in 32 bits, so they are the same on every processor,
 * whatever the order of summation.
 */
#ifndef NEXTWORD_PRODUCTS_H
#define NEXTWORD_PRODUCTS_H

#include "native.h"
#include "vectors.h"

/* Rounded rows. With AVX-512, q + 32768 in two bytes: all high bytes of a row, then all low ones;
 * else q as it is. Both take two bytes an input. */
typedef struct {
    int inputs;
    uint8_t *bytes; /* (rows, 2 * inputs) */
    float *scales;  /* (rows,) */
} Rounded;

/* What becomes of a tile: ``count`` rows from ``row`` on, times the 64 outputs of a panel. */
typedef void (*Finish)(void *context, int panel, int row, int count, float (*tile)[PANEL]);

INLINE Rounded rounded_rows(Arena *arena, int rows, const Matrix *matrix) {
    Rounded to = {matrix->inputs, NULL, NULL};
    to.bytes = arena_take(arena, (size_t)rows * 2 * matrix->inputs);
    to.scales = arena_take(arena, (size_t)rows * sizeof(float));
    return to;
}

/* Round one row x (inputs), padded with zeros. */
static void round_row(const float *x, const Matrix *matrix, const Rounded *to, int row) {
    int inputs = matrix->inputs;
    Floats most = all(0);
    for (int i = 0; i < inputs; i += LANES) most = larger(most, absolute(load(x + i)));
    float peak = largest(most);
    int tiny = !(peak > 1e-30f); /* the quotient would not be finite */
    float factor = tiny ? 0 : matrix->largest / peak;
    to->scales[row] = tiny ? 0 : peak / matrix->largest;
    uint8_t *bytes = to->bytes + (size_t)row * 2 * inputs;
    for (int i = 0; i < inputs; i += LANES) {
        Ints q = nearest(load(x + i) * factor);
#if defined(USE_AVX512)
        __m512i shifted = (__m512i)(q + 32768);
        _mm_storeu_si128((void *)(bytes + i), _mm512_cvtepi32_epi8(_mm512_srli_epi32(shifted, 8)));
        _mm_storeu_si128((void *)(bytes + inputs + i), _mm512_cvtepi32_epi8(shifted));
#else
        Shorts narrow = __builtin_convertvector(q, Shorts);
        memcpy(bytes + 2 * i, &narrow, sizeof narrow);
#endif
    }
}

#if defined(USE_AVX512)
enum { TILE_ROWS = 3 }; /* 24 sums, 4 weights and 2 activations: all but two of the registers */

INLINE __m512i four_bytes(const uint8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

INLINE void store_sums(__m512i high, __m512i low, const int32_t *excess, int32_t *sums) {
    __m512i both = _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
    _mm512_store_si512(sums, _mm512_sub_epi32(both, _mm512_load_si512(excess)));
}

/* sums += products of four unsigned and four signed bytes each. In assembly, since from the
 * intrinsic gcc makes a copy to and fro, and a store to memory, at every step. */
#define DOT(sums, u, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(u), "v"(w))

/* The sums of row r are eight variables: gcc keeps a struct or an array of them in memory as well,
 * and stores it at every step. */
#define DECLARE_SUMS(r) __m512i r##h0 = zero, r##h1 = zero, r##h2 = zero, r##h3 = zero, \
                                r##l0 = zero, r##l1 = zero, r##l2 = zero, r##l3 = zero
#define ADD_PRODUCTS(r, bytes)                                          \
    do {                                                                \
        __m512i high = four_bytes(bytes), low = four_bytes((bytes) + inputs); \
        DOT(r##h0, high, w0);                                        \
        DOT(r##h1, high, w1);                                        \
        DOT(r##h2, high, w2);                                        \
        DOT(r##h3, high, w3);                                        \
        DOT(r##l0, low, w0);                                         \
        DOT(r##l1, low, w1);                                         \
        DOT(r##l2, low, w2);                                         \
        DOT(r##l3, low, w3);                                         \
    } while (0)
#define STORE_SUMS(r, sums)                                             \
    do {                                                                \
        store_sums(r##h0, r##l0, excess, sums);                         \
        store_sums(r##h1, r##l1, excess + 16, sums + 16);               \
        store_sums(r##h2, r##l2, excess + 32, sums + 32);               \
        store_sums(r##h3, r##l3, excess + 48, sums + 48);               \
    } while (0)

/* Sums of one panel for ``count`` rows, a constant where this is inlined. */
INLINE void sum_panel(
    const Matrix *matrix, int panel, const uint8_t *bytes, int count, int32_t (*sums)[PANEL]
) {
    int inputs = matrix->inputs;
    const int8_t *weights = matrix->weights + (size_t)panel * PANEL * inputs;
    const int32_t *excess = matrix->row_sums + panel * PANEL;
    const __m512i zero = _mm512_setzero_si512();
    DECLARE_SUMS(a);
    DECLARE_SUMS(b);
    DECLARE_SUMS(c);
    int i = 0;
    do { /* at least one: so the sums after it are those in it */
        __m512i w0 = _mm512_load_si512(weights), w1 = _mm512_load_si512(weights + 64);
        __m512i w2 = _mm512_load_si512(weights + 128), w3 = _mm512_load_si512(weights + 192);
        ADD_PRODUCTS(a, bytes + i);
        if (count > 1) ADD_PRODUCTS(b, bytes + 2 * inputs + i);
        if (count > 2) ADD_PRODUCTS(c, bytes + 4 * inputs + i);
        i += 4, weights += 256;
    } while (i < inputs);
    STORE_SUMS(a, sums[0]);
    if (count > 1) STORE_SUMS(b, sums[1]);
    if (count > 2) STORE_SUMS(c, sums[2]);
}

#elif defined(USE_AVX2)
enum { TILE_ROWS = 2 };

/* Of a row with 16 outputs, four in each, two sums an output. */
typedef struct {
    __m256i s0, s1, s2, s3;
} Sums;

INLINE __m256i wide(const int8_t *w) {
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

/* Sums of one panel for ``count`` rows, a constant where this is inlined. */
INLINE void sum_panel(
    const Matrix *matrix, int panel, const uint8_t *bytes, int count, int32_t (*sums)[PANEL]
) {
    int inputs = matrix->inputs;
    __m256i zero = _mm256_setzero_si256();
    for (int block = 0; block < PANEL; block += 16) {
        const int8_t *w = matrix->weights + (size_t)panel * PANEL * inputs + 4 * block;
        Sums a = {zero, zero, zero, zero}, b = a;
        for (int i = 0; i < inputs; i += 4, w += 256) {
            __m256i w0 = wide(w), w1 = wide(w + 16), w2 = wide(w + 32), w3 = wide(w + 48);
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
enum { TILE_ROWS = 2 };

INLINE void sum_panel(
    const Matrix *matrix, int panel, const uint8_t *bytes, int count, int32_t (*sums)[PANEL]
) {
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

INLINE void finish_panel(
    const Matrix *matrix, int panel, const Rounded *x, int row, int count, Finish finish,
    void *context
) {
    _Alignas(64) int32_t sums[TILE_ROWS][PANEL];
    _Alignas(64) float tile[TILE_ROWS][PANEL];
    sum_panel(matrix, panel, x->bytes + (size_t)row * 2 * x->inputs, count, sums);
    for (int j = 0; j < PANEL; j += LANES) {
        Floats scales = load(matrix->scales + panel * PANEL + j);
        Floats bias = load(matrix->bias + panel * PANEL + j);
        for (int r = 0; r < count; r++) {
            Ints exact;
            memcpy(&exact, sums[r] + j, sizeof exact);
            store(tile[r] + j, to_floats(exact) * scales * x->scales[row + r] + bias);
        }
    }
    finish(context, panel, row, count, tile);
}

/* Multiply panels [panel, end_panel) with rows [row, end_row). */
static void multiply(
    const Matrix *matrix, int panel, int end_panel, const Rounded *x, int row, int end_row,
    Finish finish, void *context
) {
    for (; panel < end_panel; panel++) { /* a panel's weights are in the first cache for all rows */
        int r = row;
        for (; r + TILE_ROWS <= end_row; r += TILE_ROWS)
            finish_panel(matrix, panel, x, r, TILE_ROWS, finish, context);
#if defined(USE_AVX512)
        if (r + 2 <= end_row) {
            finish_panel(matrix, panel, x, r, 2, finish, context);
            r += 2;
        }
#endif
        if (r < end_row) finish_panel(matrix, panel, x, r, 1, finish, context);
    }
}

/* A product that several threads share: chunks of panels and of rows. */
typedef struct {
    const Matrix *matrix;
    const Rounded *x;
    int rows;
    Finish finish;
    void *context;
    int panels_each, rows_each, panel_chunks;
} Product;

static void product_chunk(void *context, int chunk, int thread) {
    (void)thread;
    const Product *p = context;
    int panel = chunk % p->panel_chunks * p->panels_each;
    int row = chunk / p->panel_chunks * p->rows_each;
    int end_panel = panel + p->panels_each, end_row = row + p->rows_each;
    multiply(p->matrix, panel, end_panel < p->matrix->panels ? end_panel : p->matrix->panels,
             p->x, row, end_row < p->rows ? end_row : p->rows, p->finish, p->context);
}

enum { WORTH_SHARING = 100000 }; /* multiplications: some microseconds */
enum { MOST_ROWS = 96 };         /* of a chunk: their activations stay in the second cache */

static void product(
    Pool *pool, const Matrix *matrix, const Rounded *x, int rows, Finish finish, void *context
) {
    Product p = {matrix, x, rows, finish, context, matrix->panels, MOST_ROWS, 1};
    int threads = pool_threads(pool);
    int64_t work = (int64_t)rows * matrix->panels * PANEL * matrix->inputs;
    if (threads > 1 && work >= WORTH_SHARING) {
        int pieces = work >= 16 * WORTH_SHARING ? 4 * threads : threads;
        p.panels_each = (matrix->panels + pieces - 1) / pieces;
        int missing = pieces * p.panels_each / matrix->panels; /* few panels: share the rows too */
        int shared = round_up((rows + missing - 1) / missing, TILE_ROWS);
        if (rows > TILE_ROWS && shared < MOST_ROWS) p.rows_each = shared;
    }
    p.panel_chunks = (matrix->panels + p.panels_each - 1) / p.panels_each;
    int row_chunks = (rows + p.rows_each - 1) / p.rows_each;
    pool_run(pool, product_chunk, &p, p.panel_chunks * row_chunks);
}

/* Where plain products go: rows of ``stride`` floats, outputs beyond which are padding. */
typedef struct {
    float *y;
    int stride;
} Plain;

static void finish_store(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    const Plain *to = context;
    for (int r = 0; r < count; r++)
        for (int j = 0; j < PANEL && panel * PANEL + j < to->stride; j += LANES)
            store(to->y + (size_t)(row + r) * to->stride + panel * PANEL + j, load(tile[r] + j));
}

static void finish_add(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    const Plain *to = context;
    for (int r = 0; r < count; r++)
        for (int j = 0; j < PANEL && panel * PANEL + j < to->stride; j += LANES) {
            float *y = to->y + (size_t)(row + r) * to->stride + panel * PANEL + j;
            store(y, load(y) + load(tile[r] + j));
        }
}

/* Rows of floats to be rounded, some at a time. */
typedef struct {
    const float *x;
    int stride, rows;
    const Matrix *matrix;
    const Rounded *to;
} Rounding;

enum { ROWS_EACH = 8 };

static void round_chunk(void *context, int chunk, int thread) {
    (void)thread;
    const Rounding *r = context;
    for (int row = chunk * ROWS_EACH; row < r->rows && row < (chunk + 1) * ROWS_EACH; row++)
        round_row(r->x + (size_t)row * r->stride, r->matrix, r->to, row);
}

static void round_rows(
    Pool *pool, const float *x, int stride, int rows, const Matrix *matrix, const Rounded *to
) {
    Rounding rounding = {x, stride, rows, matrix, to};
    pool_run(rows > 4 * ROWS_EACH ? pool : NULL, round_chunk, &rounding,
             (rows + ROWS_EACH - 1) / ROWS_EACH);
}

#endif
