"""AbsoluteTaylor: the loss change of removing a unit, to first order, in units of the loss (Shen et al., HALP, 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.criteria.base import of_units
from pomona.statistics.squared_taylor import SquaredTaylor
from pomona.vocabulary import Role, Scores, Statistic, View


@dataclass(frozen=True)
class AbsoluteTaylor:
    """Root mean square over batches of the derivative of a gate on the unit: scores that may be added up over units.

    After a norm and ReLU that derivative is gamma * dL/dgamma + beta * dL/dbeta, which the paper writes. Here the weights that
    read the unit tell it, for every network. The paper averages absolute values over batches; for one batch that is the same.
    """

    roles: tuple[Role, ...] = ("self", "in", "out")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The squared products."""
        return (SquaredTaylor(roles=self.roles),)

    def score(self, view: View) -> Scores:
        """One value a unit, at least 0."""
        return Scores(of_units(view, view.stats[self.needs[0]].sqrt()))
