"""What each token of a row adds to its text."""

from collections.abc import Iterable

from app.special_tokens import special_ids
from models.tokenizers import Tokenizer

_MOST_TOKENS = 64  # of the line so far, enough to see what the next token joins on to
_UNSETTLED = "\ufffd\x01"  # characters that have only begun, and join marks


class TokenTexts:
    """Goes along a row of tokens, and says how each reads in its place."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin at the start of a text."""
        self._tokenizer = tokenizer
        self._names = special_ids(tokenizer)
        self._ends = (tokenizer.bos_id, tokenizer.eos_id)
        self._line: list[int] = []
        self._start = 0  # of the word under way in it
        self._length = 0  # characters of the line that were told

    def read(self, token_ids: Iterable[int]) -> None:
        """Go on behind ``token_ids``; cheaper than `next` for each."""
        line: list[int] = []
        for token_id in token_ids:
            line = [] if token_id in self._ends else [*line[-_MOST_TOKENS:], token_id]
        self._line = line
        ends = [i for i, token_id in enumerate(line) if self._tokenizer.is_word_end[token_id]]
        self._start = ends[-1] + 1 if ends else 0
        self._length = len(self._settled(line))

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
            self._line, self._start, self._length = [], 0, 0
            return self._names[token_id]
        self._line.append(token_id)
        text = self._settled(self._line)
        added = text[self._length :]
        self._length = len(text)
        if self._tokenizer.is_word_end[token_id]:
            if len(self._line) > _MOST_TOKENS:
                self._line = self._line[self._start :]
                self._length = len(self._settled(self._line))
            self._start = len(self._line)
        return added

    def _settled(self, line: list[int]) -> str:
        text = self._tokenizer.decode(line)
        ended = not line or self._tokenizer.is_word_end[line[-1]]
        return text if ended else text.rstrip(_UNSETTLED)
