"""Group shrinkage: weak units fade in all their tensors at once (DepGraph, Fang et al., 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.vocabulary import Clock, Role, State, View


@dataclass(frozen=True)
class GroupShrink:
    """strength * sum over units of gamma_k * I_k, I_k the squared norm of all that unit k reaches into.

    gamma_k = 2^(alpha (I_max - I_k) / (I_max - I_min)) over the living units: 1 for the strongest, 2^alpha for the weakest,
    so that a unit's rows, columns, norms and biases go to zero together. gamma is taken anew after every step and held
    constant in the gradient. 1 for all where the units are equal.
    """

    strength: float = 1e-4
    alpha: float = 4.0
    roles: tuple[Role, ...] = ("self", "out", "in", "scale")

    def penalty(self, view: View, state: State | None, clock: Clock) -> Tensor:
        """Differentiable in the view's tensors."""
        importance = self._importance(view)
        gamma = self._gamma(importance.detach(), view.alive) if state is None else state["gamma"].to(importance)
        return self.strength * (gamma * importance).sum()

    def advance(self, view: View, state: State | None, clock: Clock) -> State:
        """State `gamma`, of the site's shape."""
        return {"gamma": self._gamma(self._importance(view), view.alive)}

    def _importance(self, view: View) -> Tensor:
        return view.reduce({name: tensor.square() for name, tensor in view.tensors.items()}, roles=self.roles)

    def _gamma(self, importance: Tensor, alive: Tensor) -> Tensor:
        living = importance[alive]
        if not living.numel():
            return torch.ones_like(importance)
        most, spread = living.max(), living.max() - living.min()
        # The dead lie below the weakest, at zero already: their pull need not grow beyond its own.
        share = (most - importance).clamp(max=spread) / spread.clamp_min(torch.finfo(spread.dtype).tiny)
        return torch.exp2(self.alpha * share)
