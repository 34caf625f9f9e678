"""What word comes next: the top of the exact next-word distribution."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.errors import InvalidRequestError
from models.forward import Forward, Pass, Program, read
from models.language_model import LanguageModel
from models.phrases import probable_phrases
from models.search import Found, FoundWord, Search
from models.tokenizers import Tokenizer

MOST_EXPANSIONS = 4096


@dataclass(frozen=True)
class Prediction:
    """A word of the list.

    Attributes:
        word: A whole word as it is written; several of them where several were asked for.
        probability: That this word comes next; for a typed prefix, given the prefix.
        log_prob: Its natural logarithm.
        rank: Place in the list, from 1.
    """

    word: str
    probability: float
    log_prob: float
    rank: int


@dataclass(frozen=True)
class Candidate:
    """A word whose probability was asked for.

    Attributes:
        word: As it was given.
        probability: None where the vocabulary lacks it.
        log_prob: Natural logarithm; None where the probability is None or 0.
        rank: Place among all words that may be listed, from 1; None where it is not known.
        oov: The vocabulary lacks it.
    """

    word: str
    probability: float | None
    log_prob: float | None
    rank: int | None
    oov: bool


@dataclass(frozen=True)
class NextWords:
    """The answer to `next_word`.

    Attributes:
        predictions: Most probable first.
        candidates: In the order given.
        covered_mass: Probability of every finished outcome that was seen: listed or not, words,
            punctuation, end of sentence, ``<unk>``. 1 less this is what was not expanded.
        oov_mass: Probability of ``<unk>``, a word outside the vocabulary.
        entropy_bits: Entropy of the whole next-word distribution, end of sentence and ``<unk>`` one
            outcome each; None unless the whole was asked for.
        context_tokens: Tokens read, BOS included.
        truncated: The context is longer than the network reaches back.
        proven: The list is exactly the top of the distribution; False only for questions so open
            that the search gave up.
    """

    predictions: list[Prediction]
    candidates: list[Candidate]
    covered_mass: float
    oov_mass: float
    entropy_bits: float | None
    context_tokens: int
    truncated: bool
    proven: bool


def next_word(
    model: LanguageModel,
    text: str,
    *,
    top_k: int | None = 10,
    prefix: str = "",
    candidates: Sequence[str] = (),
    num_words: int = 1,
    temperature: float = 1.0,
    words_only: bool = True,
    exclude: Collection[str] = (),
) -> Program[NextWords]:
    """Find the most probable next words, exactly.

    Args:
        model: Whose distribution is asked for.
        text: What was written so far; may be empty. A line break ends a sentence.
        top_k: How many words to list; None for the whole vocabulary of a word-level model.
        prefix: The beginning of the next word, as typed so far. Probabilities are given it.
        candidates: Words to report whether they are in the list or not.
        num_words: Length of each continuation, words.
        temperature: Above 0; each token's distribution is raised to its inverse and renormalised.
        words_only: List no punctuation.
        exclude: Words to leave out of the list, as they are written.

    Raises:
        InvalidRequestError: Arguments that do not go together.
    """
    tokenizer = model.tokenizer
    _check(tokenizer, top_k, prefix, candidates, num_words, temperature, words_only=words_only)
    context = tokenizer.encode_context(text)
    start = root = yield from read(context, None)
    temper = _Temper(temperature)

    head, head_ids, stem = _split_prefix(tokenizer, prefix)
    head_log_prob = 0.0
    if head_ids:
        whole = yield from read(head_ids, start.state, "all")
        head_log_prob = _sequence_log_prob(head_ids, start, whole, temper)
        root = Pass(whole.log_probs[-1], whole.state)

    def accept(word: str) -> bool:
        return head + word not in exclude

    begun = tokenizer.beginning(stem)
    search = Search(
        tokenizer,
        limit=top_k,
        prefix=begun,
        num_words=num_words,
        words_only=words_only,
        temper=temper,
        accept=accept,
        most_expansions=MOST_EXPANSIONS // num_words,
    )
    found = yield from search.run(root)
    if num_words > 1 and not found.proven:
        assert top_k is not None  # `_check` sees to it
        phrases = yield from probable_phrases(
            tokenizer, root, limit=top_k, prefix=begun, num_words=num_words, temper=temper
        )
        found = _merge(found, [phrase for phrase in phrases if accept(phrase.text)])
    if not words_only:
        found = yield from _complete_spellings(tokenizer, found, root, temper)
    predictions = _predictions(found, head, top_k)

    root_log_probs = temper(root.log_probs.numpy().astype(np.float64))
    typed = head_log_prob + found.prefix_log_prob
    reported = []
    for word in candidates:
        log_prob = yield from _word_log_prob(tokenizer, word, start, temper)
        rank = next((p.rank for p in predictions if p.word == word), None)
        reported.append(_candidate(word, prefix, log_prob, typed, rank))
    mass = math.exp(found.prefix_log_prob)
    return NextWords(
        predictions=predictions,
        candidates=reported,
        covered_mass=min(1.0, found.finished_mass / mass) if mass else 0.0,
        oov_mass=_oov_mass(tokenizer, root_log_probs, stem),
        entropy_bits=_entropy_bits(root_log_probs) if top_k is None and not stem else None,
        context_tokens=len(context),
        truncated=len(context) > (model.network.context_length or math.inf),
        proven=found.proven,
    )


@dataclass(frozen=True)
class _Temper:
    temperature: float

    def __call__(self, log_probs: np.ndarray) -> np.ndarray:
        if self.temperature == 1:
            return log_probs
        # The highest is 0 before it is divided, so that no temperature makes infinities of all.
        with np.errstate(over="ignore"):
            scaled = (log_probs - log_probs.max()) / self.temperature
        tempered: np.ndarray = scaled - np.log(np.exp(scaled).sum())
        return tempered


def _check(
    tokenizer: Tokenizer,
    top_k: int | None,
    prefix: str,
    candidates: Sequence[str],
    num_words: int,
    temperature: float,
    *,
    words_only: bool,
) -> None:
    if not temperature > 0:
        raise InvalidRequestError("temperature", "must be above 0")
    if top_k is not None and top_k < 1:
        raise InvalidRequestError("top_k", "must be at least 1")
    if num_words < 1:
        raise InvalidRequestError("num_words", "must be at least 1")
    if top_k is None and tokenizer.kind == "subword":
        raise InvalidRequestError("top_k", "must be a number: a subword model's words have no end")
    if top_k is None and num_words > 1:
        raise InvalidRequestError("top_k", "must be a number where num_words is above 1")
    if num_words > 1 and not words_only:
        raise InvalidRequestError("words_only", "must be true where num_words is above 1")
    if any(character.isspace() for character in prefix):
        raise InvalidRequestError("prefix", "must not contain white space")
    if not all(tokenizer.encode(word).token_ids for word in candidates):
        raise InvalidRequestError("candidates", "must not contain an empty word")


def _split_prefix(tokenizer: Tokenizer, prefix: str) -> tuple[str, list[int], str]:
    """Split a typed prefix into finished units and the beginning of a word.

    ``don'`` has no finished unit; ``e-ma`` has ``e`` and ``-``, which are read like context.
    """
    # What is typed next goes on with a word: with it, the tokenizer tells whether ``don'`` is the
    # beginning of one, and lets punctuation before the word know that it touches it.
    encoding = tokenizer.encode(prefix + "a")
    word = encoding.words[-1]
    return prefix[: word.start], encoding.token_ids[: word.first], prefix[word.start :]


def _sequence_log_prob(
    token_ids: Sequence[int], before: Pass, whole: Pass, temper: _Temper
) -> float:
    """Return the natural log-probability of ``token_ids``, read by ``whole`` after ``before``."""
    rows = [before.log_probs.numpy(), *whole.log_probs.numpy()]
    pairs = zip(rows, token_ids, strict=False)
    return float(sum(temper(row.astype(np.float64))[token] for row, token in pairs))


def _word_log_prob(
    tokenizer: Tokenizer, word: str, root: Pass, temper: _Temper
) -> Program[float | None]:
    """Return a word's natural log-probability over all its spellings; None for no spelling."""
    spellings = tokenizer.spellings(word)
    longer = [ids for ids in spellings if len(ids) > 1]
    passes = iter(
        (yield [Forward(ids[:-1], root.state, "all") for ids in longer]) if longer else []
    )
    total = -math.inf
    for ids in spellings:
        whole = next(passes) if len(ids) > 1 else Pass(root.log_probs[:0, None], root.state)
        total = np.logaddexp(total, _sequence_log_prob(ids, root, whole, temper))
    return float(total) if spellings else None


def _complete_spellings(
    tokenizer: Tokenizer, found: Found, root: Pass, temper: _Temper
) -> Program[Found]:
    """Give every punctuation mark that was found the sum over all its spellings."""
    words: dict[str, FoundWord] = {}
    for word in found.words:
        if word.text in words:
            continue
        if not tokenizer.is_word(word.text):
            total = yield from _word_log_prob(tokenizer, word.text, root, temper)
            word = replace(word, log_prob=word.log_prob if total is None else total)
        words[word.text] = word
    return replace(found, words=sorted(words.values(), key=lambda word: -word.log_prob))


def _merge(found: Found, phrases: Sequence[FoundWord]) -> Found:
    """Add phrases, each once, to those that an unproven search found."""
    every = {phrase.token_ids: phrase for phrase in [*found.words, *phrases]}
    return replace(found, words=sorted(every.values(), key=lambda phrase: -phrase.log_prob))


def _predictions(found: Found, head: str, top_k: int | None) -> list[Prediction]:
    predictions = []
    for rank, word in enumerate(found.words[:top_k], start=1):
        log_prob = min(0.0, word.log_prob - found.prefix_log_prob)
        text = head + word.text
        predictions.append(Prediction(text, math.exp(log_prob), log_prob, rank))
    return predictions


def _candidate(
    word: str, prefix: str, log_prob: float | None, typed: float, rank: int | None
) -> Candidate:
    if log_prob is None:
        return Candidate(word, None, None, None, oov=True)
    if not word.startswith(prefix) or typed == -math.inf or log_prob == -math.inf:
        return Candidate(word, 0.0, None, None, oov=False)
    given = min(0.0, log_prob - typed)
    return Candidate(word, math.exp(given), given, rank, oov=False)


def _oov_mass(tokenizer: Tokenizer, log_probs: np.ndarray, stem: str) -> float:
    """Return the probability of ``<unk>``; 0 behind a prefix, of which ``<unk>`` tells nothing."""
    if tokenizer.unk_id is None or stem:
        return 0.0
    return float(np.exp(log_probs[tokenizer.unk_id]))


def _entropy_bits(log_probs: np.ndarray) -> float:
    possible = log_probs[log_probs > -np.inf]
    return float(-(np.exp(possible) * possible).sum() / math.log(2))
