"""The subword and word tokenizers: what goes in comes out, word by word."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.tokenizers import load_tokenizer, train_tokenizer
from tests.models.helpers import bounded, corpus, tokenizer_of

both_kinds = pytest.mark.parametrize("kind", ["subword", "word"])

# What Unicode calls white space; Python's own isspace counts four control characters too.
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Any Unicode, and often the characters that the annotation turns on.
DIFFICULT = "ab'’_.,(\"-\x010\u0301\u200c\u200dé漢😀\u0345\x00\x1c\u00ad\ufeff\U0010ffff \n"
CHARACTERS = st.one_of(st.sampled_from(DIFFICULT), st.characters(exclude_categories=["Cs"]))
TEXTS = st.text(CHARACTERS, max_size=40)


def single_spaced(text):
    return re.sub(f"[{SPACES}]+", " ", text).strip(" ")


@given(TEXTS)
@example("don't 'tis rock'n'roll O''Brien a'_b _'c")
@example("\x01 \x010 ,\x01, \x01\x01a \x010'b")
@example("\u0301 a\u0301, ,\u0301a ,\u0301\u0301\u0301a \u200d👩\u200d💻\u200db")
@example("\x00\x1c\x1d\x1e\x1f\x7f \ufeff\U0010ffff")
@bounded(400)
def test_any_text_with_single_spaces_comes_back(text):
    tokenizer, text = tokenizer_of("subword"), single_spaced(text)
    assert tokenizer.decode(tokenizer.encode(text).token_ids) == text


@given(TEXTS)
@bounded(100)
def test_white_space_only_separates_words(text):
    tokenizer = tokenizer_of("subword")
    assert tokenizer.encode(text).token_ids == tokenizer.encode(single_spaced(text)).token_ids


@both_kinds
@given(TEXTS)
@example("don't 'tis rock'n'roll O''Brien a'_b _'c")
@example("\u0301 a\u0301, ,\u0301a ,\u0301\u0301\u0301a \u200d👩\u200d💻\u200db")
@example(" \x00\x1c \x1d\x1e \x1f\x7f\x85\x85 \u3000\ufeff\U0010ffff\n\n,  , \x01 \x010")
@example(f"{'a' * 100} {'a, ' * 50} {'漢' * 70},")
@bounded(400)
def test_token_ids_alone_are_the_same(kind, text):
    tokenizer = tokenizer_of(kind)
    for _ in range(2):  # the second time out of memory
        assert tokenizer.encode_ids(text) == tokenizer.encode(text).token_ids


UNITS = ["the", "cats", "don't", "teacher's", "red", ",", ".", "(", ")", "!"]


@given(st.lists(st.tuples(st.sampled_from(UNITS), st.sampled_from(["", " "])), max_size=12))
@bounded(150)
def test_a_text_of_known_words_comes_back_from_the_word_tokenizer(pairs):
    text = "".join(unit + space for unit, space in pairs).strip()
    # The vocabulary: every unit joined in every way; letters that touch make a new word.
    lines = [f"{a}{x}{b}" for a in ("a ", "a") for x in UNITS for b in (" a", "a")]
    tokenizer = train_tokenizer(
        "word", [*lines, *(f"{x}{y}" for x in UNITS for y in UNITS), text], vocab_size=1000
    )
    encoding = tokenizer.encode(text)
    assert tokenizer.unk_id not in encoding.token_ids
    assert tokenizer.decode(encoding.token_ids) == text


@both_kinds
@given(TEXTS)
@bounded(150)
def test_offsets_cover_the_text_in_order(kind, text):
    tokenizer = tokenizer_of(kind)
    encoding = tokenizer.encode(text)
    covered = first = 0
    for word in encoding.words:
        assert word.start >= covered
        assert word.end > word.start
        assert re.fullmatch(f"[{SPACES}]*", text[covered : word.start])
        assert not re.search(f"[{SPACES}]", text[word.start : word.end])
        assert word.first == first
        tokens = encoding.token_ids[word.first : word.last]
        if kind == "subword":
            assert tokenizer.decode(tokens) == text[word.start : word.end]
        # Every word ends in exactly one end-of-word token, its last.
        assert [bool(tokenizer.is_word_end[t]) for t in tokens] == [False] * (len(tokens) - 1) + [
            True
        ]
        covered, first = word.end, word.last
    assert re.fullmatch(f"[{SPACES}]*", text[covered:])
    assert first == len(encoding.token_ids)


def words_of(tokenizer, text):
    return [text[word.start : word.end] for word in tokenizer.encode(text).words]


@both_kinds
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't stop", ["don't", "stop"]),
        ("rock’n’roll", ["rock’n’roll"]),
        ("the cats' 'tis", ["the", "cats", "'", "'", "tis"]),
        ("Hello, (old) friend!", ["Hello", ",", "(", "old", ")", "friend", "!"]),
        ("e-mail a_b 3.5%", ["e", "-", "mail", "a_b", "3", ".", "5", "%"]),
        ("wait...", ["wait", ".", ".", "."]),
        ("e\u0301te\u0301 naïve", ["e\u0301te\u0301", "naïve"]),
        ("  \t\n ", []),
        ("", []),
    ],
)
def test_words_keep_inner_apostrophes_and_punctuation_stands_alone(kind, text, words):
    assert words_of(tokenizer_of(kind), text) == words


@both_kinds
@pytest.mark.parametrize("mark", [",", ".", "!", ")", '"', "'", "-", "…"])
def test_a_word_is_the_same_tokens_wherever_it_stands(kind, mark):
    tokenizer = tokenizer_of(kind)

    def first_word(text):
        encoding = tokenizer.encode(text)
        span = next(w for w in encoding.words if text[w.start : w.end] == "dogs")
        return encoding.token_ids[span.first : span.last]

    alone = first_word("dogs")
    assert first_word(f"dogs{mark}") == first_word(f"dogs {mark}") == alone
    assert first_word(f"{mark}dogs") == first_word(f"{mark} dogs") == alone
    assert first_word("see the dogs sleep") == alone


@both_kinds
@pytest.mark.parametrize("literal", ["</s>", "<s>", "<unk>", "a</s>b", "<s> </s>", "<eos>"])
def test_what_looks_like_a_special_token_is_text(kind, literal):
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(literal).token_ids
    assert not {tokenizer.bos_id, tokenizer.eos_id} & {*ids}
    assert len(ids) >= 3
    if kind == "subword":
        assert tokenizer.decode(ids) == literal
    assert tokenizer.encode_lines([literal]) == [ids]


@both_kinds
def test_special_ids(kind):
    tokenizer = tokenizer_of(kind)
    assert tokenizer.bos_id == tokenizer.vocab_size == tokenizer.num_ids - 1
    assert tokenizer.eos_id != tokenizer.bos_id != 0
    assert not tokenizer.is_word_end[tokenizer.eos_id]
    assert len(tokenizer.is_word_end) == len(tokenizer.pieces) == tokenizer.vocab_size
    assert (tokenizer.unk_id is None) == (kind == "subword")


@both_kinds
def test_json_gives_the_same_tokenizer(kind):
    tokenizer = tokenizer_of(kind)
    again = load_tokenizer(tokenizer.to_json())
    assert type(again) is type(tokenizer)
    assert again.to_json() == tokenizer.to_json()
    assert again.pieces == tokenizer.pieces
    assert (again.is_word_end == tokenizer.is_word_end).all()
    for text in [*corpus(20, seed=5), "naïve 😀, \x01"]:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.encode_context(text) == tokenizer.encode_context(text)


def test_only_the_given_lines_are_learnt_from():
    words = train_tokenizer("word", ["b a c", "a b", "a"], vocab_size=100)
    assert [p.decode() for p in words.pieces if p] == ["<unk>", "a", "b", "c"]
    fewer = train_tokenizer("word", ["b a c", "a b", "a"], vocab_size=4)
    assert [p.decode() for p in fewer.pieces if p] == ["<unk>", "a", "b"]
    subword = train_tokenizer("subword", ["abab abab", "zq"], vocab_size=270)
    longer = {piece for piece in subword.pieces if len(piece) > 1}
    assert longer
    assert all(piece in b"abab zq" for piece in longer)


def test_a_word_outside_the_vocabulary_is_one_unk():
    tokenizer = tokenizer_of("word")
    ids = tokenizer.encode("the zebra sees").token_ids
    assert len(ids) == 3
    assert [i == tokenizer.unk_id for i in ids] == [False, True, False]
    assert tokenizer.decode(ids) == "the <unk> sees"


@both_kinds
def test_lines_encode_as_texts_do(kind):
    tokenizer, lines = tokenizer_of(kind), [*corpus(30, seed=6), "", "  a  b "]
    assert tokenizer.encode_lines(lines) == [tokenizer.encode(line).token_ids for line in lines]


def test_bytes_that_are_no_text_become_a_replacement_character():
    tokenizer = tokenizer_of("subword")
    euro = tokenizer.encode("€").token_ids  # three bytes, the last of them the end of the word
    assert len(euro) >= 3
    assert tokenizer.decode(euro) == "€"
    assert "\ufffd" in tokenizer.decode(euro[:1])


def test_a_unit_that_joins_a_neighbour_which_is_not_there_shows_no_mark():
    tokenizer = tokenizer_of("subword")
    encoding = tokenizer.encode("(a)")
    for span, text in zip(encoding.words, "(a)", strict=True):
        assert tokenizer.decode(encoding.token_ids[span.first : span.last]) == text


def test_units_that_join_each_other_show_no_mark():
    tokenizer = tokenizer_of("subword")
    opening, closing = tokenizer.encode("(a"), tokenizer.encode("a)")
    both = [
        *opening.token_ids[: opening.words[0].last],
        *closing.token_ids[closing.words[1].first :],
    ]
    assert tokenizer.decode(both) == "()"


@both_kinds
def test_a_context_begins_with_bos_and_each_line_break_is_one_eos(kind):
    tokenizer = tokenizer_of(kind)
    bos, eos = tokenizer.bos_id, tokenizer.eos_id

    def ids(text):
        return tokenizer.encode(text).token_ids

    cat, dog = ids("the cat"), ids("a dog")
    assert tokenizer.encode_context("") == [bos]
    assert tokenizer.encode_context("the cat") == [bos, *cat]
    assert tokenizer.encode_context("the cat\na dog") == [bos, *cat, eos, *dog]
    assert tokenizer.encode_context("the cat\n") == [bos, *cat, eos]
    assert tokenizer.encode_context("\n\nthe cat\r\n\n a dog ") == [bos, *cat, eos, *dog]
