"""Rearrange: those leave together whose pulls on the loss cancel (Kwon et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pomona.statistics.gate_rows import GateRows
from pomona.vocabulary import Decision, Statistic, View


@dataclass(frozen=True)
class Rearrange:
    """One walk over the survivors of a site: each leaves in turn, and whom the leavers can best do without comes back.

    What is made small is |sum of the leavers' gate gradients|^2, over all batches: the quadratic loss with the block of the
    Fisher information that belongs to the site, of which a criterion such as `Taylor` sees the diagonal only. It never grows. No
    weight changes; counts stay.
    """

    needs: ClassVar[tuple[Statistic, ...]] = (GateRows(),)

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The survivors; the proposal where everyone stays or nobody does."""
        if proposal.all() or not proposal.any():
            return Decision(proposal)
        return Decision(rearranged(view.stats[GateRows()], proposal, view.alive))


def rearranged(rows: Tensor, keep: Tensor, alive: Tensor) -> Tensor:
    """`keep` (units,) after the walk, from the weakest survivor on; `rows` (passes, units). Ties: the lower index comes back."""
    squares = rows.square().sum(0)
    gone = (alive & ~keep).to(rows.device)
    total = rows[:, gone].sum(1)
    walk = squares.masked_fill(gone | ~alive.to(rows.device), torch.inf).argsort(stable=True)[: int((keep & alive).sum())]
    for unit in walk.tolist():
        gone[unit], total = True, total + rows[:, unit]
        # |total - g|^2, less |total|^2, which is the same for all.
        back = int((squares - 2 * (total @ rows)).masked_fill(~gone, torch.inf).argmin())
        gone[back], total = False, total - rows[:, back]
    return (alive.to(rows.device) & ~gone).to(keep.device)
