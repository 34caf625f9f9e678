"""What the command prints for people."""

from collections.abc import Sequence
from typing import Any
from unicodedata import category

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.next_word import Candidate, Prediction
from models.score import SentenceScore, WordScore

# Surprisal in bits up to which a word has this colour: 3 bits is one of 8, 7 bits one of 128.
_COLOURS = [(3.0, "green"), (7.0, "cyan"), (11.0, "yellow"), (float("inf"), "red")]


def print_next_words(answer: dict[str, Any]) -> None:
    """Print predictions with bars that compare them, then what was asked for besides."""
    console = Console()
    predictions: Sequence[Prediction] = answer["predictions"]
    candidates: Sequence[Candidate] = answer["candidates"]
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("word", style="bold")
    table.add_column("probability", justify="right")
    table.add_column("", width=32)
    longest = max((p.probability for p in predictions), default=1.0) or 1.0
    for p in predictions:
        bar = Bar(longest, 0, p.probability, color="green")
        table.add_row(str(p.rank), _text(p.word), _percent(p.probability), bar)
    for c in candidates:
        rank = "-" if c.rank is None else str(c.rank)
        value = "not in the vocabulary" if c.probability is None else _percent(c.probability)
        table.add_row(rank, _text(c.word, "cyan"), value, "")
    console.print(table)
    notes = f"{answer['model']} saw {_percent(answer['covered_mass'])} of the probability"
    if answer["oov_mass"]:
        notes += f", {_percent(answer['oov_mass'])} of it for words outside its vocabulary"
    if not answer["proven"]:
        notes += "; the search gave up before the list was proven"
    console.print(Text(notes, style="dim"))


def print_scores(answer: dict[str, Any], *, words: bool) -> None:
    """Print each text coloured by surprisal, and its numbers; a row for each word if ``words``."""
    console = Console()
    results: Sequence[SentenceScore] = answer["results"]
    for result in results:
        console.print(_coloured(result))
        console.print(Text(_summary(result), style="dim"))
        if words:
            console.print(_word_table(result.words or []))
    legend = Text("surprisal: ", style="dim")
    for bound, colour in _COLOURS:
        legend.append(f"to {bound:g} bits  " if bound < float("inf") else "more", style=colour)
    console.print(legend)


class ContinuationPrinter:
    """Prints a continuation while it grows, and what became of it."""

    def __init__(self, prompt: str) -> None:
        """Continue ``prompt``, which is printed dim."""
        self._console = Console()
        self._prompt = prompt
        self._begun = False

    def add(self, index: int, text: str) -> None:
        """Print text that was added to continuation ``index``, which must be the only one."""
        if not self._begun:
            self._begin()
        self._write(text)

    def finish(self, answer: dict[str, Any], *, streamed: bool) -> None:
        """Print the end of what was ``streamed``, or else all continuations."""
        for result in answer["results"]:
            if not streamed:
                self._begin()
                self._write(result["text"])
            elif not self._begun:
                self._begin()
            self._console.print()
            reason = "the sentence ended" if result["finish_reason"] == "stop" else "length reached"
            note = f"  {reason}, log-probability {result['log_prob']:.2f}"
            self._console.print(Text(note, style="dim"))

    def _begin(self) -> None:
        self._begun = True
        self._write(self._prompt, style="dim")

    def _write(self, text: str, style: str = "") -> None:
        self._console.print(_text(text, style), end="", soft_wrap=True)


def _text(text: str, style: str = "") -> Text:
    """Show control characters, one for one, instead of obeying them."""
    shown = (
        "\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" and c not in "\n\t" else c for c in text
    )
    return Text("".join(shown), style=style)


def _percent(probability: float) -> str:
    return f"{probability:.2%}" if probability >= 0.0001 else f"{probability:.1e}"


def _coloured(result: SentenceScore) -> Text:
    text = _text(result.text)
    for word in result.words or []:
        text.stylize(_colour(word) + (" underline" if word.oov else ""), word.start, word.end)
    return text


def _colour(word: WordScore) -> str:
    bits = word.surprisal_bits
    return "dim" if bits is None else next(c for bound, c in _COLOURS if bits <= bound)


def _summary(result: SentenceScore) -> str:
    if result.log_prob is None:
        return "  nothing to score"
    parts = [
        f"log-probability {result.log_prob:.2f}",
        f"perplexity {result.perplexity:.1f} per token, {result.scored_tokens} tokens",
    ]
    if result.oov_count:
        parts.append(f"{result.oov_count} unknown")
    return "  " + ", ".join(parts)


def _word_table(words: Sequence[WordScore]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("word")
    for name in ("log-probability", "bits", "rank"):
        table.add_column(name, justify="right")
    for word in words:
        table.add_row(
            _text(word.text, _colour(word)),
            "-" if word.log_prob is None else f"{word.log_prob:.3f}",
            "-" if word.surprisal_bits is None else f"{word.surprisal_bits:.2f}",
            "-" if word.rank is None else str(word.rank),
        )
    return table
