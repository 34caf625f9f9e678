"""One pass that a program asked for, read piece by piece."""

from torch import Tensor, cat

from app.engine.cache import CachedState, Node, PrefixCache
from app.engine.stats import CacheStats
from models.forward import Forward, Pass
from models.networks import State

PIECE = 64  # tokens: nobody's step waits for more of one text than this


class Reading:
    """A pass under way.

    Attributes:
        result: What the program is given, once everything is read.
    """

    __slots__ = ("_at", "_cache", "_forward", "_node", "_parts", "_state", "result")

    def __init__(self, forward: Forward, cache: PrefixCache, stats: CacheStats) -> None:
        """Take from the cache what was read before."""
        self._forward, self._cache = forward, cache
        self._parts: list[Tensor] = []
        self.result: Pass | None = None
        self._at = 0
        self._node: Node | None = None
        state = forward.state
        self._state: State | None = state.inner if isinstance(state, CachedState) else state
        if forward.once or forward.want in ("all", "targets"):
            return  # nothing of it is kept: of every position it would be too much
        self._node = cache.start(state)
        if self._node is None:
            return
        last = forward.want == "last"
        found, self._at = cache.find(self._node, forward.token_ids, with_result=last)
        if found is None:
            stats.misses += 1
            return
        stats.hits += 1
        stats.hit_tokens += self._at
        assert found.state is not None
        self._node, self._state = found, found.state.inner
        if self._at == len(forward.token_ids):
            self.result = found.result if last else Pass(Tensor(), found.state)

    @property
    def rest(self) -> int:
        """How many tokens are still to be read."""
        return len(self._forward.token_ids) - self._at

    def piece(self) -> Forward:
        """Return what to read next."""
        forward, at = self._forward, self._at
        token_ids = forward.token_ids
        if at == 0 and len(token_ids) <= PIECE:
            if forward.state is self._state:
                return forward
            return Forward(token_ids, self._state, forward.want, forward.targets)
        end = min(at + PIECE, len(token_ids))
        want = forward.want
        if end < len(token_ids) and want == "last":
            want = "none"
        return Forward(token_ids[at:end], self._state, want, forward.targets[at:end])

    def take(self, piece: Forward, result: Pass) -> None:
        """Go on with what `piece` gave."""
        self._at += len(piece.token_ids)
        done = self._at == len(self._forward.token_ids)
        self._state = result.state
        if self._node is None:
            self._pass_on(result, done)
            return
        kept = self._cache.keep(
            self._node,
            piece.token_ids,
            result.state,
            result.log_probs if piece.want == "last" else None,
        )
        self._node = kept.state.node if isinstance(kept.state, CachedState) else None
        if done:
            self.result = kept

    def _pass_on(self, result: Pass, done: bool) -> None:
        """Go on with what is not kept."""
        if self._forward.want in ("all", "targets") and (self._parts or not done):
            self._parts.append(result.log_probs)
            if done:
                result = Pass(cat(self._parts), result.state)
        if done:
            self.result = result
