"""What holds for every network, whatever its kind: the state carries all that was read."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.helpers import CONTEXT, KINDS, bounded, network_of

every_kind = pytest.mark.parametrize("kind", KINDS)


def ids_of(*shape, seed=0):
    return torch.randint(24, shape, generator=torch.Generator().manual_seed(seed))


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=2e-5, rtol=0)


@every_kind
@given(length=st.integers(1, 4 * CONTEXT), cuts=st.lists(st.integers(0, 4 * CONTEXT), max_size=6))
@bounded(25)
def test_read_in_pieces_equals_read_whole(kind, length, cuts):
    network, ids = network_of(kind), ids_of(2, length)
    whole, last = network(ids)
    state, pieces = None, []
    borders = sorted({0, length, *(cut for cut in cuts if cut < length)})
    for start, end in pairwise(borders):
        logits, state = network(ids[:, start:end], state)
        pieces.append(logits)
    close(torch.cat(pieces, dim=1), whole)
    more = ids_of(2, 3, seed=9)
    close(network(more, state)[0], network(more, last)[0])


@every_kind
def test_a_batch_equals_each_text_alone(kind):
    network, ids = network_of(kind), ids_of(5, 2 * CONTEXT)
    logits, state = network(ids)
    assert logits.shape == (5, 2 * CONTEXT, 23)
    assert state.batch_size == 5
    for row, alone in enumerate(state.split()):
        expected, expected_state = network(ids[row : row + 1])
        close(logits[row : row + 1], expected)
        more = ids_of(1, 4, seed=row)
        close(network(more, alone)[0], network(more, expected_state)[0])


@every_kind
def test_no_position_sees_a_later_one(kind):
    network, ids = network_of(kind), ids_of(1, 2 * CONTEXT)
    before, _ = network(ids)
    for changed in range(ids.size(1)):
        other = ids.clone()
        other[0, changed] = (other[0, changed] + 1) % 24
        after, _ = network(other)
        assert torch.equal(after[:, :changed], before[:, :changed])
        assert not torch.allclose(after[:, changed], before[:, changed], atol=1e-3)


@every_kind
@given(
    lengths=st.lists(st.integers(0, 3 * CONTEXT), min_size=1, max_size=5),
    more=st.integers(1, 2 * CONTEXT),
    data=st.data(),
)
@bounded(25)
def test_texts_of_any_lengths_continue_together_as_alone(kind, lengths, more, data):
    network = network_of(kind)
    states, continuations = [], ids_of(len(lengths), more + 3, seed=7)
    for seed, length in enumerate(lengths):
        initial = network.initial_state(1)
        states.append(network(ids_of(1, length, seed=seed), initial)[1] if length else initial)
    expected = [network(c[None], s)[0] for c, s in zip(continuations, states, strict=True)]
    stacked = type(states[0]).stack(states)
    together, after = network(continuations[:, :more], stacked)
    close(together, torch.cat(expected)[:, :more])
    # Any choice of the rows, repeated or reordered, goes on as each row would.
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=7))
    chosen = after.select(torch.tensor(rows))
    assert chosen.batch_size == len(rows)
    close(network(continuations[rows, more:], chosen)[0], torch.cat(expected)[rows, more:])


@every_kind
def test_a_reset_text_begins_afresh_and_the_others_go_on(kind):
    network, more = network_of(kind), ids_of(4, 2 * CONTEXT, seed=3)
    _, state = network(ids_of(4, CONTEXT))
    rows = torch.tensor([True, False, False, True])
    logits, after = network(more, state.reset(rows))
    fresh, fresh_after = network(more)
    kept, kept_after = network(more, state)
    close(logits[rows], fresh[rows])
    close(logits[~rows], kept[~rows])
    last = ids_of(4, 2, seed=4)
    close(network(last, after)[0][rows], network(last, fresh_after)[0][rows])
    close(network(last, after)[0][~rows], network(last, kept_after)[0][~rows])


@every_kind
def test_the_initial_state_is_the_same_as_none(kind):
    network, ids = network_of(kind), ids_of(3, 4)
    close(network(ids, network.initial_state(3))[0], network(ids)[0])


@every_kind
def test_reading_on_leaves_the_old_state_as_it_was(kind):
    network, more = network_of(kind), ids_of(2, 5, seed=1)
    _, state = network(ids_of(2, 4))
    first, _ = network(more, state)
    again, _ = network(more, state)
    assert torch.equal(first, again)


@every_kind
def test_a_detached_state_has_no_gradient(kind):
    network = network_of(kind).requires_grad_(True)
    _, state = network(ids_of(2, 3))
    logits, _ = network(ids_of(2, 3), state.detach())
    logits.sum().backward()
    tensors = [v for v in vars(state.detach()).values() if isinstance(v, torch.Tensor)]
    tensors += [v for vs in vars(state.detach()).values() if isinstance(vs, tuple) for v in vs]
    assert tensors
    assert not any(tensor.requires_grad for tensor in tensors)
    assert state.num_bytes > 0


@every_kind
@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_shared(kind, tied):
    network = network_of(kind, tied=tied)
    network.requires_grad_(True)
    assert network.output_weight.shape == (23, 16)
    before, _ = network(ids_of(1, 2))
    untouched = 20  # neither read nor at the end of the embedding
    ids = torch.tensor([[1, 2]])
    before, _ = network(ids)
    with torch.no_grad():
        network.embedding.weight[untouched] += 1
    after, _ = network(ids)
    changed = (after - before).abs().amax(dim=(0, 1)) > 1e-4  # (V,)
    assert changed.nonzero().flatten().tolist() == ([untouched] if tied else [])
    assert ("output" in network.state_dict()) is not tied


@every_kind
def test_bos_can_be_read_but_never_predicted(kind):
    network = network_of(kind, 23, num_ids=24)
    logits, _ = network(torch.tensor([[23]]))
    assert logits.shape == (1, 1, 23)
