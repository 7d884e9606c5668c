"""Constant pulls: L1 makes values zero, L2 makes them small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.vocabulary import Clock, Role, State, View


@dataclass(frozen=True)
class L1:
    """strength * sum |x| over the members in `role`. With role="scale" biases count too; network slimming is `ScaleL1`."""

    role: Role = "self"
    strength: float = 1e-4

    def penalty(self, view: View, state: State | None, clock: Clock) -> Tensor:
        """Subgradient 0 at 0."""
        return self.strength * _total([view.tensors[m.tensor].abs().sum() for m in view.members(self.role)])

    def advance(self, view: View, state: State | None, clock: Clock) -> State:
        """Nothing to carry."""
        return {}


@dataclass(frozen=True)
class L2:
    """(strength / 2) * sum x^2 over the members in `role`."""

    role: Role = "self"
    strength: float = 1e-4

    def penalty(self, view: View, state: State | None, clock: Clock) -> Tensor:
        """Its gradient is strength * x."""
        return 0.5 * self.strength * _total([view.tensors[m.tensor].square().sum() for m in view.members(self.role)])

    def advance(self, view: View, state: State | None, clock: Clock) -> State:
        """Nothing to carry."""
        return {}


def _total(sums: list[Tensor]) -> Tensor:
    return torch.stack(sums).sum() if sums else torch.zeros(())
