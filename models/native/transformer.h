/* The Transformer: pre-norm blocks of rotary attention and SwiGLU, over one flat list of tokens. */
#ifndef NEXTWORD_TRANSFORMER_H
#define NEXTWORD_TRANSFORMER_H

#include <math.h>

#include "attention.h"

/* One pass over the layers. */
typedef struct {
    const Model *model;
    const Sizes *sizes;
    Place *places; /* (tokens,) */
    int tokens, stride; /* stride: model width, padded */
    float *x;           /* (tokens, stride): the residual stream */
    float *normed;      /* (tokens, stride) */
    const float *norm;  /* (stride,): weights of the norm */
    const Matrix *matrix; /* that reads what is rounded */
    Rounded rounded;
    float *qkv;         /* (tokens, 3 * heads * head width) */
    float *attended;    /* (tokens, heads * head width) */
    Desk *desks;        /* (threads,) */
    int layer;
} Stack;

/* LayerNorm without bias (Ba et al. 2016): mean 0, variance 1, times the weights. */
static void normalise(const float *x, const float *weight, int width, float *y) {
    Floats total = all(0), squares = all(0);
    int whole = width / LANES * LANES;
    for (int i = 0; i < round_up(width, LANES); i += LANES) total += load(x + i);
    float mean = sum(total) / width;
    for (int i = 0; i < whole; i += LANES) {
        Floats d = load(x + i) - mean;
        squares += d * d;
    }
    float rest = 0;
    for (int i = whole; i < width; i++) rest += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf((sum(squares) + rest) / width + 1e-5f);
    for (int i = 0; i < round_up(width, LANES); i += LANES) /* weights are 0 in the padding */
        store(y + i, (load(x + i) - mean) * scale * load(weight + i));
}

static void norm_chunk(void *context, int chunk, int thread) {
    Stack *s = context;
    for (int row = chunk * ROWS_EACH; row < s->tokens && row < (chunk + 1) * ROWS_EACH; row++) {
        float *y = s->normed + (size_t)row * s->stride;
        normalise(s->x + (size_t)row * s->stride, s->norm, s->sizes->width, y);
        if (s->matrix) round_row(y, s->matrix, &s->rounded, row, thread);
    }
}

static void remember_chunk(void *context, int chunk, int thread) {
    (void)thread;
    Stack *s = context;
    for (int row = chunk * ROWS_EACH; row < s->tokens && row < (chunk + 1) * ROWS_EACH; row++)
        remember(s->sizes, &s->places[row], s->layer,
                 s->qkv + (size_t)row * 3 * s->sizes->heads * head_width(s->sizes));
}

static void attend_chunk(void *context, int chunk, int thread) {
    Stack *s = context;
    int wide = s->sizes->heads * head_width(s->sizes);
    for (int row = chunk * 2; row < s->tokens && row < (chunk + 1) * 2; row++) {
        float *y = s->attended + (size_t)row * wide;
        attend(s->sizes, &s->places[row], s->layer, s->qkv + (size_t)row * 3 * wide,
               &s->desks[thread], y);
        round_row(y, s->matrix, &s->rounded, row, thread);
    }
}

/* silu(gate) * up; a panel holds two blocks of gates, then the two of the same units' ups. */
static void finish_inner(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    const Plain *to = context;
    for (int r = 0; r < count; r++)
        for (int j = 0; j < 2 * LANES && panel * 2 * LANES + j < to->stride; j += LANES) {
            Floats gate = load(tile[r] + j), up = load(tile[r] + 2 * LANES + j);
            store(to->y + (size_t)(row + r) * to->stride + panel * 2 * LANES + j,
                  gate * sigmoid(gate) * up);
        }
}

/* Read the texts; return features (tokens, width padded), in the order of the tokens. */
static float *read_transformer(Model *model, const Call *call, int tokens) {
    const Sizes *sizes = &model->sizes;
    Arena *arena = &model->arena;
    int stride = round_up(sizes->width, LANES), inner = round_up(sizes->inner, LANES);
    int wide = sizes->heads * head_width(sizes);
    size_t row = (size_t)tokens * sizeof(float);
    int threads = pool_threads(model->pool), window = round_up(sizes->window, LANES);
    Desk *desks = arena_take(arena, (size_t)threads * sizeof *desks);
    for (int i = 0; i < threads; i++) {
        desks[i].slots = arena_take(arena, (size_t)window * sizeof(char *));
        desks[i].scores = arena_take(arena, (size_t)sizes->heads * window * sizeof(float));
    }
    Stack s = {
        .model = model, .sizes = sizes, .tokens = tokens, .stride = stride,
        .places = find_places(model, call, tokens),
        .x = arena_take(arena, row * stride), .normed = arena_take(arena, row * stride),
        .qkv = arena_take(arena, row * 3 * wide), .attended = arena_take(arena, row * wide),
        .desks = desks,
    };
    float *gated = arena_take(arena, row * inner);
    memset(s.x, 0, row * stride);
    for (int i = 0; i < tokens; i++)
        memcpy(s.x + (size_t)i * stride, model->embedding + (size_t)call->tokens[i] * sizes->width,
               (size_t)sizes->width * sizeof(float));
    Pool *shared = tokens > 2 ? model->pool : NULL; /* for what is little work a token */
    int chunks = (tokens + ROWS_EACH - 1) / ROWS_EACH;
    Plain stream = {s.x, stride}, heads = {s.qkv, 3 * wide}, inside = {gated, inner};
    Rounded rounded[4]; /* as the four matrices of every layer read them */
    for (int i = 0; i < 4; i++)
        rounded[i] = rounded_rows(model, tokens, model->matrices + i, model->matrices[i].wide);
    for (s.layer = 0; s.layer < sizes->layers; s.layer++) {
        const Matrix *matrices = model->matrices + 4 * s.layer;
        s.norm = model->norms + (size_t)2 * s.layer * stride;
        s.matrix = matrices, s.rounded = rounded[0];
        pool_run(shared, norm_chunk, &s, chunks);
        product(model->pool, matrices, rounded, tokens, finish_store, &heads);
        pool_run(shared, remember_chunk, &s, chunks);
        s.matrix = matrices + 1, s.rounded = rounded[1];
        pool_run(shared, attend_chunk, &s, (tokens + 1) / 2);
        product(model->pool, matrices + 1, rounded + 1, tokens, finish_add, &stream);
        s.norm += stride;
        s.matrix = matrices + 2, s.rounded = rounded[2];
        pool_run(shared, norm_chunk, &s, chunks);
        product(model->pool, matrices + 2, rounded + 2, tokens, finish_inner, &inside);
        round_rows(model->pool, gated, inner, tokens, matrices + 3, rounded + 3);
        product(model->pool, matrices + 3, rounded + 3, tokens, finish_add, &stream);
    }
    s.norm = model->norms + (size_t)2 * sizes->layers * stride;
    s.matrix = NULL;
    pool_run(shared, norm_chunk, &s, chunks);
    return s.normed;
}

#endif
