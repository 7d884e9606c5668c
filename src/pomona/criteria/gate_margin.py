"""Gate margin: how far a weight is above its learned threshold (Liu et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.criteria.base import gather, members, weights
from pomona.vocabulary import InputError, Scores, Statistic, View

THRESHOLD = "gate/threshold"


@dataclass(frozen=True)
class GateMargin:
    """Score |w| - t: positive where the learned gate lets the weight through."""

    needs: ClassVar[tuple[Statistic, ...]] = ()

    def score(self, view: View) -> Scores:
        """Raises InputError where the recipe's gate has no thresholds."""
        if THRESHOLD not in view.tensors:
            raise InputError(f"GateMargin needs learned thresholds at {view.site.name}; use gate=LearnedThreshold().")
        margins = {m: weights(view, m).abs() - view.tensors[THRESHOLD].detach().float() for m in members(view, ("self",))}
        return Scores(gather(view, margins))
