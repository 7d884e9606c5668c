"""Rewinding: survivors go back to an early value and train again (Frankle and Carbin, 2019; Frankle et al., 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pomona.training.batches import length
from pomona.training.checkpoint import load, restore, save, values
from pomona.training.descent import Decay, Descent, OptimizerName
from pomona.training.fit import fit
from pomona.training.objectives import supervised
from pomona.vocabulary import InputError, Requirement, Training


@dataclass(frozen=True)
class Retrain:
    """Put the snapshot `start` back, bit for bit where a unit lives, and train from there with a fresh optimiser.

    `start`: "start" (the weights before any training of this run: lottery tickets), "step N" (late rewinding: the
    snapshot is recorded during the first training; learning rate and data order are rewound to step N as well) or "here"
    (learning-rate rewinding: weights stay, the whole course is replayed). Batch-norm statistics are rewound with the
    weights. The last state counts, not the best one: a ticket is judged by the end of its training.
    """

    epochs: int = 3
    start: str = "start"
    lr: float = 1e-3
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.05
    decay: Decay = "cosine"
    clip: float | None = None
    amp: bool | None = None

    def __post_init__(self) -> None:
        self.descent  # noqa: B018 (refuses bad settings before any work)
        word, _, number = self.start.partition(" ")
        if self.start not in ("start", "here") and not (word == "step" and number.isdigit()):
            raise InputError(f"'{self.start}' is not a place to rewind to; use start, 'step N' or here.")

    @property
    def requires(self) -> frozenset[Requirement]:
        """Labelled data and a loss."""
        return frozenset({"data", "labels", "gradients"})

    @property
    def descent(self) -> Descent:
        """How it walks downhill."""
        return Descent(self.optimizer, self.lr, self.momentum, self.weight_decay, self.warmup, self.decay, self.clip, self.amp)

    @property
    def rewinds(self) -> bool:
        """Snapshots are of the whole model, so this runs on the masked full-size one."""
        return self.start != "here"

    @property
    def step(self) -> int:
        """The optimiser step that training goes back to."""
        return int(self.start.split()[1]) if self.start.startswith("step") else 0

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Rewind and train in place; the first call on "step N" only trains, and records the snapshot on its way.

        Raises InputError where the step lies beyond the training.
        """
        steps = self.epochs * length(training.data)
        if self.step >= steps and self.step:
            raise InputError(f"Cannot rewind to {self.start}: the training has only {steps} steps.")
        first = self.start.startswith("step") and self.start not in training.snapshots
        if self.rewinds and not first:
            restore(model, _snapshot(training, self.start))
            training.hold(model)
        history = fit(
            model,
            training.data,
            supervised(training.loss),
            self.descent,
            epochs=self.epochs,
            keep="last",
            name="retraining",
            begin=0 if first else self.step,
            watch=self._recorder(training) if first else None,
            hold=training.hold,
            folder=training.folder,
            seed=training.seed,
            progress=training.progress,
        )
        if first and self.start not in training.snapshots:  # a resumed run went past the step before it was killed
            training.snapshots[self.start] = load(_path(training, self.start))
        return history

    def _recorder(self, training: Training) -> Callable[[int, nn.Module], None]:
        def record(step: int, model: nn.Module) -> None:
            if step == self.step:
                training.snapshots[self.start] = values(model)
                if training.folder:
                    save(_path(training, self.start), training.snapshots[self.start])

        return record


def _snapshot(training: Training, name: str) -> Mapping[str, Any]:
    if name not in training.snapshots:
        raise InputError(f"There is no snapshot '{name}' to rewind to; the engine must take it before the first training.")
    return training.snapshots[name]


def _path(training: Training, name: str) -> Any:
    assert training.folder is not None  # only a run with a folder can have been resumed
    return training.folder / f"{name.replace(' ', '-')}.safetensors"
