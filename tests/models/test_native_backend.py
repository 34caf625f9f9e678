"""The native backend against torch, against its own arithmetic done slowly, and against itself."""

import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.backends import TorchBackend
from models.errors import BackendUnavailableError
from models.forward import Forward
from models.native import NativeBackend, available, instructions
from models.native.library import choose_instructions, load_library
from models.networks import Network
from tests.models.helpers import CONTEXT, KINDS, bounded, network_of
from tests.models.native_oracle import log_probs

pytestmark = pytest.mark.skipif(
    not available() and not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="no C compiler to build the library with",
)
ROOT = Path(__file__).parents[2]
SETS = ("avx512", "avx2", "generic")
VOCAB_SIZE = 1100  # words: more than two chunks of panels, the last panel not whole
WANTS = ("last", "all", "targets", "none")


@pytest.fixture(params=SETS)
def instruction_set(request):
    try:
        yield choose_instructions(load_library(), request.param)
    except BackendUnavailableError:
        pytest.skip(f"this processor has no {request.param}")
    finally:
        choose_instructions(load_library(), "")


def varied_networks() -> list[Network]:
    """Every kind with tied and own output weights, and widths that are no multiple of 16."""
    recurrent = [
        network_of(kind, VOCAB_SIZE, std=0.1, **sizes)
        for kind in KINDS[:3]
        for sizes in (
            {},
            {"tied": False, "embedding_size": 20},  # no projection
            {"embedding_size": 24, "hidden_size": 70, "num_layers": 1},
        )
    ]
    transformers = [
        network_of("transformer", VOCAB_SIZE, std=0.1, **sizes)
        for sizes in (
            {},
            {"tied": False, "embedding_size": 36, "num_heads": 3, "feedforward_size": 50},
            {"embedding_size": 96, "num_heads": 1, "context_length": 1},
            {"embedding_size": 160, "num_heads": 2, "context_length": 40, "num_layers": 1},
        )
    ]
    return [*recurrent, *transformers]


def texts(lengths, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, vocab_size + 1, length).tolist() for length in lengths]


def read(backend, ids, state=None, want="all", targets=()):
    return backend.compute([Forward(ids, state, want, targets)])[0]


@pytest.mark.parametrize("network", varied_networks(), ids=lambda n: n.config.kind)
def test_it_computes_its_arithmetic(network, instruction_set):
    (ids,) = texts([17])
    found = read(NativeBackend(network, 1.3), ids).log_probs
    errors = np.abs(found.numpy() - log_probs(network, ids, 1.3)).max(1)
    # Where a value lies between two whole numbers, float32 and float64 may round to either: a step
    # of an activation in bytes makes that much.
    assert np.median(errors) < 1e-4
    assert errors.max() < 5e-3


@pytest.mark.parametrize("network", varied_networks(), ids=lambda n: n.config.kind)
def test_it_agrees_with_torch(network):
    (ids,) = texts([17])
    native, exact = (cls(network, 0.9) for cls in (NativeBackend, TorchBackend))
    found, wanted = read(native, ids).log_probs, read(exact, ids).log_probs
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(1), torch.ones(17), atol=1e-5, rtol=0)
    assert (found - wanted).abs().mean() < 0.01 * wanted.std()


@pytest.mark.parametrize(
    ("kind", "words", "std", "tokens"),
    [*((kind, VOCAB_SIZE, 0.2, 9) for kind in KINDS), ("lstm", 20_000, 0.02, 40)],
)
def test_all_instructions_give_the_same_bits(kind, words, std, tokens):
    backend = NativeBackend(network_of(kind, words, std=std))
    found = []
    for name in SETS:
        try:
            choose_instructions(load_library(), name)
        except BackendUnavailableError:
            continue
        assert instructions() == name
        found.append(read(backend, texts([tokens], vocab_size=words)[0]).log_probs)
    choose_instructions(load_library(), "")
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 3])
@given(
    lengths=st.lists(st.integers(1, 2 * CONTEXT), min_size=1, max_size=12),
    seed=st.integers(0, 100),
    data=st.data(),
)
@bounded(15)
def test_a_text_gives_the_same_bits_in_any_company(kind, threads, lengths, seed, data):
    network = network_of(kind, VOCAB_SIZE, std=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.native.packing._ALONE", 0)  # share the smallest calls
        backend, alone = NativeBackend(network, threads=threads), NativeBackend(network)
    wants = data.draw(
        st.lists(st.sampled_from(WANTS), min_size=len(lengths), max_size=len(lengths))
    )
    forwards = [
        Forward(ids, None, want, ids[::-1] if want == "targets" else ())
        for ids, want in zip(texts(lengths, seed, VOCAB_SIZE - 1), wants, strict=True)
    ]
    for _ in range(2):  # from nothing, then from the states
        passes = backend.compute(forwards)
        singles = [alone.compute([f])[0] for f in forwards]
        assert all(
            torch.equal(a.log_probs, b.log_probs) for a, b in zip(passes, singles, strict=True)
        )
        forwards = [
            Forward(f.token_ids[:3], p.state, "all") for f, p in zip(forwards, passes, strict=True)
        ]


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=st.lists(st.integers(1, 29), max_size=6), seed=st.integers(0, 100))
@bounded(15)
def test_a_text_in_pieces_gives_the_bits_of_the_whole(kind, cuts, seed):
    backend = NativeBackend(network_of(kind, VOCAB_SIZE, std=0.2))
    (ids,) = texts([30], seed)
    whole = read(backend, ids)
    bounds, state, parts = [0, *sorted(set(cuts)), 30], None, []
    for start, end in pairwise(bounds):
        part = read(backend, ids[start:end], state)
        state = part.state
        parts.append(part.log_probs)
    assert torch.equal(torch.cat(parts), whole.log_probs)
    assert torch.equal(
        read(backend, [1], state).log_probs, read(backend, [1], whole.state).log_probs
    )


@pytest.mark.parametrize("above", [60.0, 100.0, 1e3, 1e6])
@pytest.mark.parametrize("word", [3, 64, VOCAB_SIZE - 1])
def test_one_word_may_be_as_good_as_certain(above, word, instruction_set):
    network = network_of("lstm", VOCAB_SIZE, std=0.1)
    with torch.no_grad():
        network.output_bias[word] += above
    ids = texts([12])
    expected = read(TorchBackend(network), *ids).log_probs
    found = read(NativeBackend(network), *ids).log_probs
    assert found[:, word].tolist() == pytest.approx([0.0] * 12, abs=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_wants(kind):
    backend = NativeBackend(network_of(kind, VOCAB_SIZE, std=0.2))
    (ids,) = texts([200], vocab_size=VOCAB_SIZE - 1)  # more rows than a chunk of the output layer
    whole = read(backend, ids).log_probs
    assert torch.equal(read(backend, ids, want="last").log_probs, whole[-1])
    targets = read(backend, ids, want="targets", targets=ids[::-1]).log_probs
    assert torch.equal(targets, whole.gather(1, torch.tensor(ids[::-1])[:, None])[:, 0])
    assert read(backend, ids, want="none").log_probs.shape == (0, VOCAB_SIZE)
    assert backend.compute([]) == []


def test_large_calls_are_the_same_on_any_number_of_threads():
    for kind, sizes in (("lstm", {"hidden_size": 256}), ("transformer", {"embedding_size": 256})):
        network = network_of(kind, 5000, std=0.05, **sizes)
        forwards = [Forward(ids, None, "all") for ids in texts([40, 3, 25, 1], vocab_size=5000)]
        one, two = (NativeBackend(network, threads=n).compute(forwards) for n in (1, 2))
        assert all(torch.equal(a.log_probs, b.log_probs) for a, b in zip(one, two, strict=True))


def test_models_compute_side_by_side():
    networks = [
        network_of(kind, 3000, std=0.1, embedding_size=64) for kind in ("gru", "transformer")
    ]
    backends = [NativeBackend(network, threads=2) for network in networks]
    forwards = [Forward(ids, None, "last") for ids in texts([30] * 8, vocab_size=3000)]
    wanted = [torch.stack([p.log_probs for p in b.compute(forwards)]) for b in backends]
    wrong = []

    def work(i: int) -> None:
        for _ in range(20):
            found = torch.stack([p.log_probs for p in backends[i % 2].compute(forwards)])
            if not torch.equal(found, wanted[i % 2]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("ids", [[], [-1], [VOCAB_SIZE + 1]])
def test_ids_that_are_not_there_are_refused(ids):
    backend = NativeBackend(network_of("gru", VOCAB_SIZE))
    with pytest.raises(IndexError, match="token ids must be"):
        read(backend, ids)


@pytest.mark.parametrize("targets", [[], [1], [1, VOCAB_SIZE]])
def test_targets_that_are_not_there_are_refused(targets):
    backend = NativeBackend(network_of("gru", VOCAB_SIZE))
    with pytest.raises(IndexError, match="targets must be"):
        read(backend, [1, 2], want="targets", targets=targets)


def test_a_missing_library_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr("models.native.library.PATH", tmp_path / "libnextword.so")
    load_library.cache_clear()
    try:
        assert not available()
        with pytest.raises(BackendUnavailableError, match="was not built"):
            NativeBackend(network_of("gru"))
        (tmp_path / "libnextword.so").write_text("not a library")
        with pytest.raises(BackendUnavailableError, match="does not load"):
            NativeBackend(network_of("gru"))
    finally:
        load_library.cache_clear()


def test_instructions_that_are_not_there_are_reported():
    with pytest.raises(BackendUnavailableError, match="no instructions called 'mmx'"):
        choose_instructions(load_library(), "mmx")


FORK = """
import os
import torch
from models.forward import Forward
from models.native import NativeBackend
from tests.models.helpers import network_of

backend = NativeBackend(network_of("gru", 5000, hidden_size=256), threads=2)
forwards = [Forward([1, 2, 3], None, "last")] * 20
before = backend.compute(forwards)[0].log_probs
child = os.fork()
if child == 0:
    same = torch.equal(backend.compute(forwards)[0].log_probs, before)
    os._exit(0 if same else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_computes_without_the_threads_it_lacks():
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0
