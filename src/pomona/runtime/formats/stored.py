"""Values as they are stored, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.vocabulary import InputError

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}


def stored(values: Tensor, kind: str) -> Tensor:
    """Float32 values as "f32" or "bf16", rounded to nearest even. Raises InputError where one is too large for it."""
    found = values.to(DTYPES[kind])
    if not bool(found.isfinite().all()):
        raise InputError(f"A value of {float(values.abs().max()):.4g} is too large to store as {kind}.")
    return found


def quantised(values: Tensor, row: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Values of the output rows `row` as int8, and the step of each row, float32 (rows,): its largest magnitude / 127.

    A row without values has the step 0; a value much smaller than its row's largest becomes 0 and stays stored.
    """
    step = torch.zeros(rows).scatter_reduce_(0, row, values.abs(), "amax") / 127
    ratio = torch.where(step[row] > 0, values / step[row], 0)
    return ratio.round().clamp_(-127, 127).to(torch.int8), step
