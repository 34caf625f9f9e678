"""From text to token ids and back, in words.

Three kinds answer the same questions (see `Tokenizer`): ``subword`` and ``word`` share the joiner
annotation of `models.tokenizers.joined`; ``wikitext`` is the whitespace-tokenised corpus style of
`models.tokenizers.wikitext`.
"""

from models.tokenizers.base import Encoding, Tokenizer, WordSpan
from models.tokenizers.load import load_tokenizer, train_tokenizer

__all__ = ["Encoding", "Tokenizer", "WordSpan", "load_tokenizer", "train_tokenizer"]
