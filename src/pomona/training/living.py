"""Which entries of a tensor live: what a training may move."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def living(model: nn.Module, hold: Callable[[nn.Module], None], tensors: Sequence[nn.Parameter]) -> list[Tensor]:
    """Bool masks of the model's `tensors`: what `hold` leaves alone, or where it knows nothing of one, what is not zero now.

    `hold` is asked with ones in place of the values, so that an entry that lives and happens to be zero keeps its place. The
    values are the same before and after, bit for bit.
    """
    before = [tensor.clone() for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.fill_(1)
        hold(model)
        said = [tensor != 0 for tensor in tensors]
    finally:
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
    return [value != 0 if mask.all() else mask for mask, value in zip(said, before, strict=True)]
