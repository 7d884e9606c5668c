"""Fluctuation: units whose activations hardly vary can be replaced by their mean (FLAP, An et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pomona.criteria.base import weights
from pomona.statistics.reader_moments import ReaderMoments, apart
from pomona.statistics.readers import places
from pomona.vocabulary import Member, Scores, Statistic, View, relative
from pomona.vocabulary.layout import to_product


@dataclass(frozen=True)
class Fluctuation:
    """var(x_j) ||W_:,j||^2 of the columns j through which a unit is read, added up over its columns and readers. For axes.

    It is the mean squared error of the readers' outputs if column j alone gives way to its mean: exact for a single column,
    as long as `MeanBias` puts the mean back. With `weighted` off, var(x_j) alone.

    `standardised`, as the paper compares layers and heads with neurons: columns in deviations from the mean column of the
    living units, and of a unit the mean of its columns. So a head, a mean of many, lies nearer 0 than a neuron. Where units have
    several columns these are squared first, as in the authors' code (the paper does not say so): that spares the heads.

    The paper reads all inputs from the dense model. In a run block by block only the counts come from there; which units go is
    judged, like the biases of `MeanBias`, on what a block reads from those that are already pruned.
    """

    weighted: bool = True
    standardised: bool = False

    needs: ClassVar[tuple[Statistic, ...]] = (ReaderMoments(),)

    def score(self, view: View) -> Scores:
        """One value a unit."""
        found = [self._columns(view, reader, variance) for reader, _, variance in apart(view.stats[ReaderMoments()], view.site)]
        losses = torch.cat(found, dim=1)  # (units, columns of all readers)
        if not self.standardised:
            return Scores(losses.sum(1).float())
        losses = losses.square() if losses.shape[1] > 1 else losses
        return Scores(relative(losses, "standardise", losses[view.alive.to(losses.device)]).mean(1).float())

    def _columns(self, view: View, reader: Member, variance: Tensor) -> Tensor:
        """float64 (units, columns of one reader)."""
        assert reader.weight is not None  # the statistic saw to it
        if self.weighted:
            variance = variance * to_product(reader.weight, weights(view, reader).square()).double().sum(1)
        return variance.flatten()[places(reader).to(variance.device)]
