"""SOSP-H: second-order saliency with all correlations, from one Hessian-vector product (Nonnenmacher et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from pomona.criteria.base import of_units
from pomona.statistics.second_order import SecondOrder
from pomona.vocabulary import Role, Scores, Statistic, View


@dataclass(frozen=True)
class Sosp:
    """|t'g| + |t'Hv| / 2, t the weights of a unit, v those of all units together, of every layer.

    The set that will go is unknown, so all that could go stands for it: a unit whose curvature is cancelled by that of others
    scores low, one that is supported by it high, which no diagonal method sees. `first` counts the gradient's term, which
    vanishes at a minimum. Kinks (ReLU) have no curvature here; on small nets without recovery `Fisher` was the better judge.
    """

    roles: tuple[Role, ...] = ("self", "out", "scale")
    first: bool = True

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """Both terms."""
        return (SecondOrder(self.roles),)

    def score(self, view: View) -> Scores:
        """In units of the loss, comparable over the whole network."""
        gradient, curvature = view.stats[self.needs[0]].abs()
        return Scores(of_units(view, curvature / 2 + gradient if self.first else curvature / 2))
