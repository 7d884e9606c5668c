"""Which rows and columns of a matrix hold anything but zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from pomona.native.buffers import array, size
from pomona.native.library import library

_BITS = {torch.float32: (torch.int32, "alive_32"), torch.float64: (torch.int64, "alive_64")}


def alive(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Bool (rows,) and (columns,): True where not all numbers are zero; NaN is alive, -0.0 is not.

    One reading of the matrix by a kernel where it is float32 or float64, contiguous and on the CPU, two by torch elsewhere.

    >>> alive(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
    (tensor([ True, False]), tensor([False,  True]))
    """
    bits, name = _BITS.get(matrix.dtype, (None, ""))
    kernel = library().kernel(name) if bits and matrix.is_contiguous() and matrix.device.type == "cpu" else None
    if kernel is None or bits is None:
        return matrix.any(1), matrix.any(0)
    rows, columns = matrix.shape
    of_rows, of_columns = torch.empty(rows, dtype=torch.bool), torch.empty(columns, dtype=bits)
    kernel(
        array(matrix, matrix.dtype, (rows, columns), "matrix"), size(rows), size(columns),
        array(of_rows, torch.bool, (rows,), "rows"), array(of_columns, bits, (columns,), "columns"),
    )  # fmt: skip
    return of_rows, of_columns.bool()
