"""Taylor: the squared loss change of removing a unit, to first order (Molchanov et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.criteria.base import of_units
from pomona.statistics.squared_taylor import SquaredTaylor
from pomona.vocabulary import Role, Scores, Statistic, View


@dataclass(frozen=True)
class Taylor:
    """Mean over batches of (sum over the unit of w * dL/dw)^2.

    By default the sum runs over the weights that *read* the unit, where it equals the derivative of a gate on the unit's
    output whatever lies between (norm, activation, flatten): the paper's best variant, without adding gates. With
    roles=("out",) it is the paper's plain form over the filter's weights. Gradients are taken in evaluation mode.
    """

    roles: tuple[Role, ...] = ("self", "in", "out")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The squared products."""
        return (SquaredTaylor(roles=self.roles),)

    def score(self, view: View) -> Scores:
        """In squared units of the loss, comparable over the whole network."""
        return Scores(of_units(view, view.stats[self.needs[0]]))
