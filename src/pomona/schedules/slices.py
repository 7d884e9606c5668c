"""Slices: the same part of the dense model in every round, down to the goal (Dery et al., Bonsai, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pomona.vocabulary import Action, Clock, Goal, InputError, Prune, Recover


@dataclass(frozen=True)
class Slices:
    """`share` of the dense price goes in every round, less in the last one; a recovery, if there is one, comes after that.

    Unlike `Rounds` the number of rounds follows from the goal, so what a round takes does not.
    """

    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"A slice is a share of the dense price, above 0 and at most 1; it is {self.share:g}.")

    @property
    def clock(self) -> Literal["round", "step"]:
        """Rounds."""
        return "round"

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """A cut in each round until the goal is met, nothing after it."""
        before, after = (1 - self.share * (clock.round + done) for done in (0, 1))
        if clock.round and before <= goal.ratio + 1e-12:
            return ()
        return (Prune(after),) if after > goal.ratio + 1e-12 else (Prune(goal.ratio), Recover())
