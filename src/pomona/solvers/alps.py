"""ALPS: who survives and with which weights, found together by operator splitting (Meng et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pomona.quadratic.choice import Choice, Mask, Per, check_mask
from pomona.quadratic.problem import Quadratic
from pomona.quadratic.refit import descended
from pomona.quadratic.splitting import Scaled, Split, begun, pulled, rescaled, stepped
from pomona.vocabulary import Decision, InputError, Statistic, View, Working

_TURNS = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))  # (share of the survivors that changed, what the penalty then grows by)


@dataclass(frozen=True)
class Alps:
    """min over W' of the layer error with as many survivors as proposed, by ADMM; then conjugate gradients on the support.

    The penalty `rho`, in units of the inputs' energy, grows every `every` rounds, the slower the fewer survivors changed since;
    when none did, or after `rounds`, the support stands. Structure and `per` say who competes with whom: the whole weight, each
    of its rows, n:m groups, blocks. `mask="given"` leaves the proposal as it is: no splitting, only the conjugate gradients.
    `damping` is in mean diagonals of H. Stacked experts share one course of the penalty.
    """

    damping: float = 0.01
    per: Per = "site"
    rho: float = 0.1
    every: int = 3
    rounds: int = 300
    steps: int = 100
    mask: Mask = "chosen"

    needs: ClassVar[tuple[Statistic, ...]] = Quadratic.needs
    working: ClassVar[Working] = Working(60, 2.5)

    def __post_init__(self) -> None:
        check_mask("Alps", self.mask)
        if not self.rho > 0 or self.every < 1 or self.rounds < 1:
            raise InputError(f"Alps needs a positive rho and at least 1 round; got {self.rho:g}, {self.every} and {self.rounds}.")

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """As many survivors as proposed, and their weights; nothing changes where everyone stays."""
        if proposal.all():
            return Decision(proposal)
        problem, choice = Quadratic.of(view, self.damping), Choice(view, proposal, self.per)
        scaled = Scaled.of(problem)
        if self.mask == "given":
            weight = descended(scaled.gram, scaled.target, problem.mask(proposal), scaled.target, self.steps)
            return problem.decision(proposal, scaled.back(weight))
        at = self._settled(scaled, choice)
        weight = descended(scaled.gram, scaled.target, at.mask, at.sparse, self.steps)
        return problem.decision(problem.keep(at.mask), scaled.back(weight))

    def _settled(self, scaled: Scaled, choice: Choice) -> Split:
        at, rho = begun(scaled.target), self.rho
        before = choice.best(scaled.target.square())
        for _ in range(0, self.rounds, self.every):
            pull = pulled(scaled.gram, rho)
            for _ in range(self.every):
                at = stepped(at, scaled.target, pull, lambda dense: choice.best(dense.square()))
            changed = int((at.mask ^ before).sum()) / max(1, int(at.mask.sum()))
            if not changed:
                break
            factor = next(factor for share, factor in _TURNS if changed >= share)
            at, rho, before = rescaled(at, factor), rho * factor, at.mask
        return at
