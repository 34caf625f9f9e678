"""The tokens that stand for no text: their names, and prompts in which a name is the token."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache

from models.tokenizers import Tokenizer


@dataclass(frozen=True)
class SpecialTokens:
    """Names of the tokens that begin and end a sentence, and of the unknown word, if any."""

    bos: str
    eos: str
    unk: str | None


@lru_cache(maxsize=64)
def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """Look the names up in the tokenizer's vocabulary."""
    vocabulary: dict[str, int] = json.loads(tokenizer.to_json())["model"]["vocab"]
    names = {token_id: name for name, token_id in vocabulary.items()}
    return SpecialTokens(
        bos=names[tokenizer.bos_id],
        eos=names[tokenizer.eos_id],
        unk=None if tokenizer.unk_id is None else names[tokenizer.unk_id],
    )


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the token ids of a prompt in which the name of a special token is that token."""
    special = special_tokens(tokenizer)
    ids = {special.bos: tokenizer.bos_id, special.eos: tokenizer.eos_id}
    if special.unk is not None and tokenizer.unk_id is not None:
        ids[special.unk] = tokenizer.unk_id
    token_ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, ids))})", prompt):
        token_ids += [ids[part]] if part in ids else tokenizer.encode(part).token_ids
    return token_ids
