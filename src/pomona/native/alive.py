"""Which rows and columns of a matrix hold anything but zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.plain import plain_kernel

_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def alive(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Bool (rows,) and (columns,): True where not all numbers are zero; NaN is alive, -0.0 is not.

    One reading of the matrix by a kernel where it is float32 or float64, contiguous and on the CPU, two by torch elsewhere.

    >>> alive(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
    (tensor([ True, False]), tensor([False,  True]))
    """
    kernel = plain_kernel("alive", matrix)
    if kernel is None:
        return matrix.any(1), matrix.any(0)
    rows, columns = matrix.shape
    of_rows, of_columns = torch.empty(rows, dtype=torch.bool), torch.empty(columns, dtype=_BITS[matrix.dtype])
    kernel(
        array(matrix, matrix.dtype, (rows, columns), "matrix"), size(rows), size(columns),
        array(of_rows, torch.bool, (rows,), "rows"), array(of_columns, of_columns.dtype, (columns,), "columns"),
    )  # fmt: skip
    return of_rows, of_columns.bool()
