"""What each weight costs when its turn comes on the exact greedy way down (Frantar et al., Optimal Brain Compression, 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pomona.quadratic.path import walked
from pomona.quadratic.problem import Quadratic
from pomona.vocabulary import InputError, Scores, Statistic, View, Working
from pomona.vocabulary.layout import from_product


@dataclass(frozen=True)
class ObcLoss:
    """Every row is walked to its end once; a weight's score is the growth of tr(D H D^T) at its step, or at the dearest before.

    Any level of sparsity is then a cut, and `LeastSquares` on what is left gives the weights that the walk has there. Steps of
    all rows of a weight compete, as in the paper; for n:m groups, whose walk is another one, take the solver `Obc`.
    `damping` is in mean diagonals of H.
    """

    damping: float = 0.01

    needs: ClassVar[tuple[Statistic, ...]] = Quadratic.needs
    working: ClassVar[Working] = Working(80, 3.5, 1 << 28)

    def score(self, view: View) -> Scores:
        """Losses and the order in which weights leave; raises InputError where units are not single weights, or where losses
        leave the range of float32.
        """
        problem, given = Quadratic.of(view, self.damping), view.site.weight
        if given is None or view.site.shape != given.shape:
            raise InputError(f"ObcLoss walks over single weights and {view.site.name} has other units; use structure Weights.")
        groups, rows, columns = problem.weight.shape
        steps = torch.full((groups, rows), columns, device=problem.weight.device)
        path = walked(problem.inverse.to(problem.dtype), problem.weight, steps)
        dearest = (path.loss.double() * problem.unit).float().cummax(2).values
        if problem.unit != 1.0 and not 1e-30 < float(dearest.max()) < torch.inf:
            raise InputError(f"Losses at {given.tensor} leave the range of float32; bring the data to ordinary sizes.")
        loss = torch.empty_like(dearest).scatter_(2, path.order, dearest)
        # Equal values leave in the order of the walk: by value, and within it by step.
        turn = dearest.flatten().argsort(stable=True).argsort().view(dearest.shape)
        order = torch.empty_like(turn).scatter_(2, path.order, turn)
        return Scores(from_product(given, loss), from_product(given, order), problem.notes)
