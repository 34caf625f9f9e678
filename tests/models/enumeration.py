"""Every outcome of a next word, one by one: the judge of the search.

The models here are told what to say (`ToldNetwork`): each history has a random distribution of its
own over a dozen live tokens, all others are impossible, and a word that has grown to the most
pieces must end. So the list of outcomes is complete, non-canonical spellings, broken UTF-8 and
sentence ends within a word included.
"""

from collections import defaultdict
from functools import cache
from itertools import pairwise

import numpy as np

from models.tokenizers import train_tokenizer
from tests.models.helpers import told_model

MOST_PIECES = 4
LINES = ["ab abc ab, (cab) ab-ab don't ab' 'abc", "ab, ab, (ab) abc abc cab"] * 3


@cache
def letters():
    """Return a subword tokenizer of a few letters and marks."""
    return train_tokenizer("subword", LINES, vocab_size=275)


def live_tokens(tokenizer):
    """Return whole words, beginnings, marks in all joins, half a character, bare word ends."""
    wanted = [b"a", b"b", b"ab", b"c", b"\x01", b",", b"'", b"\xc3", b"\xa9", b""]
    pieces = {b"abc", b"cab", b"ab", b"b", b"c", b",", b"\x01,", b"", b"\x01", b"\xa9", b"t"}
    ends = tokenizer.is_word_end
    return [
        i
        for i, piece in enumerate(tokenizer.pieces)
        if i == tokenizer.eos_id or (piece in pieces if ends[i] else piece in wanted)
    ]


def told(tokenizer, *, seed=0, scale=1.5, live=None, most_pieces=MOST_PIECES, root=None):
    """Return a model with a random distribution for each history, finite in its words.

    Args:
        tokenizer: Of subwords.
        seed: Another seed, other distributions.
        scale: Standard deviation of the logits.
        live: Ids of possible tokens.
        most_pieces: After one less unfinished pieces only tokens that end the word are possible.
        root: Logits added at the start of a text, by token id.
    """
    live = np.array(live if live is not None else live_tokens(tokenizer))
    ends = tokenizer.is_word_end[live]

    @cache
    def logits(history):
        row = np.full(tokenizer.vocab_size, -np.inf)
        row[live] = np.random.default_rng((seed, *history)).normal(0, scale, len(live))
        recent = history[-(most_pieces - 1) :]
        closed = {tokenizer.bos_id, tokenizer.eos_id}
        if len(recent) == most_pieces - 1 and not any(
            i in closed or tokenizer.is_word_end[i] for i in recent
        ):
            row[live[~ends]] = -np.inf
        if len(history) == 1:
            for token, added in (root or {}).items():
                row[token] += added
        return row

    return told_model(tokenizer, logits)


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


@cache
def written_together(tokenizer, one, other):
    """Return whether byte pair encoding writes two tokens for the text of both."""
    backend = tokenizer._backend
    text = backend.id_to_token(one) + backend.id_to_token(other)
    return other == tokenizer.eos_id or [t.id for t in backend.model.tokenize(text)] == [one, other]


def written(tokenizer, ids):
    """Return whether all neighbours within a word are ones that are written side by side."""
    return all(
        tokenizer.is_word_end[one] or written_together(tokenizer, one, other)
        for one, other in pairwise(ids)
    )


def outcomes(model, history, *, temperature=1.0):
    """Return the log-probability of every finished token sequence behind ``history``."""
    tokenizer, found = model.tokenizer, {}

    def grow(ids, log_prob):
        row = log_softmax(model.network.tell((*history, *ids)) / temperature)
        for token in np.flatnonzero(row > -np.inf):
            extended = (*ids, int(token)), log_prob + row[token]
            if tokenizer.is_word_end[token] or token == tokenizer.eos_id:
                found[extended[0]] = extended[1]
            else:
                grow(*extended)

    grow((), 0.0)
    return found


def text_of(tokenizer, ids):
    """Return the bytes of a sequence, EOS being none."""
    return b"".join(tokenizer.pieces[i] for i in ids)


@cache
def word_of(tokenizer, ids):
    """Return how a sequence reads, if it is one of the spellings of that; else nothing."""
    if ids[-1] == tokenizer.eos_id:
        return ""
    surface = tokenizer.surface(text_of(tokenizer, ids))
    return surface if surface and [*ids] in tokenizer.spellings(surface) else ""


def words(tokenizer, found, *, words_only=True):
    """Return the probability of each word that may be suggested, summed over its spellings."""
    total = defaultdict(float)
    for ids, log_prob in found.items():
        word = word_of(tokenizer, ids)
        if any(map(str.isalnum, word)) or (word and not words_only):
            total[word] += np.exp(log_prob)
    return sorted(total.items(), key=lambda item: -item[1])
