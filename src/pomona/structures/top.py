"""The best of a grid, exactly so many, the same on every device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pomona.vocabulary import Scores


def rank(scores: Scores) -> Tensor:
    """What decides who leaves first: the order where there is one, else the value. Lower leaves earlier."""
    return scores.value if scores.order is None else scores.order


def best(scores: Scores, keep: Tensor, row_dims: tuple[int, ...] = (0,)) -> Tensor:
    """The mask of the `keep` best units: shape () counts over the whole grid, (rows,) along `row_dims` of it."""
    ranks = rank(scores)
    keep = keep.to(ranks.device)
    if keep.dim() == 0:
        return top(ranks.reshape(1, -1), keep.reshape(1)).view(ranks.shape)
    first = tuple(range(len(row_dims)))
    rows = ranks.movedim(row_dims, first)
    return top(rows.reshape(len(keep), -1), keep).view(rows.shape).movedim(first, row_dims)


def top(ranks: Tensor, keep: Tensor) -> Tensor:
    """(rows, n) ranks and (rows,) counts -> bool (rows, n): exactly `keep` True in each row, the highest."""
    n = ranks.shape[1]
    keep = keep.clamp(0, n)
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
