"""Forward passes by the library: int8 weights, activations of 8 or 16 bits, float32 between."""

import ctypes
import threading
import weakref
from array import array
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from models.forward import Forward, Pass
from models.native.library import Call, load_library, pool
from models.native.packing import block_bytes, pack, sizes_of
from models.native.states import (
    BlockSizes,
    NativeRecurrentState,
    NativeTransformerState,
)
from models.networks import Network, State

_WANTS = {"none": 0, "last": 1, "all": 2, "targets": 3}


class NativeBackend:
    """Computes a network on the CPU, each text's results the same bits in any company.

    Attributes:
        precision: ``int8``: the weights, with one scale for each row of a matrix.
    """

    precision = "int8"

    def __init__(self, network: Network, temperature: float = 1.0, *, threads: int = 1) -> None:
        """Pack the weights of ``network``, whose logits are divided by ``temperature``.

        Args:
            network: Read once; only its embedding is read later on.
            temperature: Above 0.
            threads: Most threads of a call, the caller's included.

        Raises:
            BackendUnavailableError: The library was not built or does not load.
        """
        self._library = load_library()
        self._sizes = sizes = sizes_of(network)
        self._pool = pool(threads)
        self._model, self._kept = pack(network, sizes, temperature)
        # Not at exit, when a thread may still compute.
        weakref.finalize(self, self._library.nextword_model_free, self._model).atexit = False
        self._call, self._lock = Call(), threading.Lock()
        self._address = ctypes.addressof(self._call)
        self._nothing = torch.empty(0, sizes.vocab_size)
        vectors = sizes.layers * sizes.hidden * (2 if network.config.kind == "lstm" else 1)
        self._zeros = array("f", bytes(4 * vectors))
        self._empty: NativeTransformerState | None = None
        if network.config.kind == "transformer":
            blocks = BlockSizes(sizes.block, block_bytes(sizes), sizes.window)
            self._empty = NativeTransformerState.empty(blocks)

    def compute(self, forwards: Sequence[Forward]) -> list[Pass]:
        """Run passes together; return them in the order asked for.

        Raises:
            IndexError: A token id or target that the network does not have.
        """
        if not forwards:
            return []
        lengths = [len(f.token_ids) for f in forwards]
        tokens = array("i", chain.from_iterable([f.token_ids for f in forwards]))
        if min(lengths) < 1 or min(tokens) < 0 or max(tokens) >= self._sizes.num_ids:
            raise IndexError(f"token ids must be 0..{self._sizes.num_ids - 1}, at least one a text")
        wants = [_WANTS[f.want] for f in forwards]
        targets = self._targets(forwards, lengths) if 3 in wants else None
        log_probs = self._outputs(lengths, wants)
        outputs = array("Q", [room.data_ptr() for room in log_probs])
        call, counts, kinds = self._call, array("i", lengths), array("i", wants)
        with self._lock:
            call.texts = len(forwards)
            call.lengths, call.tokens = _address(counts), _address(tokens)
            call.wants, call.outputs = _address(kinds), _address(outputs)
            call.targets = None if targets is None else _address(targets)
            states: Sequence[State]
            if self._empty is None:
                states = self._read_recurrent(forwards)
            else:
                states = self._read_transformer(forwards, lengths, self._empty)
        return [Pass(*pair) for pair in zip(log_probs, states, strict=True)]

    def _targets(self, forwards: Sequence[Forward], lengths: Sequence[int]) -> "array[int]":
        """Return one target a token, 0 where none is wanted."""
        targets = array("i")
        for forward, length in zip(forwards, lengths, strict=True):
            wanted = forward.targets if forward.want == "targets" else (0,) * length
            if len(wanted) != length:
                raise IndexError("targets must be as many as tokens")
            targets.extend(wanted)
        if min(targets) < 0 or max(targets) >= self._sizes.vocab_size:
            raise IndexError(f"targets must be 0..{self._sizes.vocab_size - 1}")
        return targets

    def _outputs(self, lengths: Sequence[int], wants: Sequence[int]) -> list[Tensor]:
        """Return room for the log-probabilities of each text: memory of its own for each.

        Rows of one table would be made faster, but whoever keeps one would keep them all.
        """
        width, empty = self._sizes.vocab_size, torch.empty
        return [
            empty(width)
            if want == 1
            else self._nothing
            if want == 0
            else empty((length, width) if want == 2 else length)
            for want, length in zip(wants, lengths, strict=True)
        ]

    def _read_recurrent(self, forwards: Sequence[Forward]) -> list[NativeRecurrentState]:
        zeros, call = self._zeros, self._call
        states = [NativeRecurrentState(zeros[:]) for _ in forwards]
        before = array("Q", [f.state.address if f.state else 0 for f in forwards])  # type: ignore[attr-defined]
        after = array("Q", [state.address for state in states])
        call.before, call.after = _address(before), _address(after)
        self._library.nextword_compute(self._model, self._pool, self._address)
        return states

    def _read_transformer(
        self, forwards: Sequence[Forward], lengths: Sequence[int], empty: NativeTransformerState
    ) -> tuple[NativeTransformerState, ...]:
        call = self._call
        extensions = [
            (f.state or empty).extend(length)  # type: ignore[attr-defined]
            for f, length in zip(forwards, lengths, strict=True)
        ]
        chains, copied, read, states = zip(*extensions, strict=True)
        blocks = array("Q", [c.pointer for c in chains])
        copies, positions = array("Q", copied), array("q", read)
        bases = array("q", [c.base for c in chains])
        call.blocks, call.copies = _address(blocks), _address(copies)
        call.bases, call.positions = _address(bases), _address(positions)
        self._library.nextword_compute(self._model, self._pool, self._address)
        return states


def _address(values: "array[int]") -> int:
    return values.buffer_info()[0]
