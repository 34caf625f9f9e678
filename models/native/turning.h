/* Turning activations before they are rounded (Ashkboos et al. 2024, "QuaRot").
 *
 * Some units of a network are many times as large as the others, and rounding in steps of the
 * largest is coarse for the rest. So every row is multiplied by an orthogonal matrix, signs and a
 * Walsh-Hadamard transform, which spreads the large units over all; the weights have been
 * multiplied by it too, so the products are what they were. The rounding's error halves.
 *
 * The transform is of a power of two: where there are more inputs than that, the first block of
 * them is transformed and then the last one, each with signs of its own, since a transform of the
 * same transform would undo it.
 */
#ifndef NEXTWORD_TURNING_H
#define NEXTWORD_TURNING_H

#include "native.h"
#include "vectors.h"

/* The vector with lanes ``distance`` apart exchanged. */
INLINE Floats exchanged(Floats x, int distance) {
    const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#if defined(USE_AVX512)
    return (Floats)_mm512_permutexvar_ps((__m512i)(lanes ^ distance), (__m512)x);
#else
    Floats y;
    for (int i = 0; i < LANES; i++) y[i] = x[lanes[i] ^ distance];
    return y;
#endif
}

/* Write x (block), times ``signs``, to y, and transform it there. */
INLINE void transform(const float *x, const float *signs, int block, float *y) {
    const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int i = 0; i < block; i += LANES) {
        Floats v = load(x + i) * load(signs + i);
        for (int distance = 1; distance < LANES; distance *= 2) {
            Floats other = exchanged(v, distance);
            Ints negative = ((lanes & distance) != 0) & (int32_t)0x80000000;
            v = other + from_bits(bits(v) ^ negative);
        }
        store(y + i, v);
    }
    int distance = LANES;
    for (; 4 * distance <= block; distance *= 4) /* two distances in one go */
        for (int start = 0; start < block; start += 4 * distance)
            for (int i = start; i < start + distance; i += LANES) {
                float *p = y + i, *q = p + distance, *r = q + distance, *s = r + distance;
                Floats a = load(p) + load(q), b = load(p) - load(q);
                Floats c = load(r) + load(s), d = load(r) - load(s);
                store(p, a + c);
                store(q, b + d);
                store(r, a - c);
                store(s, b - d);
            }
    for (; distance < block; distance *= 2)
        for (int start = 0; start < block; start += 2 * distance)
            for (int i = start; i < start + distance; i += LANES) {
                Floats a = load(y + i), b = load(y + i + distance);
                store(y + i, a + b);
                store(y + i + distance, a - b);
            }
}

/* Write x (inputs) turned to y: its first block is transformed, then its last one, which overlap. */
static void turn(const float *x, const float *signs, int inputs, float *y) {
    int block = turned_together(inputs), rest = inputs - block;
    transform(x, signs, block, y);
    if (!rest) return;
    memcpy(y + block, x + block, (size_t)rest * sizeof(float));
    transform(y + rest, signs + block, block, y + rest);
}

#endif
