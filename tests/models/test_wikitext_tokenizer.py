"""The whitespace-tokenised corpus style: its lines as they are, and natural text in and out."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tokenizers import load_tokenizer, train_tokenizer
from tests.models.helpers import WIKITEXT_LINES, bounded, tokenizer_of

NATURAL = [
    ("The cat, a play-off", "The cat , a play @-@ off"),
    ("1,500 dogs", "1 @,@ 500 dogs"),
    ("It is 3.5 metres (11 ft) long.", "It is 3 @.@ 5 metres ( 11 ft ) long ."),
    ("the dog's friend; he's 20%.", "the dog 's friend ; he 's 20 % ."),
    ('"We know," said the dog', '" We know , " said the dog'),
    ("10-20: a cat", "10 @-@ 20 : a cat"),
]


def tokens_of(tokenizer, ids):
    return ["<eos>" if i == tokenizer.eos_id else tokenizer.pieces[i].decode() for i in ids]


@pytest.mark.parametrize(("natural", "corpus_form"), NATURAL)
def test_natural_text_goes_in_as_the_corpus_writes_it(natural, corpus_form):
    tokenizer = tokenizer_of("wikitext")
    (expected,) = tokenizer.encode_lines([corpus_form])
    assert tokenizer.unk_id not in expected
    assert tokenizer.encode(natural).token_ids == expected


@pytest.mark.parametrize(("natural", "corpus_form"), NATURAL)
def test_natural_text_comes_back_out(natural, corpus_form):
    tokenizer = tokenizer_of("wikitext")
    (ids,) = tokenizer.encode_lines([corpus_form])
    assert tokenizer.decode(ids) == natural
    assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id]) == natural


def test_lines_of_the_corpus_are_read_as_they_are():
    tokenizer = tokenizer_of("wikitext")
    lines = [line.strip() for line in WIKITEXT_LINES]
    for line, ids in zip(lines, tokenizer.encode_lines(lines), strict=True):
        assert tokens_of(tokenizer, ids) == line.split()


def test_every_word_of_the_corpus_is_in_the_vocabulary_once():
    words = {word for line in WIKITEXT_LINES for word in line.split()} | {"<unk>"}
    tokenizer = tokenizer_of("wikitext")
    everything = tokens_of(tokenizer, range(tokenizer.vocab_size))
    assert sorted(everything) == sorted(words | {"<eos>"})
    assert everything.count("<unk>") == everything.count("<eos>") == 1
    assert tokenizer.vocab_size == tokenizer.num_ids == len(words) + 1


def test_a_smaller_vocabulary_keeps_the_most_frequent_words():
    choose = random.Random(0).choices
    lines = [" ".join(choose("abcdefgh", weights=range(8, 0, -1), k=200)) for _ in range(20)]
    tokenizer = train_tokenizer("wikitext", [*lines, "<unk> <unk>"], vocab_size=6)
    assert tokens_of(tokenizer, range(6)) == ["<unk>", *"abcd", "<eos>"]
    assert tokens_of(tokenizer, tokenizer.encode_lines(["a <unk> zebra h"])[0]) == [
        "a", "<unk>", "<unk>", "<unk>",
    ]  # fmt: skip


def test_a_corpus_that_writes_its_line_ends_out():
    tokenizer = train_tokenizer("wikitext", ["a b <eos> c <eos>", "a <unk>"], vocab_size=50)
    assert sorted(tokens_of(tokenizer, range(tokenizer.vocab_size))) == [
        "<eos>", "<unk>", "a", "b", "c",
    ]  # fmt: skip
    (ids,) = tokenizer.encode_lines(["a <eos>"])
    assert ids[-1] == tokenizer.eos_id


def test_a_text_begins_where_a_line_ended():
    tokenizer = tokenizer_of("wikitext")
    assert tokenizer.bos_id == tokenizer.eos_id != 0
    assert tokenizer.encode_context("") == [tokenizer.eos_id]
    assert tokens_of(tokenizer, tokenizer.encode_context("The cat\nIt is\n")) == [
        "<eos>", "The", "cat", "<eos>", "It", "is", "<eos>",
    ]  # fmt: skip


def test_unk_written_in_a_text_is_that_token_and_an_eos_is_not():
    tokenizer = tokenizer_of("wikitext")
    assert tokens_of(tokenizer, tokenizer.encode("The <unk> is").token_ids) == [
        "The", "<unk>", "is",
    ]  # fmt: skip
    assert tokenizer.eos_id not in tokenizer.encode("The <eos> </s>").token_ids


def test_json_gives_the_same_tokenizer():
    tokenizer = tokenizer_of("wikitext")
    again = load_tokenizer(tokenizer.to_json())
    assert type(again) is type(tokenizer)
    assert (again.vocab_size, again.bos_id, again.unk_id) == (
        tokenizer.vocab_size,
        tokenizer.bos_id,
        tokenizer.unk_id,
    )
    for natural, _ in NATURAL:
        assert again.encode(natural) == tokenizer.encode(natural)


def test_a_hyphen_has_the_spelling_of_the_corpus_too():
    tokenizer = tokenizer_of("wikitext")
    (inner, comma) = tokenizer.encode_lines(["@-@", ","])
    assert tokenizer.spellings("-") == [inner]  # alone it is not in this vocabulary
    assert sorted(tokenizer.spellings(",")) == sorted([comma, *tokenizer.encode_lines(["@,@"])])
    assert tokenizer.spellings("play-off") == tokenizer.encode_lines(["play @-@ off"])
    assert tokenizer.spellings("zebra") == tokenizer.spellings("the zebra") == []
    assert tokenizer.spellings("<unk>") == []


CHARACTERS = st.one_of(
    st.sampled_from("ab'’_.,(\"-0123é漢😀&|[]<>@`%$ \n\x00\x07"),
    st.characters(exclude_categories=["Cs"]),
)


@given(st.text(CHARACTERS, max_size=40))
@bounded(200)
def test_offsets_cover_the_text_in_order(text):
    tokenizer = tokenizer_of("wikitext")
    encoding = tokenizer.encode(text)
    end = 0
    for i, word in enumerate(encoding.words):
        assert (word.first, word.last) == (i, i + 1)
        assert word.end > word.start >= end
        assert all(c.isspace() or c < " " for c in text[end : word.start])
        end = word.end
    assert all(c.isspace() or c < " " for c in text[end:])
    assert len(encoding.words) == len(encoding.token_ids)
