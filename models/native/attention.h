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

enum { AHEAD = 12 }; /* positions: how far the next ones are fetched before they are used */

/* The values of one head, from ``start`` on, one to four vectors, a constant where this is inlined.
 * ``slots`` and ``weights``: of each of ``count`` positions. */
INLINE void mix_values(
    const Sizes *sizes, int head, int start, int vectors, int count, const char *const *slots,
    const float *weights, float share, float *y
) {
    int wide = head_width(sizes), all_heads = sizes->heads * wide;
    size_t values = sizeof(int16_t) * (size_t)(all_heads + head * wide + start);
    size_t scale = sizeof(int16_t) * 2 * (size_t)all_heads +
                   sizeof(float) * (size_t)(sizes->heads + head);
    Floats a = all(0), b = a, c = a, d = a;
    for (int n = 0; n < count; n++) {
        const int16_t *value = (const int16_t *)(slots[n] + values);
        float weight = weights[n] * *(const float *)(slots[n] + scale);
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

/* Scaled products of all heads' queries with the keys: scores (heads, stride), ``count`` of each.
 * ``vectors``: of a head, a constant where this is inlined, or 0 for any number. */
INLINE void match_keys(
    const Sizes *sizes, int vectors, int count, const char *const *slots, const float *query,
    float *scores, int stride
) {
    int heads = sizes->heads, wide = vectors ? vectors * LANES : head_width(sizes);
    size_t keys = sizeof(int16_t) * (size_t)(heads * wide), bytes = slot_bytes(sizes);
    float root = 1.0f / sqrtf((float)(sizes->width / heads));
    for (int n = 0; n < count; n++) {
        /* Of many texts little is in a near cache. The values are fetched too, for later. */
        const char *ahead = slots[n + AHEAD < count ? n + AHEAD : count - 1];
        for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(ahead + line);
        const float *scales = (const float *)(slots[n] + 2 * keys);
        for (int h = 0; h < heads; h++) {
            const int16_t *key = (const int16_t *)slots[n] + h * wide;
            const float *q = query + h * wide;
            Floats total = load(q) * load_shorts(key);
            for (int i = LANES; i < wide; i += LANES) total += load(q + i) * load_shorts(key + i);
            scores[(size_t)h * stride + n] = sum(total) * (scales[h] * root);
        }
    }
}

/* Turn scores into weights exp(score - largest); return one over their sum. */
INLINE float weigh(float *scores, int count) {
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
    return 1.0f / sum(total);
}

/* A thread's room to attend in: the window's slots and scores. */
typedef struct {
    const char **slots;
    float *scores; /* (heads, window padded) */
} Desk;

/* Attention of one token with ``query`` (heads, head width): write as much to ``y``. */
static void attend(
    const Sizes *sizes, const Place *place, int layer, const float *query, const Desk *desk, float *y
) {
    int64_t first = place->position - sizes->window + 1;
    if (first < 0) first = 0;
    int count = (int)(place->position - first) + 1;
    int64_t i = first - place->base; /* slots by adding: a division takes as long as a vector */
    int block = (int)(i / sizes->block), slot = (int)(i % sizes->block);
    size_t bytes = slot_bytes(sizes), start = (size_t)layer * sizes->block * bytes;
    for (int n = 0; n < count; block++, slot = 0) {
        const char *slots = place->blocks[block] + start;
        for (; slot < sizes->block && n < count; slot++) desk->slots[n++] = slots + slot * bytes;
    }
    int wide = head_width(sizes), stride = round_up(sizes->window, LANES);
    if (wide == 4 * LANES)
        match_keys(sizes, 4, count, desk->slots, query, desk->scores, stride);
    else
        match_keys(sizes, 0, count, desk->slots, query, desk->scores, stride);
    for (int h = 0; h < sizes->heads; h++) {
        float *weights = desk->scores + (size_t)h * stride;
        float share = weigh(weights, count);
        int from = 0;
        for (; from + 4 * LANES <= wide; from += 4 * LANES)
            mix_values(sizes, h, from, 4, count, desk->slots, weights, share, y);
        for (; from + 2 * LANES <= wide; from += 2 * LANES)
            mix_values(sizes, h, from, 2, count, desk->slots, weights, share, y);
        for (; from < wide; from += LANES)
            mix_values(sizes, h, from, 1, count, desk->slots, weights, share, y);
    }
}

#endif
