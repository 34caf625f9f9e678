/* Exact products of signed bytes with 16-bit activations, for a few rows at a time.
 *
 * A row of activations x is rounded to whole numbers q = x / scale, |q| <= the matrix' ``largest``.
 * The dot products of bytes and q are exact in 32 bits, so they are the same on every processor,
 * whatever the order of summation.
 */
#ifndef NEXTWORD_PRODUCTS_H
#define NEXTWORD_PRODUCTS_H

#include "dots.h"

/* Rounded rows, as `dots.h` reads them. */
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

INLINE void finish_panel(
    const Matrix *matrix, int panel, const Rounded *x, int row, int count, Finish finish,
    void *context
) {
    _Alignas(64) int32_t sums[TILE_ROWS][PANEL];
    _Alignas(64) float tile[TILE_ROWS][PANEL];
    sum_panel(matrix, panel, x->bytes + (size_t)row * 2 * x->inputs, row, count, sums);
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
