"""One shot: all the way to the goal in one cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pomona.vocabulary import Action, Clock, Goal, Prune, Recover


@dataclass(frozen=True)
class Once:
    """Prune to the goal, then let the recipe's recovery (if it has one) run."""

    @property
    def clock(self) -> Literal["round", "step"]:
        """Rounds."""
        return "round"

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """The cut in round 0, nothing after it."""
        return (Prune(goal.ratio), Recover()) if clock.round == 0 else ()
