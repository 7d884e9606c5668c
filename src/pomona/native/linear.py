"""A packed linear layer as the kernels see it: the C struct of native/kernels/layer.h."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from pomona.native.buffers import array, optional

LAYOUTS = {"bitmask": 0, "dense": 1, "csr16": 2}
KINDS = {"f32": 0, "bf16": 1, "int8": 2}
STORED = {"f32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}


class Linear(ctypes.Structure):
    """Points into tensors: it lives as long as they do, and as the caller holds them. See `linear_layer`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "columns", "row_bytes")),
        *((name, ctypes.c_void_p) for name in ("values", "bits", "starts", "indices", "scales", "sums", "bias")),
        *((name, ctypes.c_int32) for name in ("layout", "kind")),
    )


def linear_layer(
    layout: str,
    kind: str,
    shape: tuple[int, int],
    values: Tensor,
    *,
    bits: Tensor | None = None,
    starts: Tensor | None = None,
    indices: Tensor | None = None,
    scales: Tensor | None = None,
    sums: Tensor | None = None,
    bias: Tensor | None = None,
) -> Linear:
    """What a kernel reads of these tensors. Raises InputError where a dtype, shape or stride is not what it reads."""
    rows, columns = shape
    return Linear(
        rows, columns, 0 if bits is None else bits.shape[1],
        array(values, STORED[kind], (-1,), "values").value, optional(bits, torch.uint8, (rows, -1), "bits").value,
        optional(starts, torch.int32, (rows + 1,), "starts").value, optional(indices, torch.uint16, (-1,), "indices").value,
        optional(scales, torch.float32, (rows,), "scales").value, optional(sums, torch.int32, (rows,), "sums").value,
        optional(bias, torch.float32, (rows,), "bias").value, LAYOUTS[layout], KINDS[kind],
    )  # fmt: skip
