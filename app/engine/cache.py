"""What was read is not read again: states by the tokens that led to them.

A radix tree: each node is a sequence of tokens read from the start of a text, its children are
longer sequences, and a node may keep the state behind its tokens and the log-probabilities of what
comes next. Tokens are compared, not hashed, so nothing is ever mistaken for something else. Least
recently used states go first when the memory budget is spent.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from torch import Tensor

from app.engine.stats import CacheStats
from models.forward import Pass
from models.networks import State

_OVERHEAD = 1024  # bytes of Python objects a node, about


class Node:
    """A sequence of tokens that was read.

    Attributes:
        parent: A beginning of the sequence; None for the empty one, and for a node that was
            dropped while a program still reads on from it.
        edge: The tokens behind the parent's.
        children: By the first token of their edge.
        state: What the network has read, if it is kept.
        result: The pass that ended here, if its log-probabilities are kept too.
        num_bytes: What that takes, the state's parts aside.
    """

    __slots__ = ("children", "edge", "num_bytes", "parent", "result", "state")

    def __init__(self, parent: "Node | None", edge: tuple[int, ...]) -> None:
        """Keep nothing yet."""
        self.parent, self.edge = parent, edge
        self.children: dict[int, Node] = {}
        self.state: CachedState | None = None
        self.result: Pass | None = None
        self.num_bytes = 0


class CachedState(State):
    """A backend's state, and the node of the tree that it belongs to."""

    __slots__ = ("inner", "node")

    def __init__(self, inner: State, node: Node | None) -> None:
        """Wrap ``inner``; without a node, what is read behind it is not kept."""
        self.inner, self.node = inner, node

    @property
    def num_bytes(self) -> int:
        """Memory of the state, in bytes."""
        return self.inner.num_bytes

    def parts(self) -> Iterable[tuple[int, int]]:
        """Yield its pieces of memory."""
        return self.inner.parts()


class PrefixCache:
    """The tree of one model. Belongs to one thread."""

    def __init__(self, budget: int, stats: CacheStats) -> None:
        """Keep at most ``budget`` bytes; 0 keeps nothing."""
        self._budget, self._stats = budget, stats
        self._root = Node(None, ())
        self._kept: OrderedDict[Node, None] = OrderedDict()  # least recently used first
        self._holders: dict[int, int] = {}  # of each piece of memory, how many states hold it

    def start(self, state: State | None) -> Node | None:
        """Return where a pass behind ``state`` begins; None where nothing behind it is kept."""
        if state is None:
            return self._root
        node = state.node if isinstance(state, CachedState) else None
        return node if node is None or node is self._root or node.parent is not None else None

    def find(
        self, start: Node, token_ids: Sequence[int], *, with_result: bool
    ) -> tuple[Node | None, int]:
        """Return the last node behind ``start`` whose state spares reading, and how many tokens.

        Args:
            start: Where reading begins.
            token_ids: What is to be read, at least one.
            with_result: The log-probabilities behind the last token are wanted, so that a state
                alone is of no use there.
        """
        node, at = start, 0
        best: tuple[Node | None, int] = None, 0
        while at < len(token_ids):
            child = node.children.get(token_ids[at])
            if child is None or tuple(token_ids[at : at + len(child.edge)]) != child.edge:
                break
            node, at = child, at + len(child.edge)
            if node.result is not None or (
                node.state is not None and not (with_result and at == len(token_ids))
            ):
                best = node, at
        if best[0] is not None:
            self._kept.move_to_end(best[0])
        return best

    def keep(
        self, start: Node | None, token_ids: Sequence[int], state: State, log_probs: Tensor | None
    ) -> Pass:
        """Keep a state and, if they are given, the log-probabilities (V,) behind it.

        Returns:
            The pass to hand to the program, whose state knows its place in the tree.
        """
        if start is not None and start is not self._root and start.parent is None:
            start = None  # dropped meanwhile: nobody would find what is behind it
        if start is None or self._budget < _OVERHEAD + state.num_bytes:
            return Pass(_NOTHING if log_probs is None else log_probs, CachedState(state, None))
        size = 0 if log_probs is None else log_probs.nbytes
        if log_probs is not None and log_probs.untyped_storage().nbytes() > size:
            log_probs = log_probs.clone()  # or one row of a batch would keep all of it
        node = self._reach(start, tuple(token_ids))
        if node in self._kept:
            self._stats.bytes -= self._release(node)
        node.state = CachedState(state, node)
        result = Pass(_NOTHING if log_probs is None else log_probs, node.state)
        node.result = result if log_probs is not None else None
        node.num_bytes = _OVERHEAD + size
        self._stats.bytes += self._hold(node)
        self._kept[node] = None
        self._kept.move_to_end(node)
        while self._stats.bytes > self._budget:
            oldest, _ = self._kept.popitem(last=False)
            self._stats.bytes -= self._release(oldest)
            self._drop(oldest)
        self._stats.entries = len(self._kept)
        return result

    def clear(self) -> None:
        """Forget everything, and free it: nodes refer to each other, so they would stay a while."""
        nodes = [self._root]
        for node in nodes:
            nodes.extend(node.children.values())
        for node in nodes:
            node.parent = node.state = node.result = None
            node.children = {}
        self._kept.clear()
        self._holders.clear()
        self._stats.entries = self._stats.bytes = 0

    def _reach(self, node: Node, token_ids: tuple[int, ...]) -> Node:
        """Return the node ``token_ids`` behind ``node``, made where it is missing."""
        at = 0
        while at < len(token_ids):
            child = node.children.get(token_ids[at])
            if child is None:
                child = node.children[token_ids[at]] = Node(node, token_ids[at:])
                return child
            shared = _shared(child.edge, token_ids[at:])
            node = child if shared == len(child.edge) else _split(child, shared)
            at += shared
        return node

    def _hold(self, node: Node) -> int:
        """Count what a node keeps; return the bytes that nobody else keeps."""
        assert node.state is not None
        added = node.num_bytes
        for part, size in node.state.parts():
            holders = self._holders.get(part, 0)
            self._holders[part] = holders + 1
            added += 0 if holders else size
        return added

    def _release(self, node: Node) -> int:
        """Return the bytes that are free when a node keeps nothing any more."""
        assert node.state is not None
        freed = node.num_bytes
        for part, size in node.state.parts():
            self._holders[part] -= 1
            if not self._holders[part]:
                del self._holders[part]
                freed += size
        return freed

    def _drop(self, node: Node) -> None:
        node.state = node.result = None
        self._stats.evictions += 1
        while not node.children and node.state is None and node.parent is not None:
            parent, node.parent = node.parent, None
            del parent.children[node.edge[0]]
            node = parent


_NOTHING = Tensor()


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Return how many tokens two sequences begin with alike."""
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _split(child: Node, at: int) -> Node:
    """Put a node in the middle of the edge to ``child``; return it."""
    assert child.parent is not None
    middle = Node(child.parent, child.edge[:at])
    child.parent.children[child.edge[0]] = middle
    child.parent, child.edge = middle, child.edge[at:]
    middle.children[child.edge[0]] = child
    return middle
