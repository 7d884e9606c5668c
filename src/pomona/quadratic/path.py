"""The exact greedy way down: the cheapest weight of each row leaves, the others make up for it (Frantar et al., OBC, 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.native.walk import walk


@dataclass(frozen=True, eq=False)
class Path:
    """One walk of every row. `order` int64 (groups, rows, steps): the column that left at each step, -1 where a row has ended.

    `loss` of the same shape: by how much tr(D H D^T) grew with it, inf where a row has ended. `weight` (groups, rows, columns):
    what stands at the end. Every level of sparsity lies on the walk: the first k of a row are what leaves when k do, and
    `refit` gives the weights there.
    """

    order: Tensor
    loss: Tensor
    weight: Tensor


def walked(inverse: Tensor, weight: Tensor, steps: Tensor, quota: Tensor | None = None, window: int = 1) -> Path:
    """`steps` (groups, rows) removals from each row, in the dtype of `inverse`, P (groups, columns, columns).

    `quota` (groups, rows, windows) is how many of each `window` neighbours may leave.
    """
    groups, rows, _ = weight.shape
    most = int(steps.max()) if steps.numel() else 0
    order = torch.full((groups, rows, most), -1, dtype=torch.int64, device=weight.device)
    loss = torch.full((groups, rows, most), torch.inf, dtype=inverse.dtype, device=weight.device)
    found = weight.to(inverse.dtype, copy=True)
    for group in range(groups):
        allowed = None if quota is None else quota[group]
        orders, losses, found[group] = walk(inverse[group], found[group], steps[group], allowed, window)
        order[group, :, : orders.shape[1]], loss[group, :, : losses.shape[1]] = orders, losses
    return Path(order, loss, found)
