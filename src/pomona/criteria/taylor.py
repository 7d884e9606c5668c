"""Taylor: the squared loss change of removing a unit, to first or second order (Molchanov et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pomona.criteria.base import of_units
from pomona.probes.hessian_product import HessianProduct
from pomona.probes.loss_gradient import LossGradient
from pomona.statistics.squared_taylor import SquaredTaylor
from pomona.vocabulary import InputError, Role, Scores, Statistic, View


@dataclass(frozen=True)
class Taylor:
    """Mean over batches of (sum over the unit of w * dL/dw)^2.

    By default the sum runs over the weights that *read* the unit, where it equals the derivative of a gate on the unit's
    output whatever lies between (norm, activation, flatten): the paper's best variant, without adding gates. With
    roles=("out",) it is the paper's plain form over the filter's weights. With `order=2` half the curvature is taken off, the
    weights of all units moving together: (sum of w (g - Hw / 2))^2, at the price of a second backward pass. Gradients are
    taken in evaluation mode, and afresh in every round: the paper's running average over rounds is left out.
    """

    roles: tuple[Role, ...] = ("self", "in", "out")
    order: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise InputError(f"Taylor scores are of order 1 or 2, not {self.order}.")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The squared products."""
        return (SquaredTaylor(HessianProduct() if self.order == 2 else LossGradient(), roles=self.roles),)

    def score(self, view: View) -> Scores:
        """In squared units of the loss, comparable over the whole network."""
        return Scores(of_units(view, view.stats[self.needs[0]]))
