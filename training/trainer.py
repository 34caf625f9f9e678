"""The training loop: one for every architecture."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.networks import BatchState, Network
from training.activation import activation_penalty
from training.dataset import Dataset, Epoch
from training.device import cpu_computes_bfloat16, multiplies_bfloat16
from training.journal import Journal
from training.loss import SoftTargets, fused_cross_entropy
from training.optimizer import AveragedWeights, build_optimizer
from training.processes import Processes
from training.recipe import Recipe
from training.resume import load_training_state, save_training_state, state_of, state_tensors
from training.sampled_softmax import CandidateSampler, sampled_cross_entropy
from training.schedule import first_moment_decay, learning_rate
from training.start import keep
from training.teacher import Teacher

_VALIDATION_STREAMS = 16
_VALIDATION_SEED = 0


@dataclass
class Progress:
    """Where a run stands; every field is kept for ``--resume``.

    Attributes:
        step: Optimizer steps done.
        seconds: Time spent training and validating, over all resumptions.
        core_seconds: The same as processor time, summed over the cores and the processes.
        best_loss: Lowest validation loss, nats per token, mean over the validation files.
        best_step: Step at which it was seen.
        stale: Validations since then.
    """

    step: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    stale: int = 0


class Trainer:
    """Trains a network on a dataset; can be stopped and resumed at any step."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        dataset: Dataset,
        validation: Mapping[str, Dataset],
        folder: Path,
        *,
        base: Network | None = None,
        teacher: Teacher | None = None,
        processes: Processes | None = None,
    ) -> None:
        """Prepare optimizer and averages.

        Args:
            network: Trained in place, on its device.
            recipe: Its optimizer and training settings are used.
            dataset: What to train on.
            validation: What to choose the best weights on, each with a name for the journal.
            folder: Where states, best weights and journal are written.
            base: What the network's weights are those of, and ``training.base_share`` of which
                stays; by default they are new.
            teacher: Whose predictions to learn from too.
            processes: That train together, each a trainer like this; by default this one alone.

        Raises:
            ValueError: The dataset is too short for a single step, or the streams cannot be
                divided among the processes.
        """
        self.network, self.recipe, self.dataset = network, recipe, dataset
        self.validation, self.folder, self.base = validation, folder, base
        self.teacher = teacher
        self.processes = processes or Processes()
        settings = recipe.training
        if settings.batch_size % self.processes.count:
            raise ValueError(
                f"training.batch_size must be a multiple of the {self.processes.count} processes, "
                f"not {settings.batch_size}"
            )
        self.device = network.embedding.weight.device
        self.precision = pick_precision(settings.precision, self.device)
        self.steps_per_epoch = len(dataset) // settings.batch_size // settings.segment_length
        if not self.steps_per_epoch:
            raise ValueError(
                f"the corpus has {len(dataset)} tokens; a step of {settings.batch_size} streams "
                f"of {settings.segment_length} tokens needs "
                f"{settings.batch_size * settings.segment_length}"
            )
        self.steps = max(1, round(settings.epochs * self.steps_per_epoch))
        self._features = torch.compile(network.features) if settings.compile else network.features
        self.optimizer = build_optimizer(network, recipe.optimizer)
        network.rates = recipe.regularization.rates(network.rates)
        average_from = recipe.optimizer.average_from
        self.average = AveragedWeights(
            network.parameters(),
            recipe.optimizer.average_decay,
            uniform_from=average_from * self.steps if average_from < 1 else math.inf,
        )
        self.sampled_steps = (
            round(settings.sampled_share * self.steps) if settings.softmax_samples else 0
        )
        self._sampler = (
            CandidateSampler(dataset.tokens, network.vocab_size, settings.softmax_samples)
            if self.sampled_steps
            else None
        )
        self.progress = Progress()
        self._carried: BatchState | None = None
        self._epoch: tuple[int, Epoch] | None = None

    @property
    def state_path(self) -> Path:
        """File that ``--resume`` reads."""
        return self.folder / "state.safetensors"

    @property
    def best_path(self) -> Path:
        """File of the averaged weights that validated best, the base's share not in them."""
        return self.folder / "best.safetensors"

    def resume(self) -> None:
        """Go on where the last saved state of this folder stands.

        On a CPU what follows is the same to the bit. On a GPU it is as near as two runs ever are:
        some of its kernels add in no fixed order, and cuDNN keeps its dropout's state to itself.
        Several processes draw other dropout, and other words for a sampled softmax, than they
        would have drawn.
        """
        states, numbers = load_training_state(
            self.state_path, self.network, self.optimizer, self.average
        )
        self.progress = Progress(**numbers)
        # Not by `select`, which trims: what is gathered again must have equal shapes.
        rows = self.processes.share(self.recipe.training.batch_size)
        mine = {
            whose: state_of({name: part[rows] for name, part in parts.items()})
            for whose, parts in states.items()
        }
        self._carried = mine.get("state")
        if self.teacher:
            self.teacher.state = mine.get("teacher")
        if self.processes.count > 1:
            torch.manual_seed(self._seed_of_process())

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or validation has not improved for ``patience`` times."""
        patience = self.recipe.training.patience
        return self.progress.step >= self.steps or bool(
            patience and self.progress.stale >= patience
        )

    def run(
        self,
        journal: Journal,
        *,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train to the end; a base's weights are validated first, for they may stay the best.

        Args:
            journal: Told of every step.
            stop: Asked behind every step; where it answers yes, the state is saved and that is it.

        Raises:
            FloatingPointError: The loss is no longer a number. What was saved before stays.
        """
        settings = self.recipe.training
        if self.processes.count > 1 and not self.progress.step:
            torch.manual_seed(self._seed_of_process())  # until here they had to be alike
        if self.base and not self.progress.step:
            with self._clock():
                losses = self.validate()
            journal.validation(0, losses, best=True)
        while not self.finished:
            losses = {}
            with self._clock():
                began = time.perf_counter()
                loss = self.train_step()
                self.progress.step += 1
                step, seconds = self.progress.step, time.perf_counter() - began
                if step == self.steps or step % settings.validate_every == 0:
                    losses = self.validate()
            tokens = settings.batch_size * settings.segment_length
            sampled = step <= self.sampled_steps
            journal.step(step, loss, self._rate(step - 1), tokens, seconds, sampled=sampled)
            if losses:
                journal.validation(step, losses, best=self.progress.best_step == step)
            stopping = self.processes.any(stop(), self.device)
            if self.finished or stopping or step % settings.save_every == 0:
                self.save()
            if stopping:
                return

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Count the time that is spent inside."""
        began, busy = time.perf_counter(), time.process_time()
        yield
        self.progress.seconds += time.perf_counter() - began
        # The processes have equal shares, and wait for each other.
        self.progress.core_seconds += (time.process_time() - busy) * self.processes.count

    def train_step(self) -> float:
        """Read one segment of every stream and update the weights; returns nats per token.

        Penalties are not in what is returned, a teacher's part is; where words are drawn for the
        softmax, it is an estimate.
        """
        self.network.train()
        step, settings = self.progress.step, self.recipe.optimizer
        rate, decay = self._rate(step), first_moment_decay(step, self.steps, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            if "betas" in group:
                group["betas"] = (decay, settings.beta2)
        inputs, targets, begins, state = self._segment()
        with torch.autocast(
            self.device.type, dtype=self.precision, enabled=self.precision != torch.float32
        ):
            features, state = self._features(inputs, state, begins)  # (B, T, E)
            soft = self.teacher.read(inputs, begins) if self.teacher else None
        self._carried = state.detach()
        loss = self._loss(features, targets, soft)
        regularization = self.recipe.regularization
        penalty = activation_penalty(
            features, regularization.activation, regularization.temporal_activation
        )
        (loss + penalty).backward()  # type: ignore[no-untyped-call]
        reported = loss.detach().clone()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.processes.average([*gradients, reported])
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), self.recipe.optimizer.clip_norm, foreach=True
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.progress.step)
        # Asked for last, so that a GPU is not waited for in the middle of a step.
        value = float(reported)
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            raise FloatingPointError(
                f"loss or gradient is no longer a number at step {self.progress.step + 1}: try a "
                "lower optimizer.learning_rate, a longer optimizer.warmup_steps or "
                "training.precision=float32"
            )
        return value

    def _loss(self, features: Tensor, targets: Tensor, soft: SoftTargets | None) -> Tensor:
        """Return the cross-entropy of ``targets`` (B, T) behind ``features`` (B, T, E)."""
        rows, answers = features.flatten(0, 1).float(), targets.flatten()
        weight, bias = self.network.output_weight, self.network.output_bias
        if self._sampler is not None and self.progress.step < self.sampled_steps:
            candidates = self._sampler.draw(answers)
            return sampled_cross_entropy(rows, weight, bias, candidates, dtype=self.precision)
        return fused_cross_entropy(rows, weight, bias, answers, dtype=self.precision, soft=soft)

    def losses(self) -> dict[str, float]:
        """Return each validation file's nats per token by the network's present weights."""
        return {name: self._validation_loss(d) for name, d in self.validation.items()}

    def validate(self) -> dict[str, float]:
        """Return each validation file's nats per token by the averaged weights; keep the best.

        With a base they are judged as they would be stored: with its share.
        """
        self.average.swap()
        weights = {k: v.clone() for k, v in self.network.state_dict().items()}
        try:
            self._keep_share()
            losses = self.losses()
            mean = sum(losses.values()) / len(losses)
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"the validation loss is no longer a number at step {self.progress.step}"
                )
            if mean < self.progress.best_loss:
                self.progress.best_loss, self.progress.best_step = mean, self.progress.step
                self.progress.stale = 0
                if self.processes.main:
                    temporary = self.best_path.with_suffix(".part")
                    save_file(weights, temporary)
                    temporary.replace(self.best_path)
            else:
                self.progress.stale += 1
        finally:
            self.network.load_state_dict(weights)
            self.average.swap()
        return losses

    def save(self) -> None:
        """Write the state that `resume` reads."""
        numbers: dict[str, Any] = vars(self.progress)
        carried = {"state": self._carried, "teacher": self.teacher.state if self.teacher else None}
        together = {
            whose: self.processes.gather(state_tensors(state))
            for whose, state in carried.items()
            if state is not None
        }
        if self.processes.main:
            save_training_state(
                self.state_path, self.network, self.optimizer, self.average, together, numbers
            )

    def load_best(self) -> None:
        """Put the averaged weights that validated best into the network, with the base's share."""
        self.network.load_state_dict(load_file(self.best_path, device=str(self.device)))
        self._keep_share()

    def _keep_share(self) -> None:
        if self.base:
            keep(self.network, self.base, self.recipe.training.base_share)

    def _seed_of_process(self) -> int:
        """Return a seed of this process and step, for dropout to differ between processes."""
        sequence = (self.recipe.training.seed, self.processes.rank, self.progress.step)
        return int(np.random.SeedSequence(sequence).generate_state(1)[0])

    def _rate(self, step: int) -> float:
        return learning_rate(step, self.steps, self.recipe.optimizer)

    def _segment(self) -> tuple[Tensor, Tensor, Tensor, BatchState | None]:
        """Return this step's inputs, targets, and where texts begin, (B, T), and the state.

        B counts this process's streams.
        """
        settings = self.recipe.training
        epoch, place = divmod(self.progress.step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            seed, alone = settings.seed + epoch, settings.lines_alone
            self._epoch = epoch, self.dataset.epoch(seed, lines_alone=alone)
        if place == 0:
            self._carried = None
            if self.teacher:
                self.teacher.state = None
        stream = np.arange(settings.batch_size)[:, None] * (
            len(self.dataset) // settings.batch_size
        )
        mine, length = self.processes.share(settings.batch_size), settings.segment_length
        positions = stream[mine] + place * length + np.arange(length)
        inputs, targets, begins = (
            torch.from_numpy(a).to(self.device) for a in self._epoch[1].read(positions)
        )
        state = self._carried
        if state is not None and settings.state_reset:
            chance = np.random.default_rng((settings.seed, self.progress.step))
            forget = chance.random(settings.batch_size)[mine] < settings.state_reset
            rows = torch.from_numpy(forget).to(self.device)
            state = state.reset(rows)
            if self.teacher and self.teacher.state is not None:
                self.teacher.state = self.teacher.state.reset(rows)
        return inputs, targets, begins, state

    @torch.inference_mode()
    def _validation_loss(self, dataset: Dataset) -> float:
        self.network.eval()
        settings = self.recipe.training
        streams = max(1, min(_VALIDATION_STREAMS, len(dataset) // settings.segment_length))
        length = len(dataset) // streams
        if settings.validate_tokens:
            length = min(length, max(1, settings.validate_tokens // streams))
        epoch = dataset.epoch(_VALIDATION_SEED)
        starts = np.arange(streams)[:, None] * (len(dataset) // streams)
        starts = starts[self.processes.share(streams)]
        state: BatchState | None = None
        total = torch.zeros(1, dtype=torch.float64, device=self.device)
        for start in range(0, length if len(starts) else 0, settings.segment_length):
            end = min(start + settings.segment_length, length)
            arrays = epoch.read(starts + np.arange(start, end))
            inputs, targets, begins = (torch.from_numpy(a).to(self.device) for a in arrays)
            with torch.autocast(
                self.device.type, dtype=self.precision, enabled=self.precision != torch.float32
            ):
                features, state = self.network.features(inputs, state, begins)
                logits = self.network.logits(features)
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"
            )
        self.processes.sum([total])
        return float(total) / (streams * length)


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that products are computed in.

    ``auto`` is bfloat16 where the device multiplies it natively.

    Raises:
        ValueError: ``bfloat16`` on a CPU that torch computes no LSTM with it on.
    """
    if precision == "bfloat16":
        if device.type == "cpu" and not cpu_computes_bfloat16():
            raise ValueError(
                "training.precision=bfloat16 needs a GPU or a processor with AVX-512; "
                "float32 and auto work everywhere"
            )
        return torch.bfloat16
    if precision == "float32":
        return torch.float32
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
