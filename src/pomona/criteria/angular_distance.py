"""Angular distance: blocks that turn the last token least matter least (Gromov et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.statistics.run_distance import RunDistance
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class AngularDistance:
    """The mean angle between what enters a block and what leaves it, as a share of half a turn. For branch sites.

    It says how many blocks of a list can go where there are several lists; which run of blocks goes is for `Consecutive`.
    """

    needs: ClassVar[tuple[Statistic, ...]] = (RunDistance(),)

    def score(self, view: View) -> Scores:
        """One value a block."""
        return Scores(view.stats[RunDistance()].diagonal().float().reshape(view.site.shape))
