"""The tree of states: never more than its budget, never another text's state."""

from collections import OrderedDict

import torch
from hypothesis import given
from hypothesis import strategies as st

from app.engine.cache import CachedState, PrefixCache
from app.engine.stats import CacheStats
from models.forward import Pass
from tests.models.helpers import bounded

_BYTES = 1024 + 100 + 4 * 4  # a node's overhead, its state and its log-probabilities


class Told:
    """A state that knows which tokens it stands for."""

    num_bytes = 100

    def __init__(self, tokens):
        self.tokens = tokens

    def parts(self):
        yield id(self), self.num_bytes


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)
actions = st.lists(
    st.tuples(st.sampled_from(["keep", "find", "both"]), tokens, tokens), max_size=60
)


@bounded(300)
@given(actions, st.integers(1, 8))
def test_as_a_plain_dictionary_of_prefixes(actions, room):
    """The oracle keeps whole token sequences in the order of their use."""
    stats = CacheStats()
    cache = PrefixCache(room * _BYTES, stats)
    oracle: OrderedDict[tuple[int, ...], None] = OrderedDict()
    root = cache.start(None)
    for action, first, second in actions:
        start, before = root, ()
        if action == "both":  # read on from a state that may have been dropped meanwhile
            result = keep(cache, oracle, root, (), first, room)
            start, before = cache.start(result.state), first
            if start is None:
                assert before not in oracle
                continue
        if action == "find":
            node, length = cache.find(start, second, with_result=True)
            wanted = max((n for n in range(1, len(second) + 1) if second[:n] in oracle), default=0)
            assert length == wanted
            if wanted:
                assert node.state.inner.tokens == second[:wanted]
                assert node.result.log_probs.tolist() == [float(wanted)] * 4
                oracle.move_to_end(second[:wanted])
        else:
            keep(cache, oracle, start, before, second, room)
        assert stats.entries == len(oracle)
        assert stats.bytes == len(oracle) * _BYTES <= room * _BYTES


def keep(cache, oracle, start, before, token_ids, room) -> Pass:
    whole = (*before, *token_ids)
    log_probs = torch.full((4,), float(len(whole)))
    result = cache.keep(start, token_ids, Told(whole), log_probs)
    oracle[whole] = None
    oracle.move_to_end(whole)
    while len(oracle) > room:
        oracle.popitem(last=False)
    return result


def test_a_state_without_log_probabilities_spares_all_but_the_last_token():
    cache = PrefixCache(1 << 20, CacheStats())
    root = cache.start(None)
    cache.keep(root, (1, 2, 3), Told((1, 2, 3)), None)
    assert cache.find(root, (1, 2, 3), with_result=True) == (None, 0)
    assert cache.find(root, (1, 2, 3), with_result=False)[1] == 3
    assert cache.find(root, (1, 2, 3, 4), with_result=True)[1] == 3


def test_no_budget_keeps_nothing():
    cache = PrefixCache(0, CacheStats())
    root = cache.start(None)
    result = cache.keep(root, (1, 2), Told((1, 2)), torch.zeros(4))
    assert isinstance(result.state, CachedState)
    assert cache.start(result.state) is None
    assert cache.find(root, (1, 2), with_result=True) == (None, 0)


def test_a_row_of_a_batch_does_not_keep_the_batch():
    cache = PrefixCache(1 << 20, CacheStats())
    batch = torch.rand(64, 4)
    result = cache.keep(cache.start(None), (1,), Told((1,)), batch[3])
    assert result.log_probs.equal(batch[3])
    assert result.log_probs.untyped_storage().nbytes() == 16


class Blocks(Told):
    """A state that shares a block a token with all that begin alike."""

    num_bytes = 500

    def parts(self):
        return ((hash(self.tokens[: i + 1]), 500) for i in range(len(self.tokens)))


def test_what_states_share_is_counted_once_and_as_long_as_one_holds_it():
    stats = CacheStats()
    cache = PrefixCache(20_000, stats)
    root, kept = cache.start(None), {}
    for i in range(300):
        length = i * 7 % 13 + 1
        whole = (i % 3, *range(length))
        kept[whole] = cache.keep(root, whole, Blocks(whole), torch.zeros(4))
        found = [
            tokens
            for tokens in kept
            if cache.find(root, tokens, with_result=True)[1] == len(tokens)
        ]
        held = {tokens[: n + 1] for tokens in found for n in range(len(tokens))}
        assert stats.entries == len(found)
        assert stats.bytes == len(found) * (1024 + 16) + 500 * len(held) <= 20_000
    assert stats.evictions > 0


def test_dropped_nodes_leave_nothing_behind():
    stats = CacheStats()
    cache = PrefixCache(3 * _BYTES, stats)
    root = cache.start(None)
    for i in range(200):
        cache.keep(root, (1, 2, i, i + 1), Told(()), torch.zeros(4))
    reachable, waiting = 0, [root]
    while waiting:
        reachable += 1
        waiting += waiting.pop().children.values()
    assert reachable <= 3 + 3
    assert stats.evictions == 197
