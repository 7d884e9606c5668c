"""Values that lie row by row, with one scale a row where they are int8; their columns are told by 16 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.buffers import array, optional, padded
from pomona.runtime.formats.stored import DTYPES, quantised, stored
from pomona.vocabulary import InputError

MOST_COLUMNS = 1 << 16


def row_of(starts: Tensor) -> Tensor:
    """The row of each value, int64, by where each row starts (rows + 1)."""
    return torch.arange(len(starts) - 1).repeat_interleave(starts.diff())


def check_told(columns: int, who: str) -> None:
    """Raises InputError where 16 bits do not tell these columns apart."""
    if columns > MOST_COLUMNS:
        raise InputError(f"{who} up to {MOST_COLUMNS:,} columns; got {columns:,}. Pack the weight as a bitmask.")


def to_values(weights: Tensor, row: Tensor, rows: int, kind: str) -> tuple[Tensor, Tensor | None]:
    """Float32 weights of the rows `row` as they are stored, padded, and of int8 the scale of each row."""
    if kind != "int8":
        return padded(stored(weights, kind)), None
    values, scales = quantised(weights, row, rows)
    return padded(values), scales


def from_values(values: Tensor, scales: Tensor | None, row: Tensor) -> Tensor:
    """The float32 weights that `to_values` stored."""
    return values.float() if scales is None else values.float() * scales[row]


def check_values(values: Tensor, scales: Tensor | None, rows: int, kind: str, kinds: tuple[str, ...]) -> None:
    """Raises InputError unless these are values of this kind, with scales where it has them."""
    if kind not in kinds:
        raise InputError(f"values are {', '.join(kinds)}, not {kind!r}")
    array(values, DTYPES[kind], (-1,), "values")
    optional(scales, torch.float32, (rows,), "scales")
    if (scales is None) == (kind == "int8"):
        raise InputError("int8 values, and no others, have scales")
    if scales is not None and bool((values == -128).any()):
        raise InputError("int8 values are from -127 to 127")
