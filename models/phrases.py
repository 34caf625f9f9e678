"""Phrases of several words, where there are too many to prove which are the most probable."""

import heapq
from collections.abc import Callable

import numpy as np

from models.forward import Pass, Program, read, side_by_side
from models.frontier import FoundWord
from models.search import Search
from models.tokenizers import Tokenizer

_WIDTH = 16  # phrases kept of each length, and words tried behind each
_MOST_EXPANSIONS = 64  # of a search for one of these words


def probable_phrases(
    tokenizer: Tokenizer,
    root: Pass,
    *,
    prefix: bytes,
    num_words: int,
    temper: Callable[[np.ndarray], np.ndarray] | None,
    accept: Callable[[str], bool] | None,
) -> Program[list[FoundWord]]:
    """Find probable phrases, word by word: a beam whose steps are searches for one word.

    Args:
        tokenizer: Of the model that is asked.
        root: The pass behind what was written so far.
        prefix: Bytes that the first word begins with.
        num_words: Words of a phrase.
        temper: Applied to natural log-probabilities (V,) before they are used; None for
            nothing.
        accept: Whether a word counts; None for all.

    Returns:
        Most probable first, 256 at most; the true most probable phrases may be missing.
    """

    def longer(phrase: FoundWord) -> Program[list[FoundWord]]:
        here = root
        if phrase.token_ids:
            here = yield from read(phrase.token_ids, root.state)
        begun = prefix if not phrase.token_ids else b""
        found = yield from Search(
            tokenizer,
            limit=_WIDTH,
            prefix=begun,
            temper=temper,
            accept=accept,
            most_expansions=_MOST_EXPANSIONS,
        ).run(here)
        phrases = []
        for word in found.words[:_WIDTH]:
            token_ids = (*phrase.token_ids, *word.token_ids)
            text, log_prob = tokenizer.decode(token_ids), phrase.log_prob + word.log_prob
            phrases.append(FoundWord(text, log_prob, token_ids))
        return phrases

    phrases = [FoundWord("", 0.0, ())]
    for _ in range(num_words):
        beam = heapq.nlargest(_WIDTH, phrases, key=lambda phrase: phrase.log_prob)
        found = yield from side_by_side([longer(phrase) for phrase in beam])
        phrases = [phrase for part in found for phrase in part]
    return sorted(phrases, key=lambda phrase: -phrase.log_prob)
