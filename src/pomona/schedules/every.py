"""A decision at every step, or every few (Liu et al., Dynamic Sparse Training, 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pomona.vocabulary import Action, Clock, Goal, InputError, Prune


@dataclass(frozen=True)
class Every:
    """Decide anew at the multiples of `every`, the dead competing again: the mask follows the weights or the gate."""

    every: int = 1
    revive: bool = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"A decision every {self.every} steps is never; write every=1 or more.")

    @property
    def clock(self) -> Literal["round", "step"]:
        """Optimiser steps."""
        return "step"

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """A cut to the goal where the step is a multiple."""
        return (Prune(goal.ratio, revive=self.revive),) if clock.step % self.every == 0 else ()
