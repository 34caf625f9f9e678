"""What word comes next: the top of the exact next-word distribution."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from models.errors import InvalidRequestError
from models.forward import Pass, Program, read, side_by_side
from models.frontier import Found, FoundWord
from models.language_model import LanguageModel
from models.phrases import probable_phrases
from models.prefix import Prefix, split_prefix
from models.search import Search
from models.tokenizers import Tokenizer
from models.word_probability import Temper, read_head, word_log_prob

MOST_EXPANSIONS = 2048


@dataclass(slots=True)  # frozen, it would take four times as long to make, and many are made
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


class NextWords(NamedTuple):
    """The answer to `next_word`.

    Attributes:
        predictions: Most probable first.
        candidates: In the order given.
        covered_mass: Probability of every finished outcome that was seen: listed or not, words,
            punctuation, end of sentence, ``<unk>``. 1 less this is what was not expanded, and
            rows of tokens that the tokenizer never writes.
        oov_mass: Probability of ``<unk>``, a word outside the vocabulary.
        entropy_bits: Entropy of the whole next-word distribution, end of sentence and ``<unk>`` one
            outcome each; None unless the whole was asked for.
        context_tokens: Tokens read, BOS included.
        truncated: The context is longer than one layer of the network reaches back.
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
    context = tokenizer.remembered_context(text)
    start = root = yield from read(context, None)
    temper = Temper(temperature)

    typed = split_prefix(tokenizer, prefix, words_only=words_only)

    # Quoted, for it would be evaluated for each question.
    def search(reading: Prefix, root: Pass) -> "Program[Found]":
        def accept(word: str) -> bool:
            return word not in exclude and reading.head + word not in exclude

        search = Search(
            tokenizer,
            limit=1 if tokenizer.is_mark(reading.stem) else top_k,
            prefix=reading.begun,
            num_words=num_words,
            words_only=words_only,
            temper=None if temperature == 1 else temper,
            accept=accept if exclude else None,
            most_refused=2 * len(exclude),
            most_expansions=MOST_EXPANSIONS // num_words,
        )
        found = yield from search.run(root)
        if num_words > 1 and not found.proven:
            assert top_k is not None  # `_check` sees to it
            phrases = yield from probable_phrases(
                tokenizer,
                root,
                prefix=reading.begun,
                num_words=num_words,
                temper=search.temper,
                accept=search.accept,
            )
            found = _merge(found, phrases)
        if not words_only:
            found = yield from _complete_spellings(
                tokenizer, found, root, temper, touching=reading.touches
            )
        return found

    root, head_log_prob = yield from read_head(typed.head_ids, start, temper)
    found = _written(typed.head, (yield from search(typed, root)))
    if typed.ended is not None and not words_only:
        other, log_prob = yield from read_head(typed.ended.head_ids, start, temper)
        ended = _written(typed.ended.head, (yield from search(typed.ended, other)))
        found = _either(found, ended, log_prob - head_log_prob)
    predictions = _predictions(found, top_k)

    asked = [
        word_log_prob(tokenizer, word, start, temper, begun=typed.head_ids) for word in candidates
    ]
    log_probs = (yield from side_by_side(asked)) if asked else []
    if words_only and typed.ended is not None:
        pairs = zip(candidates, log_probs, strict=True)
        log_probs = [lp if _goes_on(tokenizer, word, typed) else -math.inf for word, lp in pairs]
    ranks = {prediction.word: prediction.rank for prediction in predictions} if asked else {}
    given = head_log_prob + found.prefix_log_prob
    oov_mass, entropy_bits = 0.0, None
    if not typed.stem:  # of which the distribution of tokens tells nothing
        oov_mass = _oov_mass(tokenizer, root, temper)
        entropy_bits = _entropy_bits(root, temper) if top_k is None else None
    return NextWords(
        predictions=predictions,
        candidates=[
            _candidate(word, prefix, log_prob, given, ranks.get(word))
            for word, log_prob in zip(candidates, log_probs, strict=True)
        ],
        covered_mass=_share(found.finished_log_prob, found.prefix_log_prob),
        oov_mass=oov_mass,
        entropy_bits=entropy_bits,
        context_tokens=len(context),
        truncated=len(context) > (model.network.context_length or math.inf),
        proven=found.proven,
    )


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


def _complete_spellings(
    tokenizer: Tokenizer, found: Found, root: Pass, temper: Temper, *, touching: bool
) -> Program[Found]:
    """Give every punctuation mark that was found the sum over all its spellings."""
    words: dict[str, FoundWord] = {}
    for word in found.words:
        if word.text in words:
            continue
        if not tokenizer.is_word(word.text):
            total = yield from word_log_prob(tokenizer, word.text, root, temper, touching=touching)
            word = word._replace(log_prob=word.log_prob if total is None else total)
        words[word.text] = word
    listed = float(np.logaddexp.reduce([word.log_prob for word in words.values()], initial=-np.inf))
    return replace(
        found,
        words=sorted(words.values(), key=lambda word: -word.log_prob),
        finished_log_prob=max(found.finished_log_prob, listed),
    )


def _merge(found: Found, phrases: Sequence[FoundWord]) -> Found:
    """Add phrases, each once, to those that an unproven search found."""
    every = {phrase.token_ids: phrase for phrase in [*found.words, *phrases]}
    return replace(found, words=sorted(every.values(), key=lambda phrase: -phrase.log_prob))


def _written(head: str, found: Found) -> Found:
    """Write before each word what was finished of the prefix."""
    if not head:
        return found
    return replace(found, words=[word._replace(text=head + word.text) for word in found.words])


def _either(one: Found, other: Found, log_prob: float) -> Found:
    """Join what two readings of a prefix found, the other's all so much more probable."""
    possible = [word for word in other.words if word.log_prob > -math.inf]
    moved = [word._replace(log_prob=word.log_prob + log_prob) for word in possible]
    return Found(
        words=sorted([*one.words, *moved], key=lambda word: -word.log_prob),
        prefix_log_prob=float(np.logaddexp(one.prefix_log_prob, other.prefix_log_prob + log_prob)),
        finished_log_prob=float(
            np.logaddexp(one.finished_log_prob, other.finished_log_prob + log_prob)
        ),
        proven=one.proven and other.proven,
    )


def _predictions(found: Found, top_k: int | None) -> list[Prediction]:
    predictions = []
    for rank, word in enumerate(found.words[:top_k], start=1):
        log_prob = min(0.0, word.log_prob - found.prefix_log_prob)
        predictions.append(Prediction(word.text, math.exp(log_prob), log_prob, rank))
    return predictions


def _share(log_prob: float, of: float) -> float:
    """Return what share one probability is of another; 0 where that is 0."""
    return math.exp(min(0.0, log_prob - of)) if of > -math.inf else 0.0


def _candidate(
    word: str, prefix: str, log_prob: float | None, typed: float, rank: int | None
) -> Candidate:
    if log_prob is None:
        return Candidate(word, None, None, None, oov=True)
    if not word.startswith(prefix) or typed == -math.inf or log_prob == -math.inf:
        return Candidate(word, 0.0, None, None, oov=False)
    given = min(0.0, log_prob - typed)
    return Candidate(word, math.exp(given), given, rank, oov=False)


def _goes_on(tokenizer: Tokenizer, word: str, typed: Prefix) -> bool:
    """Return whether the unit that was under way is, in ``word``, a unit that begins so."""
    starts = [span.start for span in tokenizer.encode(word).words]
    return not any(len(typed.head) < start < len(typed.text) for start in starts)


def _oov_mass(tokenizer: Tokenizer, root: Pass, temper: Temper) -> float:
    if tokenizer.unk_id is None:
        return 0.0
    return float(np.exp(temper(root.log_probs.numpy())[tokenizer.unk_id]))


def _entropy_bits(root: Pass, temper: Temper) -> float:
    log_probs = temper(root.log_probs.numpy())
    possible = log_probs[log_probs > -np.inf].astype(np.float64)
    return float(-(np.exp(possible) * possible).sum() / math.log(2))
