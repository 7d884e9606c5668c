"""The density that emerges, and a goal only at the very end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pomona.vocabulary import Action, Clock, Goal, InputError, Prune


@dataclass(frozen=True)
class Emerging:
    """Take note of the mask every `every` steps, asking for no density; at the last step cut to the goal exactly.

    For recipes whose gate decides by itself. Without a goal (ratio 1) the last cut asks for nothing either.
    """

    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"A decision every {self.every} steps is never; write every=1 or more.")

    @property
    def clock(self) -> Literal["round", "step"]:
        """Optimiser steps."""
        return "step"

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """A cut in which the dead compete again."""
        if clock.step == clock.steps:
            return (Prune(goal.ratio, revive=True),)
        return (Prune(1.0, revive=True),) if clock.step % self.every == 0 else ()
