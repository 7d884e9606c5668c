"""Optimal Brain Compression: one by one the cheapest weight leaves and the others make up for it (Frantar et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.quadratic.choice import Choice, Mask, check_mask
from pomona.quadratic.path import walked
from pomona.quadratic.problem import Quadratic
from pomona.quadratic.refit import refit
from pomona.vocabulary import Decision, Statistic, View, Working


@dataclass(frozen=True)
class Obc:
    """The exact greedy removal. Each row loses as many weights as the proposal takes from it, n:m groups always m - n.

    How many leave which row is the allocation's word; with the criterion `ObcLoss` the cheapest steps of all rows compete, as in
    the paper. `mask="given"` leaves the proposal as it is and fits it anew, exactly, as it does where units are not single
    weights. `damping` is in mean diagonals of H.
    """

    damping: float = 0.01
    mask: Mask = "chosen"

    needs: ClassVar[tuple[Statistic, ...]] = Quadratic.needs
    working: ClassVar[Working] = Working(48, 2.5, 1 << 28)

    def __post_init__(self) -> None:
        check_mask("Obc", self.mask)

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """As many survivors in every row as proposed, and their weights; nothing changes where everyone stays."""
        if proposal.all():
            return Decision(proposal)
        problem, choice = Quadratic.of(view, self.damping), Choice(view, proposal)
        mask, window = problem.mask(proposal), choice.window
        if self.mask == "given" or not choice.apart:
            return problem.decision(proposal, refit(problem.damped, problem.weight, mask))
        quota = (~mask).view(*mask.shape[:2], -1, window).sum(3) if window > 1 else None
        path = walked(problem.inverse.to(problem.dtype), problem.weight, (~mask).sum(2), quota, window)
        return problem.decision(problem.keep(_without(mask, path.order)), path.weight)


def _without(mask: Tensor, order: Tensor) -> Tensor:
    """Everyone but those on the walk; entries of -1 name nobody."""
    alive = mask.new_ones(*mask.shape[:2], mask.shape[2] + 1)
    return alive.scatter_(2, order.masked_fill(order < 0, mask.shape[2]), False)[..., :-1]
