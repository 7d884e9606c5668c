"""A step of conjugate gradients on many rows at once, each on its own support."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import library, threads_of


def step(
    along: Tensor,
    mask: Tensor,
    scale: Tensor,
    found: Tensor,
    gradient: Tensor,
    direction: Tensor,
    slope: Tensor,
    threads: int | None = None,
) -> None:
    """`found` goes along `direction`, whose product with the matrix is `along`, to where the row is least; in place.

    All (groups, rows, columns), `scale` (groups, 1, columns) the preconditioner, `slope` (groups, rows, 1) the products
    gradient . (scale * gradient), which become the next ones as `gradient` and `direction` do. Only places of `mask` move.
    Contiguous; a kernel does float32 on the CPU, torch any dtype and device.
    """
    shape, kernel = along.shape, library().kernel("conjugate_step")
    if kernel is None or not along.is_cpu or along.dtype != torch.float32:
        _step(along, mask, scale, found, gradient, direction, slope)
        return
    groups, rows, columns = shape
    parts = (("found", found), ("gradient", gradient), ("direction", direction))
    kernel(
        array(along, torch.float32, shape, "along"), array(mask, torch.bool, shape, "mask"),
        array(scale, torch.float32, (groups, 1, columns), "scale"), size(groups), size(rows), size(columns),
        *(array(part, torch.float32, shape, name) for name, part in parts),
        array(slope, torch.float32, (groups, rows, 1), "slope"), threads_of(threads),
    )  # fmt: skip


def _step(along: Tensor, mask: Tensor, scale: Tensor, found: Tensor, gradient: Tensor, direction: Tensor, slope: Tensor) -> None:
    tiny, along, before = torch.finfo(along.dtype).tiny, along.masked_fill(~mask, 0.0), slope.clone()
    length = slope / (direction * along).sum(2, keepdim=True).clamp_min(tiny)
    found.add_(length * direction)
    gradient.sub_(length * along)
    steep = gradient * scale
    slope.copy_((gradient * steep).sum(2, keepdim=True))
    direction.mul_(slope / before.clamp_min(tiny)).add_(steep)
