/* The output layer: natural log-probabilities of the rows that were asked for.
 *
 * First come the logits of all words by activations in bytes, a chunk of 512 words after another.
 * Then those of the panels that hold most of a row's probability are computed once more, by
 * activations in 16 bits, and for the first words of a vocabulary in order of frequency with what
 * rounding left of the weights: most of what rounding does to a list of best words it does here.
 *
 * The sum of a row's exponentials is put together from its panels in their order, so that it has
 * the same bits whoever computes which chunk. Where only targets are wanted, the logits of a chunk
 * live in a thread's own memory and are gone after it.
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

enum { OUTPUT_ROWS = 96 };   /* of a tile: its logits and a chunk's weights fit the second cache */
enum { FULLEST = 8 };        /* panels are refined, and all of a 256th of the probability */
enum { CHUNK_PANELS = CHUNK / PANEL };

typedef struct {
    const Matrix *matrix, *rest;
    const float *features; /* (tokens, stride) */
    const int *sources;    /* (rows,): the token of each row */
    Rounded coarse, fine;
    Wanted *wanted;
    int rows, stride, vocab_size, chunks, row_chunks;
    int partials;       /* chunks, padded to vectors */
    float *peaks;       /* (rows, partials): largest logit of a chunk */
    float *sums;        /* (rows, partials * CHUNK_PANELS): sum of exp(logit - chunk's largest) */
    float *normalisers; /* (rows,) */
    float *logits;      /* (threads, OUTPUT_ROWS, CHUNK) */
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

/* The sum of exp(logit - peak) of a panel's words. */
INLINE float panel_sum(const float *logits, float peak) {
    Floats total = all(0);
    for (int j = 0; j < PANEL; j += LANES) total += exponential(load(logits + j) - peak);
    return sum(total);
}

/* The same where the logits themselves are coarse. */
INLINE float rough_panel_sum(const float *logits, float peak) {
    Floats total = all(0);
    for (int j = 0; j < PANEL; j += LANES) total += rough_exponential(load(logits + j) - peak);
    return sum(total);
}

/* Keep what is wanted of the logits of some words, ``first`` and those behind it. */
static void keep_logits(const Output *o, Wanted *wanted, const float *logits, int first, int words) {
    if (first + words > o->vocab_size) words = o->vocab_size - first;
    if (wanted->all)
        memcpy(wanted->all + first, logits, (size_t)words * sizeof(float));
    else if (wanted->target >= first && wanted->target < first + words)
        wanted->logit = logits[wanted->target - first];
}

static void output_chunk(void *context, int chunk, int thread) {
    Output *o = context;
    int part = chunk / o->row_chunks, row = chunk % o->row_chunks * OUTPUT_ROWS;
    int end = row + OUTPUT_ROWS < o->rows ? row + OUTPUT_ROWS : o->rows;
    int panel = part * CHUNK_PANELS, end_panel = panel + CHUNK_PANELS;
    if (end_panel > o->matrix->panels) end_panel = o->matrix->panels;
    int words = (end_panel - panel) * PANEL;
    Corner corner = {o->logits + (size_t)thread * OUTPUT_ROWS * CHUNK, panel, row};
    multiply(o->matrix, panel, end_panel, &o->coarse, row, end, finish_logits, &corner);
    for (int r = row; r < end; r++) {
        const float *logits = corner.logits + (size_t)(r - row) * CHUNK;
        Floats most = load(logits);
        for (int j = LANES; j < words; j += LANES) most = larger(most, load(logits + j));
        float peak = largest(most);
        float *sums = o->sums + (size_t)r * o->partials * CHUNK_PANELS;
        for (int p = panel; p < end_panel; p++)
            sums[p] = rough_panel_sum(logits + (p - panel) * PANEL, peak);
        o->peaks[(size_t)r * o->partials + part] = peak;
        keep_logits(o, o->wanted + r, logits, part * CHUNK, words);
    }
}

/* The sum of the last panel to be refined. */
static float least_refined(const float *sums, int panels, float total) {
    float fullest[FULLEST] = {0}; /* the fullest first */
    for (int p = 0; p < panels; p++) {
        if (!(sums[p] > fullest[FULLEST - 1])) continue;
        int i = FULLEST - 1;
        for (; i > 0 && fullest[i - 1] < sums[p]; i--) fullest[i] = fullest[i - 1];
        fullest[i] = sums[p];
    }
    float share = total / 256;
    return fullest[FULLEST - 1] < share ? fullest[FULLEST - 1] : share;
}

/* Sum a row's panels, and refine those that count. */
static void settle_row(void *context, int row, int thread) {
    (void)thread;
    Output *o = context;
    const float *peaks = o->peaks + (size_t)row * o->partials;
    float *sums = o->sums + (size_t)row * o->partials * CHUNK_PANELS;
    Floats most = load(peaks);
    for (int j = LANES; j < o->partials; j += LANES) most = larger(most, load(peaks + j));
    float peak = largest(most);
    for (int j = 0; j < o->partials; j += LANES) {
        float scales[LANES];
        store(scales, exponential(load(peaks + j) - peak));
        for (int i = 0; i < LANES; i++)
            for (int p = 0; p < CHUNK_PANELS; p++) sums[(j + i) * CHUNK_PANELS + p] *= scales[i];
    }
    Floats total = all(0);
    int all_sums = o->partials * CHUNK_PANELS;
    for (int p = 0; p < all_sums; p += LANES) total += load(sums + p);
    float enough = least_refined(sums, o->matrix->panels, sum(total));
    for (int p = 0; p < o->matrix->panels; p++) {
        if (sums[p] < enough) continue;
        float logits[CHUNK];
        Corner corner = {logits, p, row};
        multiply(o->matrix, p, p + 1, &o->fine, row, row + 1, finish_logits, &corner);
        if (p < o->rest->panels)
            multiply(o->rest, p, p + 1, &o->fine, row, row + 1, finish_rest, &corner);
        sums[p] = panel_sum(logits, peak);
        keep_logits(o, o->wanted + row, logits, p * PANEL, PANEL);
    }
    total = all(0);
    for (int p = 0; p < all_sums; p += LANES) total += load(sums + p);
    o->normalisers[row] = (float)(peak + log((double)sum(total)));
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
    int chunks = (matrix->panels + CHUNK_PANELS - 1) / CHUNK_PANELS;
    int partials = round_up(chunks, LANES);
    size_t bytes = (size_t)rows * partials * sizeof(float);
    Output o = {
        .matrix = matrix, .rest = matrix + 1, .features = features, .sources = sources,
        .coarse = rounded_rows(model, rows, matrix, 0), .fine = rounded_rows(model, rows, matrix, 1),
        .wanted = wanted, .rows = rows, .stride = round_up(model->sizes.width, LANES),
        .vocab_size = vocab_size, .chunks = chunks,
        .row_chunks = (rows + OUTPUT_ROWS - 1) / OUTPUT_ROWS,
        .partials = partials, .peaks = arena_take(arena, bytes),
        .sums = arena_take(arena, bytes * CHUNK_PANELS),
        .normalisers = arena_take(arena, (size_t)rows * sizeof(float)),
        .logits = arena_take(
            arena, (size_t)pool_threads(pool) * OUTPUT_ROWS * CHUNK * sizeof(float)),
        .words_each = 1 << 14,
    };
    for (size_t i = 0; i < (size_t)rows * partials; i++) o.peaks[i] = -1e30f;
    memset(o.sums, 0, bytes * CHUNK_PANELS);
    pool_run(pool, round_output, &o, rows);
    pool_run(pool, output_chunk, &o, chunks * o.row_chunks);
    pool_run(pool, settle_row, &o, rows);
    int pieces = (vocab_size + o.words_each - 1) / o.words_each;
    if (whole) pool_run(pool, subtract_chunk, &o, rows * pieces);
}

#endif
