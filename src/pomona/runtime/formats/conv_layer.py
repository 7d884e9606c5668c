"""A packed convolution, ready to be run."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from pomona.native.library import threads_of
from pomona.native.told import Told
from pomona.runtime.formats.addend import checked_addend
from pomona.runtime.formats.conv_format import Geometry, Pair, output_size
from pomona.runtime.formats.conv_plan import Plan, plan

_MOST_THREADS = 256  # each has a room of its own


class Weight(ctypes.Structure):
    """`Weight` of native/kernels/convolution.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("starts", "taps", "values", "bias")),
        ("rows", ctypes.c_int64),
    )


@dataclass(frozen=True)
class _Way:
    """Over maps of this size."""

    size: Pair
    output: Pair
    plan: Plan


class ConvLayer(Told):
    """A weight of this shape and geometry."""

    # The layer, the plan, x, how many of them, a bias, a residual, ReLU, y, threads.
    arguments = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int,
        ctypes.c_void_p, ctypes.c_int,
    )  # fmt: skip

    def __init__(
        self, weight: Weight, shape: tuple[int, int, int, int], geometry: Geometry, tensors: Iterable[Tensor]
    ) -> None:  # fmt: skip
        super().__init__("convolution_f32", weight, tensors)
        self._shape, self._geometry = shape, geometry
        self._way: _Way | None = None

    def run(
        self, x: Tensor, bias: int | None, residual: Tensor | None = None, relu: bool = False, threads: int | None = None
    ) -> Tensor | None:  # fmt: skip
        """The convolution of x (batch, in, height, width), as `ConvFormat.conv`; None where there are no kernels.

        `bias` is an address. Of x and the bias nothing is checked: they are contiguous float32 on the CPU, channels are the
        layer's, and it `holds`. Raises InputError where the residual is not as the result, or the kernel does not fit the map.
        """
        kernel = self.kernel()
        if kernel is None:
            return None
        batch, _, height, width = x.shape
        way = self._way
        if way is None or way.size != (height, width):
            size = height, width
            way = self._way = _Way(size, output_size(self._shape, self._geometry, size), plan(self._shape, self._geometry, size))
        # Of the type and device of x, whatever torch's defaults are.
        y = x.new_empty(batch, self._shape[0], *way.output)
        if residual is not None:
            residual = checked_addend(residual, y.shape, "residual")
        threads = min(threads_of(threads), _MOST_THREADS)
        done = kernel(
            self.at, way.plan.map, x.data_ptr(), batch, bias, None if residual is None else residual.data_ptr(), relu,
            y.data_ptr(), threads,
        )  # fmt: skip
        if done != 0:
            raise self.refused(done, x)
        return y
