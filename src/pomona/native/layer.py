"""A packed linear layer, ready to be multiplied by."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor

from pomona.native.library import threads_of
from pomona.native.told import Told

_NOT_FINITE = -4  # as in native/kernels/finite.h


class Layer(Told):
    """A weight of so many rows, as `kernel` reads it."""

    # The layer, x, how many of them, a bias, y, threads.
    arguments = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int,
    )  # fmt: skip

    def __init__(self, kernel: str, struct: ctypes.Structure, rows: int, tensors: Iterable[Tensor]) -> None:
        super().__init__(kernel, struct, tensors)
        self._rows = rows

    def run(self, x: Tensor, bias: int | None, threads: int | None = None) -> Tensor | None:
        """X W^T + bias, float32 (..., rows) for x (..., columns); None where torch is to do it.

        That is where there are no kernels, and where they would leave out NaN or infinities of x with the zeros of the weight.
        `bias` is an address. Nothing is checked: x is contiguous float32 on the CPU, sizes are the layer's, and it `holds`.
        """
        kernel = self.kernel()
        if kernel is None:
            return None
        shape = x.shape
        # Of the type and device of x, whatever torch's defaults are.
        if len(shape) == 2:
            batch = shape[0]
            y = x.new_empty(batch, self._rows)
        else:
            batch = shape[:-1].numel()
            y = x.new_empty(*shape[:-1], self._rows)
        threads = torch.get_num_threads() if threads is None else threads_of(threads)
        done = kernel(self.at, x.data_ptr(), batch, bias, y.data_ptr(), threads)
        if done == _NOT_FINITE:
            return None
        if done != 0:
            raise self.refused(done, x)
        return y
