"""Long words and long texts take time in proportion."""

import time

import pytest

from tests.models.helpers import tokenizer_of

LENGTH = 100_000  # characters


@pytest.mark.parametrize(
    "unit",
    ["a", "Hello, (old) friend! don't ", "a,", "漢", "\u0301", "a'", "\x01", "a    "],
    ids=["one word", "prose", "joins", "ideographs", "accents", "apostrophes", "escapes", "spaces"],
)
@pytest.mark.parametrize("kind", ["subword", "word"])
def test_long_texts_stay_fast_and_whole(kind, unit):
    """Ten times the time of a tenth is a straight line; a square would be a hundred times."""
    tokenizer, text = tokenizer_of(kind), (unit * LENGTH)[:LENGTH].strip()

    def seconds(characters):
        start = time.perf_counter()
        tokenizer.encode(text[:characters])
        return time.perf_counter() - start

    short = min(seconds(LENGTH // 10) for _ in range(3))
    start = time.perf_counter()
    encoding = tokenizer.encode(text)
    whole = time.perf_counter() - start
    assert whole < 40 * short + 0.2
    if kind == "subword":
        assert tokenizer.decode(encoding.token_ids) == " ".join(text.split())
