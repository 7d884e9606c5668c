"""Several recoveries one after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from pomona.recovery.fine_tune import FineTune
from pomona.recovery.recalibrate import Recalibrate
from pomona.vocabulary import InputError, Recovery, Requirement, Training


@dataclass(frozen=True)
class Chain:
    """Run `parts` in order, each from where the one before it left the model."""

    parts: tuple[Recovery, ...] = (FineTune(), Recalibrate())

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("A chain of recoveries needs at least one part.")

    @property
    def requires(self) -> frozenset[Requirement]:
        """What any part asks for."""
        return frozenset().union(*(part.requires for part in self.parts))

    @property
    def rewinds(self) -> bool:
        """Whether any part does."""
        return any(getattr(part, "rewinds", False) for part in self.parts)

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Each part's numbers under `<position> <name>`, checkpoints in a folder of its own."""
        history = {}
        for number, part in enumerate(self.parts):
            name = f"{number} {type(part).__name__}"
            folder = training.folder / name.replace(" ", "-") if training.folder else None
            history[name] = part.recover(model, replace(training, folder=folder))
        return history
