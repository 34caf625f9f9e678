"""What the library has read of a text. Each state is of one text and never changes.

A Transformer's keys and values stand in blocks of a few positions, which states share: reading on
writes into the free slots of the last block if no other text took them, else into a copy of it.
So a step costs the same however long the context is, and a common beginning is kept once.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from models.networks import State

_LINE = 64  # bytes of a cache line: slots begin at one


class NativeRecurrentState(State):
    """Hidden vectors (L, D), and for the LSTM cell vectors behind them, float32.

    Attributes:
        vectors: The memory.
        address: Where it is.
    """

    __slots__ = ("address", "vectors")

    def __init__(self, vectors: "array[float]") -> None:
        """Keep ``vectors``, which the library fills."""
        self.vectors = vectors
        self.address: int = vectors.buffer_info()[0]

    @property
    def num_bytes(self) -> int:
        """Memory that the vectors take, in bytes; none of it is shared."""
        return 4 * len(self.vectors)


@dataclass(frozen=True)
class BlockSizes:
    """How keys and values are kept.

    Attributes:
        positions: Of a block.
        num_bytes: Of a block.
        window: Positions that attention sees, the reading one included.
    """

    positions: int
    num_bytes: int
    window: int


class _Block:
    """Memory for a few positions, and how many of its slots texts have taken."""

    __slots__ = ("address", "memory", "taken")

    def __init__(self, num_bytes: int) -> None:
        self.memory = np.empty(num_bytes + _LINE, np.uint8)
        start: int = self.memory.__array_interface__["data"][0]
        self.address = start + -start % _LINE
        self.taken = 0


class _Chain:
    """The blocks of a text one after another, and an array of their addresses for the library."""

    __slots__ = ("addresses", "base", "blocks", "pointer")

    def __init__(self, blocks: tuple[_Block, ...], base: int) -> None:
        self.blocks, self.base = blocks, base
        self.addresses = array("Q", [block.address for block in blocks])
        self.pointer: int = self.addresses.buffer_info()[0]


class Extension(NamedTuple):
    """Room for tokens to be read.

    Attributes:
        chain: Blocks of what was read and of what is to be read.
        copied: Address of a block to copy into the one where reading goes on, or 0.
        position: Tokens read before.
        state: The state after reading.
    """

    chain: _Chain
    copied: int
    position: int
    state: "NativeTransformerState"


class NativeTransformerState(State):
    """Keys and values of the last positions.

    Attributes:
        position: Tokens read in all.
        num_bytes: Memory that it added to the state it came from, in bytes: positions read into
            a shared block, and whole new blocks.
    """

    __slots__ = ("_chain", "_num_bytes", "_sizes", "position")

    def __init__(self, sizes: BlockSizes, chain: _Chain, position: int, num_bytes: int) -> None:
        """Keep the blocks."""
        self._sizes, self._chain = sizes, chain
        self.position, self._num_bytes = position, num_bytes

    @classmethod
    def empty(cls, sizes: BlockSizes) -> Self:
        """Return the state before anything was read."""
        return cls(sizes, _Chain((), 0), 0, 0)

    @property
    def num_bytes(self) -> int:
        """Memory that it added to the state it came from, in bytes."""
        return self._num_bytes

    def parts(self) -> Iterable[tuple[int, int]]:
        """Yield its blocks, by their addresses."""
        size = self._sizes.num_bytes
        return ((block.address, size) for block in self._chain.blocks)

    def extend(self, tokens: int) -> Extension:
        """Make room to read ``tokens`` more. One at a time for states of one backend."""
        sizes, chain, position = self._sizes, self._chain, self.position
        size, after = sizes.positions, position + tokens
        blocks, added, copied = chain.blocks, 0, 0
        slot = position % size
        if slot:
            last = blocks[-1]
            if last.taken == slot:
                added = min(tokens, size - slot) * (sizes.num_bytes // size)
            else:  # another text reads on there
                copied, last = last.address, _Block(sizes.num_bytes)
                blocks = (*blocks[:-1], last)
                added = sizes.num_bytes
            last.taken = min(size, slot + tokens)
        missing = -(-after // size) - -(-position // size)
        if missing:
            fresh = tuple(_Block(sizes.num_bytes) for _ in range(missing))
            for block in fresh:
                block.taken = size
            fresh[-1].taken = (after - 1) % size + 1
            blocks += fresh
            added += missing * sizes.num_bytes
        if blocks is not chain.blocks:
            chain = _Chain(blocks, chain.base)
        kept = chain
        unseen = (after + 1 - sizes.window - chain.base) // size  # blocks out of the next's sight
        if unseen > 0:
            kept = _Chain(blocks[unseen:], chain.base + unseen * size)
            added = min(added, len(kept.blocks) * sizes.num_bytes)
        return Extension(chain, copied, position, NativeTransformerState(sizes, kept, after, added))
