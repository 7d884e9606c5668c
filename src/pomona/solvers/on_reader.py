"""On the reader: any solver of the layer problem repairs an axis in the one weight that reads it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor

from pomona.solvers.least_squares import LeastSquares
from pomona.statistics.input_gram import InputGram
from pomona.statistics.reader_gram import ReaderGram, only_reader
from pomona.vocabulary import Decision, Gathered, InputError, Solver, Statistic, View, Working


@dataclass(frozen=True)
class OnReader:
    """Who stays is the proposal; `solver` fits the reader's columns that stay to what the whole weight put out, in its own way.

    `solver` is one that needs the gram matrix of the inputs alone: LeastSquares, which makes this Osscar without exchanges,
    SparseGPT, Alps, Admm or Obc, whose `mask` is taken to be "given". For axes that one linear or ungrouped convolution weight
    reads. Raises InputError for other solvers.
    """

    solver: Solver = field(default_factory=LeastSquares)

    needs: ClassVar[tuple[Statistic, ...]] = (ReaderGram(),)

    def __post_init__(self) -> None:
        if tuple(self.solver.needs) != (InputGram(),):
            raise InputError(
                f"{type(self.solver).__name__} reads more than the gram matrix of a weight's inputs, so it cannot repair the "
                "reader of an axis; take LeastSquares, SparseGPT, Alps, Admm or Obc."
            )

    @property
    def working(self) -> Working:
        """That of the solver."""
        return getattr(self.solver, "working", Working())

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The proposal and its reader; nothing changes where everyone stays or nobody does."""
        if proposal.all() or not proposal.any():
            return Decision(proposal)
        stats = Gathered({InputGram(): view.stats[ReaderGram()]})
        reader = replace(view.site, weight=only_reader(view.site).weight)
        own: Any = self.solver
        solver: Solver = replace(own, mask="given") if hasattr(own, "mask") else own
        return solver.solve(replace(view, site=reader, stats=stats), proposal)
