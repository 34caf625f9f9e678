"""Arbitrary text through tokenizers and the search for the next word."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRequestError
from models.forward import run
from models.next_word import next_word
from tests.models.helpers import bounded, model_of, tokenizer_of

# All of Unicode that is text, and what tokenizers give a meaning to more often than chance would.
ODD = st.sampled_from(
    [
        *"\u0120\u2581\x00\u0301\u200d\ufeff\u2028\u0130\ufb01 .,'\n",
        *("##", "<unk>", "</s>", "<s>", "\U0001f469\u200d\U0001f467", "don't", "@-@"),
    ]
)
TEXT = st.lists(ODD | st.text(max_size=8), max_size=12).map("".join)
WORDS = ("subword", "word")


@pytest.mark.parametrize("kind", [*WORDS, "wikitext"])
def test_any_text_is_encoded(kind):
    tokenizer = tokenizer_of(kind)

    @given(TEXT)
    @bounded(150)
    def check(text: str) -> None:
        encoding = tokenizer.encode(text)
        assert all(0 <= token < tokenizer.num_ids for token in encoding.token_ids)
        # Words are pieces of the text, in order, and leave out nothing but white space.
        ends = [0, *(word.end for word in encoding.words)]
        starts = [*(word.start for word in encoding.words), len(text)]
        gaps = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        assert all(end <= start for end, start in zip(ends, starts, strict=True))
        if kind != "wikitext":
            assert "".join(gaps).strip() == ""
        assert tokenizer.encode(text).token_ids == encoding.token_ids
        assert isinstance(tokenizer.decode(encoding.token_ids), str)

    check()


@pytest.mark.parametrize("kind", WORDS)
def test_any_token_ids_are_decoded(kind):
    tokenizer = tokenizer_of(kind)

    @given(st.lists(st.integers(0, tokenizer.num_ids - 1), max_size=40))
    @bounded(150)
    def check(token_ids: list[int]) -> None:
        text = tokenizer.decode(token_ids)
        text.encode()  # no lone surrogate
        assert tokenizer.decode(token_ids) == text

    check()


@pytest.mark.parametrize("kind", WORDS)
def test_the_search_answers_or_refuses_with_a_field(kind):
    model = model_of("lstm", kind)
    refused: list[str] = []

    @given(
        text=TEXT,
        prefix=TEXT,
        candidates=st.lists(TEXT, max_size=3),
        exclude=st.lists(TEXT, max_size=3),
        top_k=st.integers(1, 8),
        num_words=st.integers(1, 2),
        words_only=st.booleans(),
        temperature=st.floats(0.01, 100),
    )
    @bounded(40)
    def check(text: str, candidates: list[str], exclude: list[str], **options: object) -> None:
        try:
            found = run(
                next_word(
                    model, text, candidates=candidates, exclude=frozenset(exclude), **options
                ),
                model,
            )
        except InvalidRequestError as error:
            refused.append(error.field)
            return
        probabilities = [p.probability for p in found.predictions]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 <= p <= 1 and math.isfinite(p) for p in probabilities)
        assert sum(probabilities) <= 1 + 1e-4
        assert len(probabilities) <= options["top_k"]
        assert not {p.word for p in found.predictions} & set(exclude)
        if options["num_words"] == 1:
            assert len({p.word for p in found.predictions}) == len(probabilities)

    check()
    assert set(refused) <= {"prefix", "candidates", "words_only"}
