/* Recurrent layers: rnn, gru and lstm, in the equations of torch.nn.
 *
 * Texts of any lengths are read together: longest first, so that those still running at a step are
 * the first ones, and rows in the order of the steps. The products of the inputs are taken for all
 * tokens at once.
 */
#ifndef NEXTWORD_RECURRENT_H
#define NEXTWORD_RECURRENT_H

#include "products.h"

/* One layer of one call. A panel holds the gates of 16 units, a block of 16 outputs each. */
typedef struct {
    int kind, hidden;       /* hidden: padded */
    const float *inputs;    /* (tokens, panels * PANEL): products of the inputs */
    int stride;             /* panels * PANEL */
    float *outputs;         /* (tokens, hidden): hidden vectors behind each token */
    const float *before;    /* (texts, hidden): hidden vectors before the step */
    float *cells;           /* (texts, hidden) */
    int first;              /* row of the step's first token */
} Layer;

static void finish_step(void *context, int panel, int row, int count, float (*tile)[PANEL]) {
    const Layer *layer = context;
    int units = layer->kind == RNN ? PANEL : LANES; /* of a panel */
    for (int r = row; r < row + count; r++) {
        const float *y = tile[r - row];
        const float *x = layer->inputs + (size_t)(layer->first + r) * layer->stride + panel * PANEL;
        float *output = layer->outputs + (size_t)(layer->first + r) * layer->hidden + panel * units;
        size_t here = (size_t)r * layer->hidden + panel * units;
        if (layer->kind == LSTM) {
            Floats input = sigmoid(load(x) + load(y));
            Floats forget = sigmoid(load(x + 16) + load(y + 16));
            Floats candidate = hyperbolic_tangent(load(x + 32) + load(y + 32));
            Floats gate = sigmoid(load(x + 48) + load(y + 48));
            Floats cell = forget * load(layer->cells + here) + input * candidate;
            store(layer->cells + here, cell);
            store(output, gate * hyperbolic_tangent(cell));
        } else if (layer->kind == GRU) {
            Floats reset = sigmoid(load(x) + load(y));
            Floats update = sigmoid(load(x + 16) + load(y + 16));
            Floats candidate = hyperbolic_tangent(load(x + 32) + reset * load(y + 32));
            store(output, (1.0f - update) * candidate + update * load(layer->before + here));
        } else {
            for (int j = 0; j < PANEL && panel * PANEL + j < layer->hidden; j += LANES)
                store(output + j, hyperbolic_tangent(load(x + j) + load(y + j)));
        }
    }
}

/* A single step of all texts, inputs and hidden vectors panel by panel in one go. */
typedef struct {
    const Matrix *from_input, *from_hidden;
    const Rounded *x, *h;
    Plain plain;
    Layer *layer;
    int rows, panels_each;
} Both;

static void both_chunk(void *context, int chunk, int thread) {
    (void)thread;
    Both *both = context;
    int panel = chunk * both->panels_each, end = panel + both->panels_each;
    if (end > both->from_input->panels) end = both->from_input->panels;
    multiply(both->from_input, panel, end, both->x, 0, both->rows, finish_store, &both->plain);
    multiply(both->from_hidden, panel, end, both->h, 0, both->rows, finish_step, both->layer);
}

/* How the tokens of a call stand in memory: by step, and in a step by text, longest first. */
typedef struct {
    int tokens, steps;
    int *order; /* (texts,): the text of each rank */
    int *ranks; /* (texts,): the rank of each text */
    int *first; /* (steps + 1,): row of each step's first token; its texts are the first ranks */
} Rows;

static Rows order_rows(Arena *arena, const Call *call) {
    size_t texts = (size_t)call->texts * sizeof(int);
    Rows rows = {0, 0, arena_take(arena, texts), arena_take(arena, texts), NULL};
    for (int i = 0; i < call->texts; i++)
        if (call->lengths[i] > rows.steps) rows.steps = call->lengths[i];
    int *running = arena_take(arena, (size_t)(rows.steps + 1) * sizeof(int));
    memset(running, 0, (size_t)(rows.steps + 1) * sizeof(int));
    for (int i = 0; i < call->texts; i++) running[call->lengths[i]]++;
    for (int t = rows.steps - 1; t >= 0; t--) running[t] += running[t + 1];
    for (int i = call->texts - 1; i >= 0; i--) {
        rows.ranks[i] = --running[call->lengths[i]];
        rows.order[rows.ranks[i]] = i;
    }
    /* running[t] has come down to the number of texts longer than t, which run at step t. */
    rows.first = running;
    for (int t = 0; t <= rows.steps; t++) {
        int here = running[t];
        rows.first[t] = rows.tokens;
        rows.tokens += here;
    }
    return rows;
}

/* Read the texts; return features (tokens, width padded) in the order of ``rows``. */
static float *read_recurrent(Model *model, const Call *call, const Rows *rows) {
    const Sizes *sizes = &model->sizes;
    Arena *arena = &model->arena;
    Pool *pool = model->pool;
    int width = round_up(sizes->width, LANES), hidden = round_up(sizes->hidden, LANES);
    float *x = arena_take(arena, (size_t)rows->tokens * width * sizeof(float));
    memset(x, 0, (size_t)rows->tokens * width * sizeof(float));
    for (int i = 0, token = 0; i < call->texts; token += call->lengths[i++]) {
        for (int t = 0; t < call->lengths[i]; t++)
            memcpy(x + (size_t)(rows->first[t] + rows->ranks[i]) * width,
                   model->embedding + (size_t)call->tokens[token + t] * sizes->width,
                   (size_t)sizes->width * sizeof(float));
    }
    size_t vectors = (size_t)call->texts * hidden;
    float *start = arena_take(arena, vectors * sizeof(float));
    float *cells = arena_take(arena, vectors * sizeof(float));
    for (int l = 0; l < sizes->layers; l++) {
        const Matrix *from_input = model->matrices + 2 * l, *from_hidden = from_input + 1;
        memset(start, 0, vectors * sizeof(float));
        memset(cells, 0, vectors * sizeof(float));
        size_t bytes = (size_t)sizes->hidden * sizeof(float);
        for (int rank = 0; rank < call->texts; rank++) {
            const float *before = call->before[rows->order[rank]];
            if (!before) continue;
            memcpy(start + (size_t)rank * hidden, before + (size_t)l * sizes->hidden, bytes);
            if (sizes->kind == LSTM)
                memcpy(cells + (size_t)rank * hidden,
                       before + (size_t)(sizes->layers + l) * sizes->hidden, bytes);
        }
        int stride = from_input->panels * PANEL;
        float *inputs = arena_take(arena, (size_t)rows->tokens * stride * sizeof(float));
        float *outputs = arena_take(arena, (size_t)rows->tokens * hidden * sizeof(float));
        Rounded rounded = rounded_rows(model, rows->tokens, from_input, from_input->wide);
        Rounded h = rounded_rows(model, call->texts, from_hidden, from_hidden->wide);
        round_rows(pool, x, l ? hidden : width, rows->tokens, from_input, &rounded);
        Plain plain = {inputs, stride};
        Layer layer = {sizes->kind, hidden, inputs, stride, outputs, start, cells, 0};
        if (rows->steps > 1)
            product(pool, from_input, &rounded, rows->tokens, finish_store, &plain);
        for (int t = 0; t < rows->steps; t++) {
            int running = rows->first[t + 1] - rows->first[t];
            layer.first = rows->first[t];
            round_rows(pool, layer.before, hidden, running, from_hidden, &h);
            if (rows->steps > 1) {
                product(pool, from_hidden, &h, running, finish_step, &layer);
            } else {
                int chunks = 8 * pool_threads(pool);
                int each = (from_input->panels + chunks - 1) / chunks;
                Both both = {from_input, from_hidden, &rounded, &h, plain, &layer, running, each};
                pool_run(pool, both_chunk, &both, (from_input->panels + each - 1) / each);
            }
            layer.before = outputs + (size_t)layer.first * hidden;
        }
        for (int rank = 0; rank < call->texts; rank++) {
            int text = rows->order[rank], last = rows->first[call->lengths[text] - 1] + rank;
            float *after = call->after[text];
            memcpy(after + (size_t)l * sizes->hidden, outputs + (size_t)last * hidden, bytes);
            if (sizes->kind == LSTM)
                memcpy(after + (size_t)(sizes->layers + l) * sizes->hidden,
                       cells + (size_t)rank * hidden, bytes);
        }
        x = outputs;
    }
    if (!sizes->projected) return x;
    const Matrix *projection = model->matrices + 2 * sizes->layers;
    float *y = arena_take(arena, (size_t)rows->tokens * width * sizeof(float));
    Rounded rounded = rounded_rows(model, rows->tokens, projection, projection->wide);
    round_rows(pool, x, hidden, rows->tokens, projection, &rounded);
    Plain plain = {y, width};
    product(pool, projection, &rounded, rows->tokens, finish_store, &plain);
    /* Small, and all that the output layer sees goes through it: its weights have a second byte. */
    product(pool, projection + 1, &rounded, rows->tokens, finish_add, &plain);
    return y;
}

#endif
