"""Long words and long texts are encoded whole."""

import pytest

from tests.models.helpers import tokenizer_of

LENGTH = 100_000  # characters


@pytest.mark.parametrize(
    "unit",
    ["a", "Hello, (old) friend! don't ", "a,", "漢", "\u0301", "a'", "\x01", "a    "],
    ids=["one word", "prose", "joins", "ideographs", "accents", "apostrophes", "escapes", "spaces"],
)
@pytest.mark.parametrize("kind", ["subword", "word"])
def test_long_texts_stay_whole(kind, unit):
    tokenizer, text = tokenizer_of(kind), (unit * LENGTH)[:LENGTH].strip()
    encoding = tokenizer.encode(text)
    assert "".join(text[w.start : w.end] for w in encoding.words) == "".join(text.split())
    if kind == "subword":
        assert tokenizer.decode(encoding.token_ids) == " ".join(text.split())
