"""What each token of a row adds to its text."""

from collections.abc import Sequence
from copy import copy

from app.special_tokens import special_ids
from models.tokenizers import Tokenizer

_MOST_TOKENS = 64  # of the line so far; a quarter are enough to see what the next joins on to
_UNSETTLED = ("\ufffd", "\x01")  # a character that has only begun, or a join mark


class TokenTexts:
    """Goes along a row of tokens, and says how each reads in its place.

    Each takes the same time, however long the row is, and the word under way.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin at the start of a text."""
        self._tokenizer = tokenizer
        self._names = special_ids(tokenizer)
        self._ends = (tokenizer.bos_id, tokenizer.eos_id)
        self._line: list[int] = []
        self._length = 0  # characters of the line that were told

    def copy(self) -> "TokenTexts":
        """Return another that goes on from here by itself."""
        other = copy(self)
        other._line = self._line.copy()
        return other

    def read(self, token_ids: Sequence[int]) -> None:
        """Go on behind ``token_ids``, of which only the last ones count."""
        for token_id in token_ids[-_MOST_TOKENS:]:
            self.next(token_id)

    def of(self, token_id: int) -> str:
        """Return how a token would read here; stays where it is."""
        if token_id in self._ends:
            return self._names[token_id]
        return self._settled([*self._line, token_id])[self._length :]

    def next(self, token_id: int) -> str:
        """Return what a token adds to the text, a special token by name, and go on behind it.

        A character that takes several tokens is added by the last of them.
        """
        if token_id in self._ends:
            self._line, self._length = [], 0
            return self._names[token_id]
        self._line.append(token_id)
        text = self._settled(self._line)
        added = text[self._length :]
        self._length = max(self._length, len(text))
        if len(self._line) > _MOST_TOKENS:
            self._cut()
        return added

    def _cut(self) -> None:
        """Forget the beginning of the line, even if it ends within a word or a character.

        What is left then begins otherwise than it was told, but goes on the same.
        """
        untold = len(self._tokenizer.decode(self._line)) - self._length
        self._line = self._line[-_MOST_TOKENS // 4 :]
        self._length = len(self._tokenizer.decode(self._line)) - untold

    def _settled(self, line: list[int]) -> str:
        """Return the text of ``line`` that stands, whatever comes behind it."""
        text = self._tokenizer.decode(line)
        if self._tokenizer.is_word_end[line[-1]] or len(text) <= self._length:
            return text
        return text[:-1] if text.endswith(_UNSETTLED) else text
