"""n of every m, as masks."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import library, threads_of
from pomona.native.masks import as_bits, top
from pomona.native.selection import unranked

_PAIRED = 8  # members of a group up to which comparing pairs is faster than sorting


def best_of(groups: Tensor, n: int, *, packed: bool = False, threads: int | None = None) -> Tensor:
    """Bool of the shape of `groups` (number, m, k): of the m along the middle the n highest, of equals the first.

    `packed`, where k is 1: uint8 (ceil(number * m / 8),), bit i of byte j for entry 8j + i of all. Any dtype and device, float32
    on the CPU at some GB/s. Raises InputError for NaN.

    >>> best_of(torch.tensor([3.0, 1.0, 1.0, 2.0]).view(1, 4, 1), 3).flatten().tolist()
    [True, True, False, True]
    """
    number, m, k = groups.shape
    kernel = library().kernel("patterns_groups") if groups.is_cpu and groups.dtype == torch.float32 else None
    if kernel is None or not 0 < n < m:
        mask = _best_of(groups, n)
    elif m > _PAIRED:
        rows = groups.transpose(1, 2).reshape(number * k, m)
        mask = top(rows, torch.full((number * k,), n), threads).view(number, k, m).transpose(1, 2).contiguous()
    elif m == 4 and k == 1:
        return _fours(groups, n, packed, threads)
    else:
        groups, mask = groups.detach().contiguous(), torch.empty(groups.shape, dtype=torch.bool)
        strange = kernel(
            array(groups, torch.float32, (number, m, k), "groups"), size(number), m, size(k), n,
            array(mask, torch.bool, (number, m, k), "mask"), threads_of(threads),
        )  # fmt: skip
        if strange:
            raise unranked()
    return as_bits(mask.flatten()) if packed else mask


def _fours(groups: Tensor, n: int, packed: bool, threads: int | None) -> Tensor:
    flat, kernel = groups.detach().reshape(-1), library().kernel("patterns_fours")
    assert kernel is not None  # there is one for all groups
    out = torch.empty(-(-len(flat) // 8), dtype=torch.uint8) if packed else torch.empty(len(flat), dtype=torch.bool)
    strange = kernel(
        array(flat, torch.float32, (-1,), "groups"), size(len(flat)), n, int(packed), array(out, out.dtype, (-1,), "out"),
        threads_of(threads),
    )  # fmt: skip
    if strange:
        raise unranked()
    return out if packed else out.view(groups.shape)


def _best_of(groups: Tensor, n: int) -> Tensor:
    if groups.is_floating_point() and bool(groups.isnan().any()):
        raise unranked()
    if groups.shape[1] > _PAIRED:
        first = groups.argsort(dim=1, descending=True, stable=True)[:, :n]
        return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, first, True)
    members = groups.movedim(1, 0).contiguous()
    ahead = torch.zeros_like(members, dtype=torch.uint8)  # how many are before each
    for one, two in combinations(range(len(members)), 2):
        leads = members[one] >= members[two]
        ahead[two] += leads
        ahead[one] += ~leads
    return (ahead < n).movedim(0, 1).contiguous()
