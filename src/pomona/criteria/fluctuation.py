"""Fluctuation: units whose activations hardly vary can be replaced by their mean (FLAP, An et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.criteria.base import gather, weights
from pomona.statistics.reader_moments import ReaderMoments, apart
from pomona.vocabulary import Member, Scores, Statistic, View
from pomona.vocabulary.layout import from_product, product_shape


@dataclass(frozen=True)
class Fluctuation:
    """var(x_j) ||W_:,j||^2 of the columns j through which a unit is read, added up over its columns and readers. For axes.

    It is the mean squared error of the readers' outputs if column j alone gives way to its mean: exact for a single column,
    as long as `MeanBias` puts the mean back. With `weighted` off, var(x_j) alone. The paper takes the mean over the columns of
    a head instead of their sum, which is the same once scores are standardised: pair it with `Global("standardise")`.
    """

    weighted: bool = True

    needs: ClassVar[tuple[Statistic, ...]] = (ReaderMoments(),)

    def score(self, view: View) -> Scores:
        """One value a unit."""
        total: Tensor | None = None
        for reader, _, variance in apart(view.stats[ReaderMoments()], view.site):
            value = gather(view, {reader: self._elements(view, reader, variance)})
            total = value if total is None else total + value
        assert total is not None  # an axis that nothing reads was refused when the data was gathered
        return Scores(total)

    def _elements(self, view: View, reader: Member, variance: Tensor) -> Tensor:
        assert reader.weight is not None  # the statistic saw to it
        groups, rows, columns = product_shape(reader.weight)
        spread = from_product(reader.weight, variance[:, None].expand(groups, rows, columns).float())
        return spread * weights(view, reader).square() if self.weighted else spread / rows
