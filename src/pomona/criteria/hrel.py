"""HRel: filters whose activations tell little about the class go first (Sarvani et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.statistics.relevance import Relevance
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class HRel:
    """Mutual information between a unit's activations and the labels, in bits, by matrix-based Renyi entropy.

    At most the entropy of the labels, so that with few classes many units tie. Activations are what readers receive, in
    evaluation mode; the paper averages over the batches of the training.
    """

    alpha: float = 1.01
    samples: int = 100

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The relevance."""
        return (Relevance(self.alpha, self.samples),)

    def score(self, view: View) -> Scores:
        """One value a unit."""
        return Scores(view.stats[self.needs[0]].float())
