"""SparseGPT: columns are pruned from left to right, and those to the right make up for it (Frantar and Alistarh, 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from pomona.quadratic.choice import Choice, Per
from pomona.quadratic.problem import Quadratic
from pomona.quadratic.sweep import swept
from pomona.vocabulary import Decision, InputError, Statistic, View


@dataclass(frozen=True)
class SparseGPT:
    """Of each block of columns those stay whose loss would cost most, w^2 / [U_jj]^2, the weights being what they are by then.

    As many stay as the proposal keeps: the same share of every block of columns, over all rows as in the paper, or in each row
    (`per="row"`); of n:m groups always n. `mask="given"` leaves the proposal as it is and only repairs, as it does where units
    are not single weights. `damping` is in mean diagonals of H.
    """

    block: int = 128
    damping: float = 0.01
    per: Per = "site"
    mask: Literal["chosen", "given"] = "chosen"

    needs: ClassVar[tuple[Statistic, ...]] = Quadratic.needs

    def __post_init__(self) -> None:
        if self.block < 1:
            raise InputError(f"SparseGPT settles at least 1 column at a time, not {self.block}.")

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """As many survivors as proposed, and their weights; nothing changes where everyone stays."""
        if proposal.all():
            return Decision(proposal)
        problem, choice = Quadratic.of(view, self.damping), Choice(view, proposal, self.per)
        window = choice.window
        if self.mask == "chosen" and choice.apart:
            weight, alive = swept(problem, choice.among, -(-self.block // window) * window, window)
            return problem.decision(problem.keep(alive), weight)
        given = problem.mask(proposal)
        weight, _ = swept(problem, lambda worth, start: given[..., start : start + worth.shape[2]], self.block)
        return problem.decision(proposal, weight)
