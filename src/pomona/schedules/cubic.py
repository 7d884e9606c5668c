"""Gradual pruning along a cube (Zhu and Gupta, To prune, or not to prune, 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pomona.vocabulary import Action, Clock, Goal, InputError, Prune


@dataclass(frozen=True)
class Cubic:
    """Sparsity s = s_f + (s_i - s_f) * (1 - (t - t0) / (t1 - t0))^power at t0, t0 + every, ..., and at t1 itself.

    t0 and t1 are `begin` and `end` as shares of the training's steps, s_i is `initial`, s_f what the goal removes;
    power 1 is the linear schedule. With `revive` (as published) masked weights compete again at each update. After t1
    nothing changes.
    """

    begin: float = 0.0
    end: float = 0.75
    every: int = 100
    initial: float = 0.0
    power: float = 3.0
    revive: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise InputError(f"Gradual pruning needs 0 <= begin < end <= 1; got {self.begin:g} and {self.end:g}.")
        if self.every < 1 or self.power <= 0 or not 0 <= self.initial < 1:
            raise InputError("Gradual pruning needs every >= 1, power > 0 and an initial sparsity of at least 0 and below 1.")

    @property
    def clock(self) -> Literal["round", "step"]:
        """Optimiser steps."""
        return "step"

    def ratio(self, clock: Clock, goal: Goal) -> float:
        """What is left of the dense price at this step."""
        first, last = round(self.begin * clock.steps), round(self.end * clock.steps)
        if clock.step >= last:
            return goal.ratio
        initial = max(1 - self.initial, goal.ratio)  # starting beyond the goal would mean growing back
        to_go = 1 - max(0, clock.step - first) / (last - first)
        return float(goal.ratio + (initial - goal.ratio) * to_go**self.power)

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """A cut at the steps of the formula. The last one is at `end` even where `every` does not divide."""
        first, last = round(self.begin * clock.steps), round(self.end * clock.steps)
        due = clock.step == last or (first <= clock.step < last and (clock.step - first) % self.every == 0)
        return (Prune(self.ratio(clock, goal), revive=self.revive),) if due else ()
