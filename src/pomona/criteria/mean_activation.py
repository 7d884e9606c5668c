"""Mean activation: units that say little matter least (Molchanov et al., 2017, as a baseline)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.statistics.activations import ActivationMean
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class MeanActivation:
    """The mean absolute activation of a unit over data and positions, as its readers receive it."""

    needs: ClassVar[tuple[Statistic, ...]] = (ActivationMean(),)

    def score(self, view: View) -> Scores:
        """One value a unit."""
        return Scores(view.stats[ActivationMean()].float())
