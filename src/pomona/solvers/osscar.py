"""OSSCAR: which units leave, and the weights of their reader, by the reader's outputs alone (Meng et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from pomona.quadratic.problem import Quadratic
from pomona.quadratic.units import Units
from pomona.statistics.input_gram import InputGram
from pomona.statistics.reader_gram import ReaderGram, only_reader
from pomona.statistics.readers import places
from pomona.vocabulary import Decision, Gathered, InputError, Statistic, View


@dataclass(frozen=True)
class Osscar:
    """As many units as the proposal keeps; the weight that reads them is fitted anew to what it put out with all of them.

    The cheapest leave in `rounds` rounds, prices exact at the start of each; then come exchanges, `swaps` at once as in the
    paper, and chains of up to `swaps` of the best ones, which find who helps only together: at most `steps` of either (the
    paper: 30 in all, and no chains). The error is never above that of the proposal with fitted weights, which is all that
    there is with `exchange` off: the proposal stays as it is. `damping` is in mean diagonals of H. For axes with one reader.
    """

    damping: float = 0.01
    rounds: int = 20
    steps: int = 100
    swaps: int = 10
    exchange: bool = True

    needs: ClassVar[tuple[Statistic, ...]] = (ReaderGram(),)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.steps < 0 or self.swaps < 1:
            raise InputError(
                f"Osscar needs at least 1 round, 0 steps and 1 swap; got {self.rounds}, {self.steps} and {self.swaps}."
            )

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The units and their reader; nothing changes where everyone stays or nobody does."""
        if proposal.all() or not proposal.any():
            return Decision(proposal)
        reader = only_reader(view.site)
        stats = Gathered({InputGram(): view.stats[ReaderGram()]})
        problem = Quadratic.of(replace(view, site=replace(view.site, weight=reader.weight), stats=stats), self.damping)
        units = Units.of(problem.damped[0], problem.weight[0].double(), places(reader).to(problem.weight.device))
        keep = self._chosen(units, view.alive, proposal) if self.exchange else proposal
        return problem.decision(keep, units.fitted(keep)[None])

    def _chosen(self, units: Units, alive: Tensor, proposal: Tensor) -> Tensor:
        greedy = units.eliminated(alive, int(proposal.sum()), self.rounds)
        return units.exchanged(min(greedy, proposal, key=units.lost), alive, self.steps, self.swaps)
