"""Keep: survivors stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pomona.vocabulary import Decision, Statistic, View


@dataclass(frozen=True)
class Keep:
    """Takes the proposal and changes no weight."""

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """Nothing."""
        return ()

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """The proposal itself."""
        return Decision(proposal)
