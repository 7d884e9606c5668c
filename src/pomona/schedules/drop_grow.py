"""Drop and grow: the density stays, the topology moves (Mocanu et al., SET, 2018; Evci et al., RigL, 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

from pomona.vocabulary import Action, Clock, Criterion, Drop, Goal, InputError, Prune, Regrow


@dataclass(frozen=True)
class DropGrow:
    """Cut to the goal at step 0 by `first`; then every `every` steps before T_end drop a share of the living and wake as many.

    The share is share / 2 * (1 + cos(pi t / T_end)), T_end being `end` of the training's steps. The dropped are the least
    by the recipe's criterion, the woken the best of the dead by `grow`; counts by site never change.
    """

    first: Criterion
    grow: Criterion
    every: int = 100
    share: float = 0.3
    end: float = 0.75

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 <= self.share < 1 or not 0 < self.end <= 1:
            raise InputError("Drop and grow needs every >= 1, a share of at least 0 and below 1, and an end in (0, 1].")

    @property
    def clock(self) -> Literal["round", "step"]:
        """Optimiser steps."""
        return "step"

    def dropped(self, clock: Clock) -> float:
        """Which share of the living is dropped at this step; 0 from T_end on."""
        end = self.end * clock.steps
        return self.share / 2 * (1 + cos(pi * clock.step / end)) if clock.step < end else 0.0

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """The first cut at step 0; a drop and a regrowth at the multiples of `every` before T_end."""
        if clock.step == 0:
            return (Prune(goal.ratio, by=self.first),)
        share = self.dropped(clock) if clock.step % self.every == 0 else 0.0
        return (Drop(share), Regrow(self.grow)) if share > 0 else ()
