/* The output layer: natural log-probabilities of the rows that were asked for.
 *
 * First come the logits of all words by activations in bytes, panel by panel, and the sums of their
 * exponentials, relative to the most probable of the first panel's words, which are the most
 * frequent. Only where another word is e^69 times as probable a row is summed anew. Then the logits
 * of the panels that hold most of a row's probability are computed once more, by activations in 16
 * bits, and for the first words of a vocabulary in order of frequency with what rounding left of the
 * weights: most of what rounding does to a list of best words it does here.
 *
 * The sum of a row's exponentials is put together from its panels in their order, so that it has
 * the same bits whoever computes which chunk. Where only targets are wanted, no other word's logit
 * is kept.
 */
#ifndef NEXTWORD_OUTPUT_H
#define NEXTWORD_OUTPUT_H

#include <math.h>

#include "products.h"

/* One row: where its (vocab_size,) log-probabilities go, or the one of its target. */
typedef struct {
    float *all;
    float *one;
    int32_t target;
    float logit; /* of the target */
} Wanted;

enum { OUTPUT_ROWS = 96 };   /* of a chunk: their activations stay in the second cache */
enum { OUTPUT_PANELS = 8 };  /* of a chunk */
enum { FULLEST = 8 };        /* panels are refined, and all of a 256th of the probability */
enum { REFINED_ROWS = 12 };  /* in one go */

typedef struct {
    const Matrix *matrix, *rest;
    const float *features; /* (tokens, stride) */
    const int *sources;    /* (rows,): the token of each row */
    Rounded coarse, fine;
    Wanted *wanted;
    int rows, stride, vocab_size, row_chunks;
    int partials;       /* panels, padded to vectors */
    float *sums;        /* (rows, partials): of exp(logit - reference) over a panel */
    float *references;  /* (rows,): what exponentials are taken relative to */
    float *normalisers; /* (rows,) */
    uint8_t *gathered;  /* (threads, REFINED_ROWS, row_bytes): activations */
    int refined_each;   /* panels of a chunk */
    int words_each;     /* of the last pass */
} Output;

static void round_output(void *context, int row, int thread) {
    const Output *o = context;
    float *desk = o->coarse.desks + (size_t)thread * o->matrix->inputs;
    turn(o->features + (size_t)o->sources[row] * o->stride, o->matrix->signs, o->matrix->inputs,
         desk);
    round_turned(desk, o->matrix, &o->coarse, row);
    round_turned(desk, o->matrix, &o->fine, row);
}

/* Keep what is wanted of a panel's logits. */
INLINE void keep_logits(const Output *o, Wanted *wanted, const float *logits, int panel) {
    int first = panel * PANEL;
    int words = o->vocab_size - first < PANEL ? o->vocab_size - first : PANEL;
    if (wanted->all)
        memcpy(wanted->all + first, logits, (size_t)words * sizeof(float));
    else if (wanted->target >= first && wanted->target < first + words)
        wanted->logit = logits[wanted->target - first];
}

/* Find the largest logit of each row. */
INLINE void finish_largest(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    Output *o = context;
    for (int r = row; r < row + count; r++) {
        Floats most = all(-1e30f); /* and no NaN ever */
        for (int j = 0; j < PANEL; j += LANES) most = larger(load(tile[r - row] + j), most);
        float found = largest(most);
        if (!panel || found > o->references[r]) o->references[r] = found;
    }
}

/* Take the largest logit of the first words, the most frequent ones, for reference. */
static void refer_chunk(void *context, int chunk, int thread) {
    (void)thread;
    Output *o = context;
    int row = chunk * OUTPUT_ROWS, end = row + OUTPUT_ROWS;
    multiply(o->matrix, 0, 1, &o->coarse, row, end < o->rows ? end : o->rows, finish_largest, o);
}

/* Sum the exponentials of a panel of rough logits. */
INLINE void finish_words(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    Output *o = context;
    Floats totals[TILE_ROWS];
    float sums[TILE_ROWS];
    for (int r = 0; r < count; r++) {
        float reference = o->references[row + r];
        totals[r] = all(0);
        for (int j = 0; j < PANEL; j += LANES)
            totals[r] += rough_exponential(load(tile[r] + j), reference);
    }
    sum_of_each(totals, count, sums);
    for (int r = 0; r < count; r++) {
        o->sums[(size_t)(row + r) * o->partials + panel] = sums[r];
        keep_logits(o, o->wanted + row + r, tile[r], panel);
    }
}

/* Put a panel's logits into ``context`` (rows, PANEL). */
INLINE void finish_fine(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    (void)panel;
    memcpy((float *)context + (size_t)row * PANEL, tile, (size_t)count * sizeof *tile);
}

INLINE void finish_rest(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    (void)panel;
    float *logits = (float *)context + (size_t)row * PANEL;
    for (int r = 0; r < count; r++)
        for (int j = 0; j < PANEL; j += LANES) {
            float *y = logits + (size_t)r * PANEL + j;
            store(y, load(y) + load(tile[r] + j));
        }
}

static void output_chunk(void *context, int chunk, int thread) {
    (void)thread;
    Output *o = context;
    int panel = chunk / o->row_chunks * OUTPUT_PANELS, end_panel = panel + OUTPUT_PANELS;
    int row = chunk % o->row_chunks * OUTPUT_ROWS, end = row + OUTPUT_ROWS;
    multiply(o->matrix, panel, end_panel < o->matrix->panels ? end_panel : o->matrix->panels,
             &o->coarse, row, end < o->rows ? end : o->rows, finish_words, o);
}

/* The sum of all words' exponentials. */
static float row_sum(const Output *o, int row) {
    const float *sums = o->sums + (size_t)row * o->partials;
    Floats total = all(0);
    for (int p = 0; p < o->partials; p += LANES) total += load(sums + p);
    return sum(total);
}

/* The sum of the last panel to be refined. */
static float least_refined(const float *sums, int panels, float total) { /* panels: padded */
    float fullest[FULLEST] = {0}; /* the fullest first */
    for (int first = 0; first < panels; first += LANES) {
        if (!(largest(load(sums + first)) > fullest[FULLEST - 1])) continue;
        for (int p = first; p < first + LANES; p++) {
            if (!(sums[p] > fullest[FULLEST - 1])) continue;
            int i = FULLEST - 1;
            for (; i > 0 && fullest[i - 1] < sums[p]; i--) fullest[i] = fullest[i - 1];
            fullest[i] = sums[p];
        }
    }
    float share = total / 256;
    return fullest[FULLEST - 1] < share ? fullest[FULLEST - 1] : share;
}

/* Compare a row's panels, and mark the sums of those to be refined with a sign. */
static void choose_panels(void *context, int row, int thread) {
    (void)thread;
    Output *o = context;
    float *sums = o->sums + (size_t)row * o->partials;
    float total = row_sum(o, row);
    if (!(total < 1e30f)) { /* some other word is that much more probable than the first ones */
        multiply(o->matrix, 0, o->matrix->panels, &o->coarse, row, row + 1, finish_largest, o);
        multiply(o->matrix, 0, o->matrix->panels, &o->coarse, row, row + 1, finish_words, o);
        total = row_sum(o, row);
    }
    float enough = least_refined(sums, o->partials, total);
    for (int p = 0; p < o->partials; p += LANES) {
        Floats here = load(sums + p);
        store(sums + p, choose((here >= enough) & (here > 0), -here, here));
    }
}

/* Refine a panel in ``count`` rows. */
static void refine(Output *o, int panel, const int *rows, int count, int thread) {
    const Rounded *from = &o->fine;
    size_t each = row_bytes(from->inputs, 1);
    float scales[REFINED_ROWS], logits[REFINED_ROWS][PANEL];
    Rounded x = {.inputs = from->inputs, .wide = 1, .scales = scales,
                 .bytes = o->gathered + (size_t)thread * REFINED_ROWS * each};
    for (int r = 0; r < count; r++) {
        memcpy(x.bytes + r * each, from->bytes + rows[r] * each, each);
        scales[r] = from->scales[rows[r]];
    }
    multiply(o->matrix, panel, panel + 1, &x, 0, count, finish_fine, logits);
    if (panel < o->rest->panels)
        multiply(o->rest, panel, panel + 1, &x, 0, count, finish_rest, logits);
    for (int r = 0; r < count; r++) {
        Floats total = all(0);
        for (int j = 0; j < PANEL; j += LANES)
            total += exponential(load(logits[r] + j) - o->references[rows[r]]);
        o->sums[(size_t)rows[r] * o->partials + panel] = sum(total);
        keep_logits(o, o->wanted + rows[r], logits[r], panel);
    }
}

/* Refine panels, one after another in all rows that it counts in: so its weights are read once. */
static void refine_chunk(void *context, int chunk, int thread) {
    Output *o = context;
    int panel = chunk * o->refined_each, end = panel + o->refined_each;
    for (; panel < end && panel < o->matrix->panels; panel++) {
        int rows[REFINED_ROWS], count = 0;
        for (int row = 0; row < o->rows; row++) {
            if (!signbit(o->sums[(size_t)row * o->partials + panel])) continue;
            rows[count++] = row;
            if (count < REFINED_ROWS) continue;
            refine(o, panel, rows, count, thread);
            count = 0;
        }
        if (count) refine(o, panel, rows, count, thread);
    }
}

/* Sum a row's panels. */
static void settle_row(void *context, int row, int thread) {
    (void)thread;
    Output *o = context;
    o->normalisers[row] = (float)(o->references[row] + log((double)row_sum(o, row)));
    Wanted *wanted = o->wanted + row;
    if (!wanted->all) *wanted->one = wanted->logit - o->normalisers[row];
}

static void subtract_chunk(void *context, int chunk, int thread) {
    (void)thread;
    Output *o = context;
    int pieces = (o->vocab_size + o->words_each - 1) / o->words_each;
    int row = chunk / pieces, j = chunk % pieces * o->words_each;
    int end = j + o->words_each < o->vocab_size ? j + o->words_each : o->vocab_size;
    float *y = o->wanted[row].all, normaliser = o->normalisers[row];
    if (!y) return;
    for (; j + LANES <= end; j += LANES) store(y + j, load(y + j) - normaliser);
    for (; j < end; j++) y[j] -= normaliser;
}

/* Write what was asked for of ``features`` (tokens, stride). ``row_of`` gives the row of a token of
 * a text. */
static void write_outputs(
    Model *model, const Call *call, const float *features, const int *row_of
) {
    const Matrix *matrix = model->matrices + model->num_matrices - 2;
    Arena *arena = &model->arena;
    Pool *pool = model->pool;
    int vocab_size = model->sizes.vocab_size, most = 0, rows = 0, whole = 0;
    for (int i = 0; i < call->texts; i++)
        if (call->wants[i] != WANT_NONE)
            most += call->wants[i] == WANT_LAST ? 1 : call->lengths[i];
    if (!most) return;
    Wanted *wanted = arena_take(arena, (size_t)most * sizeof *wanted);
    int *sources = arena_take(arena, (size_t)most * sizeof *sources);
    for (int i = 0, token = 0; i < call->texts; token += call->lengths[i++]) {
        int want = call->wants[i], length = call->lengths[i];
        if (want == WANT_NONE) continue;
        for (int t = want == WANT_LAST ? length - 1 : 0, n = 0; t < length; t++, n++, rows++) {
            if (want == WANT_TARGETS)
                wanted[rows] = (Wanted){NULL, call->outputs[i] + n, call->targets[token + t], 0};
            else
                wanted[rows] = (Wanted){call->outputs[i] + (size_t)n * vocab_size, NULL, 0, 0};
            sources[rows] = row_of[token + t];
            whole += want != WANT_TARGETS;
        }
    }
    int partials = round_up(matrix->panels, LANES);
    size_t bytes = (size_t)rows * partials * sizeof(float);
    Output o = {
        .matrix = matrix, .rest = matrix + 1, .features = features, .sources = sources,
        .coarse = rounded_rows(model, rows, matrix, 0), .fine = rounded_rows(model, rows, matrix, 1),
        .wanted = wanted, .rows = rows, .stride = round_up(model->sizes.width, LANES),
        .vocab_size = vocab_size, .row_chunks = (rows + OUTPUT_ROWS - 1) / OUTPUT_ROWS,
        .partials = partials, .sums = arena_take(arena, bytes),
        .references = arena_take(arena, (size_t)rows * sizeof(float)),
        .normalisers = arena_take(arena, (size_t)rows * sizeof(float)),
        .gathered = arena_take(
            arena, pool_threads(pool) * REFINED_ROWS * row_bytes(matrix->inputs, 1)),
        .refined_each = rows == 1 ? matrix->panels : 2, .words_each = 1 << 14,
    };
    for (int row = 0; row < rows; row++)
        for (int p = matrix->panels; p < partials; p++) o.sums[(size_t)row * partials + p] = 0;
    int panel_chunks = (matrix->panels + OUTPUT_PANELS - 1) / OUTPUT_PANELS;
    pool_run(pool, round_output, &o, rows);
    pool_run(pool, refer_chunk, &o, o.row_chunks);
    pool_run(pool, output_chunk, &o, panel_chunks * o.row_chunks);
    pool_run(pool, choose_panels, &o, rows);
    pool_run(pool, refine_chunk, &o, (matrix->panels + o.refined_each - 1) / o.refined_each);
    pool_run(pool, settle_row, &o, rows);
    int pieces = (vocab_size + o.words_each - 1) / o.words_each;
    if (whole) pool_run(pool, subtract_chunk, &o, rows * pieces);
}

#endif
