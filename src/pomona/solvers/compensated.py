"""Bias compensation: what a weight loses of its mean output, its bias gives (as in FLAP, An et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from pomona.solvers.least_squares import LeastSquares
from pomona.statistics.input_moments import InputMoments
from pomona.vocabulary import Decision, Solver, Statistic, View, Working
from pomona.vocabulary.layout import to_product


@dataclass(frozen=True)
class Compensated:
    """What `solver` decides, and where the op adds a bias, that bias with (W - W') mean(x) on top: the best that it can be.

    Weights without a bias are left at what `solver` made of them: no bias is added to the model.
    """

    solver: Solver = field(default_factory=LeastSquares)

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """Those of the solver, and the means of the inputs."""
        return (*self.solver.needs, InputMoments())

    @property
    def working(self) -> Working:
        """That of the solver, and the change of the weight in float64."""
        own = getattr(self.solver, "working", Working())
        return replace(own, weight=max(own.weight, 40))

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The solver's decision with the bias."""
        decision, given = self.solver.solve(view, proposal), view.site.weight
        if given is None or given.bias is None or proposal.all():
            return decision
        weight, bias = view.tensors[given.tensor].detach(), view.tensors[given.bias].detach()
        mask = view.structure.expand(view.site, decision.keep)[given.tensor]
        now = decision.tensors.get(given.tensor, weight).masked_fill(~mask, 0.0)
        mean = view.stats[InputMoments()][0]  # (groups, columns)
        lost = (to_product(given, weight.double() - now.double()) @ mean[..., None]).flatten()
        shifted = (bias.double() + lost.to(bias.device)).to(bias.dtype)
        return replace(decision, tensors={**decision.tensors, given.bias: shifted})
