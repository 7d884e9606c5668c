"""Distillation: the pruned model learns from the dense one (Hinton et al., 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pomona.training.batches import of_epoch, onto
from pomona.training.descent import BatchNorms, Descent, OptimizerName
from pomona.training.distil import distilled, matched
from pomona.training.fit import fit
from pomona.vocabulary import InputError, Requirement, Training


@dataclass(frozen=True)
class Distil:
    """`hard` of the loss comes from the labels, the rest from the dense model's softened outputs; `hard=0` needs no labels.

    `features` weighs the hidden features besides, compared at the modules `at` (empty: those blocks whose outputs have
    the same shape in both models). Models without class scores are compared by their hidden states. Of text, padding and what
    labels of -100 leave out do not count. `steps` counts optimiser steps in place of epochs (0: epochs).
    """

    epochs: int = 3
    lr: float = 1e-3
    temperature: float = 2.0
    hard: float = 0.5
    features: float = 0.0
    at: tuple[str, ...] = ()
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.05
    clip: float | None = None
    amp: bool | None = None
    norms: BatchNorms = "moving"
    steps: int = 0

    def __post_init__(self) -> None:
        self.descent  # noqa: B018 (refuses bad settings before any work)

    @property
    def requires(self) -> frozenset[Requirement]:
        """Inputs; labels and a loss only for the hard part."""
        return frozenset({"data", "labels", "gradients"}) if self.hard else frozenset({"data"})

    @property
    def descent(self) -> Descent:
        """How it walks downhill."""
        return Descent(
            self.optimizer, self.lr, self.momentum, self.weight_decay, self.warmup, clip=self.clip, amp=self.amp, norms=self.norms
        )

    @property
    def rewinds(self) -> bool:
        """Training goes on from the weights as they are, whole or cut."""
        return False

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Train in place against the teacher; raises InputError without one."""
        if training.teacher is None:
            raise InputError("Distilling needs the dense model as teacher; use finetune where there is none.")
        at = self.at
        if self.features and not at:
            first = next(of_epoch(training.data, 0, training.seed))
            at = matched(model, training.teacher, onto(first, next(model.parameters()).device))
        mix = {"temperature": self.temperature, "hard": self.hard, "features": self.features}
        objective = distilled(training.teacher, training.loss, **mix, at=at)
        return fit(
            model,
            training.data,
            objective,
            self.descent,
            epochs=self.epochs,
            steps=self.steps,
            name="distilling",
            hold=training.hold,
            validate=training.validate,
            folder=training.folder,
            seed=training.seed,
            progress=training.progress,
        )
