"""What each token adds to a text, however long the word is that it stands in."""

import numpy as np
import pytest

from app.token_texts import TokenTexts
from models.language_model import LanguageModel
from models.tokenizers import Tokenizer
from tests.app.conftest import SUBWORD, WORD

Models = dict[str, LanguageModel]
TEXT = "“Héllo, wörld 你好!”, (we) don't, \x01 \x010 ... 😀😀 "
ODD = [b"\x01", b"0", b"\xf0", b"\x9f", b"\x98", b"\x80", b"a", b"(", b""]


def natural(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(TEXT * 12).token_ids


def unfinished(tokenizer: Tokenizer) -> list[int]:
    """A word that takes hundreds of tokens, and then one more."""
    (end,) = np.flatnonzero(tokenizer.is_word_end)[-1:].tolist()
    ids = [i for ids in tokenizer.unfinished.values() for i in ids]
    return [*np.random.default_rng(5).choice(ids, 700).tolist(), end, *natural(tokenizer)]


def odd(tokenizer: Tokenizer) -> list[int]:
    """Join marks, parts of characters, and ends of words, in any order."""
    ids = [i for i in range(tokenizer.vocab_size) if tokenizer.pieces[i] in ODD]
    ids = [i for i in ids if i != tokenizer.eos_id]
    (end,) = [i for i in ids if not tokenizer.pieces[i]]
    return [*np.random.default_rng(6).choice(ids, 900).tolist(), end]


@pytest.mark.parametrize("row", [natural, unfinished, odd])
def test_what_they_add_is_together_the_text_are_the_text(models: Models, row):
    tokenizer = models[SUBWORD].tokenizer
    token_ids = row(tokenizer)
    texts = TokenTexts(tokenizer)
    told = []
    for token_id in token_ids:
        expected = texts.of(token_id)
        told.append(texts.next(token_id))
        assert told[-1] == expected
    assert "".join(told) == tokenizer.decode(token_ids)


@pytest.mark.parametrize("name", [SUBWORD, WORD])
@pytest.mark.parametrize("count", [0, 1, 5, 70, 150])
def test_a_row_that_was_read_goes_on_as_one_that_was_told(models: Models, name, count):
    tokenizer = models[name].tokenizer
    before, behind = natural(tokenizer)[:count], natural(tokenizer)[count : count + 90]
    told, read = TokenTexts(tokenizer), TokenTexts(tokenizer)
    for token_id in [*before, tokenizer.eos_id, *before]:
        told.next(token_id)
    read.read([*before, tokenizer.eos_id, *before])
    copies = [told.copy(), told.copy()]
    expected = [told.next(token_id) for token_id in behind]
    assert any(expected)
    for texts in (read, *copies):
        assert [texts.next(token_id) for token_id in behind] == expected


@pytest.mark.parametrize("row", [natural, unfinished])
def test_no_token_takes_longer_the_longer_the_row_is(models: Models, monkeypatch, row):
    tokenizer = models[SUBWORD].tokenizer
    token_ids = row(tokenizer)
    lengths = []

    def decode(line: list[int]) -> str:
        lengths.append(len(line))
        return type(tokenizer).decode(tokenizer, line)

    monkeypatch.setattr(tokenizer, "decode", decode)
    texts = TokenTexts(tokenizer)
    for token_id in token_ids:
        texts.next(token_id)
    assert len(lengths) >= len(token_ids) > 500
    assert max(lengths) <= 65
