"""Norm scale: a channel that its BatchNorm multiplies by little matters little (Liu et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.criteria.base import gather, weights
from pomona.vocabulary import InputError, Scores, Statistic, View


@dataclass(frozen=True)
class NormScale:
    """|gamma| of the unit's normalisation, averaged where several normalise the same axis (residual streams).

    Biases and running statistics scale with the unit too, but are no measure of it. The paper prunes each norm's channels by
    themselves and selects them at run time; here norms on one residual stream decide together.
    """

    needs: ClassVar[tuple[Statistic, ...]] = ()

    def score(self, view: View) -> Scores:
        """Mean |gamma| a unit; raises InputError where no normalisation with a scale acts on the axis."""
        if not view.gammas:
            raise InputError(f"{view.site.name} passes no normalisation with a scale; skip it or use a criterion on weights.")
        total = gather(view, {m: weights(view, m).abs() for m in view.gammas})
        spread = sum(1 if m.index is None else m.index.shape[1] for m in view.gammas)
        return Scores(total / spread)
