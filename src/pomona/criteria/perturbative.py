"""Perturbative: what the loss misses when a unit is missing, regressed from trials without many units (Dery et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.probes.perturbed import Perturbed
from pomona.statistics.trial_regression import TrialRegression
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Perturbative:
    """The coefficient of a unit among all units of all sites: comparable everywhere, in units of the loss.

    `pairs` of trials for each batch, with twice a `share` of the units as candidates: made for cuts that take about that share at
    a time (`Slices`). Where they say no more than chance, what a unit hands on decides, the prior by which candidates are chosen.
    """

    pairs: int = 100
    share: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        self.needs  # noqa: B018  refuses what the probe refuses

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The regression of the trials."""
        return (TrialRegression(Perturbed(self.pairs, self.share, self.seed)),)

    def score(self, view: View) -> Scores:
        """Those who were not tried stay before those who were."""
        return Scores(view.stats[self.needs[0]].float())
