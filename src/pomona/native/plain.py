"""Kernels for plain tensors of numbers in 4 or 8 bytes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pomona.native.library import library

_BITS = {torch.float32: 32, torch.float64: 64}


def plain_kernel(name: str, values: Tensor) -> Callable[..., int] | None:
    """The kernel of this name for float32 or float64, contiguous on the CPU; None for all others, and where there are no kernels.

    A subclass of tensors may mean something else by its numbers, so torch does it.
    """
    plain = type(values) in (Tensor, torch.nn.Parameter) and values.is_cpu and values.is_contiguous()
    return library().kernel(f"{name}_{_BITS[values.dtype]}") if plain and values.dtype in _BITS else None
