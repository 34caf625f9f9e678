"""Exact log-probabilities of every token of a text, many documents side by side.

Each document is read from its beginning with the state carried from segment to segment, as if it
were read alone; documents of like length share a batch, so that hardly anything is padding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.language_model import LanguageModel
from models.networks import BatchState, Network

_STREAMS = 64
_SEGMENT_TOKENS = 4096  # read at once, over all streams
_LONGEST_SEGMENT = 512
_LOGIT_BYTES = 32 * 2**20  # held at once; more would not stay in the cache


@dataclass(frozen=True)
class TokenScores:
    """Scores of some tokens, in no particular order; all arrays (N,).

    Attributes:
        log_probs: Natural log-probability of each token that stands in the text, float64.
        top: Probability of the token that the model thought most probable, float64.
        hits: Whether that was the one, bool.
    """

    log_probs: np.ndarray
    top: np.ndarray
    hits: np.ndarray


def score_documents(
    model: LanguageModel, documents: Iterable[np.ndarray], *, streams: int = _STREAMS
) -> Iterator[TokenScores]:
    """Score every token of every document, end of sentence included.

    Args:
        model: Its calibration temperature applies, as it does when the model is served.
        documents: Token ids (T,) of each, without BOS, which is read before the first.
        streams: Documents read side by side.

    Yields:
        The scores of a segment of some documents.
    """
    for features, _, targets in read_features(model, documents, streams=streams):
        yield _score(model, features, targets)


@torch.inference_mode()
def read_features(
    model: LanguageModel, documents: Iterable[np.ndarray], *, streams: int = _STREAMS
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the output layer's inputs (N, E), and the tokens (N,) read and following, by segments.

    See `score_documents`.
    """
    longest_first = sorted((d for d in documents if len(d)), key=len, reverse=True)
    for start in range(0, len(longest_first), streams):
        yield from _read_together(model, longest_first[start : start + streams])


def logits_of(
    network: Network, features: Tensor, targets: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (C, V), float32, and targets (C,) a chunk at a time, to be overwritten."""
    chunk = max(1, _LOGIT_BYTES // (4 * network.vocab_size))
    chunks = zip(torch.split(features, chunk), torch.split(targets, chunk), strict=True)
    for part, answers in chunks:
        logits = network.logits(part).float()
        yield logits, answers.to(logits.device)


def _read_together(
    model: LanguageModel, documents: Sequence[np.ndarray]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Read documents sorted by length, longest first."""
    device = model.network.embedding.weight.device
    lengths = torch.tensor([len(d) for d in documents])
    longest = int(lengths[0])
    targets = torch.zeros(len(documents), longest, dtype=torch.int64)
    for row, document in enumerate(documents):
        targets[row, : len(document)] = torch.from_numpy(document.astype(np.int64))
    bos = torch.full((len(documents), 1), model.tokenizer.bos_id)
    inputs = torch.cat((bos, targets[:, :-1]), dim=1)  # (B, T)
    state: BatchState | None = None
    start = 0
    while start < longest:
        rows = int((lengths > start).sum())  # the others have ended
        if state is not None and rows < state.batch_size:
            state = state.select(torch.arange(rows))
        end = min(longest, start + min(_LONGEST_SEGMENT, max(1, _SEGMENT_TOKENS // rows)))
        features, state = model.network.features(inputs[:rows, start:end].to(device), state)
        real = torch.arange(start, end) < lengths[:rows, None]  # (B, T): not padding
        read, answers = (ids[:rows, start:end][real] for ids in (inputs, targets))
        yield features[real.to(device)], read, answers
        start = end


@torch.inference_mode()
def _score(model: LanguageModel, features: Tensor, targets: Tensor) -> TokenScores:
    """Score ``targets`` (N,) behind ``features`` (N, E), a chunk of logits at a time."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for logits, answers in logits_of(model.network, features, targets):
        logits.div_(model.temperature)
        highest, top = logits.max(dim=-1)
        shifted = logits.sub_(highest[:, None])  # in place: one buffer of this size is enough
        answer = shifted.gather(1, answers[:, None])[:, 0]
        total = shifted.exp_().sum(dim=-1)
        parts.append((answer - total.log(), 1 / total, top == answers))
    log_probs, top_probs, hits = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return TokenScores(log_probs.double().numpy(), top_probs.double().numpy(), hits.numpy())
