"""In how many digits is computed."""

from __future__ import annotations

import torch
from torch import Tensor


def single_or_double(values: Tensor) -> Tensor:
    """The values in float32, or in float64 where they are: what shorter types are computed with.

    >>> single_or_double(torch.zeros(2, dtype=torch.bfloat16)).dtype, single_or_double(torch.zeros(2, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return values if values.dtype == torch.float64 else values.float()
