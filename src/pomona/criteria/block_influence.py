"""Block influence: blocks that hardly turn the residual stream matter least (ShortGPT, Men et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.statistics.angular_change import AngularChange
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class BlockInfluence:
    """Mean over tokens of 1 - cos(block input, block output), in [0, 2]. For branch sites."""

    needs: ClassVar[tuple[Statistic, ...]] = (AngularChange(),)

    def score(self, view: View) -> Scores:
        """One value a block."""
        return Scores(view.stats[AngularChange()].float().reshape(view.site.shape))
