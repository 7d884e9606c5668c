"""Asymmetric: a layer is solved for what the dense model gives in its place, not for what the dense weight would give."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from pomona.probes.forward import Forward
from pomona.probes.paired import Paired
from pomona.quadratic.problem import Quadratic
from pomona.statistics.drift import Drift
from pomona.statistics.input_gram import InputGram
from pomona.statistics.rows_read import RowsRead
from pomona.vocabulary import Decision, Gathered, InputError, Solver, Statistic, View, Working
from pomona.vocabulary.layout import from_product


@dataclass(frozen=True)
class Asymmetric:
    """Another solver, on W + D instead of the dense weight W: D takes back what the cut layers before this one did.

    min over D of ||M - X D^T||^2 + damping ||D||^2, X what the layer reads in the pruned model and M, row by row, what is
    missing there (`Paired`): a least-squares fit, so D = (H + damping)^-1 C with the statistics `InputGram` and `Drift`. Without
    damping ||M - X (W' - W)^T||^2 is tr((W + D - W') H (W + D - W')^T) and a constant, for any W': what `solver` loses of W + D
    is what is lost of M. Layers are solved in the order in which they are read, each on what those before it give by now.

    GPTAQ and QEP solve quantised layers for the dense model's products, `stream=False`. With `stream` a layer that adds to the
    residual stream is solved for the whole stream behind it, token by token relative to its size (`Paired` says how far): that is
    not in the papers.
    Every row of D has as many unknowns as columns, and is told by as many equations as tokens: `damping`, in mean diagonals of H,
    is that ratio times `doubt`. It is far above what solvers take, since of D less is known than of W: where inputs hardly vary
    a fit is a fit to chance. (The papers take a share of D instead.)
    """

    solver: Solver
    stream: bool = True
    doubt: float = 8.0

    def __post_init__(self) -> None:
        if self.doubt < 0:
            raise InputError(f"Asymmetric needs a doubt from 0 on; got {self.doubt:g}.")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The other solver's, gathered beside the dense model, and what is missing; raises InputError where they cannot be."""
        needs: tuple[Statistic, ...] = (InputGram(), RowsRead(), *self.solver.needs)
        return *dict.fromkeys(map(self._beside, needs)), Drift(self._probe)

    @property
    def working(self) -> Working:
        """The other's, and the fit."""
        own: Working = getattr(self.solver, "working", Working())
        return replace(own, weight=own.weight + 24, gram=own.gram + 1)

    def solve(self, view: View, proposal: torch.Tensor) -> Decision:
        """The other solver's decision on the fitted weight; nothing changes where everyone stays."""
        if proposal.all():
            return Decision(proposal)
        given = view.site.weight
        stats = Gathered({need: view.stats[self._beside(need)] for need in self.solver.needs})
        gram, rows = view.stats[self._beside(InputGram())], view.stats[self._beside(RowsRead())]
        damping = self.doubt * gram.shape[1] / max(1.0, float(rows))
        problem = Quadratic.of(replace(view, stats=Gathered({InputGram(): gram})), damping)
        assert given is not None  # Quadratic.of saw to it
        fitted = problem.weight + problem.solved(view.stats[Drift(self._probe)] / problem.unit).mT.to(problem.dtype)
        value = from_product(given, fitted).to(view.tensors[given.tensor].dtype)
        decision = self.solver.solve(replace(view, tensors={**view.tensors, given.tensor: value}, stats=stats), proposal)
        return replace(decision, notes=tuple(dict.fromkeys((*problem.notes, *decision.notes))))

    @property
    def _probe(self) -> Paired:
        return Paired(self.stream)

    def _beside(self, need: Statistic) -> Statistic:
        if need.probe != Forward():
            raise InputError(
                f"{type(self.solver).__name__} reads more than inputs, so it cannot be solved beside the dense model."
            )
        return replace(need, probe=self._probe)  # type: ignore[type-var]
