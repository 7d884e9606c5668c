"""The best of a grid, exactly so many, the same on every device."""

from __future__ import annotations

from torch import Tensor

from pomona.native.masks import top
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
