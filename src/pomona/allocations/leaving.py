"""Scores as an ascending list: what each unit is worth, in the order in which they leave."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.vocabulary import Scores


def leaving(scores: Scores) -> Tensor:
    """(units,) float64, never falling: sorted values, or along `order` the highest value so far.

    The dead (-inf) come first and, where they are pinned, the living (+inf) last.
    """
    values = scores.value.flatten().double()
    if scores.order is None:
        return values.sort().values
    return values[scores.order.flatten().argsort(stable=True)].cummax(0).values


def finite(values: Tensor) -> Tensor:
    """The values of those that compete: neither dead nor pinned."""
    return values[torch.isfinite(values)]
