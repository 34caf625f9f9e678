/* A model's packed weights, and the way in from outside. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

#define EXPORT __attribute__((visibility("default")))

static Step chosen_step = NULL;
static FindChildren chosen_children = NULL;
static const char *chosen_name = "";

int round_up(int value, int unit) { return (value + unit - 1) / unit * unit; }

static void *allocate(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes ? (bytes + 63) / 64 * 64 : 64)) {
        fputs("nextword: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *arena_take(Arena *arena, size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    arena->wanted += bytes;
    if (arena->size - arena->used < bytes) {
        void **spilled = allocate(bytes + 64);
        *spilled = arena->spilled;
        arena->spilled = spilled;
        return (char *)spilled + 64;
    }
    void *taken = arena->base + arena->used;
    arena->used += bytes;
    return taken;
}

void arena_free(Arena *arena) {
    for (void **spilled = arena->spilled; spilled;) {
        void **before = *spilled;
        free(spilled);
        spilled = before;
    }
    free(arena->base);
    *arena = (Arena){0};
}

/* Begin anew, with room for as much as the last call wanted. */
void arena_reset(Arena *arena) {
    if (arena->spilled) {
        size_t wanted = arena->wanted;
        arena_free(arena);
        arena->base = allocate(wanted);
        arena->size = wanted;
    }
    arena->used = arena->wanted = 0;
}

int head_width(const Sizes *sizes) { return round_up(sizes->width / sizes->heads, LANES); }

size_t slot_bytes(const Sizes *sizes) {
    size_t bytes = (size_t)sizes->heads * (4 * (size_t)head_width(sizes) + 2 * sizeof(float));
    return (bytes + 63) / 64 * 64;
}

/* Choose the set of instructions: the best that the processor has, or ``name``d.
 * Returns its name, or NULL where there is no such. */
EXPORT const char *nextword_instructions(const char *name) {
#if defined(__x86_64__)
    int bits = vector_bits();
    if (bits >= 512 && (!*name || !strcmp(name, "avx512"))) {
        chosen_step = step_avx512;
        chosen_children = children_avx512;
        return chosen_name = "avx512";
    }
    if (bits >= 256 && (!*name || !strcmp(name, "avx2"))) {
        chosen_step = step_avx2;
        chosen_children = children_avx2;
        return chosen_name = "avx2";
    }
#endif
    if (*name && strcmp(name, "generic")) return NULL;
    chosen_step = step_generic;
    chosen_children = children_generic;
    return chosen_name = "generic";
}

/* The checksum of the sources that this was compiled from. */
EXPORT const char *nextword_sources(void) { return SOURCES; }

EXPORT const char *nextword_current(void) { return chosen_name; }

int list_children(Children *children) { return chosen_children(children); }

EXPORT Model *nextword_model_new(const Sizes *sizes, const float *embedding) {
    Model *model = calloc(1, sizeof *model);
    if (!model) return NULL;
    int each = sizes->kind == TRANSFORMER ? 4 : 2;
    model->sizes = *sizes;
    model->embedding = embedding;
    model->num_matrices = each * sizes->layers + 2 * sizes->projected + 2;
    model->matrices = allocate((size_t)model->num_matrices * sizeof(Matrix));
    memset(model->matrices, 0, (size_t)model->num_matrices * sizeof(Matrix));
    if (sizes->kind != TRANSFORMER) return model;
    size_t norms = (size_t)(2 * sizes->layers + 1) * round_up(sizes->width, LANES) * sizeof(float);
    model->norms = allocate(norms);
    memset(model->norms, 0, norms);
    int wide = sizes->width / sizes->heads, half = wide / 2;
    model->rotations = allocate((size_t)ROTATIONS * wide * sizeof(float));
    for (int i = 0; i < half; i++) {
        double frequency = pow(10000.0, -(double)i / half);
        for (int position = 0; position < ROTATIONS; position++) {
            float *angles = model->rotations + (size_t)position * wide;
            angles[i] = (float)cos(position * frequency);
            angles[half + i] = (float)sin(position * frequency);
        }
    }
    return model;
}

EXPORT void nextword_model_free(Model *model) {
    if (!model) return;
    for (int i = 0; i < model->num_matrices; i++) {
        Matrix *matrix = model->matrices + i;
        free(matrix->weights);
        free(matrix->totals);
        free(matrix->scales);
        free(matrix->bias);
        free(matrix->signs);
    }
    free(model->matrices);
    free(model->norms);
    free(model->rotations);
    arena_free(&model->arena);
    free(model);
}

EXPORT void nextword_model_norm(Model *model, int index, const float *weight) {
    int width = model->sizes.width;
    memcpy(model->norms + (size_t)index * round_up(width, LANES), weight,
           (size_t)width * sizeof(float));
}

/* Of |x| < 2^22, ties to even: adding 1.5 * 2^23 leaves no room for a fraction. */
static inline int32_t nearest_whole(float x) {
    float shifted = x + 12582912.0f;
    int32_t q;
    memcpy(&q, &shifted, sizeof q);
    return q - 0x4b400000;
}

/* Transform a block of a row of weights as its activations are transformed. */
static void transform_weights(float *row, const float *signs, int block) {
    for (int i = 0; i < block; i++) row[i] *= signs[i];
    for (int distance = 1; distance < block; distance *= 2)
        for (float *p = row; p < row + block; p += 2 * distance)
            for (int i = 0; i < distance; i++) {
                float a = p[i], b = p[distance + i];
                p[i] = a + b;
                p[distance + i] = a - b;
            }
}

/* Pack ``weight`` (rows, columns) as the model's matrix ``index``.
 *
 * Output o is row ``rows_of[o]`` of the weights, input i column ``columns_of[i]``, nothing where
 * that is negative. ``bias`` (rows,) may be NULL; ``factor`` multiplies the product and the bias,
 * and outputs that are nothing are ``empty``. Activations have 16 bits where they are ``wide``.
 * With ``rest``, what is packed is what rounding to bytes leaves of the weights, for the same
 * activations as the matrix before.
 */
EXPORT void nextword_model_pack(
    Model *model, int index, const float *weight, int columns, const int32_t *rows_of, int outputs,
    const int32_t *columns_of, int inputs, const float *bias, float factor, float empty, int wide,
    int rest
) {
    Matrix *matrix = model->matrices + index;
    int panels = round_up(outputs, PANEL) / PANEL, padded = round_up(inputs, LANES);
    size_t all = (size_t)panels * PANEL;
    *matrix = (Matrix){.panels = panels, .inputs = padded, .wide = wide};
    matrix->weights = allocate(all * padded);
    matrix->totals = allocate(all * sizeof(int32_t));
    matrix->scales = allocate(all * sizeof(float));
    matrix->bias = allocate(all * sizeof(float));
    int block = turned_together(padded);
    matrix->signs = allocate((size_t)2 * block * sizeof(float));
    for (int i = 0; i < 2 * block; i++) matrix->signs[i] = turning_sign(i) / sqrtf((float)block);
    float *row = allocate((size_t)padded * sizeof(float));
    int8_t *bytes = allocate((size_t)padded);
    int64_t most = 1;
    for (int o = 0; o < panels * PANEL; o++) {
        int source = o < outputs ? rows_of[o] : -1;
        memset(row, 0, (size_t)padded * sizeof(float));
        if (source >= 0 && columns_of) {
            for (int i = 0; i < inputs; i++)
                if (columns_of[i] >= 0) row[i] = weight[(size_t)source * columns + columns_of[i]];
        } else if (source >= 0) {
            memcpy(row, weight + (size_t)source * columns, (size_t)inputs * sizeof(float));
        }
        transform_weights(row, matrix->signs, block);
        if (block < padded)
            transform_weights(row + padded - block, matrix->signs + block, block);
        float peaks[LANES] = {0}, peak = 0;
        for (int i = 0; i < padded; i += LANES)
            for (int j = 0; j < LANES; j++) {
                float size = fabsf(row[i + j]);
                peaks[j] = peaks[j] > size ? peaks[j] : size;
            }
        for (int j = 0; j < LANES; j++) peak = peak > peaks[j] ? peak : peaks[j];
        float scale = peak > 1e-30f ? peak / 127 : 0, inverse = peak > 1e-30f ? 127 / peak : 0;
        if (rest) { /* a weight less the nearest whole number: at most a half */
            for (int i = 0; i < padded; i++)
                row[i] = row[i] * inverse - (float)nearest_whole(row[i] * inverse);
            inverse = 254;
            scale /= 254;
        }
        int32_t total = 0, size = 0;
        for (int i = 0; i < padded; i++) {
            int32_t q = nearest_whole(row[i] * inverse);
            total += q;
            size += q < 0 ? -q : q;
            bytes[i] = (int8_t)q;
        }
        if (size > most) most = size;
        int8_t *to = matrix->weights + (size_t)(o / PANEL) * PANEL * padded + o % PANEL * 4;
        for (int i = 0; i < padded; i += 4) memcpy(to + (size_t)i * PANEL, bytes + i, 4);
        matrix->totals[o] = total;
        matrix->scales[o] = scale * factor;
        matrix->bias[o] = source < 0 ? empty : bias ? bias[source] * factor : 0;
    }
    int64_t largest = INT32_MAX / most;
    matrix->largest = largest < 32767 ? (int32_t)largest : 32767;
    if (rest && matrix->largest < matrix[-1].largest) matrix[-1].largest = matrix->largest;
    free(row);
    free(bytes);
}

/* Bytes of a block of keys and values. */
EXPORT int64_t nextword_block_bytes(const Sizes *sizes) {
    return (int64_t)(slot_bytes(sizes) * sizes->layers * sizes->block);
}

/* Read the texts of a call. One call a model at a time. */
EXPORT void nextword_compute(Model *model, Pool *pool, const Call *call) {
    int64_t tokens = 0, rows = 0, inside = 0;
    for (int i = 0; i < call->texts; i++) {
        tokens += call->lengths[i];
        rows += call->wants[i] == WANT_NONE   ? 0
                : call->wants[i] == WANT_LAST ? 1
                                              : call->lengths[i];
    }
    for (int i = 0; i < model->num_matrices - 2; i++)
        inside += (int64_t)model->matrices[i].panels * PANEL * model->matrices[i].inputs;
    const Matrix *output = model->matrices + model->num_matrices - 2;
    int64_t work = tokens * inside + rows * output->panels * PANEL * output->inputs;
    int shared = work > model->sizes.alone && pool_begin(pool);
    model->pool = shared ? pool : NULL;
    arena_reset(&model->arena);
    if (call->copies)
        for (int i = 0; i < call->texts; i++)
            if (call->copies[i])
                memcpy(call->blocks[i][(call->positions[i] - call->bases[i]) / model->sizes.block],
                       call->copies[i], (size_t)nextword_block_bytes(&model->sizes));
    chosen_step(model, call);
    if (shared) pool_end(pool);
}
