"""Random weights with a pattern of zeros, to time layouts on: they say nothing about what accuracy is left."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.vocabulary import InputError


def patterned(rows: int, columns: int, pattern: str, sparsity: float, seed: int = 0) -> Tensor:
    """A float32 matrix of which `sparsity` percent are zero: single ones ("weights"), blocks ("8x1"), or all but n of m ("2:4").

    The last block may be cut off by the edge. Raises InputError for an unknown pattern, or columns that m does not divide.
    """
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw).div(max(1, columns) ** 0.5)
    return weight.mul(_lives(rows, columns, pattern, sparsity / 100, draw))


def _lives(rows: int, columns: int, pattern: str, share: float, draw: torch.Generator) -> Tensor:
    if pattern == "weights":
        return torch.rand(rows, columns, generator=draw) >= share
    height, _, width = pattern.partition("x")
    if height.isdigit() and width == "1" and int(height):
        blocks = torch.rand(-(-rows // int(height)), columns, generator=draw) >= share
        return blocks.repeat_interleave(int(height), 0)[:rows]
    n, _, m = pattern.partition(":")
    if not (n.isdigit() and m.isdigit() and 0 < int(n) <= int(m)):
        raise InputError(f"{pattern!r} is no pattern of zeros; say weights, 8x1 or 2:4.")
    if columns % int(m):
        raise InputError(f"{pattern} needs columns divisible by {m}; got {columns}.")
    order = torch.rand(rows, columns // int(m), int(m), generator=draw).argsort(-1)
    return (order < int(n)).reshape(rows, columns)
