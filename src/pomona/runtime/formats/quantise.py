"""Activations as int8 with one scale a row: the one meaning that kernels and torch share."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.vocabulary import InputError

MOST_COLUMNS = 65_000  # of int8 weights: the sum of so many products of bytes stays within int32
_TINY = 2.0**-120  # an x whose largest is no more than this counts as zero: 127 over it would be no float32


def quantised_input(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers (batch, columns) in [-127, 127] as float64, and the scale of each row of x, float32 (batch,).

    A row with NaN or infinities in it has the scale NaN, and so NaN for all its outputs.
    """
    most = x.abs().amax(1) if x.shape[1] else torch.zeros(len(x))
    most = most.where(x.isfinite().all(1), torch.nan)
    steps = (torch.tensor(127.0) / most).where(most > _TINY, 0)  # 127 / most would be its reciprocal, rounded, times 127
    whole = (x * steps[:, None]).round().where(most.isfinite()[:, None], 0)
    return whole.double(), (most / 127).where(~(most <= _TINY), 0)


def linear_int8(x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """What the int8 kernels give, bit for bit: x float32 (batch, columns), weight int8 (rows, columns), scales (rows,)."""
    whole, steps = quantised_input(x)
    sums = whole @ weight.double().T  # exact: far below 2^53
    y = scales * steps[:, None] * sums.float()
    return y if bias is None else y + bias


def check_columns(columns: int, values: str) -> None:
    """Raises InputError where int8 sums of so many columns could leave int32."""
    if values == "int8" and columns > MOST_COLUMNS:
        raise InputError(f"int8 takes up to {MOST_COLUMNS:,} columns, for its sums to stay within int32; got {columns:,}.")


def row_sums(values: Tensor, starts: Tensor) -> Tensor:
    """The sum of each row's int8 values, int32 (rows,); row i has the values from starts[i] to starts[i + 1]."""
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), values.cumsum(0, dtype=torch.int64)])
    return ends[starts.long()].diff().to(torch.int32)
