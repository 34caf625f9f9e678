"""A trained model that another learns from: knowledge distillation.

The teacher reads the segments that the student reads, its own state carried along, and what it
expects at every position is a part of the student's loss (Hinton et al. 2015; of language models
learnt from little text, Timiryasov & Tastet 2023, "Baby Llama").
"""

import torch
from torch import Tensor

from models.language_model import LanguageModel
from models.networks import BatchState
from training.loss import SoftTargets


class Teacher:
    """A teacher that reads along.

    Attributes:
        state: What it has read, of all streams of this process; None before the first segment.
    """

    def __init__(self, model: LanguageModel, share: float, device: torch.device) -> None:
        """Take the model's network to the device; it is not trained.

        Args:
            model: Expects at its calibration temperature.
            share: Weight of what it expects in the loss.
            device: The student's.
        """
        self.network = model.network.to(device).eval()
        self.share, self._sharpness = share, 1 / model.temperature
        self.state: BatchState | None = None

    @torch.no_grad()
    def read(self, inputs: Tensor, begins: Tensor) -> SoftTargets:
        """Read a segment (B, T), int64, after all before it; see `Network.features`."""
        features, self.state = self.network.features(inputs, self.state, begins)
        return SoftTargets(
            features.flatten(0, 1) * self._sharpness,
            self.network.output_weight,
            self.network.output_bias * self._sharpness,
            self.share,
        )
