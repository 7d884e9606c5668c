"""How many numbers are not zero."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import threads_of
from pomona.native.plain import plain_kernel


def living(values: Tensor) -> int:
    """How many of them are not zero, of any shape; NaN counts, -0.0 does not.

    By a kernel, at the speed of memory, where they are float32 or float64, contiguous and on the CPU; by torch elsewhere.

    >>> living(torch.tensor([[1.0, -0.0], [0.0, float("nan")]]))
    2
    """
    kernel = plain_kernel("living", values)
    if kernel is None:
        return int(values.count_nonzero())
    flat, total = values.detach().view(-1), torch.zeros(1, dtype=torch.int64)
    kernel(
        array(flat, values.dtype, (-1,), "values"), size(len(flat)), array(total, torch.int64, (1,), "total"), threads_of(None)
    )  # fmt: skip
    return int(total)


def sparsity_of(weight: Tensor) -> float:
    """The share of the weights that is exactly zero; 0 where there are none."""
    return 1 - living(weight) / weight.numel() if weight.numel() else 0.0
