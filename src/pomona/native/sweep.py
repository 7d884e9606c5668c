"""Columns of a block settled one by one, each row making up for what it lost: SparseGPT's sweep, within a block."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import library, threads_of

_TOGETHER = {
    True: 128,
    False: 16,
}  # columns that the kernel, or torch, settles one by one; those after them are told in one product


def settle(
    now: Tensor,
    factor: Tensor,
    alive: Tensor,
    errors: Tensor,
    columns: slice,
    snap: Callable[[Tensor], Tensor] | None = None,
    threads: int | None = None,
) -> None:
    """Settle some columns of a block, in place.

    `now` (groups, width, rows) holds what they would be once all before them are settled, and gets what they are: zero where
    `alive`, bool of that shape, is not. `errors` gets those whose squares are what that costs. `factor` (groups, width, width) is
    upper triangular, U with U^T U the inverse of the block's own matrix. `snap` puts the values of a column, (groups, rows), on a
    grid, by torch. All contiguous but `factor`; any dtype and device, of which the kernel does float32 on the CPU.
    """
    kernel = library().kernel("sweep_settle") if now.is_cpu and now.dtype == torch.float32 and snap is None else None
    told = factor.mT.contiguous()  # of each column what it is told, side by side, as LAPACK leaves it
    together = _TOGETHER[kernel is not None]
    for start in range(columns.start, columns.stop, together):
        here, settled = slice(start, min(start + together, columns.stop)), slice(columns.start, start)
        if start > columns.start:
            now[:, here] -= told[:, here, settled] @ errors[:, settled]
        if kernel is None:
            _settle(now, told, alive, errors, here, snap)
            continue
        groups, width, rows = now.shape
        kernel(
            array(now, torch.float32, now.shape, "now"), array(told, torch.float32, (groups, width, width), "factor"),
            array(alive, torch.bool, now.shape, "alive"), array(errors, torch.float32, now.shape, "errors"),
            size(groups), size(width), size(rows), size(here.start), size(here.stop), threads_of(threads),
        )  # fmt: skip


def _settle(
    now: Tensor, told: Tensor, alive: Tensor, errors: Tensor, here: slice, snap: Callable[[Tensor], Tensor] | None
) -> None:
    for j in range(here.start, here.stop):
        value = now[:, j] - (told[:, j, None, here.start : j] @ errors[:, here.start : j])[:, 0]
        now[:, j] = (value if snap is None else snap(value)) * alive[:, j]
        errors[:, j] = (value - now[:, j]) / told[:, j, j, None]
