"""Tensors as C arrays: everything that a kernel trusts is checked here."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from pomona.native.pages import zeros
from pomona.vocabulary import InputError


def array(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], name: str) -> ctypes.c_void_p:
    """The address of a contiguous CPU tensor of this dtype and shape (-1: any size there).

    The tensor must live as long as the call. Raises InputError for anything else: kernels read what they are told to.
    """
    # The usual case first, in few steps: a call has half a dozen of these, and small layers take microseconds.
    if tensor.dtype is not dtype or not tensor.is_cpu or not tensor.is_contiguous() or not _fits(tensor.shape, shape):
        wanted = f"{dtype}, contiguous, on the CPU, shape ({', '.join('any' if s < 0 else str(s) for s in shape)})"
        got = f"{tensor.dtype}, {tuple(tensor.shape)}, strides {tensor.stride()}, on {tensor.device}"
        raise InputError(f"{name} must be {wanted}; got {got}.")
    # By the storage where there are no elements: torch gives NULL for their address, and the padding behind them may be read.
    start = tensor.data_ptr() or tensor.untyped_storage().data_ptr() + int(tensor.storage_offset()) * tensor.itemsize
    return ctypes.c_void_p(start)


def plain(tensor: Tensor) -> Tensor:
    """The numbers as they are read from memory, one behind the other: torch may have put off a minus sign or an order."""
    return tensor if tensor.is_contiguous() and not tensor.is_neg() else tensor.resolve_neg().contiguous()


def _fits(shape: torch.Size, wanted: tuple[int, ...]) -> bool:
    if shape == wanted:
        return True
    return len(shape) == len(wanted) and -1 in wanted and not [1 for w, s in zip(wanted, shape, strict=True) if w not in (-1, s)]


def optional(tensor: Tensor | None, dtype: torch.dtype, shape: tuple[int, ...], name: str) -> ctypes.c_void_p:
    """As `array`, NULL where there is none."""
    return ctypes.c_void_p(None) if tensor is None else array(tensor, dtype, shape, name)


def padded(values: Tensor) -> Tensor:
    """The values followed by 64 bytes of zeros within the same storage, seen without them: kernels may read so far."""
    room = zeros(values.numel() + 64 // values.element_size(), values.dtype)
    room[: values.numel()] = values.reshape(-1)
    return room[: values.numel()]


def is_padded(values: Tensor) -> bool:
    """Whether 64 bytes may be read behind the last of the values."""
    behind = values.untyped_storage().nbytes() - values.storage_offset() * values.element_size() - values.nbytes
    return behind >= 64


def size(number: int) -> ctypes.c_int64:
    """An int64 argument."""
    return ctypes.c_int64(number)


def real(number: float) -> ctypes.c_float:
    """A float argument."""
    return ctypes.c_float(number)
