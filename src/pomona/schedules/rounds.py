"""Iterative pruning: n rounds, each scored anew (Han et al., 2015; Frankle and Carbin's lottery tickets, 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pomona.vocabulary import Action, Clock, Goal, InputError, Prune, Recover

Spacing = Literal["geometric", "linear", "cubic"]

_LEFT: Mapping[str, Callable[[float, float], float]] = {  # (share of the rounds done, ratio of the goal) -> ratio now
    "geometric": lambda done, ratio: ratio**done,
    "linear": lambda done, ratio: 1 - (1 - ratio) * done,
    "cubic": lambda done, ratio: ratio + (1 - ratio) * (1 - done) ** 3,
}


@dataclass(frozen=True)
class Rounds:
    """Cut in `n` rounds; the last one meets the goal exactly.

    "geometric" takes the same share of the survivors each round (SynFlow, lottery tickets), "linear" the same number of
    units, "cubic" most of them early. `recover` runs the recovery after every cut; with `first_train` the engine runs
    it once before the first cut too, as lottery tickets want.
    """

    n: int = 5
    spacing: Spacing = "geometric"
    recover: bool = True
    first_train: bool = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"Iterative pruning needs at least 1 round, not {self.n}.")
        if self.spacing not in get_args(Spacing):
            raise InputError(f"Rounds are spaced {', '.join(get_args(Spacing))}; '{self.spacing}' is none of them.")

    @property
    def clock(self) -> Literal["round", "step"]:
        """Rounds."""
        return "round"

    def ratio(self, round: int, goal: Goal) -> float:
        """What is left of the dense price after this round, the first being 0."""
        return goal.ratio if round == self.n - 1 else _LEFT[self.spacing]((round + 1) / self.n, goal.ratio)

    def actions(self, clock: Clock, goal: Goal) -> Sequence[Action]:
        """A cut and a recovery in rounds 0 to n - 1, nothing after them."""
        if clock.round >= self.n:
            return ()
        cut = Prune(self.ratio(clock.round, goal))
        return (cut, Recover()) if self.recover else (cut,)
