"""What is added to a product: a bias, or a residual."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pomona.native.buffers import plain
from pomona.vocabulary import InputError


def checked_addend(tensor: Tensor, wanted: Sequence[int], what: str) -> Tensor:
    """As kernels read it. Raises InputError unless it is float32 of this shape on the CPU."""
    if tensor.shape != wanted or tensor.dtype is not torch.float32 or not tensor.is_cpu:
        raise InputError(
            f"The {what} must be float32 {tuple(wanted)} on the CPU; got {tensor.dtype} {tuple(tensor.shape)} on {tensor.device}."
        )
    return plain(tensor)
