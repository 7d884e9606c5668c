"""Fine-tuning: train on from the pruned weights with the user's loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pomona.training.descent import BatchNorms, Decay, Descent, OptimizerName
from pomona.training.fit import fit
from pomona.training.objectives import supervised
from pomona.vocabulary import Requirement, Training


@dataclass(frozen=True)
class FineTune:
    """`epochs` over the data from where the weights are, warm-up and cosine; the best state by `validate` stays.

    A whole cosine from `lr` is learning-rate rewinding in the sense of Renda et al. (2020) when `epochs` and `lr` are those
    of the original training; a small constant rate is the older fine-tuning (`decay="constant"`). `steps` counts optimiser
    steps in place of epochs (0: epochs).
    """

    epochs: int = 3
    lr: float = 1e-3
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.05
    decay: Decay = "cosine"
    clip: float | None = None
    amp: bool | None = None
    norms: BatchNorms = "moving"
    steps: int = 0

    def __post_init__(self) -> None:
        self.descent  # noqa: B018 (refuses bad settings before any work)

    @property
    def requires(self) -> frozenset[Requirement]:
        """Labelled data and a loss."""
        return frozenset({"data", "labels", "gradients"})

    @property
    def descent(self) -> Descent:
        """How it walks downhill."""
        return Descent(
            self.optimizer, self.lr, self.momentum, self.weight_decay, self.warmup, self.decay, self.clip, self.amp, self.norms
        )

    @property
    def rewinds(self) -> bool:
        """Training goes on from the weights as they are, whole or cut."""
        return False

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Train in place."""
        return fit(
            model,
            training.data,
            supervised(training.loss),
            self.descent,
            epochs=self.epochs,
            steps=self.steps,
            name="fine-tuning",
            hold=training.hold,
            validate=training.validate,
            folder=training.folder,
            seed=training.seed,
            progress=training.progress,
        )
