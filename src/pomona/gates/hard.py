"""Hard gate: the dead read as zero and keep their values, so that they can return (Zhu and Gupta, 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pomona.vocabulary import Clock, Site


@dataclass(frozen=True)
class Hard:
    """The forward pass sees the weight with exact zeros where the mask is dead; no gradient reaches the dead.

    The stored weight stays dense: a dead element keeps the value that it died with (`holds`), whatever momentum and weight
    decay would do to it, and comes back with it.
    """

    @property
    def holds(self) -> bool:
        """The engine keeps the dead where they are."""
        return True

    def learned(self, site: Site, weight: Tensor) -> Mapping[str, Tensor]:
        """Nothing to learn."""
        return {}

    def apply(self, weight: Tensor, alive: Tensor, learned: Mapping[str, Tensor], clock: Clock) -> Tensor:
        """Masked, not multiplied: a dead NaN is zero, and so is a dead negative."""
        return weight.masked_fill(~alive, 0)
