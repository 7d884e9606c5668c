"""APoZ: neurons that are mostly zero matter least (Hu et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.statistics.activations import ZeroShare
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Apoz:
    """The share of a unit's activations that are not zero, in [0, 1]. Tells nothing behind activations without zeros (GELU)."""

    needs: ClassVar[tuple[Statistic, ...]] = (ZeroShare(),)

    def score(self, view: View) -> Scores:
        """One value a unit."""
        return Scores((1 - view.stats[ZeroShare()]).float())
