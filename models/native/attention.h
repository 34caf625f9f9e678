/* Keys and values in blocks, and attention over them.
 *
 * A text's positions stand in blocks of a few slots each, which texts with the same beginning
 * share. A slot holds a layer's keys and values as 16-bit whole numbers with one scale a head:
 * within 1.6e-5 of the head's largest, in half the room of floats.
 *
 * A query's sums run over its positions from the oldest on, one after another, whatever is read in
 * the same call: a text read in pieces gives the bits of the text read whole.
 */
#ifndef NEXTWORD_ATTENTION_H
#define NEXTWORD_ATTENTION_H

#include <math.h>

#include "products.h"

/* Where a token stands. */
typedef struct {
    char *const *blocks;   /* of its text */
    int64_t base;          /* position of the first slot of the first block */
    int64_t position;
    const float *rotation; /* (head width): cosines, then sines */
} Place;

/* The slot of a position: keys (heads, head width), values, scales (2, heads). */
INLINE char *slot_of(const Sizes *sizes, const Place *place, int64_t position, int layer) {
    int64_t i = position - place->base;
    char *block = place->blocks[i / sizes->block];
    return block + ((size_t)layer * sizes->block + i % sizes->block) * slot_bytes(sizes);
}

/* Angles of a position (Su et al. 2021, eq. 15): cosines of the pairs, then sines. */
static void write_angles(float *to, int64_t position, int half) {
    for (int i = 0; i < half; i++) {
        double angle = (double)position * pow(10000.0, -(double)i / half);
        to[i] = (float)cos(angle);
        to[half + i] = (float)sin(angle);
    }
}

static Place *find_places(Model *model, const Call *call, int tokens) {
    const Sizes *sizes = &model->sizes;
    int wide = sizes->width / sizes->heads;
    Place *places = arena_take(&model->arena, (size_t)tokens * sizeof *places);
    for (int i = 0, row = 0; i < call->texts; i++)
        for (int t = 0; t < call->lengths[i]; t++, row++) {
            int64_t position = call->positions[i] + t;
            const float *rotation = model->rotations + position * wide;
            if (position >= ROTATIONS) {
                float *angles = arena_take(&model->arena, (size_t)wide * sizeof(float));
                write_angles(angles, position, wide / 2);
                rotation = angles;
            }
            places[row] = (Place){call->blocks[i], call->bases[i], position, rotation};
        }
    return places;
}

INLINE void rotate(float *x, const float *rotation, int half) {
    int i = 0;
    for (; i + LANES <= half; i += LANES) {
        Floats cosine = load(rotation + i), sine = load(rotation + half + i);
        Floats a = load(x + i), b = load(x + half + i);
        store(x + i, a * cosine - b * sine);
        store(x + half + i, a * sine + b * cosine);
    }
    for (; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = a * rotation[i] - b * rotation[half + i];
        x[half + i] = a * rotation[half + i] + b * rotation[i];
    }
}

/* Round a head's (wide) floats to 16 bits; return the scale. */
INLINE float round_head(const float *x, int wide, int16_t *to) {
    Floats most = all(0);
    for (int i = 0; i < wide; i += LANES) most = larger(most, absolute(load(x + i)));
    float peak = largest(most);
    float factor = peak > 1e-30f ? 32767 / peak : 0;
    for (int i = 0; i < wide; i += LANES) {
        Shorts q = __builtin_convertvector(nearest(load(x + i) * factor), Shorts);
        memcpy(to + i, &q, sizeof q);
    }
    return peak / 32767;
}

/* Turn a token's queries and keys, and put its keys and values into its slot.
 * ``qkv``: (3, heads, head width). */
static void remember(const Sizes *sizes, const Place *place, int layer, float *qkv) {
    int wide = head_width(sizes), all_heads = sizes->heads * wide;
    int half = sizes->width / sizes->heads / 2;
    char *slot = slot_of(sizes, place, place->position, layer);
    int16_t *kept = (int16_t *)slot;
    float *scales = (float *)(slot + 4 * (size_t)all_heads);
    for (int h = 0; h < sizes->heads; h++) {
        float *query = qkv + h * wide, *key = query + all_heads, *value = key + all_heads;
        rotate(query, place->rotation, half);
        rotate(key, place->rotation, half);
        scales[h] = round_head(key, wide, kept + h * wide);
        scales[sizes->heads + h] = round_head(value, wide, kept + all_heads + h * wide);
    }
}

/* The values of one head, from ``start`` on, one to four vectors, a constant where this is inlined.
 * ``weights``: of each of ``count`` positions from ``first`` on. */
INLINE void mix_values(
    const Sizes *sizes, const Place *place, int layer, int head, int start, int vectors,
    int64_t first, int count, const float *weights, float share, float *y
) {
    int wide = head_width(sizes), all_heads = sizes->heads * wide;
    Floats a = all(0), b = a, c = a, d = a;
    for (int n = 0; n < count; n++) {
        const char *slot = slot_of(sizes, place, first + n, layer);
        const int16_t *value = (const int16_t *)slot + all_heads + head * wide + start;
        const float *scales = (const float *)(slot + 4 * (size_t)all_heads);
        float weight = weights[n] * scales[sizes->heads + head];
        a += load_shorts(value) * weight;
        if (vectors > 1) b += load_shorts(value + LANES) * weight;
        if (vectors > 2) c += load_shorts(value + 2 * LANES) * weight;
        if (vectors > 3) d += load_shorts(value + 3 * LANES) * weight;
    }
    y += head * wide + start;
    store(y, a * share);
    if (vectors > 1) store(y + LANES, b * share);
    if (vectors > 2) store(y + 2 * LANES, c * share);
    if (vectors > 3) store(y + 3 * LANES, d * share);
}

/* Attention of one token: write (heads, head width) to ``y``; ``scores``: room for the window. */
static void attend(
    const Sizes *sizes, const Place *place, int layer, const float *qkv, float *scores, float *y
) {
    int wide = head_width(sizes), all_heads = sizes->heads * wide;
    int64_t first = place->position - sizes->window + 1;
    if (first < 0) first = 0;
    int count = (int)(place->position - first) + 1;
    float root = 1.0f / sqrtf((float)(sizes->width / sizes->heads));
    for (int h = 0; h < sizes->heads; h++) {
        const float *query = qkv + h * wide;
        for (int n = 0; n < count; n++) {
            const char *slot = slot_of(sizes, place, first + n, layer);
            const int16_t *key = (const int16_t *)slot + h * wide;
            const float *scales = (const float *)(slot + 4 * (size_t)all_heads);
            Floats total = load(query) * load_shorts(key);
            for (int i = LANES; i < wide; i += LANES)
                total += load(query + i) * load_shorts(key + i);
            scores[n] = sum(total) * (scales[h] * root);
        }
        int padded = round_up(count, LANES);
        for (int n = count; n < padded; n++) scores[n] = -1e30f;
        Floats most = load(scores), total = all(0);
        for (int n = LANES; n < padded; n += LANES) most = larger(most, load(scores + n));
        float peak = largest(most);
        for (int n = 0; n < padded; n += LANES) {
            Floats weight = exponential(load(scores + n) - peak);
            total += weight;
            store(scores + n, weight);
        }
        float share = 1.0f / sum(total);
        int start = 0;
        for (; start + 4 * LANES <= wide; start += 4 * LANES)
            mix_values(sizes, place, layer, h, start, 4, first, count, scores, share, y);
        for (; start + 2 * LANES <= wide; start += 2 * LANES)
            mix_values(sizes, place, layer, h, start, 2, first, count, scores, share, y);
        for (; start < wide; start += LANES)
            mix_values(sizes, place, layer, h, start, 1, first, count, scores, share, y);
    }
}

#endif
