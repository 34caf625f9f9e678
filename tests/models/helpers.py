"""Small models that the tests make themselves: random networks, and networks told what to say."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

from models.language_model import LanguageModel
from models.networks import BatchState, Network, build_network, network_config
from models.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from models.tokenizers.base import BOS

KINDS = ("rnn", "gru", "lstm", "transformer")
CONTEXT = 6  # tokens: short, so that small texts go past it


def bounded(examples: int) -> settings:
    """Settings of a property test: no deadlines on a busy machine, the same examples each run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


def corpus(lines: int = 200, seed: int = 0) -> list[str]:
    """Return lines of a small random grammar, with punctuation and inner apostrophes."""
    choose = random.Random(seed).choice
    names = ["the cat", "a dog", "Anna", "my old computer", "New York", "the teacher's friend"]
    verbs = ["sees", "doesn't like", "is", "was reading", "books", "can't find"]
    ends = ["a room", "the red house", "very slow", "on time", "the cats, the dogs and Anna"]
    return [
        f"{choose(names)} {choose(verbs)} {choose(ends)}{choose(['.', '!', '?', ' (again).'])}"
        for _ in range(lines)
    ]


WIKITEXT_LINES = [
    "",
    " = The Title = ",
    "",
    " The cat , a <unk> play @-@ off , saw 1 @,@ 500 dogs . It is 3 @.@ 5 metres ( 11 ft ) long . ",
    " \" We don 't know \" , said the dog 's friend ; he 's <unk> : it was 10 @-@ 20 % . ",
]


@cache
def tokenizer_of(kind: str, vocab_size: int = 320) -> Tokenizer:
    """Return a tokenizer learnt from the small grammar."""
    lines = WIKITEXT_LINES * 5 if kind == "wikitext" else corpus()
    return train_tokenizer(kind, lines, vocab_size=vocab_size)


def network_of(
    kind: str, vocab_size: int = 23, *, num_ids: int = 0, seed: int = 0, std: float = 0.3, **sizes
) -> Network:
    """Return a network whose weights are drawn wide, far from a uniform distribution."""
    common = {"kind": kind, "vocab_size": vocab_size, "num_ids": num_ids or vocab_size + 1}
    common |= {"embedding_size": 16, "num_layers": 2}
    if kind == "transformer":
        common |= {"num_heads": 2, "feedforward_size": 24, "context_length": CONTEXT}
    else:
        common |= {"hidden_size": 20}
    torch.manual_seed(seed)
    network = build_network(network_config(common | sizes))
    with torch.no_grad():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=std)
    return network.eval().requires_grad_(False)


def model_of(
    kind: str = "lstm", tokenizer: str | Tokenizer = "subword", *, seed: int = 0, **sizes
) -> LanguageModel:
    """Return a model of random weights with a tokenizer of the small grammar."""
    if isinstance(tokenizer, str):
        tokenizer = tokenizer_of(tokenizer)
    network = network_of(kind, tokenizer.vocab_size, num_ids=tokenizer.num_ids, seed=seed, **sizes)
    return LanguageModel("small", network, tokenizer)


@dataclass(frozen=True)
class HistoryState(BatchState):
    """The state of a `ToldNetwork`: the very tokens that were read."""

    histories: tuple[tuple[int, ...], ...]

    @property
    def batch_size(self) -> int:
        return len(self.histories)

    @property
    def num_bytes(self) -> int:
        return 8 * sum(map(len, self.histories))

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        return cls(tuple(h for state in states for h in state.histories))

    def select(self, rows: Tensor) -> Self:
        return type(self)(tuple(self.histories[int(row)] for row in rows))

    def reset(self, rows: Tensor) -> Self:
        pairs = zip(self.histories, rows.tolist(), strict=True)
        return type(self)(tuple(() if row else h for h, row in pairs))

    def detach(self) -> Self:
        return self


class ToldNetwork(Network):
    """A network whose logits are whatever a function of the tokens read so far says."""

    def __init__(
        self, tokenizer: Tokenizer, logits: Callable[[tuple[int, ...]], np.ndarray]
    ) -> None:
        super().__init__()
        self.vocab_size, self.tell = tokenizer.vocab_size, logits
        self.embedding = nn.Embedding(tokenizer.num_ids, 1)

    @property
    def output_weight(self) -> Tensor:
        return torch.eye(self.vocab_size)

    @property
    def context_length(self) -> None:
        return None

    def initial_state(self, batch_size: int) -> HistoryState:
        return HistoryState(((),) * batch_size)

    def features(
        self, token_ids: Tensor, state: BatchState | None = None
    ) -> tuple[Tensor, BatchState]:
        state = state or self.initial_state(len(token_ids))
        assert isinstance(state, HistoryState)
        rows, after = [], []
        for history, ids in zip(state.histories, token_ids.tolist(), strict=True):
            row = []
            for token in ids:
                history = (*history, token)
                row.append(torch.as_tensor(self.tell(history), dtype=torch.float32))
            rows.append(torch.stack(row))
            after.append(history)
        return torch.stack(rows), HistoryState(tuple(after))

    def logits(self, features: Tensor) -> Tensor:
        return features


def told_model(
    tokenizer: Tokenizer, logits: Callable[[tuple[int, ...]], np.ndarray]
) -> LanguageModel:
    """Return a model that says what ``logits`` of the history, BOS first, says."""
    return LanguageModel("told", ToldNetwork(tokenizer, logits).eval(), tokenizer)


def random_logits(
    tokenizer: Tokenizer, live: Sequence[int], *, seed: int = 0, scale: float = 1.5
) -> Callable[[tuple[int, ...]], np.ndarray]:
    """Return logits drawn anew for each history, far below all others for tokens not ``live``."""

    @cache
    def logits(history: tuple[int, ...]) -> np.ndarray:
        drawn = np.random.default_rng((seed, *history)).normal(0, scale, len(live))
        row = np.full(tokenizer.vocab_size, -1e4)
        row[list(live)] = drawn
        return row

    return logits


def subwords_with(added, vocabulary=(), normalizer=None, **model):
    """Return the tokenizer of the tests with more merges behind its own, and more entries."""
    state = json.loads(tokenizer_of("subword").to_json())
    ids = state["model"]["vocab"]
    del ids[BOS]  # it has to be the last
    for entry in (*vocabulary, *("".join(merge) for merge in added)):
        ids.setdefault(entry, len(ids))
    ids[BOS] = len(ids)
    state["model"]["merges"] += added
    state["model"] |= model
    state["normalizer"] = normalizer or state["normalizer"]
    return load_tokenizer(json.dumps(state))
