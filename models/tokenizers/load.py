"""Choose the class that a tokenizer's kind or JSON asks for."""

import json
from collections.abc import Iterable

from models.errors import CorruptFileError, MismatchError
from models.tokenizers.base import Tokenizer
from models.tokenizers.joined import SubwordTokenizer, WordTokenizer
from models.tokenizers.wikitext import WikitextTokenizer

KINDS: dict[str, type[SubwordTokenizer | WordTokenizer | WikitextTokenizer]] = {
    cls.kind: cls for cls in (SubwordTokenizer, WordTokenizer, WikitextTokenizer)
}


def train_tokenizer(kind: str, lines: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn a tokenizer from the lines of a training split.

    Args:
        kind: ``subword``, ``word`` or ``wikitext``.
        lines: The lines, in the corpus' own form.
        vocab_size: Most token ids that can be predicted; fewer where the text has fewer words.

    Raises:
        ValueError: The kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"tokenizer kind must be one of {', '.join(KINDS)}, not {kind!r}")
    return KINDS[kind].train(lines, vocab_size=vocab_size)


def load_tokenizer(text: str) -> Tokenizer:
    """Read the JSON of any kind of tokenizer.

    Raises:
        CorruptFileError: The text is not a tokenizer's JSON.
        MismatchError: A token that this project needs is missing.
    """
    try:
        state = json.loads(text)
        model, normalizer = state["model"]["type"], state["normalizer"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptFileError(f"tokenizer.json: not a tokenizer ({error!r})") from None
    # Added tokens are found in what users write; the others cut or fill what was encoded.
    for key in ("added_tokens", "truncation", "padding"):
        if state.get(key):
            raise MismatchError(f"tokenizer.json: has {key!r}, which no tokenizer here has")
    if model == "BPE":
        return SubwordTokenizer.from_json(text)
    if model == "WordLevel":
        return (WordTokenizer if normalizer else WikitextTokenizer).from_json(text)
    raise CorruptFileError(f"tokenizer.json: unknown model type {str(model)[:40]!r}")
