"""Open gate: condemned but not yet dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pomona.vocabulary import Clock, Site


@dataclass(frozen=True)
class Open:
    """The forward pass sees the dense weight; a regulariser does the fading, and the engine closes the gate at the end."""

    @property
    def holds(self) -> bool:
        """The condemned train on."""
        return False

    def learned(self, site: Site, weight: Tensor) -> Mapping[str, Tensor]:
        """Nothing to learn."""
        return {}

    def apply(self, weight: Tensor, alive: Tensor, learned: Mapping[str, Tensor], clock: Clock) -> Tensor:
        """The weight itself."""
        return weight
