"""Gradient magnitude: where the loss pulls hardest, a dead weight should wake (RigL, Evci et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.criteria.base import of_units
from pomona.statistics.gradient import Gradient
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class GradientMagnitude:
    """|dL/dw|, the gradient averaged over the data before the absolute value; dead weights have one too. For element sites."""

    needs: ClassVar[tuple[Statistic, ...]] = (Gradient(),)

    def score(self, view: View) -> Scores:
        """The absolute gradient, summed over units of several weights."""
        return Scores(of_units(view, view.stats[Gradient()].abs()))
