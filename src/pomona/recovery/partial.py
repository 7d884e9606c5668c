"""What recoveries that train few parameters have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

from pomona.training.batches import of_epoch, onto
from pomona.training.descent import BatchNorms, Decay, Descent, OptimizerName
from pomona.training.distil import distilled
from pomona.training.fit import fit
from pomona.training.living import living
from pomona.training.objectives import Objective, supervised
from pomona.training.subset import only, subset, words
from pomona.vocabulary import InputError, Requirement, Training


@dataclass(frozen=True)
class Partial(ABC):
    """Trains the parameters that `which` names, and adapters if the recovery has them; every other stays bit for bit.

    `which` is any of biases, norms and head joined by +, or none. `steps` counts optimiser steps where epochs are too coarse
    (0: epochs). `hard` of the loss is the task's own, the rest comes from the dense model, softened by `temperature`; `hard=0`
    needs no labels.
    """

    epochs: int = 1
    lr: float = 1e-3
    which: str = "biases+norms"
    hard: float = 1.0
    temperature: float = 2.0
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
        self.descent, words(self.which)

    @abstractmethod
    def adapters(self, model: nn.Module, training: Training, chosen: Sequence[nn.Parameter]) -> AbstractContextManager[None]:
        """A context in which the model has its adapters; on leaving they are merged. `chosen` train without."""
        ...

    @property
    def requires(self) -> frozenset[Requirement]:
        """Inputs; labels and a loss unless the dense model alone teaches."""
        return frozenset({"data", "labels", "gradients"}) if self.hard else frozenset({"data"})

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
        """Train in place; also says how many numbers were `trained`, and of how many `parameters`.

        Raises InputError where there is nothing to train, and without a teacher where one is asked for.
        """
        objective = self._objective(training)
        parameters = sum(p.numel() for p in model.parameters())
        first = onto(next(of_epoch(training.data, 0, training.seed)), next(model.parameters()).device)
        chosen = subset(model, self.which, first)
        # Vectors start at zero and are none the less alive; of matrices that train whole, zeros that nobody holds stay too.
        matrices = [p for p in chosen if p.ndim >= 2]
        alive = living(model, training.hold, matrices)

        def hold(model: nn.Module) -> None:
            training.hold(model)
            for matrix, mask in zip(matrices, alive, strict=True):
                matrix.data.masked_fill_(~mask, 0)

        with only(model, chosen), self.adapters(model, training, chosen):
            trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
            if not trained:
                raise InputError(f"The model has no {self.which.replace('+', ' and no ')} to train; use another which=.")
            history = fit(
                model,
                training.data,
                objective,
                self.descent,
                epochs=self.epochs,
                steps=self.steps,
                name=f"training {trained / parameters:.2%}",
                hold=hold,
                validate=training.validate,
                folder=training.folder,
                seed=training.seed,
                progress=training.progress,
            )
        return {**history, "trained": trained, "parameters": parameters}

    def _objective(self, training: Training) -> Objective:
        if self.hard == 1:
            return supervised(training.loss)
        if training.teacher is None:
            raise InputError("Learning from the dense model needs it as teacher; use hard=1 where there is none.")
        return distilled(training.teacher, training.loss, temperature=self.temperature, hard=self.hard)
