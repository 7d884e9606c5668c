"""Optimal brain damage with the Fisher diagonal: half the curvature times the weight squared (LeCun et al., 1989)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.criteria.base import of_units
from pomona.probes.loss_gradient import PerExampleGradient
from pomona.statistics.squared_taylor import SquaredTaylor
from pomona.vocabulary import Role, Scores, Statistic, View


@dataclass(frozen=True)
class Fisher:
    """Score h w^2 / 2, h the mean over examples of the squared gradient; over a unit the sum, since the rest is dropped.

    The paper's own pass for h is replaced by the empirical Fisher information (labels from the data), which equals the
    Gauss-Newton diagonal at a minimum of a log loss. Cost: one backward pass an example.
    """

    roles: tuple[Role, ...] = ("self", "out", "in")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The squared products, example by example."""
        return (SquaredTaylor(PerExampleGradient(), first="square", roles=self.roles),)

    def score(self, view: View) -> Scores:
        """In units of the loss, comparable over the whole network."""
        return Scores(of_units(view, view.stats[self.needs[0]]) / 2)
