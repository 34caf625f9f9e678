/* Which words may come next: what a search over unfinished words asks of each distribution. */
#include <float.h>
#include <math.h>

#include "native.h"
#include "vectors.h"

enum { CHUNK = 512 }; /* words whose exponentials are summed in one go: fixed, so sums are too */

/* The ``count`` highest of a stream of numbers, the least of them first. */
typedef struct {
    float values[MOST_HIGHEST];
    int count, held;
} Highest;

INLINE float highest_least(const Highest *h) {
    return h->held < h->count ? -INFINITY : h->values[0];
}

INLINE void highest_add(Highest *h, float value) {
    int i = 0;
    if (h->held == h->count) {
        while (i + 1 < h->held && h->values[i + 1] < value) h->values[i] = h->values[i + 1], i++;
    } else {
        i = h->held++;
        while (i > 0 && h->values[i - 1] > value) h->values[i] = h->values[i - 1], i--;
    }
    h->values[i] = value;
}

INLINE int any_lane(Ints mask) {
    int64_t parts[8];
    memcpy(parts, &mask, sizeof parts);
    int64_t found = 0;
    for (int i = 0; i < 8; i++) found |= parts[i];
    return found != 0;
}

/* The ``enough``-th highest log-probability among the tokens that are words. */
static float word_floor(const Children *c) {
    Highest highest = {.count = c->enough};
    int i = 0;
    for (; i + LANES <= c->vocab_size; i += LANES) {
        if (!any_lane(load(c->given + i) > all(highest_least(&highest)))) continue;
        for (int j = i; j < i + LANES; j++)
            if ((c->flags[j] & SINGLE_WORD) && c->given[j] > highest_least(&highest))
                highest_add(&highest, c->given[j]);
    }
    for (; i < c->vocab_size; i++)
        if ((c->flags[i] & SINGLE_WORD) && c->given[i] > highest_least(&highest))
            highest_add(&highest, c->given[i]);
    return highest_least(&highest);
}

static int find_children(Children *c) {
    int whole = c->vocab_size / LANES * LANES;
    if (c->enough) {
        double least = (double)word_floor(c) - c->slack;
        if (least > c->floor) c->floor = least;
    }
    double mass = 0;
    for (int start = 0; start < whole; start += CHUNK) {
        int end = start + CHUNK < whole ? start + CHUNK : whole;
        Floats partial = all(0.0f);
        for (int i = start; i < end; i += LANES)
            partial += where(c->flags + i, FINISHES, exponential(load(c->given + i)));
        mass += (double)sum(partial);
    }
    for (int i = whole; i < c->vocab_size; i++)
        if (c->flags[i] & FINISHES) mass += exp((double)c->given[i]);
    c->finished = mass;
    /* A little lower than needed, for these are floats. */
    float floor = (float)(c->floor - c->before - 1e-5);
    if (floor == -INFINITY) floor = -FLT_MAX;
    c->found = 0;
    for (int i = 0; i < c->vocab_size; i += LANES) {
        int end = i + LANES < c->vocab_size ? i + LANES : c->vocab_size;
        if (i < whole && !any_lane(load(c->given + i) >= all(floor))) continue;
        for (int j = i; j < end; j++)
            if (c->given[j] >= floor && (c->flags[j] & c->allowed)) {
                insert_child(c, j, (double)c->given[j] + c->before);
                if (c->found == c->room) { /* the least of them is the floor now */
                    float least = (float)(c->log_probs[c->room - 1] - c->before - 1e-5);
                    floor = least > floor ? least : floor;
                }
            }
    }
    return c->found < c->room;
}
