"""The text of a continuation, as it grows token by token."""

from collections.abc import Callable, Iterable, Sequence

from models.tokenizers import Tokenizer

_TAIL_TOKENS = 64  # of the prompt, enough to see what the continuation joins on to


class Writer:
    """Turns generated tokens into text that reads on from the prompt, and looks for stop strings.

    Attributes:
        text: The continuation so far; whole words only, until it is closed. Nothing yet where
            nobody listens and no stop string is looked for.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: str,
        prompt_ids: Sequence[int],
        stop: Sequence[str],
        emit: Callable[[str], None] | None,
    ) -> None:
        """Begin behind ``prompt``, which was read as ``prompt_ids``."""
        self._tokenizer, self._stop, self._emit = tokenizer, stop, emit
        self._token_ids = _last_line(prompt_ids, tokenizer)[-_TAIL_TOKENS:]
        self._base = tokenizer.decode(self._token_ids)
        self._spaced = prompt[-1:].isspace()
        self._watched = emit is not None or bool(stop)
        self._emitted = 0
        self.text = ""

    def add(self, token_id: int) -> bool:
        """Take one more token; returns whether a stop string ended the text."""
        self._token_ids.append(token_id)
        return self._watched and bool(self._tokenizer.is_word_end[token_id]) and self._refresh()

    def write(self, token_ids: Iterable[int]) -> bool:
        """Take many tokens at once; returns whether a stop string ended the text."""
        self._token_ids += token_ids
        return self._refresh()

    def close(self) -> bool:
        """Write out a last word that was not finished, and what was held back.

        Returns:
            Whether a stop string ended the text, in its last word or before.
        """
        stopped = self._refresh()
        self._send(len(self.text))
        return stopped

    def token_text(self, token_id: int) -> str:
        """Return the characters of one token, those of incomplete UTF-8 as U+FFFD."""
        return self._tokenizer.surface(self._tokenizer.pieces[token_id])

    def _refresh(self) -> bool:
        text = self._tokenizer.decode(self._token_ids)[len(self._base) :]
        self.text = text.lstrip(" ") if self._spaced else text
        found = [at for at in (self.text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.text = self.text[: min(found)]
            self._send(len(self.text))
            return True
        self._send(len(self.text) - self._held())
        return False

    def _held(self) -> int:
        """Return how many characters at the end may yet become a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1)
        for length in range(min(longest - 1, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-length:]) for stop in self._stop):
                return length
        return 0

    def _send(self, end: int) -> None:
        if self._emit is not None and end > self._emitted:
            self._emit(self.text[self._emitted : end])
            self._emitted = end


def _last_line(token_ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    line: list[int] = []
    for token_id in reversed(token_ids):
        if token_id in (tokenizer.bos_id, tokenizer.eos_id):
            break
        line.append(token_id)
    return line[::-1]
