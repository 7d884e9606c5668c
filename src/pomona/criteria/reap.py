"""REAP: experts that add little where the router calls for them (Lasby et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pomona.statistics.expert_norms import ExpertNorms
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Reap:
    """The mean of gate * ||output of the expert|| over the tokens that the router sends to it. For axes of experts.

    An expert that no token of the calibration data is sent to is worth nothing.
    """

    needs: ClassVar[tuple[Statistic, ...]] = (ExpertNorms(),)

    def score(self, view: View) -> Scores:
        """One value an expert."""
        total, tokens = view.stats[ExpertNorms()]
        return Scores((total / tokens.clamp_min(1)).float())
