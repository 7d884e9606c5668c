"""Batch-norm recalibration: the cheapest repair, no gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pomona.training.batchnorm import recalibrate
from pomona.vocabulary import Requirement, Training


@dataclass(frozen=True)
class Recalibrate:
    """Estimate the running statistics of every batch norm anew over the data; nothing to do without batch norms."""

    @property
    def requires(self) -> frozenset[Requirement]:
        """Inputs; labels are not read."""
        return frozenset({"data"})

    @property
    def rewinds(self) -> bool:
        """Weights stay as they are."""
        return False

    def recover(self, model: nn.Module, training: Training) -> Mapping[str, Any]:
        """Reset and re-estimate in place; says how many batch norms there were."""
        return {"recalibrated": recalibrate(model, training.data, training.seed)}
