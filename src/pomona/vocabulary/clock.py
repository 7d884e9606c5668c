"""Where a run is, and what a schedule may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pomona.vocabulary.parts import Criterion


@dataclass(frozen=True)
class Clock:
    """Where a run is; with the recipe and the seed it determines every action, so a run resumes from it.

    `step` counts optimiser steps (training engine), `round` pruning rounds (one-shot engine); `steps` is how many
    optimiser steps the run will take, 0 outside training. `signals` is what triggers read (loss, penalty, ...).
    """

    step: int = 0
    round: int = 0
    steps: int = 0
    signals: Mapping[str, float] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """Share of the training done, in [0, 1]."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


@dataclass(frozen=True)
class Prune:
    """Cut until `ratio` of the dense price is left; `revive` lets the dead compete; `by` overrides the criterion."""

    ratio: float
    revive: bool = False
    by: Criterion | None = None


@dataclass(frozen=True)
class Drop:
    """Kill the least of the living at every site: floor(`share` * living) of them."""

    share: float
    by: Criterion | None = None


@dataclass(frozen=True)
class Regrow:
    """Wake the best dead units by `by`, at every site as many as the last `Drop` killed.

    The living stay; the newborn start at 0, and so do their momenta. Those just dropped may come back.
    """

    by: Criterion


@dataclass(frozen=True)
class Recover:
    """Run the recipe's recovery now."""


Action: TypeAlias = Prune | Drop | Regrow | Recover
