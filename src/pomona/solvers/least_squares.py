"""Least squares: the survivors are fitted anew to what the whole weight put out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.quadratic.problem import Quadratic
from pomona.quadratic.refit import descended, refit
from pomona.quadratic.splitting import Scaled
from pomona.vocabulary import Decision, InputError, Statistic, View, Working

_EXACT = 256  # columns up to which a matrix a row costs less than products with the whole of H


@dataclass(frozen=True)
class LeastSquares:
    """The proposal as it is, whatever its structure; the weights that lose least of the outputs with it, row by row.

    Up to 256 columns, or with `tolerance` 0, by a Cholesky factor for each row. Otherwise by conjugate gradients, all rows at
    once, until the gradient has fallen to `tolerance` of its first length, at most `steps`. `damping` is in mean diagonals of H;
    it pulls the weights towards what they were.
    """

    damping: float = 0.01
    steps: int = 200
    tolerance: float = 1e-5

    needs: ClassVar[tuple[Statistic, ...]] = Quadratic.needs
    working: ClassVar[Working] = Working(48, 2.0, 1 << 25)

    def __post_init__(self) -> None:
        if self.tolerance < 0 or self.steps < 1:
            raise InputError(
                f"LeastSquares needs at least 1 step and a tolerance from 0 on; got {self.steps} and {self.tolerance:g}."
            )

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The proposal and its weights; nothing changes where everyone stays."""
        if proposal.all():
            return Decision(proposal)
        problem = Quadratic.of(view, self.damping)
        mask = problem.mask(proposal)
        if not self.tolerance or problem.weight.shape[2] <= _EXACT:
            return problem.decision(proposal, refit(problem.damped, problem.weight, mask))
        scaled = Scaled.of(problem)
        weight = descended(scaled.gram, scaled.target, mask, scaled.target, self.steps, self.tolerance)
        return problem.decision(proposal, scaled.back(weight))
