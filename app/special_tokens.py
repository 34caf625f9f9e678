"""The tokens that stand for no text: their names, and prompts in which a name is the token."""

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from models.tokenizers import Tokenizer
from models.tokenizers.joined import JOIN
from models.tokenizers.remembered import remembered

_UTF8 = codecs.getincrementaldecoder("utf-8")
_LINE_BREAK = r"\r\n|[\r\n]"


@dataclass(frozen=True)
class SpecialTokens:
    """Names of the tokens that begin and end a sentence, and of the unknown word, if any."""

    bos: str
    eos: str
    unk: str | None


@dataclass(frozen=True)
class Prompt:
    """A prompt as it was written and as it is read.

    Attributes:
        text: All of it.
        token_ids: What the model reads it as.
        parts: What stands in the text for each token, white space before it included; together they
            are the text but for white space behind it.
    """

    text: str
    token_ids: list[int]
    parts: list[str]


@remembered(1)
def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """Look the names up in the tokenizer's vocabulary."""
    vocabulary: dict[str, int] = json.loads(tokenizer.to_json())["model"]["vocab"]
    names = {token_id: name for name, token_id in vocabulary.items()}
    return SpecialTokens(
        bos=names[tokenizer.bos_id],
        eos=names[tokenizer.eos_id],
        unk=None if tokenizer.unk_id is None else names[tokenizer.unk_id],
    )


def special_ids(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the names of the special tokens by their ids."""
    special = special_tokens(tokenizer)
    names = {tokenizer.bos_id: special.bos, tokenizer.eos_id: special.eos}
    if special.unk is not None and tokenizer.unk_id is not None:
        names[tokenizer.unk_id] = special.unk
    return names


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> Prompt:
    """Read a prompt in which the name of a special token is that token.

    As everywhere, a line break ends a sentence, and several count as one.
    """
    ids = {name: token_id for token_id, name in special_ids(tokenizer).items()}
    token_ids: list[int] = []
    ends: list[int] = []  # offset behind each token
    start = 0
    for part in re.split(f"({'|'.join(map(re.escape, ids))}|{_LINE_BREAK})", prompt):
        end = start + len(part)
        if part in ids:
            token_ids.append(ids[part])
            ends.append(end)
        elif part in ("\n", "\r", "\r\n"):
            if token_ids and token_ids[-1] not in (tokenizer.bos_id, tokenizer.eos_id):
                token_ids.append(tokenizer.eos_id)
                ends.append(end)
        elif part:
            for token_id, offset in _encode(tokenizer, part):
                token_ids.append(token_id)
                ends.append(start + offset)
        start = end
    starts = [0, *ends[:-1]]
    parts = [prompt[first:last] for first, last in zip(starts, ends, strict=bool(ends))]
    return Prompt(prompt, token_ids, parts)


def decode_prompt(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """Return the text of ``token_ids``, beginnings and ends of sentences by name.

    `encode_prompt` reads natural text in it as the same ids again.
    """
    names = special_ids(tokenizer)
    ends = (tokenizer.bos_id, tokenizer.eos_id)
    return "".join(
        "".join(names[i] for i in run) if special else tokenizer.decode(run)
        for special, run in groupby(token_ids, key=lambda i: i in ends)
    )


def _encode(tokenizer: Tokenizer, text: str) -> Iterator[tuple[int, int]]:
    """Yield each token of natural text, and the offset behind its last character."""
    encoding = tokenizer.encode(text)
    for word in encoding.words:
        decoder = _UTF8("replace")
        end = word.start
        for index in range(word.first, word.last):
            token_id = encoding.token_ids[index]
            # A character that has only begun belongs to the token that ends it; a join mark is
            # none, and one that the text itself holds is written as two, of which one counts.
            written = decoder.decode(tokenizer.pieces[token_id])
            end += len(written) - written.count(JOIN)
            yield token_id, min(end, word.end) if index + 1 < word.last else word.end
