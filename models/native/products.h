/* Exact products of signed bytes with rounded activations, for a few rows at a time.
 *
 * A row of activations x is turned (turning.h), and rounded to whole numbers q = x / scale: bytes of
 * at most 127 where that is enough (narrow), else 16 bits of at most the matrix' ``largest``. The
 * dot products of bytes and q are exact in 32 bits, so they are the same on every processor,
 * whatever the order of summation.
 */
#ifndef NEXTWORD_PRODUCTS_H
#define NEXTWORD_PRODUCTS_H

#include "dots.h"
#include "turning.h"

/* Rounded rows, as `dots.h` reads them. */
typedef struct {
    int inputs, wide;
    uint8_t *bytes; /* (rows, row_bytes) */
    float *scales;  /* (rows,) */
    float *desks;   /* (threads, inputs): a turned row each */
} Rounded;

/* What becomes of a tile: ``count`` rows from ``row`` on, times the 64 outputs of a panel. */
typedef void (*Finish)(void *context, int panel, int row, int count, float (*tile)[PANEL]);

static Rounded rounded_rows(Model *model, int rows, const Matrix *matrix, int wide) {
    Arena *arena = &model->arena;
    Rounded to = {.inputs = matrix->inputs, .wide = wide};
    to.bytes = arena_take(arena, (size_t)rows * row_bytes(matrix->inputs, wide));
    to.scales = arena_take(arena, (size_t)rows * sizeof(float));
    to.desks = arena_take(
        arena, (size_t)pool_threads(model->pool) * matrix->inputs * sizeof(float));
    return to;
}

/* Round one turned row. */
static void round_turned(const float *x, const Matrix *matrix, const Rounded *to, int row) {
    int inputs = matrix->inputs, most = to->wide ? matrix->largest : 127;
    Floats sizes = all(0);
    for (int i = 0; i < inputs; i += LANES) sizes = larger(sizes, absolute(load(x + i)));
    float peak = largest(sizes);
    int tiny = !(peak > 1e-30f); /* the quotient would not be finite */
    float factor = tiny ? 0 : most / peak;
    to->scales[row] = tiny ? 0 : peak / most;
    uint8_t *bytes = to->bytes + row * row_bytes(inputs, to->wide);
    for (int i = 0; i < inputs; i += LANES) {
        Ints q = nearest(load(x + i) * factor);
#if defined(USE_AVX512)
        __m512i shifted = (__m512i)(q + (to->wide ? 32768 : 128));
        if (to->wide) {
            __m512i high = _mm512_srli_epi32(shifted, 8);
            _mm_storeu_si128((void *)(bytes + i), _mm512_cvtepi32_epi8(high));
        }
        uint8_t *low = bytes + (to->wide ? inputs : 0);
        _mm_storeu_si128((void *)(low + i), _mm512_cvtepi32_epi8(shifted));
#else
        Shorts short_ = __builtin_convertvector(q, Shorts);
        memcpy(bytes + 2 * i, &short_, sizeof short_);
#endif
    }
}

/* Turn and round one row x (inputs), padded with zeros. */
static void round_row(
    const float *x, const Matrix *matrix, const Rounded *to, int row, int thread
) {
    float *desk = to->desks + (size_t)thread * matrix->inputs;
    turn(x, matrix->signs, matrix->inputs, desk);
    round_turned(desk, matrix, to, row);
}

INLINE void finish_panel(
    const Matrix *matrix, int panel, const Rounded *x, int row, int count, Finish finish,
    void *context
) {
    _Alignas(64) int32_t sums[TILE_ROWS][PANEL];
    _Alignas(64) float tile[TILE_ROWS][PANEL];
    const uint8_t *bytes = x->bytes + row * row_bytes(x->inputs, x->wide);
    if (x->wide && count <= WIDE_TILE_ROWS)
        sum_panel(matrix, panel, bytes, row, count, 1, sums);
    else
        sum_panel(matrix, panel, bytes, row, count, 0, sums);
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
INLINE void multiply(
    const Matrix *matrix, int panel, int end_panel, const Rounded *x, int row, int end_row,
    Finish finish, void *context
) {
    for (; panel < end_panel; panel++) { /* a panel's weights are in the first cache for all rows */
        int r = row;
#if defined(USE_AVX512)
        for (; !x->wide && r + TILE_ROWS <= end_row; r += TILE_ROWS)
            finish_panel(matrix, panel, x, r, TILE_ROWS, finish, context);
#endif
        for (; r + WIDE_TILE_ROWS <= end_row; r += WIDE_TILE_ROWS)
            finish_panel(matrix, panel, x, r, WIDE_TILE_ROWS, finish, context);
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
    const Rounding *r = context;
    for (int row = chunk * ROWS_EACH; row < r->rows && row < (chunk + 1) * ROWS_EACH; row++)
        round_row(r->x + (size_t)row * r->stride, r->matrix, r->to, row, thread);
}

static void round_rows(
    Pool *pool, const float *x, int stride, int rows, const Matrix *matrix, const Rounded *to
) {
    Rounding rounding = {x, stride, rows, matrix, to};
    pool_run(rows > 4 * ROWS_EACH ? pool : NULL, round_chunk, &rounding,
             (rows + ROWS_EACH - 1) / ROWS_EACH);
}

#endif
