"""Norm scale: a channel that its BatchNorm multiplies by little matters little (Liu et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.criteria.base import gather, weights
from pomona.vocabulary import InputError, Scores, Statistic, View


@dataclass(frozen=True)
class NormScale:
    """|gamma| of the unit's normalisation, averaged where several normalise the same axis (residual streams).

    Biases and running statistics scale with the unit too, but are no measure of it: only 1-d parameters called `weight` count.
    """

    needs: ClassVar[tuple[Statistic, ...]] = ()

    def score(self, view: View) -> Scores:
        """Mean |gamma| a unit; raises InputError where no normalisation with a scale acts on the axis."""
        gammas = [m for m in view.members("scale") if m.tensor.endswith("weight") and view.tensors[m.tensor].ndim == 1]
        if not gammas:
            raise InputError(f"{view.site.name} passes no normalisation with a scale; skip it or use a criterion on weights.")
        total = gather(view, {m: weights(view, m).abs() for m in gammas})
        spread = sum(1 if m.index is None else m.index.shape[1] for m in gammas)
        return Scores(total / spread)
