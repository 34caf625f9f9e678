"""How likely a sentence is, in total and word by word."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.forward import CHUNK, Forward, Pass, Program, read, side_by_side
from models.language_model import LanguageModel
from models.networks import State
from models.tokenizers import Encoding, Tokenizer

_RANKED = 32  # tokens read at a time where whole distributions come back


@dataclass(frozen=True)
class WordScore:
    """A word of a scored sentence. What was not scored is None, never 0.

    Attributes:
        text: The characters of the word.
        start: Offset of its first character.
        end: Offset behind its last.
        log_prob: Natural log-probability given everything before it.
        surprisal_bits: The same as surprisal, bits.
        rank: Place among all next words by probability, from 1; None where a word of several
            pieces could stand before it, so that only a search could tell.
        oov: It was read as ``<unk>``.
    """

    text: str
    start: int
    end: int
    log_prob: float | None
    surprisal_bits: float | None
    rank: int | None
    oov: bool


@dataclass(frozen=True)
class SentenceScore:
    """A scored sentence. What was not scored is None, never 0.

    Attributes:
        text: The sentence.
        log_prob: Sum of the natural log-probabilities of its scored tokens.
        perplexity: Per scored token; the end of sentence is one where it was asked for.
        mean_log_prob: ``log_prob`` over ``scored_tokens``.
        bits_per_character: Surprisal in bits over the characters of ``text``.
        scored_tokens: How many tokens ``log_prob`` counts.
        oov_count: Words read as ``<unk>``; they are scored as that.
        eos_log_prob: Share of the end of sentence in ``log_prob``.
        words: Detail, where it was asked for.
    """

    text: str
    log_prob: float | None
    perplexity: float | None
    mean_log_prob: float | None
    bits_per_character: float | None
    scored_tokens: int
    oov_count: int
    eos_log_prob: float | None
    words: list[WordScore] | None


def score(
    model: LanguageModel,
    text: str,
    *,
    context: str = "",
    bos: bool = True,
    eos: bool = True,
    words: bool = False,
) -> Program[SentenceScore]:
    """Score one sentence.

    Args:
        model: Whose probabilities are asked for.
        text: The sentence; white space in it only separates words.
        context: Read before it, not scored. A line break in it ends a sentence.
        bos: Begin at the start of a text. Without it, and without context, the first token is read
            but has no probability.
        eos: Count the end of the sentence as its last token.
        words: Return every word's score.
    """
    (result,) = yield from score_all(model, [text], context=context, bos=bos, eos=eos, words=words)
    return result


def score_all(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    context: str = "",
    bos: bool = True,
    eos: bool = True,
    words: bool = False,
) -> Program[list[SentenceScore]]:
    """Score sentences, each alone; what they have before them is read once. See `score`."""
    before = model.tokenizer.encode_context(context)[0 if bos else 1 :]
    here = (yield from read(before, None)) if before else None
    programs = [_score_behind(model.tokenizer, text, here, eos=eos, words=words) for text in texts]
    return (yield from side_by_side(programs))


def _score_behind(
    tokenizer: Tokenizer, text: str, here: Pass | None, *, eos: bool, words: bool
) -> Program[SentenceScore]:
    encoding = tokenizer.encode(text) if words else None
    token_ids = encoding.token_ids if encoding else tokenizer.encode_ids(text)
    scored = [*token_ids, tokenizer.eos_id] if eos else token_ids
    values, ranks = yield from _gather(tokenizer, here, scored, ranks=words)
    known = [value for value in values if value is not None]
    total, count = sum(known), len(known)
    return SentenceScore(
        text=text,
        log_prob=total if count else None,
        perplexity=_exp(-total / count) if count else None,
        mean_log_prob=total / count if count else None,
        bits_per_character=-total / math.log(2) / len(text) if count and text else None,
        scored_tokens=count,
        oov_count=token_ids.count(tokenizer.unk_id) if tokenizer.unk_id is not None else 0,
        eos_log_prob=values[-1] if eos else None,
        words=_words(tokenizer, text, encoding, values, ranks) if encoding else None,
    )


_Gathered = tuple[list[float | None], list[int | None]]


def _gather(
    tokenizer: Tokenizer, here: Pass | None, scored: Sequence[int], *, ranks: bool
) -> Program[_Gathered]:
    """Return log-probabilities and ranks of ``scored``; None for one that nothing precedes.

    Without ``ranks`` there are none.
    """
    values: list[float | None] = [None]
    places: list[int | None] = [None]
    state: State | None = None
    if here is not None:
        values, places = _pick(tokenizer, here.log_probs[None], scored[:1], ranks=ranks)
        state = here.state
    read_on = scored[:-1]  # nothing is asked of what follows the last
    step = _RANKED if ranks else CHUNK
    for start in range(0, len(read_on), step):
        chunk = read_on[start : start + step]
        targets = scored[start + 1 : start + 1 + len(chunk)]
        if ranks:
            (result,) = yield [Forward(chunk, state, "all")]
            found = _pick(tokenizer, result.log_probs, targets, ranks=True)
            values += found[0]
            places += found[1]
        else:
            (result,) = yield [Forward(chunk, state, "targets", targets)]
            values += result.log_probs.tolist()
        state = result.state
    return values[: len(scored)], places[: len(scored)]


def _pick(
    tokenizer: Tokenizer, log_probs: torch.Tensor, targets: Sequence[int], *, ranks: bool
) -> _Gathered:
    """Take the targets' log-probabilities out of (T, V)."""
    rows = log_probs.numpy()[: len(targets)]
    picked = rows[np.arange(len(targets)), targets]  # (T,)
    values = picked.tolist()
    if not ranks:
        return values, []
    above = rows > picked[:, None]  # (T, V)
    unfinished = ~tokenizer.is_word_end
    unfinished[tokenizer.eos_id] = False
    return values, [
        None if unfinished[target] else _rank(row, unfinished)
        for row, target in zip(above, targets, strict=True)
    ]


def _rank(above: np.ndarray, unfinished: np.ndarray) -> int | None:
    """Return the rank of a word of one piece, unless an unfinished piece stands above it."""
    return None if above[unfinished].any() else int(above.sum()) + 1


def _words(
    tokenizer: Tokenizer,
    text: str,
    encoding: Encoding,
    log_probs: Sequence[float | None],
    ranks: Sequence[int | None],
) -> list[WordScore]:
    words = []
    for span in encoding.words:
        values = log_probs[span.first : span.last]
        known = None if None in values else sum(value for value in values if value is not None)
        single = span.last == span.first + 1
        words.append(
            WordScore(
                text=text[span.start : span.end],
                start=span.start,
                end=span.end,
                log_prob=known,
                surprisal_bits=None if known is None else -known / math.log(2),
                rank=ranks[span.first] if single else None,
                oov=encoding.token_ids[span.first] == tokenizer.unk_id,
            )
        )
    return words


def _exp(x: float) -> float:
    """Return e to the power of x, at most the largest float."""
    return math.exp(min(x, 709.0))
