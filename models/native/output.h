/* The output layer: natural log-probabilities of the rows that were asked for.
 *
 * The log-sum-exp of a row is put together from chunks of 512 words in their order, so that it has
 * the same bits whoever computes which chunk. Where only targets are wanted, the logits of a chunk
 * live in a thread's own memory and are gone after it.
 *
 * Most of what rounding the weights to bytes does to a list of best words comes from this layer,
 * and most of those words from the first of a vocabulary in order of frequency: the products of
 * those have a second part, by what the rounding left of their weights.
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

enum { OUTPUT_ROWS = 96 }; /* of a tile: its logits and a chunk's weights fit the second cache */

typedef struct {
    const Matrix *matrix, *rest;
    const Rounded *x;
    Wanted *wanted;
    int rows, vocab_size, chunks, row_chunks;
    int partials;          /* chunks, padded to vectors */
    float *peaks, *sums;   /* (rows, partials): largest logit, and sum of exp(logit - largest) */
    float *logits;         /* (threads, OUTPUT_ROWS, CHUNK) */
    int words_each;        /* of the second pass */
} Output;

/* A tile of a chunk's logits, on its way to ``logits`` (rows, CHUNK). */
typedef struct {
    float *logits;
    int panel, row;
} Corner;

static void finish_logits(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    const Corner *to = context;
    for (int r = 0; r < count; r++) {
        float *y = to->logits + (size_t)(row - to->row + r) * CHUNK + (panel - to->panel) * PANEL;
        memcpy(y, tile[r], sizeof *tile);
    }
}

static void finish_rest(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    const Corner *to = context;
    for (int r = 0; r < count; r++) {
        float *y = to->logits + (size_t)(row - to->row + r) * CHUNK + (panel - to->panel) * PANEL;
        for (int j = 0; j < PANEL; j += LANES) store(y + j, load(y + j) + load(tile[r] + j));
    }
}

static void output_chunk(void *context, int chunk, int thread) {
    Output *o = context;
    int part = chunk / o->row_chunks, row = chunk % o->row_chunks * OUTPUT_ROWS;
    int end = row + OUTPUT_ROWS < o->rows ? row + OUTPUT_ROWS : o->rows;
    int panel = part * (CHUNK / PANEL), end_panel = panel + CHUNK / PANEL;
    if (end_panel > o->matrix->panels) end_panel = o->matrix->panels;
    int first = part * CHUNK, words = (end_panel - panel) * PANEL, real = words;
    if (first + real > o->vocab_size) real = o->vocab_size - first;
    Corner corner = {o->logits + (size_t)thread * OUTPUT_ROWS * CHUNK, panel, row};
    multiply(o->matrix, panel, end_panel, o->x, row, end, finish_logits, &corner);
    int end_rest = end_panel < o->rest->panels ? end_panel : o->rest->panels;
    multiply(o->rest, panel, end_rest, o->x, row, end, finish_rest, &corner);
    for (int r = row; r < end; r++) {
        const float *logits = corner.logits + (size_t)(r - row) * CHUNK;
        Floats most = load(logits);
        for (int j = LANES; j < words; j += LANES) most = larger(most, load(logits + j));
        float peak = largest(most);
        Floats total = all(0);
        for (int j = 0; j < words; j += LANES) total += exponential(load(logits + j) - peak);
        o->peaks[(size_t)r * o->partials + part] = peak;
        o->sums[(size_t)r * o->partials + part] = sum(total);
        Wanted *wanted = o->wanted + r;
        if (wanted->all)
            memcpy(wanted->all + first, logits, (size_t)real * sizeof(float));
        else if (wanted->target >= first && wanted->target < first + real)
            wanted->logit = logits[wanted->target - first];
    }
}

/* The row's log-sum-exp from those of its chunks. */
static float combine(const Output *o, int row) {
    const float *peaks = o->peaks + (size_t)row * o->partials;
    const float *sums = o->sums + (size_t)row * o->partials;
    Floats most = load(peaks);
    for (int j = LANES; j < o->partials; j += LANES) most = larger(most, load(peaks + j));
    float peak = largest(most);
    Floats total = all(0);
    for (int j = 0; j < o->partials; j += LANES)
        total += load(sums + j) * exponential(load(peaks + j) - peak);
    return (float)(peak + log((double)sum(total)));
}

static void subtract_chunk(void *context, int chunk, int thread) {
    (void)thread;
    Output *o = context;
    int pieces = (o->vocab_size + o->words_each - 1) / o->words_each;
    int row = chunk / pieces, j = chunk % pieces * o->words_each;
    Wanted *wanted = o->wanted + row;
    if (!wanted->all) {
        if (!j) *wanted->one = wanted->logit - combine(o, row);
        return;
    }
    int end = j + o->words_each < o->vocab_size ? j + o->words_each : o->vocab_size;
    float normaliser = combine(o, row);
    float *y = wanted->all;
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
    int stride = round_up(model->sizes.width, LANES), vocab_size = model->sizes.vocab_size;
    int most = 0, rows = 0;
    for (int i = 0; i < call->texts; i++)
        if (call->wants[i] != WANT_NONE)
            most += call->wants[i] == WANT_LAST ? 1 : call->lengths[i];
    if (!most) return;
    Rounded x = rounded_rows(arena, most, matrix);
    Wanted *wanted = arena_take(arena, (size_t)most * sizeof *wanted);
    for (int i = 0, token = 0; i < call->texts; token += call->lengths[i++]) {
        int want = call->wants[i], length = call->lengths[i];
        if (want == WANT_NONE) continue;
        for (int t = want == WANT_LAST ? length - 1 : 0, n = 0; t < length; t++, n++, rows++) {
            if (want == WANT_TARGETS)
                wanted[rows] = (Wanted){NULL, call->outputs[i] + n, call->targets[token + t], 0};
            else
                wanted[rows] = (Wanted){call->outputs[i] + (size_t)n * vocab_size, NULL, 0, 0};
            round_row(features + (size_t)row_of[token + t] * stride, matrix, &x, rows);
        }
    }
    int chunks = (matrix->panels * PANEL + CHUNK - 1) / CHUNK;
    int partials = round_up(chunks, LANES);
    size_t bytes = (size_t)rows * partials * sizeof(float);
    Output o = {
        .matrix = matrix, .rest = matrix + 1, .x = &x, .wanted = wanted, .rows = rows, .vocab_size = vocab_size,
        .chunks = chunks, .row_chunks = (rows + OUTPUT_ROWS - 1) / OUTPUT_ROWS,
        .partials = partials, .peaks = arena_take(arena, bytes), .sums = arena_take(arena, bytes),
        .logits = arena_take(
            arena, (size_t)pool_threads(pool) * OUTPUT_ROWS * CHUNK * sizeof(float)),
        .words_each = 1 << 14,
    };
    for (size_t i = 0; i < (size_t)rows * partials; i++) o.peaks[i] = -1e30f, o.sums[i] = 0;
    pool_run(pool, output_chunk, &o, chunks * o.row_chunks);
    int pieces = (vocab_size + o.words_each - 1) / o.words_each;
    pool_run(pool, subtract_chunk, &o, rows * pieces);
}

#endif
