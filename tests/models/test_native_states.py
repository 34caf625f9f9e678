"""What the native backend has read: shared, never changed, and no more memory than it says."""

import random
import resource
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.backends import TorchBackend
from models.forward import Forward
from models.native import NativeBackend
from tests.models.helpers import CONTEXT, KINDS, bounded, network_of
from tests.models.test_native_backend import pytestmark as pytestmark

VOCAB_SIZE = 23


def backend_of(kind: str, vocab_size: int = VOCAB_SIZE, **sizes) -> NativeBackend:
    return NativeBackend(network_of(kind, vocab_size, **sizes))


def read(backend, ids, state=None):
    return backend.compute([Forward(ids, state)])[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context_length", [1, 2, CONTEXT, 8, 9, 40])
@given(seed=st.integers(0, 1000))
@bounded(6)
def test_states_grow_like_a_tree(kind, context_length, seed):
    if kind != "transformer" and context_length != CONTEXT:
        return
    sizes = {"context_length": context_length} if kind == "transformer" else {}
    backend = backend_of(kind, **sizes)
    draw = random.Random(seed)
    known = [((), None, None)]  # what was read, the state, the log-probabilities
    for _ in range(25):
        chosen = [draw.choice(known) for _ in range(draw.randint(1, 4))]
        more = [
            tuple(draw.choices(range(VOCAB_SIZE), k=draw.choice((1, 1, 1, 2, 11)))) for _ in chosen
        ]
        forwards = [Forward(m, state) for (_, state, _), m in zip(chosen, more, strict=True)]
        passes = backend.compute(forwards)
        known += [
            (ids + m, p.state, p.log_probs)
            for (ids, *_), m, p in zip(chosen, more, passes, strict=True)
        ]
    for ids, state, log_probs in known[1:]:  # each is what it would be by itself, and stays so
        alone = read(backend, ids)
        assert torch.equal(alone.log_probs, log_probs)
        assert torch.equal(
            read(backend, [3], state).log_probs, read(backend, [3], alone.state).log_probs
        )


def test_a_far_position_is_turned_like_torch_does():
    network = network_of("transformer", VOCAB_SIZE)
    native, exact = NativeBackend(network), TorchBackend(network)
    states = [None, None]
    ids = random.Random(0).choices(range(VOCAB_SIZE), k=1100)
    for start in range(0, len(ids), 100):
        passes = [
            read(b, ids[start : start + 100], s)
            for b, s in zip((native, exact), states, strict=True)
        ]
        states = [p.state for p in passes]
    assert (passes[0].log_probs - passes[1].log_probs).abs().max() < 0.05
    assert states[0].position == 1100


def test_a_step_adds_a_position_or_a_block():
    backend = backend_of("transformer", context_length=40)
    states = [read(backend, [1]).state]
    for _ in range(60):
        states.append(read(backend, [1], states[-1]).state)
    block = states[0].num_bytes
    position = states[1].num_bytes
    assert block == 8 * position
    for before, after in pairwise(states):
        assert after.num_bytes == (block if before.position % 8 == 0 else position)
    assert (
        sum(size for _, size in states[-1].parts()) <= 6 * block
    )  # 40 positions are in 5 blocks, or touch 6
    fork = read(backend, [2], states[1]).state  # whose next slot is taken
    assert fork.num_bytes == block
    assert read(backend, [2], fork).state.num_bytes == position


def test_a_block_of_a_large_model_is_still_kept_by_the_search():
    sizes = {"embedding_size": 256, "num_heads": 4, "num_layers": 6, "context_length": 128}
    state = read(backend_of("transformer", **sizes), [1, 2, 3]).state
    assert state.num_bytes <= 1 << 16


def test_a_recurrent_state_holds_its_vectors():
    state = read(backend_of("lstm"), [1]).state
    assert state.num_bytes == sum(size for _, size in state.parts()) == 2 * 2 * 20 * 4


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_memory_is_given_back(kind):
    sizes = {"embedding_size": 128, "context_length": 32} if kind == "transformer" else {}

    def work() -> None:
        backend = backend_of(kind, vocab_size=5000, **sizes)
        states = [None] * 16
        for _ in range(40):
            states = [p.state for p in backend.compute([Forward([1, 2], s) for s in states])]

    def most() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB

    work()
    before = most()
    for _ in range(12):
        work()
    assert most() - before < 8 << 10
