"""LossChange: what the loss does when weights go, weight by weight, then added up (Ma et al., LLM-Pruner, 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pomona.criteria.base import of_units, weights
from pomona.probes.loss_gradient import PerExampleGradient
from pomona.statistics.gradient import Gradient
from pomona.statistics.squared_gradient import SquaredGradient
from pomona.statistics.sums import only_weight
from pomona.vocabulary import InputError, Scores, Statistic, View

Order = Literal["first", "second", "mixed"]


@dataclass(frozen=True)
class LossChange:
    """|w g|, |w^2 f| or |w g - w^2 f / 2| of each weight, summed over a unit's slice; g the gradient over all of the data.

    f is the mean over examples of the squared gradient, the Fisher diagonal that stands for the curvature: "mixed", both
    terms, is the paper's element-wise importance, at the price of a backward pass an example; a single weight moves the loss
    so little that the second term seldom changes who leaves. The sign is that of the loss: gradients of examples that
    contradict each other cancel, as in the paper and unlike in `Taylor`. With `vector` the slice
    is one vector and the absolute value comes after its sum. For single weights; `Grouped(LossChange(), combine="sum")` adds
    up all tensors of a coupled group.
    """

    order: Order = "first"
    vector: bool = False

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise InputError(f"A loss change is of {', '.join(get_args(Order))} order; '{self.order}' is none of them.")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The gradient, its square, or both from the same passes."""
        if self.order == "first":
            return (Gradient(),)
        return (SquaredGradient(),) if self.order == "second" else (Gradient(PerExampleGradient()), SquaredGradient())

    def score(self, view: View) -> Scores:
        """In units of the loss, at least 0; raises InputError for sites that are not on a single weight."""
        only_weight(view.site, "The loss change of a weight")
        weight = weights(view, view.site.members[0])
        terms = [view.stats[need] for need in self.needs]
        if self.order == "mixed":
            change = weight * terms[0] - weight.square() * terms[1] / 2
        else:
            change = weight * terms[0] if self.order == "first" else weight.square() * terms[0]
        return Scores(of_units(view, change).abs() if self.vector else of_units(view, change.abs()))
