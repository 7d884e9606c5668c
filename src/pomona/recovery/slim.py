"""Training with sparse scales: what network slimming does before it cuts (Liu et al., 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pomona.recovery.fine_tune import FineTune
from pomona.training.batchnorm import batch_norms
from pomona.training.fit import fit
from pomona.training.objectives import supervised
from pomona.vocabulary import Batch, InputError, Requirement, Training


@dataclass(frozen=True)
class Slim:
    """`tune` with strength * sum |gamma| over all batch norms added to the loss. Raises InputError where there are none.

    With a schedule that trains first (`Rounds(first_train=True)`) this is slimming in one or several passes. The paper
    leaves the penalty out of the training after the last cut; here every training has it.
    """

    strength: float = 1e-4
    tune: FineTune = field(default_factory=FineTune)

    @property
    def requires(self) -> frozenset[Requirement]:
        """Labelled data and a loss."""
        return self.tune.requires

    @property
    def rewinds(self) -> bool:
        """Training goes on from where the weights are."""
        return False

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Train in place."""
        gammas = [norm.weight for norm in batch_norms(model) if norm.affine]
        if not gammas:
            raise InputError("Slimming pulls on the scales of batch norms and the model has none; use another recovery.")
        loss = supervised(training.loss)

        def objective(model: nn.Module, batch: Batch) -> Tensor:
            return loss(model, batch) + self.strength * torch.stack([gamma.abs().sum() for gamma in gammas]).sum()

        return fit(
            model,
            training.data,
            objective,
            self.tune.descent,
            epochs=self.tune.epochs,
            steps=self.tune.steps,
            name="slimming",
            hold=training.hold,
            validate=training.validate,
            folder=training.folder,
            seed=training.seed,
            progress=training.progress,
        )
