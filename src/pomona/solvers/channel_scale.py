"""Channel scale: readers weigh the surviving channels anew, by least squares (ThiNet, Luo et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.solvers.readers import scaled
from pomona.statistics.contributions import ContributionGram
from pomona.statistics.readers import readers
from pomona.vocabulary import Decision, InputError, Statistic, View


@dataclass(frozen=True)
class ChannelScale:
    """One factor a surviving unit, such that the readers' outputs are nearest to what they were; exact normal equations.

    `ridge`, in mean squares of what a unit adds, pulls the factors towards 1, where they are if everyone stays: the error
    never grows. With `swap` survivors and others change places first, while that lowers the error before scaling.
    """

    ridge: float = 1e-6
    swap: bool = False
    positions: int = 10

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise InputError(f"The ridge must be positive, or duplicates have no factors; {self.ridge:g} is not.")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """What the units add to their readers."""
        return (ContributionGram(self.positions),)

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The survivors, and the readers with their scaled columns; nothing changes where everyone stays or nobody does."""
        if proposal.all() or not proposal.any():
            return Decision(proposal)
        gram = view.stats[self.needs[0]]
        keep = swapped(gram, proposal, view.alive) if self.swap else proposal
        return Decision(keep, scaled(view, readers(view.site), factors(gram, keep, self.ridge)))


def factors(gram: Tensor, keep: Tensor, ridge: float) -> Tensor:
    """(units,) float64: least squares over those kept, 1 for the others. (G_SS + ridge) (f - 1) = G_ST 1."""
    keep = keep.to(gram.device)
    missing = gram[keep][:, ~keep].sum(1, keepdim=True)
    pull = ridge * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny  # tiny: where nobody adds anything
    root = torch.linalg.cholesky(gram[keep][:, keep] + pull * torch.eye(len(missing), dtype=gram.dtype, device=gram.device))
    found = torch.ones_like(gram[0])
    found[keep] += torch.cholesky_solve(missing, root)[:, 0]
    return found


def swapped(gram: Tensor, keep: Tensor, alive: Tensor) -> Tensor:
    """`keep` after exchanges of one survivor and one leaver, always the best, while the error s'Gs of those leaving falls."""
    keep, alive = keep.clone(), alive.to(keep.device)
    diagonal = gram.diagonal()
    for _ in range(len(gram)):
        gone = (~keep).to(gram.dtype)
        lost = gram @ gone
        # Error after r comes back and s leaves, less the error now: (G_rr - 2 l_r) + (G_ss + 2 l_s) - 2 G_rs.
        change = (diagonal - 2 * lost)[:, None] + (diagonal + 2 * lost)[None] - 2 * gram
        change = change.masked_fill(~((~keep & alive)[:, None] & keep[None]), torch.inf)
        back, leaves = divmod(int(change.argmin()), len(gram))
        if not change[back, leaves] < -1e-12 * diagonal.sum():
            break
        keep[back], keep[leaves] = True, False
    return keep
