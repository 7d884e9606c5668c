"""Weights for a mask by operator splitting, the mask growing on the way (Boza, ADMM for pruned language models, 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pomona.quadratic.choice import Choice, Mask, Per, check_mask
from pomona.quadratic.problem import Quadratic
from pomona.quadratic.splitting import Scaled, Split, begun, pulled, stepped
from pomona.vocabulary import Decision, InputError, Statistic, View, Working


@dataclass(frozen=True)
class Admm:
    """One inverse serves all rows, whatever their masks: `rounds` of fitting, projecting and adding up what is left over.

    `mask="given"` repairs the proposal as it is; `"chosen"` picks as many anew, gradually: over the first `gradual` rounds the
    share that is gone rises as a cubic to that of the proposal. The penalty is one mean energy of an input. Nothing is
    refitted at the end: after 20 rounds what is missing to least squares is small; with 0 the given survivors stay as they are.
    """

    rounds: int = 20
    gradual: int = 15
    damping: float = 0.1
    per: Per = "site"
    mask: Mask = "chosen"

    needs: ClassVar[tuple[Statistic, ...]] = Quadratic.needs
    working: ClassVar[Working] = Working(60, 2.5)

    def __post_init__(self) -> None:
        check_mask("Admm", self.mask)
        if self.rounds < 0 or not 0 <= self.gradual <= max(self.rounds, 1):
            raise InputError(
                f"Admm takes 0 or more rounds, of which the first few are gradual; got {self.rounds}, {self.gradual}."
            )

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """As many survivors as proposed, and their weights; nothing changes where everyone stays."""
        if proposal.all():
            return Decision(proposal)
        problem, choice = Quadratic.of(view, self.damping), Choice(view, proposal, self.per)
        scaled = Scaled.of(problem)
        given = problem.mask(proposal) if self.mask == "given" else None
        mask = choice.best(scaled.target.square()) if given is None else given
        at = Split(scaled.target.masked_fill(~mask, 0.0), torch.zeros_like(scaled.target), mask)
        if self.rounds:
            at = self._settled(begun(scaled.target), scaled, choice, given)
        return problem.decision(proposal if given is not None else problem.keep(at.mask), scaled.back(at.sparse))

    def _settled(self, at: Split, scaled: Scaled, choice: Choice, given: Tensor | None) -> Split:
        pull = pulled(scaled.gram, 1.0)
        for round in range(self.rounds):
            left = max(0.0, 1 - (round + 1) / max(self.gradual, 1)) ** 3  # the share of those who are to go that stays for now
            fixed = given if round < max(self.gradual, 1) else at.mask

            def choose(dense: Tensor, left: float = left, fixed: Tensor | None = fixed) -> Tensor:
                return choice.gradual(dense.square(), left) if fixed is None else fixed

            at = stepped(at, scaled.target, pull, choose)
        return at
