"""Prompts as they are read: which token stands for which part of the text."""

import gc
import time
import weakref
from itertools import pairwise

import pytest

from app.special_tokens import encode_prompt, special_tokens
from models.language_model import LanguageModel
from models.tokenizers import Tokenizer, train_tokenizer
from tests.app.conftest import SUBWORD, WORD

Models = dict[str, LanguageModel]
TEXTS = [
    "",
    "  we  sold\ta hotel, I think. ",
    "“Héllo, wörld 你好!”, (we) don't... 😀😀 e\u0301\u0301x",
    "a\x01b \x01 \x010 0\x01 ,\x01, \x01\x01",
    "\ufffd\ufffda 你\ufffd好",
    "<s>coffee</s>you\r\nwe<unk> \n\n x",
    "纸上得来终觉浅" * 9,
]


def ends(tokenizer: Tokenizer, text: str) -> list[int]:
    """Where each token of natural text ends, each read from the whole of its word before it."""
    encoding = tokenizer.encode(text)
    found = []
    for word in encoding.words:
        for last in range(word.first + 1, word.last):
            pieces = [tokenizer.pieces[i] for i in encoding.token_ids[word.first : last]]
            length = len(tokenizer.surface(b"".join(pieces).decode(errors="ignore").encode()))
            found.append(min(word.start + length, word.end))
        found.append(word.end)
    return found


@pytest.mark.parametrize("name", [SUBWORD, WORD])
@pytest.mark.parametrize("text", TEXTS)
def test_parts_are_the_text(models: Models, name, text):
    tokenizer = models[name].tokenizer
    prompt = encode_prompt(tokenizer, text)
    assert len(prompt.parts) == len(prompt.token_ids)
    assert text.startswith("".join(prompt.parts))
    assert not text.removeprefix("".join(prompt.parts)).strip()
    if "\n" not in text:
        assert prompt.token_ids == tokenizer.encode(text).token_ids
        starts = [0, *ends(tokenizer, text)]
        assert prompt.parts == [text[a:b] for a, b in pairwise(starts)]


def test_a_long_word_is_read_in_linear_time(models: Models):
    tokenizer = models[SUBWORD].tokenizer
    text = "".join(chr(0x4E00 + i) for i in range(16_384))
    started = time.thread_time()
    tokenizer.encode(text)
    encoded = time.thread_time()
    prompt = encode_prompt(tokenizer, text)
    # Twice as long alone; in time quadratic in the word, dozens of times.
    assert time.thread_time() - encoded < 8 * (encoded - started)
    assert "".join(prompt.parts) == text
    assert len(prompt.parts) == 3 * len(text) + 1  # the end of the word


def test_a_tokenizer_that_is_no_longer_used_is_freed():
    tokenizer = train_tokenizer("word", ["we sold coffee"], vocab_size=10)
    assert special_tokens(tokenizer) is special_tokens(tokenizer)
    assert encode_prompt(tokenizer, "<unk></s>").token_ids == [tokenizer.unk_id, tokenizer.eos_id]
    alive = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert alive() is None
