"""Straight-through gate: the dead read as zero but still feel the gradient (Guo et al., 2016; Bengio et al., 2013)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pomona.vocabulary import Clock, Site


class _Masked(torch.autograd.Function):
    """Masked forward, identity backward. Exact, unlike w + (masked - w).detach(), which rounds."""

    @staticmethod
    def forward(weight: Tensor, alive: Tensor) -> Tensor:
        return weight.masked_fill(~alive, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0], None


@dataclass(frozen=True)
class StraightThrough:
    """Forward masked; the gradient at the masked weight is applied to every stored weight, dead ones included.

    So the dead keep moving and can cross the threshold again: the shadow weights of dynamic network surgery.
    """

    @property
    def holds(self) -> bool:
        """The dead move."""
        return False

    def learned(self, site: Site, weight: Tensor) -> Mapping[str, Tensor]:
        """Nothing to learn."""
        return {}

    def apply(self, weight: Tensor, alive: Tensor, learned: Mapping[str, Tensor], clock: Clock) -> Tensor:
        """Masked forward, dense backward."""
        masked: Tensor = _Masked.apply(weight, alive)  # type: ignore[no-untyped-call]
        return masked
