"""Programs of forward passes: alone, side by side, and in chunks."""

import pytest
import torch

from models.forward import CHUNK, Forward, read, run, run_all, side_by_side
from tests.models.helpers import CONTEXT, KINDS, model_of

every_kind = pytest.mark.parametrize("kind", KINDS)


def counting(ids, steps):
    """Read ``ids`` once, then the most probable token, ``steps`` times; return all of them."""
    (result,) = yield [Forward(ids)]
    found = [*ids]
    for _ in range(steps):
        found.append(int(result.log_probs.argmax()))
        (result,) = yield [Forward(found[-1:], result.state)]
    return found


class Recorder:
    """A model that notes how many passes it was asked for at once."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def compute(self, forwards):
        self.asked.append(len(forwards))
        return self.model.compute(forwards)


@every_kind
def test_programs_of_different_lengths_run_side_by_side_as_alone(kind):
    model = model_of(kind)
    programs = [([5], 6), ([7, 8, 9], 0), ([5, 6, 7] * CONTEXT, 3), ([9, 8], 1)]
    together = run_all([counting(*p) for p in programs], model)
    assert together == [run(counting(*p), model) for p in programs]


def test_a_program_that_is_done_asks_no_more():
    recorder = Recorder(model_of("rnn"))
    run_all([counting([1], 3), counting([2], 1), counting([3, 4], 2)], recorder)
    assert recorder.asked == [3, 3, 2, 1]


def test_a_program_may_ask_for_nothing_at_all():
    def silent():
        return "done"
        yield

    recorder = Recorder(model_of("rnn"))
    assert run(silent(), recorder) == "done"
    assert run_all([silent(), silent()], recorder) == ["done", "done"]
    assert run_all([], recorder) == []
    assert recorder.asked == []


@every_kind
def test_what_is_wanted_comes_back(kind):
    model = model_of(kind)
    ids = [5, 6, 7, 8]
    logits, _ = model.network(torch.tensor([ids]))
    expected = torch.log_softmax(logits[0], -1)
    passes = model.compute([Forward(ids, None, want) for want in ("last", "all", "none")])
    torch.testing.assert_close(passes[0].log_probs, expected[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(passes[1].log_probs, expected, atol=1e-5, rtol=0)
    assert passes[2].log_probs.shape == (0, model.tokenizer.vocab_size)
    assert all(p.log_probs.dtype == torch.float32 for p in passes)
    more = model.compute([Forward([9], p.state) for p in passes])
    for one in more[1:]:
        torch.testing.assert_close(one.log_probs, more[0].log_probs, atol=1e-5, rtol=0)
    assert model.compute([]) == []


@every_kind
@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("want", ["last", "all"])
def test_reading_in_chunks_equals_reading_whole(kind, length, want):
    model = model_of(kind)
    ids = torch.randint(320, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    result = run(read(ids, None, want), model)
    logits, state = model.network(torch.tensor([ids]))
    expected = torch.log_softmax(logits[0], -1)
    expected = expected if want == "all" else expected[-1]
    torch.testing.assert_close(result.log_probs, expected, atol=1e-4, rtol=0)
    (after,) = model.compute([Forward([3], result.state)])
    (also,) = model.compute([Forward([3], state)])
    torch.testing.assert_close(after.log_probs, also.log_probs, atol=1e-4, rtol=0)


def test_an_error_in_one_program_ends_them_all():
    """A driver that must keep the others, as a server does, runs each program by itself."""

    def failing():
        yield [Forward([1])]
        raise ValueError("mine alone")

    model = model_of("rnn")
    other = counting([1], 5)
    with pytest.raises(ValueError, match="mine alone"):
        run(side_by_side([other, failing()]), model)


def test_what_the_model_raises_reaches_the_caller():
    class Broken:
        def compute(self, forwards):
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        run(counting([1], 5), Broken())


def test_weights_are_counted_once():
    tied, untied = model_of("lstm"), model_of("lstm", tied=False)
    assert untied.num_parameters - tied.num_parameters == 320 * 16
