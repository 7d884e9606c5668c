"""Who stays, as masks: those above a threshold, or the best of every row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pomona.native.buffers import array, real, size
from pomona.native.library import library, threads_of
from pomona.native.selection import smallest, unranked

_IN_CACHE = 1 << 16  # values of a row up to which it is looked at again and again


def above(
    values: Tensor, threshold: float, room: int, *, absolute: bool = False, packed: bool = False, threads: int | None = None
) -> Tensor:
    """Of values none of which is NaN, bool of their shape: those above the threshold, and of those at it the first `room`.

    `absolute` looks at |value|. `packed`: uint8 (ceil(n / 8),), bit i of byte j says it of value 8j + i; an eighth of the memory.

    >>> above(torch.tensor([3.0, -1.0, 1.0, 2.0]), 1.0, 1, absolute=True).tolist()
    [True, True, False, True]
    """
    flat = values.detach().reshape(-1)
    out = torch.empty(-(-len(flat) // 8), dtype=torch.uint8) if packed else torch.empty(len(flat), dtype=torch.bool)
    if not _kernel_above(flat, threshold, room, out, absolute, packed, threads):
        mask = _above(flat.abs() if absolute else flat, threshold, room)
        out = as_bits(mask) if packed else mask
    return out if packed else out.view(values.shape)


def top(ranks: Tensor, keep: Tensor, threads: int | None = None) -> Tensor:
    """(rows, n) ranks and (rows,) counts -> bool (rows, n): exactly `keep` True in each row, the highest, of equals the first.

    Any dtype and device; float32 on the CPU at little more than the speed of reading it. Raises InputError for NaN.

    >>> top(torch.tensor([[1.0, 5.0, 5.0], [4.0, 2.0, 3.0]]), torch.tensor([1, 2])).tolist()
    [[False, True, False], [True, False, True]]
    """
    rows, n = ranks.shape
    keep = keep.clamp(0, n)
    kernel = library().kernel("selection_rows") if ranks.is_cpu and ranks.dtype == torch.float32 else None
    if kernel is None:
        return _top(ranks, keep)
    ranks, out = ranks.detach().contiguous(), torch.empty(rows, n, dtype=torch.bool)
    if n > _IN_CACHE:
        for row, count, mask in zip(ranks, keep.tolist(), out, strict=True):
            _best(row, count, mask, threads)
        return out
    strange = kernel(
        array(ranks, torch.float32, (rows, n), "ranks"), size(rows), size(n),
        array(keep.to(torch.int64).contiguous(), torch.int64, (rows,), "keep"), array(out, torch.bool, (rows, n), "out"),
        threads_of(threads),
    )  # fmt: skip
    if strange:
        raise unranked()
    return out


def as_bits(mask: Tensor) -> Tensor:
    """Bool on the CPU -> uint8 with the last dimension an eighth as long, rounded up; bit i of byte j is entry 8j + i."""
    return torch.from_numpy(np.packbits(mask.numpy(), axis=-1, bitorder="little"))


def _best(row: Tensor, count: int, out: Tensor, threads: int | None) -> None:
    leave = len(row) - count
    found = smallest([row], max(leave, 1), threads=threads)
    room = int(found.under + found.level) - leave
    _kernel_above(row, found.value if leave else -torch.inf, room if leave else count, out, False, False, threads)


def _kernel_above(
    flat: Tensor, threshold: float, room: int, out: Tensor, absolute: bool, packed: bool, threads: int | None
) -> bool:
    """Whether there is a kernel for it, and `out` is done."""
    kernel = library().kernel("selection_above") if flat.is_cpu and flat.dtype == torch.float32 else None
    if kernel is None:
        return False
    kernel(
        array(flat, torch.float32, (-1,), "values"), size(len(flat)), int(absolute), real(threshold), size(room), int(packed),
        array(out, out.dtype, (-1,), "out"), threads_of(threads),
    )  # fmt: skip
    return True


def _above(values: Tensor, threshold: float, room: int) -> Tensor:
    level = values == threshold
    return (values > threshold) | level & (level.cumsum(0) <= room)


def _top(ranks: Tensor, keep: Tensor) -> Tensor:
    if ranks.is_floating_point() and bool(ranks.isnan().any()):
        raise unranked()
    n = ranks.shape[1]
    if ranks.numel() == 0:
        return torch.empty_like(ranks, dtype=torch.bool)
    cut = _nth(ranks, (n - keep).clamp(max=n - 1))
    mask = ranks >= cut
    if torch.equal(mask.sum(1), keep):
        return mask
    above, level = ranks > cut, ranks == cut
    room = keep - above.sum(1)
    if bool((level.sum(1) > room).any()):
        # Ties at the cut go to the lower index: sort order differs between devices and would change the plan.
        level &= level.cumsum(1, dtype=torch.int32) <= room[:, None]
    return above | level


def _nth(ranks: Tensor, number: Tensor) -> Tensor:
    """(rows, 1): of each row the value that `number` of its others are not above."""
    if ranks.device.type != "cpu" or ranks.dtype == torch.bfloat16:
        return ranks.sort(dim=1).values.gather(1, number[:, None])
    # On a processor numpy takes a small share of the time, all the more where the rows keep as many.
    values, first = ranks.detach().numpy(), int(number[0])
    if bool((number == first).all()):
        return torch.from_numpy(np.partition(values, first, axis=1)[:, first, None])
    return torch.from_numpy(np.sort(values, axis=1)).gather(1, number[:, None])
