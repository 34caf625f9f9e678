import math
from functools import partial

import numpy as np
import pytest
import torch
import torch._dynamo
from safetensors.torch import load_file

from models.networks import build_network, network_config
from tests.training.conftest import tiny_recipe
from tests.training.test_resume import Notes
from training.dataset import Dataset
from training.processes import Processes
from training.trainer import Trainer, pick_precision

VOCAB = 300


def _trainer(folder, documents: list[int], *, kind: str = "lstm", **training) -> Trainer:
    """A trainer on documents of these lengths, in which no token comes twice."""
    starts = np.cumsum([0, *documents])
    dataset = Dataset(np.arange(starts[-1], dtype=np.uint16), starts, VOCAB, eos_id=0)
    recipe = tiny_recipe(kind, batch_size=4, segment_length=8, **training)
    network = build_network(
        network_config({**recipe.network, "vocab_size": VOCAB, "num_ids": VOCAB + 1})
    )
    return Trainer(network, recipe, dataset, {"same": dataset}, folder)


def test_an_epoch_reads_each_token_once_up_to_the_rest_of_a_step(tmp_path):
    trainer = _trainer(tmp_path, [7, 60, 33, 100, 12, 58, 3])
    orders = []
    for epoch in range(3):
        seen = []
        for step in range(trainer.steps_per_epoch):
            trainer.progress.step = epoch * trainer.steps_per_epoch + step
            inputs, targets, _, _ = trainer._segment()
            assert inputs.shape == targets.shape == (4, 8)
            seen += targets.flatten().tolist()
        assert len(seen) == len(set(seen)) > len(trainer.dataset) - 4 * 8
        orders.append(tuple(seen))
    assert len(set(orders)) == 3


def test_state_is_carried_but_for_new_epochs_and_chosen_streams(tmp_path):
    trainer = _trainer(tmp_path, [90, 90], state_reset=0.5)
    trainer.train_step()
    carried = trainer._carried
    forgotten = []
    for step in range(1, 60):
        trainer.progress.step, trainer._carried = step, carried
        _, _, _, state = trainer._segment()
        if step % trainer.steps_per_epoch == 0:
            assert state is None
            continue
        kept = state.vectors[0].flatten(1).any(dim=1)  # (B,)
        assert torch.equal(state.vectors[0][kept], carried.vectors[0][kept])
        forgotten += (~kept).tolist()
    assert 0.35 < np.mean(forgotten) < 0.65


def test_documents_are_read_as_if_each_stood_alone(tmp_path):
    trainer = _trainer(tmp_path, [7, 25, 33, 100, 12, 58, 3], kind="transformer", state_reset=0.0)
    network, dataset = trainer.network.eval(), trainer.dataset
    for step in range(trainer.steps_per_epoch):
        trainer.progress.step = step
        inputs, targets, begins, state = trainer._segment()
        found, after = network.features(inputs, state, begins)
        trainer._carried = after.detach()
        for row, column in zip(*np.nonzero(begins.numpy()), strict=True):
            start = int(targets[row, column])  # a token's id is its place in the corpus
            end = int(dataset.starts[np.searchsorted(dataset.starts, start, side="right")])
            read = min(end - start, 8 - column)
            alone, _ = network.features(inputs[row : row + 1, column : column + read])
            torch.testing.assert_close(found[row, column : column + read], alone[0])


def test_validation_measures_the_average_keeps_the_best_and_gives_the_weights_back(tmp_path):
    trainer = _trainer(tmp_path, [200, 73])
    for average in trainer.average.weights:
        average.zero_()
    before = {name: weight.clone() for name, weight in trainer.network.state_dict().items()}
    losses = trainer.validate()
    assert losses == {"same": pytest.approx(math.log(VOCAB), rel=1e-5)}
    for name, weight in trainer.network.state_dict().items():
        assert torch.equal(weight, before[name])
    assert not any(weight.any() for weight in load_file(trainer.best_path).values())
    trainer.progress.step = 5
    trainer.validate()
    assert (trainer.progress.best_step, trainer.progress.stale) == (0, 1)
    trainer.load_best()
    assert not trainer.network.output_bias.any()


class Alike(Processes):
    """Processes of which the others compute what this one does."""

    def sum(self, tensors):
        for tensor in tensors:
            tensor.mul_(self.count)

    def gather(self, tensors):
        return dict(tensors)

    def wait(self):
        pass


@pytest.mark.parametrize("count", [1, 2])
def test_core_seconds_are_those_of_all_processes(tmp_path, monkeypatch, count):
    trainer = _trainer(tmp_path, [250], epochs=1)
    trainer.processes = Alike(0, count)
    clock = iter(range(1000))
    monkeypatch.setattr("training.trainer.time.process_time", lambda: float(next(clock)))
    trainer.run(Notes())
    assert trainer.progress.core_seconds == trainer.steps * count > 0


def test_precision_is_what_was_asked_for(monkeypatch):
    cpu = torch.device("cpu")
    assert pick_precision("float32", cpu) == torch.float32
    assert pick_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    monkeypatch.setattr("training.trainer.cpu_computes_bfloat16", lambda: True)
    assert pick_precision("bfloat16", cpu) == torch.bfloat16
    monkeypatch.setattr("training.trainer.cpu_computes_bfloat16", lambda: False)
    with pytest.raises(ValueError, match=r"precision=bfloat16 .* float32 and auto"):
        pick_precision("bfloat16", cpu)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch, kind):
    """Captured as for compiling, but run by torch itself: a C++ compiler is not everywhere."""
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        # The capturing alone: what is generated from it is torch's business.
        monkeypatch.setattr(torch, "compile", partial(torch._dynamo.optimize, "eager")())
        trainer = _trainer(tmp_path, [200, 73], kind=kind, dropout=0.0, compile=compiled)
        assert (trainer._features == trainer.network.features) != compiled
        losses.append([])
        for _ in range(6):
            losses[-1].append(trainer.train_step())
            trainer.progress.step += 1
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
