/* The frontier of a search over unfinished words: what waits to be read, the most probable first.
 *
 * It does what models/plain_frontier.py does: the same words in the same order with the same bits of
 * their log-probabilities, for equals leave a heap in the order in which they came. Masses differ in
 * their last digits. A search has its own memory; all share the vocabulary and what was found out of
 * it, which whoever calls may change, for they hold the interpreter's lock.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native.h"

#define EXPORT __attribute__((visibility("default")))

enum { WORD_START = 2, UNIT_START = 4, PIECE = 8, PLAIN = 16, WORD_END = 32 }; /* flags */
enum { BATCH = 8 };            /* unfinished words read together */
enum { ROOM = 48 };            /* children found before more are asked for */
enum { AHEAD = 16 };           /* tokens whose log-probabilities are fetched before they are read */
enum { MOST_TAKEN = 4096 };    /* words looked at once the search gave up */
enum { ENDLESS = INT32_MAX, UNCLEAR = -2 }; /* as merges.py has them */
enum { DONE = 0, ASKS = -1 };  /* what `nextword_search_next` returns, or how many are to be read */
enum { NO = 0, NEW, KNOWN };   /* whether a word counts; its text may have been found before */
#define PREFIX_TOLERANCE log(1e-7) /* of the share of a prefix that may stay unsummed */
#define JOIN '\1'

/* Of a tokenizer; see search.py. */
typedef struct {
    const uint8_t *flags;
    const uint8_t *pieces;   /* what is typed of the tokens, one after another */
    const int32_t *offsets;  /* (size + 1): where in them each begins */
    const int32_t *sorted;   /* (num_sorted): tokens by their bytes, those without any left out */
    /* How tokens grew; see models/tokenizers/merges.py. */
    const int32_t *last, *rank;                 /* (size) */
    const int32_t *behind, *partners, *ranks;   /* (size + 1), and of each merge */
    const int32_t *within, *begun, *until;      /* (size + 1), and of each token begun */
    /* What may stand behind the tokens that were asked for last, each at its remainder. */
    int32_t *known;        /* (num_known): the tokens; -1 for none yet */
    uint8_t *known_flags;  /* (num_known, size): as ``flags``; 0 for what is never written there */
    int32_t size, num_sorted, num_known, eos;
} Vocabulary;

/* What is searched for; see models/frontier.py. */
typedef struct {
    double slack;        /* less probable than the last of the list by more than this: needless */
    double floor;        /* less probable children are needless from the first */
    double root_mass;    /* of what finishes a word at the root; NAN: to be summed */
    int32_t limit;       /* words to find */
    int32_t enough;      /* words of one token that make the less probable ones needless; 0: never */
    int32_t num_words;
    int32_t words_only;
    int32_t ask;         /* every word has to be asked for */
    int32_t most;        /* expansions */
    int32_t prefix_size; /* bytes */
} Wanted;

/* A token and where it was found: of equals the first comes first. */
typedef struct {
    double log_prob;
    int32_t token, place;
} Child;

/* An expanded beginning. */
typedef struct {
    double log_prob;
    const float *given; /* (size): log-probabilities of the next token; kept where ``more`` */
    Child *children;    /* the most probable first */
    int32_t found, taken;
    int32_t more;       /* there may be children that were not found yet */
    int32_t token;      /* its last; -1 for the root */
    int32_t length;     /* bytes of the current word */
    int32_t joined;     /* the first of them is a join mark that is no part of the prefix */
    int32_t words;      /* finished before it */
} Node;

/* A child that waits: its parent and its token. */
typedef struct {
    double cost; /* negative log-probability */
    int64_t tie;
    int32_t node, token;
} Entry;

typedef struct {
    Entry *entries;
    int64_t count, room;
} Heap;

/* Places in ``sorted``, the last excluded. */
typedef struct {
    int32_t first, last;
} Span;

typedef struct {
    const Vocabulary *vocabulary;
    Wanted wanted;
    uint8_t *prefix;    /* a join mark, and the prefix behind it */
    Node *nodes;
    int64_t num_nodes, node_room;
    Heap heap, open;    /* ``open``: shorter than the prefix, not yet known to begin with it */
    Entry batch[BATCH]; /* to be read */
    int count, read;
    Entry asked;        /* a finished word of which is asked whether it counts */
    int asking;
    int gave_up, taken; /* words looked at since */
    int64_t ties, expansions;
    double floor;
    double prefix_log_prob, finished_log_prob; /* a long prefix is beyond what floats can tell from 0 */
    double *best;       /* (num_best): the highest log-probabilities found, one for each text */
    int64_t num_best, best_room;
    double *word_log_probs;
    int32_t *word_tokens; /* -1: of a word that was asked for */
    int64_t num_words, word_log_prob_room, word_token_room;
    int32_t *begun;       /* (num_begun): tokens that lead on to the prefix, of the node at hand */
    int64_t num_begun, begun_room;
} Search;

static void *resized(void *memory, size_t bytes) {
    memory = realloc(memory, bytes ? bytes : 1);
    if (!memory) {
        fputs("nextword: out of memory\n", stderr);
        abort();
    }
    return memory;
}

/* Make room for one more. */
static void *grown(void *memory, int64_t count, int64_t *room, size_t size) {
    if (count < *room) return memory;
    *room = *room ? 2 * *room : 16;
    return resized(memory, (size_t)*room * size);
}

/* Heaps as Python's heapq has them: what is open is summed up in their order. */

static int sooner(const Entry *a, const Entry *b) {
    return a->cost < b->cost || (a->cost == b->cost && a->tie < b->tie);
}

static void rise(Heap *heap, int64_t at) {
    Entry entry = heap->entries[at];
    while (at > 0 && sooner(&entry, &heap->entries[(at - 1) / 2])) {
        heap->entries[at] = heap->entries[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->entries[at] = entry;
}

static void push(Search *s, Heap *heap, double log_prob, int32_t node, int32_t token) {
    heap->entries = grown(heap->entries, heap->count, &heap->room, sizeof(Entry));
    heap->entries[heap->count] = (Entry){-log_prob, s->ties++, node, token};
    rise(heap, heap->count++);
}

static Entry pop(Heap *heap) {
    Entry first = heap->entries[0], last = heap->entries[--heap->count];
    int64_t at = 0;
    for (int64_t below = 1; below < heap->count; below = 2 * at + 1) {
        const Entry *two = heap->entries + below;
        if (below + 1 < heap->count && !sooner(two, two + 1)) below++;
        heap->entries[at] = heap->entries[below];
        at = below;
    }
    heap->entries[at] = last;
    rise(heap, at);
    return first;
}

/* Children. */

static int size_of(const Vocabulary *v, int32_t token) {
    return v->offsets[token + 1] - v->offsets[token];
}

/* The first place in a span where the byte at ``at`` is ``least`` or more; all agree before it. */
static int32_t place_of(const Vocabulary *v, Span span, int at, int least) {
    while (span.first < span.last) {
        int32_t middle = span.first + (span.last - span.first) / 2, token = v->sorted[middle];
        int byte = at < size_of(v, token) ? v->pieces[v->offsets[token] + at] : -1;
        if (byte < least)
            span.first = middle + 1;
        else
            span.last = middle;
    }
    return span.first;
}

/* What byte pair encoding never writes behind a token gets no flags; see Merges.never_follow. */
static void find_flags_behind(const Vocabulary *v, int32_t token, uint8_t *restrict flags) {
    const int32_t *restrict within = v->within, *restrict begun = v->begun, *restrict until = v->until;
    memcpy(flags, v->flags, (size_t)v->size);
    for (int32_t end = ENDLESS; token >= 0 && v->last[token] != UNCLEAR;) {
        for (int32_t i = v->behind[token]; i < v->behind[token + 1]; i++) {
            int32_t rank = v->ranks[i], partner = v->partners[i];
            if (rank >= end) continue;
            for (int32_t j = within[partner]; j < within[partner + 1]; j++)
                if (until[j] >= rank) flags[begun[j]] = 0;
        }
        end = v->rank[token];
        token = v->last[token];
    }
}

/* Of what may stand behind a node, until those of another are asked for; a word's first token may
 * follow any. */
static const uint8_t *flags_of(const Search *s, const Node *node) {
    const Vocabulary *v = s->vocabulary;
    if (!node->length || v->last[node->token] == UNCLEAR) return v->flags;
    int32_t place = node->token % v->num_known;
    uint8_t *flags = v->known_flags + (size_t)place * (size_t)v->size;
    if (v->known[place] != node->token) {
        find_flags_behind(v, node->token, flags);
        v->known[place] = node->token;
    }
    return flags;
}

/* The pieces that begin with ``rest``; those that lead on to it are added to ``begun``. */
static Span fitting(Search *s, const uint8_t *rest, int size) {
    const Vocabulary *v = s->vocabulary;
    Span span = {0, v->num_sorted};
    for (int at = 0; at < size && span.first < span.last; at++) {
        span.first = place_of(v, span, at, rest[at]);
        span.last = place_of(v, span, at, rest[at] + 1);
        if (at + 1 == size) break;
        for (int32_t i = span.first; i < span.last && size_of(v, v->sorted[i]) == at + 1; i++) {
            if (v->flags[v->sorted[i]] & WORD_END) continue;
            s->begun = grown(s->begun, s->num_begun, &s->begun_room, sizeof(int32_t));
            s->begun[s->num_begun++] = v->sorted[i];
        }
    }
    return span;
}

/* Bytes of the prefix that are still to come behind a node. */
static int rest_of(const Search *s, const Node *node) {
    int left = s->wanted.prefix_size - (node->length - node->joined);
    return node->words || left < 0 ? 0 : left;
}

/* The pieces that cover what is left of the prefix, and behind a join mark; see `fitting`. */
static int find_fitting(Search *s, const Node *node, Span *spans) {
    int rest = rest_of(s, node);
    const uint8_t *prefix = s->prefix + 1;
    s->num_begun = 0;
    spans[0] = fitting(s, prefix + s->wanted.prefix_size - rest, rest);
    if (node->length || s->wanted.words_only || *prefix == JOIN) return 1;
    spans[1] = fitting(s, s->prefix, rest + 1);
    return 2;
}

static int allowed_behind(const Search *s, const Node *node) {
    if (node->length) return PIECE;
    return s->wanted.words_only ? WORD_START : UNIT_START;
}

static int likelier(const void *a, const void *b) {
    const Child *one = a, *other = b;
    if (one->log_prob != other->log_prob) return one->log_prob > other->log_prob ? -1 : 1;
    return one->place < other->place ? -1 : one->place > other->place;
}

/* Find all children of a node that only knows its first. */
static void find_all(Search *s, Node *node) {
    const Vocabulary *v = s->vocabulary;
    const uint8_t *flags = flags_of(s, node);
    int allowed = allowed_behind(s, node);
    int32_t found = 0;
    if (rest_of(s, node)) {
        Span spans[2];
        int count = find_fitting(s, node, spans), most = 0;
        for (int i = 0; i < count; i++) most += spans[i].last - spans[i].first;
        node->children = resized(node->children, (size_t)most * sizeof(Child));
        for (int i = 0; i < count; i++)
            for (int32_t at = spans[i].first; at < spans[i].last; at++) {
                int32_t token = v->sorted[at];
                if (!(flags[token] & allowed)) continue;
                double log_prob = (double)node->given[token] + node->log_prob;
                node->children[found] = (Child){log_prob, token, found};
                found++;
            }
    } else {
        /* A little lower than needed, for these are floats. */
        double floor = s->floor - node->log_prob - 1e-5;
        if (floor < -FLT_MAX) floor = -FLT_MAX;
        int32_t most = 0;
        for (int32_t i = 0; i < v->size; i++)
            most += (double)node->given[i] >= floor && (flags[i] & allowed);
        node->children = resized(node->children, (size_t)most * sizeof(Child));
        for (int32_t i = 0; i < v->size; i++)
            if ((double)node->given[i] >= floor && (flags[i] & allowed)) {
                double log_prob = (double)node->given[i] + node->log_prob;
                node->children[found] = (Child){log_prob, i, found};
                found++;
            }
    }
    qsort(node->children, (size_t)found, sizeof(Child), likelier);
    node->found = found;
    node->more = 0;
}

static void push_next_child(Search *s, int32_t index) {
    Node *node = s->nodes + index;
    if (node->taken == node->found && node->more) find_all(s, node);
    if (node->taken >= node->found) return;
    const Child *child = node->children + node->taken++;
    push(s, &s->heap, child->log_prob, index, child->token);
}

/* Below this log-probability nothing enters the list any more. */
static double enough(const Search *s) {
    if (s->num_best < s->wanted.limit) return -INFINITY;
    return s->best[s->num_best - 1] - s->wanted.slack;
}

static void raise_floor(Search *s, double log_prob) {
    double floor = log_prob - s->wanted.slack;
    if (floor > s->floor) s->floor = floor;
}

/* The logarithm of a sum of probabilities: one, and a share of what has the log-probability
 * ``before``. */
static double added(double log_prob, double before, double share) {
    double other = before + log(share), more = log_prob > other ? log_prob : other;
    if (more == -INFINITY) return more;
    return more + log1p(exp((log_prob > other ? other : log_prob) - more));
}

/* Children that cover what is left of the prefix, and the mass of all of these that are ever
 * written there, given the node. */
static void look_up(Search *s, const Node *node, Children *c, double *finished) {
    const Vocabulary *v = s->vocabulary;
    Span spans[2];
    int count = find_fitting(s, node, spans);
    double mass = 0;
    *finished = 0;
    for (int i = 0; i < count; i++)
        for (int32_t at = spans[i].first; at < spans[i].last; at++) {
            int32_t token = v->sorted[at];
            if (at + AHEAD < spans[i].last) __builtin_prefetch(c->given + v->sorted[at + AHEAD]);
            if (!(c->flags[token] & PIECE)) continue;
            double log_prob = (double)c->given[token] + c->before;
            double probability = exp((double)c->given[token]);
            mass += probability;
            if (c->flags[token] & FINISHES) *finished += probability;
            if (c->flags[token] & c->allowed) insert_child(c, token, log_prob);
        }
    s->prefix_log_prob = added(s->prefix_log_prob, node->log_prob, mass);
    int64_t kept = 0;
    for (int64_t i = 0; i < s->num_begun; i++)
        if (c->flags[s->begun[i]]) s->begun[kept++] = s->begun[i];
    s->num_begun = kept;
}

/* Let the words among the root's children raise the floor. */
static void know(Search *s, const Children *c) {
    int words = 0;
    for (int64_t i = 0; i < c->found && s->wanted.enough; i++)
        if ((s->vocabulary->flags[c->ids[i]] & WORD_END) && ++words == s->wanted.enough)
            raise_floor(s, c->log_probs[i]);
}

/* The node one token behind another. */
static Node node_behind(const Search *s, const Node *parent, int32_t token, double log_prob) {
    const Vocabulary *v = s->vocabulary;
    int ended = (v->flags[token] & WORD_END) != 0;
    Node node = {.log_prob = log_prob, .token = token, .words = parent->words + ended};
    if (ended) return node;
    node.length = parent->length + size_of(v, token);
    node.joined = parent->joined;
    if (!parent->length && node.length)
        node.joined = v->pieces[v->offsets[token]] == JOIN &&
                      !(s->wanted.prefix_size && s->prefix[1] == JOIN);
    return node;
}

static Node next_node(Search *s) {
    if (!s->num_nodes) return (Node){.token = -1};
    const Entry *entry = s->batch + s->read++;
    return node_behind(s, s->nodes + entry->node, entry->token, -entry->cost);
}

/* Whether anything that fits the prefix is ever written behind a piece that is shorter. */
static int leads_on(Search *s, const Node *parent, int32_t token) {
    const Vocabulary *v = s->vocabulary;
    Node node = node_behind(s, parent, token, 0);
    int rest = rest_of(s, &node), found = 0;
    int64_t before = s->num_begun;
    const uint8_t *flags = flags_of(s, &node);
    Span span = fitting(s, s->prefix + 1 + s->wanted.prefix_size - rest, rest);
    for (int32_t at = span.first; at < span.last && !found; at++) found = flags[v->sorted[at]];
    for (int64_t i = before; i < s->num_begun && !found; i++) found = flags[s->begun[i]];
    s->num_begun = before;
    return found;
}

/* Expand the root, then what `nextword_search_next` gave, in its order.
 * Returns whether anything may follow (1), and whether ``given`` must be kept (2). */
EXPORT int nextword_search_expand(Search *s, const float *given) {
    const Vocabulary *v = s->vocabulary;
    int32_t ids[ROOM], index = (int32_t)s->num_nodes;
    double log_probs[ROOM], finished;
    Node node = next_node(s);
    node.given = given;
    raise_floor(s, enough(s));
    Children c = {
        .given = given, .flags = flags_of(s, &node), .vocab_size = v->size,
        .allowed = allowed_behind(s, &node), .room = ROOM, .before = node.log_prob,
        .slack = s->wanted.slack, .floor = s->floor, .ids = ids, .log_probs = log_probs,
    };
    if (rest_of(s, &node)) {
        look_up(s, &node, &c, &finished);
        if (!index) know(s, &c);
    } else {
        s->num_begun = 0;
        if (!index && s->wanted.enough <= MOST_HIGHEST) c.enough = s->wanted.enough;
        list_children(&c);
        s->floor = c.floor;
        finished = index || isnan(s->wanted.root_mass) ? c.finished : s->wanted.root_mass;
        if (!node.length) {
            double ended = exp((double)given[v->eos]);
            s->finished_log_prob = added(s->finished_log_prob, node.log_prob, ended);
        }
    }
    if (node.words + 1 == s->wanted.num_words)
        s->finished_log_prob = added(s->finished_log_prob, node.log_prob, finished);
    node.found = (int32_t)c.found;
    node.more = c.found == ROOM;
    if (c.found) node.children = resized(NULL, (size_t)c.found * sizeof(Child));
    for (int32_t i = 0; i < node.found; i++) node.children[i] = (Child){log_probs[i], ids[i], i};
    s->nodes = grown(s->nodes, s->num_nodes, &s->node_room, sizeof(Node));
    s->nodes[s->num_nodes++] = node;
    push_next_child(s, index);
    int open = 0;
    for (int64_t i = 0; i < s->num_begun; i++) {
        int32_t token = s->begun[i];
        if (!leads_on(s, &node, token)) continue;
        push(s, &s->open, node.log_prob + (double)given[token], index, token);
        open = 1;
    }
    return (c.found || open) | node.more << 1;
}

/* Choosing what is read next. */

static double open_log_prob(const Search *s) {
    if (!s->open.count) return -INFINITY;
    double least = s->open.entries[0].cost, mass = 0;
    for (int64_t i = 0; i < s->open.count; i++) mass += exp(least - s->open.entries[i].cost);
    return log(mass) - least;
}

static Heap *likeliest(Search *s) {
    if (!s->heap.count) return s->open.count ? &s->open : NULL;
    if (!s->open.count) return &s->heap;
    return sooner(s->open.entries, s->heap.entries) ? &s->open : &s->heap;
}

static void finish(Search *s, const Entry *entry, int32_t token, int verdict) {
    double log_prob = -entry->cost;
    int64_t i = s->num_words;
    s->word_log_probs = grown(s->word_log_probs, i, &s->word_log_prob_room, sizeof(double));
    s->word_tokens = grown(s->word_tokens, i, &s->word_token_room, sizeof(int32_t));
    s->word_log_probs[i] = log_prob;
    s->word_tokens[i] = token;
    s->num_words++;
    if (verdict == KNOWN) return;
    if (s->num_best < s->wanted.limit) {
        s->best = grown(s->best, s->num_best, &s->best_room, sizeof(double));
        i = s->num_best++;
    } else {
        i = s->num_best - 1;
        if (log_prob <= s->best[i]) return;
    }
    for (; i > 0 && s->best[i - 1] < log_prob; i--) s->best[i] = s->best[i - 1];
    s->best[i] = log_prob;
}

/* What a word that counts leads to: a place in the list, or the next word. */
static void settle(Search *s, const Entry *entry, int32_t token, int verdict) {
    if (verdict == NO) return;
    if (s->nodes[entry->node].words + 1 < s->wanted.num_words)
        s->batch[s->count++] = *entry;
    else
        finish(s, entry, token, verdict);
}

/* Deal with a finished word. Returns whether it has to be asked for. */
static int must_ask(Search *s, const Entry *entry) {
    const Node *node = s->nodes + entry->node;
    int phrase = s->wanted.num_words > 1 && node->words + 1 == s->wanted.num_words;
    int plain = !node->length && s->vocabulary->flags[entry->token] & PLAIN;
    if (plain && !phrase && !s->wanted.ask) {
        settle(s, entry, entry->token, NEW);
        return 0;
    }
    s->asked = *entry;
    return s->asking = 1;
}

static int ends(const Search *s, const Entry *entry) {
    return (s->vocabulary->flags[entry->token] & WORD_END) != 0;
}

/* Fill the batch. Returns whether a word has to be asked for first. */
static int gather(Search *s) {
    if (!s->count && s->expansions < s->wanted.most / 8 &&
        open_log_prob(s) > PREFIX_TOLERANCE + s->prefix_log_prob) {
        while (s->open.count && s->count < BATCH) s->batch[s->count++] = pop(&s->open);
        return 0;
    }
    while (s->count < BATCH) {
        Heap *source = likeliest(s);
        if (!source || -source->entries[0].cost < enough(s)) return 0;
        Entry entry = pop(source);
        if (source == &s->heap) push_next_child(s, entry.node);
        if (!ends(s, &entry))
            s->batch[s->count++] = entry;
        else if (must_ask(s, &entry))
            return 1;
    }
    return 0;
}

/* Finish the most probable of the words that wait behind unfinished ones. Returns as `gather`. */
static int take_finished(Search *s) {
    while (s->taken < MOST_TAKEN && s->heap.count && !(-s->heap.entries[0].cost < enough(s))) {
        Entry entry = pop(&s->heap);
        s->taken++;
        push_next_child(s, entry.node);
        int last = s->nodes[entry.node].words + 1 == s->wanted.num_words;
        if (ends(s, &entry) && last && must_ask(s, &entry)) return 1;
    }
    return 0;
}

/* Go on until something has to be read, or asked.
 *
 * ``verdict``: the answer to what was asked. ``told``: the nodes and tokens to read; the node and
 * token of a finished word that is asked for; or how many words were found, and whether the search
 * gave up. */
EXPORT int nextword_search_next(Search *s, int verdict, int32_t *told) {
    if (s->read) s->read = s->count = 0;
    if (s->asking) settle(s, &s->asked, -1, verdict);
    s->asking = 0;
    if (!s->gave_up && !gather(s)) {
        if (s->expansions + s->count <= s->wanted.most) {
            s->expansions += s->count;
            for (int i = 0; i < s->count; i++) {
                told[2 * i] = s->batch[i].node;
                told[2 * i + 1] = s->batch[i].token;
            }
            if (s->count) return s->count;
        } else {
            s->gave_up = 1;
        }
    }
    if (!s->asking && s->gave_up) take_finished(s);
    if (s->asking) {
        told[0] = s->asked.node;
        told[1] = s->asked.token;
        return ASKS;
    }
    told[0] = (int32_t)s->num_words;
    told[1] = s->gave_up;
    return DONE;
}

/* Copy the words found, in the order in which they were; ``masses``: the log-probabilities of the
 * prefix, of what finished, and of what is still open. */
EXPORT void nextword_search_found(
    const Search *s, int32_t *tokens, double *log_probs, double *masses
) {
    if (s->num_words) {
        memcpy(tokens, s->word_tokens, (size_t)s->num_words * sizeof(int32_t));
        memcpy(log_probs, s->word_log_probs, (size_t)s->num_words * sizeof(double));
    }
    masses[0] = s->prefix_log_prob;
    masses[1] = s->finished_log_prob;
    masses[2] = open_log_prob(s);
}

/* Begin a search in a vocabulary that outlives it; what is ``wanted`` is copied. */
EXPORT Search *nextword_search_new(
    const Vocabulary *vocabulary, const Wanted *wanted, const uint8_t *prefix
) {
    Search *s = resized(NULL, sizeof *s);
    *s = (Search){.vocabulary = vocabulary, .wanted = *wanted, .floor = wanted->floor};
    s->prefix_log_prob = wanted->prefix_size ? -INFINITY : 0;
    s->finished_log_prob = -INFINITY;
    s->prefix = resized(NULL, (size_t)wanted->prefix_size + 1);
    s->prefix[0] = JOIN;
    memcpy(s->prefix + 1, prefix, (size_t)wanted->prefix_size);
    return s;
}

EXPORT void nextword_search_free(Search *s) {
    for (int64_t i = 0; i < s->num_nodes; i++) free(s->nodes[i].children);
    free(s->nodes);
    free(s->heap.entries);
    free(s->open.entries);
    free(s->best);
    free(s->word_log_probs);
    free(s->word_tokens);
    free(s->begun);
    free(s->prefix);
    free(s);
}
