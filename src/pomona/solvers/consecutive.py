"""Consecutive: the blocks that leave are neighbours, between whose ends the stream turns least (Gromov et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.statistics.run_distance import RunDistance
from pomona.vocabulary import Decision, InputError, Statistic, View


@dataclass(frozen=True)
class Consecutive:
    """As many blocks as the proposal lets go, in one run: that with the smallest angular distance between its two ends.

    Neighbours are blocks next to each other among those of the site that are alive. Ties: the run that ends first. The notes
    say which run left, and where the last block of the list is in it, which papers find to be unlike the others.
    """

    needs: ClassVar[tuple[Statistic, ...]] = (RunDistance(),)

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """Nothing but who stays changes; raises InputError for sites that are no blocks."""
        if view.site.kind != "branch":
            raise InputError(f"{view.site.name} holds no blocks, so there are no runs of them; prune layers.")
        living = view.alive.nonzero()[:, 0].tolist()
        length = int(view.alive.sum() - proposal.sum())
        if not length:
            return Decision(proposal)
        table = view.stats[RunDistance()]
        runs = [living[start : start + length] for start in range(len(living) - length + 1)]
        best = min(runs, key=lambda run: float(table[run[0], run[-1]]))
        keep = view.alive.clone()
        keep[best] = False
        return Decision(keep, notes=_told(view, best, float(table[best[0], best[-1]])))


def _told(view: View, run: list[int], distance: float) -> tuple[str, ...]:
    first, last = view.site.blocks[run[0]], view.site.blocks[run[-1]]
    note = f"{len(run)} consecutive blocks go, {first} to {last}: their ends are {distance:.3f} of a half turn apart."
    if run[-1] < view.site.units - 1:
        return (note,)
    return note, f"{last} is the last block, which is rarely one that can be spared; keep it with --keep {last}."
