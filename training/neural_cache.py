"""The continuous neural cache (Grave et al. 2017): words come back after features like these.

Of the last positions, the features (the output layer's input) and the word that followed are kept.
A word's share of the cache is that of the positions it followed, each weighted by
exp(theta * product of its features with the present ones) (eq. 3); the cache's probability is mixed
with the network's (eq. 5). Nothing is learnt, and each token is scored before it is kept.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.language_model import LanguageModel
from training.bounds import below_one, positive
from training.perplexity import logits_of, read_features

_POSITIONS = 256  # whose products with the cache are held at once


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Of the cache.

    Attributes:
        size: Positions kept.
        theta: How much sharper than the plain product of features; at least 0.
        share: Of the cache in the mixture, from 0 to below 1.
    """

    size: int = 2000
    theta: float = 0.3
    share: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError naming the first setting out of range."""
        positive(self, "size")
        below_one(self, "share")
        if self.theta < 0:
            raise ValueError(f"theta must be at least 0, not {self.theta!r}")


SIZES = (500, 2000, 4000)
THETAS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def score_with_cache(
    model: LanguageModel, documents: Iterable[np.ndarray], settings: CacheSettings
) -> Iterator[np.ndarray]:
    """Yield the natural log-probabilities of the tokens, in their order, float64.

    Args:
        model: Its calibration temperature applies.
        documents: Token ids (T,) of each, without BOS; the cache is kept from one to the next.
        settings: Of the cache.
    """
    for network, cache in _probabilities(model, documents, [settings.size], [settings.theta]):
        yield np.log(_mix(network, cache[0, 0], settings.share))


def tune_cache(
    model: LanguageModel,
    documents: Iterable[np.ndarray],
    *,
    sizes: Sequence[int] = SIZES,
    thetas: Sequence[float] = THETAS,
    shares: Sequence[float] = SHARES,
) -> tuple[CacheSettings, float]:
    """Return the settings of the grid that score a text best, and their nats per token.

    Args:
        model: See `score_with_cache`.
        documents: See `score_with_cache`.
        sizes: To try.
        thetas: To try.
        shares: To try.

    Raises:
        ValueError: There are no tokens.
    """
    nats = np.zeros((len(sizes), len(thetas), len(shares)))
    tokens = 0
    for network, cache in _probabilities(model, documents, sizes, thetas):
        tokens += len(network)
        for i, share in enumerate(shares):
            nats[..., i] -= np.log(_mix(network, cache, share)).sum(-1)
    if not tokens:
        raise ValueError("a text without tokens tells no setting from another")
    a, b, c = map(int, np.unravel_index(nats.argmin(), nats.shape))
    settings = CacheSettings(size=sizes[a], theta=thetas[b], share=shares[c])
    return settings, float(nats.min()) / tokens


def _mix(network: np.ndarray, cache: np.ndarray, share: float) -> np.ndarray:
    """Return the mixture; where the cache is still empty (NaN) the network's probability."""
    mixed: np.ndarray = np.where(np.isnan(cache), network, (1 - share) * network + share * cache)
    possible: np.ndarray = np.maximum(mixed, np.finfo(np.float64).tiny)
    return possible


@torch.inference_mode()
def _probabilities(
    model: LanguageModel,
    documents: Iterable[np.ndarray],
    sizes: Sequence[int],
    thetas: Sequence[float],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the tokens' probabilities by network (T,), and by cache (sizes, thetas, T)."""
    kept = max(sizes)
    device = model.network.embedding.weight.device
    keys = torch.empty(0, model.network.output_weight.size(1), device=device)
    words = torch.empty(0, dtype=torch.int64, device=device)
    for document in documents:
        for features, _, targets in read_features(model, [document]):
            for part, answers in zip(
                torch.split(features.float(), _POSITIONS),
                torch.split(targets.to(device), _POSITIONS),
                strict=True,
            ):
                network = _network_probabilities(model, part, answers)
                keys, words = torch.cat((keys, part)), torch.cat((words, answers))
                products = part @ keys.T  # (T, P + T)
                followed = words == answers[:, None]
                age = _ages(len(part), len(keys), device)
                cache = torch.stack(
                    [
                        torch.stack(
                            [_cached(products, followed, age, size, theta) for theta in thetas]
                        )
                        for size in sizes
                    ]
                )
                yield network, cache.double().cpu().numpy()
                keys, words = keys[-kept:], words[-kept:]


def _ages(time: int, total: int, device: torch.device) -> Tensor:
    """Return how many positions back each key lies, (T, P + T): 0 is the position itself."""
    query = torch.arange(total - time, total, device=device)[:, None]
    return query - torch.arange(total, device=device)


def _cached(products: Tensor, followed: Tensor, age: Tensor, size: int, theta: float) -> Tensor:
    """Return the answers' probabilities by the cache, (T,); NaN where it is empty."""
    seen = (age > 0) & (age <= size)
    weights = (theta * products).masked_fill(~seen, -torch.inf).softmax(dim=-1)
    return (weights * followed).sum(-1)


def _network_probabilities(model: LanguageModel, features: Tensor, answers: Tensor) -> np.ndarray:
    parts = [
        logits.div_(model.temperature).log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]
        for logits, targets in logits_of(model.network, features, answers)
    ]
    probabilities: np.ndarray = torch.cat(parts).double().exp().cpu().numpy()
    return probabilities
