"""Rows and columns of a matrix, picked in one reading."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.buffers import array, optional, size
from pomona.native.library import threads_of
from pomona.native.plain import plain_kernel
from pomona.vocabulary import InputError


def picked(matrix: Tensor, rows: Tensor | None, columns: Tensor | None, threads: int | None = None) -> Tensor:
    """A new matrix of these rows and columns, int64 indices in any order and as often as they are named; None: all of them.

    By a kernel where it is float32 or float64, contiguous and on the CPU, by torch elsewhere. Raises InputError for an index that
    there is not.

    >>> picked(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1]), torch.tensor([1, 0, 1]))
    tensor([[4., 3., 4.]])
    """
    for at, there, what in ((rows, matrix.shape[0], "row"), (columns, matrix.shape[1], "column")):
        for strange in () if at is None else at[(at < 0) | (at >= there)].tolist():
            raise InputError(f"There is no {what} {strange} among {there}.")
    kernel = plain_kernel("pick", matrix)
    if kernel is None:
        found = matrix if rows is None else matrix.index_select(0, rows)
        return found.clone() if columns is None else found.index_select(1, columns)
    count, wide = (n if at is None else len(at) for at, n in zip((rows, columns), matrix.shape, strict=True))
    out = torch.empty(count, wide, dtype=matrix.dtype)
    kernel(
        array(matrix, matrix.dtype, (-1, -1), "matrix"), size(matrix.shape[1]),
        optional(rows, torch.int64, (-1,), "rows"), size(count), optional(columns, torch.int64, (-1,), "columns"), size(wide),
        array(out, out.dtype, (-1, -1), "out"), threads_of(threads),
    )  # fmt: skip
    return out
