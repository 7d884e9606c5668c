"""HRank: channels whose feature maps have a low rank say little (Lin et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.probes.forward import Forward
from pomona.statistics.activations import ActivationMean
from pomona.statistics.map_rank import MapRank
from pomona.vocabulary import Scores, Statistic, View

_SIZE = ActivationMean(Forward(whole=True))


@dataclass(frozen=True)
class HRank:
    """The mean rank of a unit's map, as its readers receive it: behind norm and activation, and behind pooling if there is some.

    The paper looks before the pooling. Small maps tie often, and where ranks tie the mean absolute activation decides who leaves
    first. For channels; for heads, the paper's idea carried over: the rank of features by tokens.
    """

    needs: ClassVar[tuple[Statistic, ...]] = (MapRank(), _SIZE)

    def score(self, view: View) -> Scores:
        """One value a unit, between 0 and the shorter side of the map."""
        rank, size = view.stats[MapRank()], view.stats[_SIZE]
        by_size = size.argsort(stable=True)
        leaving = by_size[rank[by_size].argsort(stable=True)]
        return Scores(rank.float(), order=leaving.argsort())
