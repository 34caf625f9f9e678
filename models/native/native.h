/* What the parts of the library share: packed matrices, a model, a call, a pool of threads. */
#ifndef NEXTWORD_NATIVE_H
#define NEXTWORD_NATIVE_H

#include <stddef.h>
#include <stdint.h>

enum { LANES = 16 };   /* floats of a vector, outputs of a block */
enum { PANEL = 64 };   /* outputs of a panel: four blocks, the four gates of sixteen LSTM units */
enum { MOST_THREADS = 64 };

/* Signed bytes w, one scale an output row: y = scales * (w x) + bias.
 *
 * Weights are laid out as they are read: panel by panel; in a panel for every four inputs the four
 * weights of each of its 64 outputs. Outputs and inputs are padded with zeros. The inputs are turned
 * before they are rounded, and the weights with them: see turning.h.
 */
typedef struct {
    int32_t panels;
    int32_t inputs;       /* a multiple of 16 */
    int32_t largest;      /* activations are rounded to -largest..largest: sums fit 32 bits */
    int32_t wide;         /* whether activations have 16 bits; otherwise they are bytes */
    int8_t *weights;      /* (panels, inputs / 4, PANEL, 4) */
    int32_t *totals;      /* (panels * PANEL): the sum of a row's weights */
    float *scales, *bias; /* (panels * PANEL) */
    float *signs;         /* (2, turned_together): of the turn, they keep lengths */
} Matrix;

enum { RNN, GRU, LSTM, TRANSFORMER };

/* Sizes of a network; units, except where another unit is named. */
typedef struct {
    int32_t kind;
    int32_t vocab_size; /* words */
    int32_t num_ids;    /* rows of the embedding */
    int32_t width;      /* of embedding and output layer */
    int32_t hidden;     /* of the recurrent layers */
    int32_t layers;
    int32_t projected;  /* whether the hidden width is projected to the embedding's */
    int32_t heads;
    int32_t inner;      /* of the feed-forward layers */
    int32_t window;     /* positions that attention sees, the reading one included */
    int32_t block;      /* positions of a block of keys and values */
    int32_t alone;      /* multiplications up to which a call is left to one thread */
} Sizes;

/* Memory for one call, kept for the next. */
typedef struct Arena {
    char *base;
    size_t size, used, wanted;
    void **spilled; /* what did not fit, freed at the next call; each begins with the one before */
} Arena;

/* What one thread claims at a time. ``thread`` counts from 0, the caller. */
typedef void (*Task)(void *context, int chunk, int thread);
typedef struct Pool Pool;

typedef struct Model {
    Sizes sizes;
    const float *embedding; /* (num_ids, width), the network's own */
    Matrix *matrices;       /* a layer's one after another, the projection and what rounding left of
                             * it, the output layer and what rounding left of its first words */
    int32_t num_matrices;
    float *norms;           /* (2 * layers + 1, width padded): weights of the Transformer's norms */
    float *rotations;       /* (ROTATIONS, head width): cosines, then sines */
    Arena arena;
    Pool *pool;             /* of the call under way; NULL: the caller works alone */
} Model;

enum { ROTATIONS = 1024 }; /* positions whose angles are kept ready */
enum { WANT_NONE, WANT_LAST, WANT_ALL, WANT_TARGETS };

/* The texts of one call, one entry each; addresses are those of memory that the caller keeps. */
typedef struct {
    int32_t texts;
    const int32_t *lengths;    /* tokens to read */
    const int32_t *tokens;     /* of all texts, one after another */
    const int32_t *wants;
    const int32_t *targets;    /* as many as ``tokens`` where any text wants targets */
    float *const *outputs;     /* (1 or T, vocab_size), or (T,) for targets */
    const float *const *before;/* recurrent: hidden vectors (layers, hidden), cells behind; or NULL */
    float *const *after;
    char *const *const *blocks;/* Transformer: the blocks of its positions, those to be read too */
    const char *const *copies; /* a block to copy into the one where reading goes on; or NULL */
    const int64_t *bases;      /* position of the first slot of the first block */
    const int64_t *positions;  /* position of the first token to read */
} Call;

/* What a search asks of one distribution: see search.c. */
enum { MOST_HIGHEST = 64 };
enum { SINGLE_WORD = 1, FINISHES = 64 };  /* of flags: the token is, alone, a word; or its last */

typedef struct {
    const float *given;      /* (vocab_size): natural log-probabilities */
    const uint8_t *flags;    /* (vocab_size): these, and what ``allowed`` asks for */
    int32_t vocab_size;
    int32_t allowed;         /* children have one of these flags */
    int32_t enough;          /* raise the floor to the so-many-th word; 0: leave it */
    int32_t room;            /* children there is room for */
    double before;           /* log-probability of what stands before */
    double slack;            /* how far the floor stays below that word */
    double floor;            /* children below it are not needed */
    double finished;         /* probability, given that, of all that finishes a word here */
    int64_t found;           /* children */
    int32_t *ids;            /* (room), the most probable first */
    double *log_probs;       /* (room), those before included */
} Children;

/* Put a child where it belongs, the most probable first; of equals the first found. Where there is
 * no room the last is dropped. */
static inline void insert_child(Children *c, int token, double log_prob) {
    if (c->found == c->room) {
        if (log_prob <= c->log_probs[c->room - 1]) return;
        c->found--;
    }
    int64_t i = c->found++;
    for (; i > 0 && c->log_probs[i - 1] < log_prob; i--) {
        c->log_probs[i] = c->log_probs[i - 1];
        c->ids[i] = c->ids[i - 1];
    }
    c->log_probs[i] = log_prob;
    c->ids[i] = token;
}

/* The inputs that are turned in one go: the largest power of two that is not more than all. */
static inline int turned_together(int inputs) {
    int block = 1;
    while (2 * block <= inputs) block *= 2;
    return block;
}

/* 1 or -1, as if by chance (the finaliser of a hash: Appleby 2011). */
static inline float turning_sign(int i) {
    uint32_t hash = (uint32_t)i * 0x9e3779b9u;
    hash = (hash ^ hash >> 16) * 0x85ebca6bu;
    hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
    return hash >> 31 ? -1.0f : 1.0f;
}

/* One set of instructions: everything between the tokens and the log-probabilities. */
typedef void (*Step)(Model *model, const Call *call);
typedef int (*FindChildren)(Children *children); /* 0 where there may be more */
void step_generic(Model *model, const Call *call);
int children_generic(Children *children);
#if defined(__x86_64__)
void step_avx2(Model *model, const Call *call);
int children_avx2(Children *children);
void step_avx512(Model *model, const Call *call);
int children_avx512(Children *children);
#endif

int list_children(Children *children); /* by the instructions that were chosen */
int vector_bits(void); /* of the processor: 512, 256, or 0 for anything else */
int round_up(int value, int unit);
void *arena_take(Arena *arena, size_t bytes); /* aligned for vectors, not cleared */
void arena_reset(Arena *arena);
void arena_free(Arena *arena);

/* Bytes of one position of one layer in a block: keys, values, and a scale a head of each. */
size_t slot_bytes(const Sizes *sizes);
int head_width(const Sizes *sizes); /* padded */

int pool_begin(Pool *pool);
void pool_end(Pool *pool);
void pool_run(Pool *pool, Task task, void *context, int chunks);
int pool_threads(const Pool *pool); /* 1 for NULL */

#endif
