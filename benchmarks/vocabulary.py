"""Made-up words by the ten thousands, and sentences of them, the same wherever they are made."""

import random
from functools import cache
from itertools import accumulate

from benchmarks.sizes import VOCABULARY, WORDS

_SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstvwyz" for vowel in "aeiou"]


@cache
def words(count: int = WORDS) -> list[str]:
    """Return distinct words of three syllables, in a fixed order."""
    base = len(_SYLLABLES)
    shuffled = random.Random(0).sample(range(base**3), VOCABULARY)
    return [
        _SYLLABLES[i % base] + _SYLLABLES[i // base % base] + _SYLLABLES[i // base**2]
        for i in shuffled[:count]
    ]


def sentences(count: int, *, seed: int, fewest: int = 16, most: int = 24) -> list[str]:
    """Return sentences of so many words, as frequent as words of a language are (Zipf)."""
    choose = random.Random(seed)
    known = words()
    weights = _zipf()
    return [
        " ".join(choose.choices(known, cum_weights=weights, k=choose.randint(fewest, most)))
        for _ in range(count)
    ]


@cache
def _zipf() -> list[float]:
    return list(accumulate(1 / (rank + 3) for rank in range(WORDS)))
