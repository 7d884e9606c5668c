"""One cut at one step of the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pomona.vocabulary import Action, Clock, Goal, InputError, Prune


@dataclass(frozen=True)
class AtStep:
    """Decide once, after `step` optimiser steps; a gate may enforce the decision later (GReg: at step 0, then penalise).

    `step=None` is the last step of the run: a regulariser prepares the model, and the cut comes at the end (DepGraph).
    """

    step: int | None = 0

    def __post_init__(self) -> None:
        if self.step is not None and self.step < 0:
            raise InputError(f"Steps count from 0; got {self.step}.")

    @property
    def clock(self) -> Literal["round", "step"]:
        """Optimiser steps."""
        return "step"

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """The cut to the goal at that step."""
        return (Prune(goal.ratio),) if clock.step == (clock.steps if self.step is None else self.step) else ()
