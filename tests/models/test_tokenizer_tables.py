"""What the next-word search looks up: tables of tokens, spellings, and pieces by their bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.helpers import bounded, tokenizer_of

EVERY = ("subword", "word", "wikitext")
every_kind = pytest.mark.parametrize("kind", EVERY)

UNIT_CHARACTERS = st.one_of(
    st.sampled_from("ab'’_.,(\"-\x010\u0301\u200dé漢😀"), st.characters(exclude_categories=["Cs"])
)


def unit_of(tokenizer, text):
    """Return the first unit of ``text``, or None where it has none."""
    words = tokenizer.encode(text).words
    return text[words[0].start : words[0].end] if words else None


@pytest.mark.parametrize("kind", ["subword", "word"])
@given(text=st.text(UNIT_CHARACTERS, min_size=1, max_size=12))
@bounded(200)
def test_spellings_are_distinct_and_each_reads_as_the_word(kind, text):
    tokenizer = tokenizer_of(kind)
    unit = unit_of(tokenizer, text)
    if unit is None:
        return
    spellings = tokenizer.spellings(unit)
    assert len({*map(tuple, spellings)}) == len(spellings) <= 4
    if kind == "subword":
        assert spellings[0] == tokenizer.encode(unit).token_ids
        assert len(spellings) == 1 or not any(map(str.isalnum, unit))
    for ids in spellings:
        assert tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == unit
        assert tokenizer.surface(b"".join(tokenizer.pieces[i] for i in ids)) == unit
        assert [bool(tokenizer.is_word_end[i]) for i in ids] == [False] * (len(ids) - 1) + [True]


@pytest.mark.parametrize("mark", [",", "(", "-", "😀", "'"])
def test_a_mark_has_a_spelling_for_each_way_of_joining(mark):
    tokenizer = tokenizer_of("subword")

    def in_text(left, right):
        text = f"({left}{mark}{right}a"
        encoding = tokenizer.encode(text)
        span = next(w for w in encoding.words if w.start == 1 + len(left))
        assert text[span.start : span.end] == mark
        return tuple(encoding.token_ids[span.first : span.last])

    seen = {in_text(left, right) for left in ("", " ") for right in ("", " ")}
    assert len(seen) == 4
    assert seen == {*map(tuple, tokenizer.spellings(mark))}


def test_several_words_are_one_sequence():
    tokenizer = tokenizer_of("subword")
    assert tokenizer.spellings("New York") == [tokenizer.encode("New York").token_ids]
    assert tokenizer.spellings("dogs,") == [tokenizer.encode("dogs,").token_ids]
    assert tokenizer.spellings("") == []


def test_a_word_outside_the_vocabulary_has_no_spelling():
    assert tokenizer_of("word").spellings("zebra") == []
    assert tokenizer_of("word").spellings("the zebra") == []
    assert tokenizer_of("word").spellings("<unk>") == []
    assert len(tokenizer_of("word").spellings("the")) == 1


@every_kind
def test_suggestible_tokens_are_whole_words_as_they_are_spelled(kind):
    tokenizer = tokenizer_of(kind)
    for i, (suggestible, single) in enumerate(
        zip(tokenizer.suggestible, tokenizer.single_words, strict=True)
    ):
        surface = tokenizer.surface(tokenizer.pieces[i]) if tokenizer.is_word_end[i] else ""
        special = i in (tokenizer.eos_id, tokenizer.unk_id)
        expected = bool(surface) and not special and [i] in tokenizer.spellings(surface)
        assert suggestible == expected
        assert single == (expected and any(map(str.isalnum, surface)))
    assert tokenizer.single_words.sum() > 3
    assert tokenizer.suggestible.sum() > tokenizer.single_words.sum()


def test_opens_word_misses_no_piece_that_begins_a_word():
    tokenizer = tokenizer_of("subword")
    opening = {
        tokenizer.encode(word).token_ids[0]
        for word in [*map(chr, range(0x21, 0x3000)), *"abc", "don't", "über", "\x01b", "_x", "9a"]
        for tail in ("", "x", "zq", "1")
        if len(tokenizer.encode(word + tail).words) == 1 and any(map(str.isalnum, word + tail))
        for word in [word + tail]
        if len(tokenizer.encode(word).token_ids) > 1
    }
    assert len(opening) > 20
    assert tokenizer.opens_word[[*opening]].all()
    assert not tokenizer.opens_word[tokenizer.eos_id]
    assert not (tokenizer.opens_word & tokenizer.is_word_end).any()
    comma = tokenizer.encode(",x").token_ids[0]
    assert not tokenizer.opens_word[comma]


BYTES = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.sampled_from(["th", "cat", "don'", "é", "\U0010ffff", "\x01", "\x01,", "e"]).map(str.encode),
)


@every_kind
@given(rest=BYTES)
@bounded(150)
def test_completions_and_beginnings_are_those_of_a_plain_search(kind, rest):
    tokenizer = tokenizer_of(kind)
    # Nobody types ``<unk>`` or the end of a sentence, and of ``@-@`` what is between.
    joined = {b"@-@": b"-", b"@,@": b",", b"@.@": b"."} if kind == "wikitext" else {}
    nobody = {tokenizer.unk_id, tokenizer.eos_id}
    typed = {i: joined.get(p, p) for i, p in enumerate(tokenizer.pieces) if i not in nobody}
    completions = [i for i, p in typed.items() if p and p.startswith(rest)]
    beginnings = [
        i
        for i, p in enumerate(tokenizer.pieces)
        if p and rest.startswith(p) and p != rest and not tokenizer.is_word_end[i]
    ]
    assert sorted(tokenizer.completions(rest).tolist()) == completions
    assert sorted(tokenizer.beginnings(rest)) == beginnings


def test_every_single_byte_is_found():
    tokenizer = tokenizer_of("subword")
    for byte in range(256):
        found = tokenizer.completions(bytes([byte]))
        if byte != 0x20:  # a space ends a word, its bytes are none
            assert bytes([byte]) in {tokenizer.pieces[i] for i in found}
    assert np.array_equal(
        np.sort(tokenizer.alphabetical[1]), [i for i, piece in enumerate(tokenizer.pieces) if piece]
    )
