"""Global: one threshold for the whole model, on scores as they are or made relative to their site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from pomona.allocations.cut import cut
from pomona.allocations.leaving import finite, leaving
from pomona.vocabulary import Budget, InputError, Keeps, Relative, Scores, Site, relative


@dataclass(frozen=True)
class Global:
    """Every unit of the model competes with every other by score.

    `relative` makes sites comparable first: scores over the site's mean (DepGraph), its sum, its Euclidean norm or its
    maximum, or standardised to mean 0 and deviation 1. Statistics run over the living only.
    """

    relative: Relative = "none"

    def __post_init__(self) -> None:
        if self.relative not in get_args(Relative):
            raise InputError(f"Scores can be relative to {', '.join(get_args(Relative))}; '{self.relative}' is none of them.")

    @property
    def shares_out(self) -> bool:
        """How much goes where is what it is for: it is refused where a structure fixes that."""
        return self.relative != "none"

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Counts () of the units above the one threshold that meets the budget."""
        if self.relative == "none" and all(_countable(scores[name]) for name in sites):
            return cut(sites, {name: scores[name].value.flatten() for name in sites}, budget, ascending=False)
        return cut(sites, {name: self._keys(scores[name]) for name in sites}, budget)

    def _keys(self, scores: Scores) -> Tensor:
        values = leaving(scores)
        return relative(values, self.relative, finite(values)).float()


def _countable(scores: Scores) -> bool:
    """Whether keys are the scores themselves, in an order that need not be known to find a threshold."""
    return scores.order is None and scores.value.dtype == torch.float32 and scores.value.device.type == "cpu"
