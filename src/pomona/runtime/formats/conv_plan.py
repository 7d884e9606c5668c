"""How a convolution kernel goes over maps of one size: what it copies where, and what its taps read."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pomona.runtime.formats.conv_format import Geometry, Pair
from pomona.vocabulary import InputError

_NUMBERS = "groups channels rows height width stride_rows stride_columns pitch plane lanes outputs band phases"
_ADDRESSES = "phase offsets valid places"


class Map(ctypes.Structure):
    """`Map` of native/kernels/convolution.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS.split()),
        *((name, ctypes.c_void_p) for name in _ADDRESSES.split()),
    ]


@dataclass(frozen=True)
class Plan:
    """`map` for the kernel, the tensors that it points into, and the floats of a group's copied input (0: none is made)."""

    map: Any  # a reference to Map, as ctypes passes it
    tensors: tuple[Tensor, ...]
    room: int


@dataclass(frozen=True)
class _Phase:
    """Every stride-th row (or column) from `first` on, as `used` places: `left` zeros, `real` values, zeros."""

    first: int
    left: int
    real: int
    used: int


_STEP = 48  # positions: bands are a multiple of the registers of any instruction set, and of a tile's
_NEAR = 1 << 16  # floats of the input of a band: a quarter of a megabyte measured best (L2 of 2 MB; 3 x 3 at 14 to 56)


@lru_cache(maxsize=512)
def plan(shape: tuple[int, int, int, int], geometry: Geometry, size: Pair) -> Plan:
    """For a weight of this shape and input maps of this size. Raises InputError where a map has too many values for int32."""
    (high, wide), kernel = geometry.output((shape[2], shape[3]), size), (shape[2], shape[3])
    copies = geometry.stride != (1, 1) or geometry.padding != (0, 0)
    rows, columns = (
        _phases(size[i], (high, wide)[i], kernel[i], geometry.stride[i], geometry.padding[i], geometry.dilation[i])
        for i in (0, 1)
    )
    # Zeros at the end of one row are those at the beginning of the next.
    pitch = max(wide, *(max(c.left + c.real, c.used - c.left) for c in columns.values())) if copies else size[1]
    lanes = (high - 1) * pitch + wide

    def regions(band: int) -> tuple[dict[Pair, list[int]], int]:
        """Where the phases of a channel lie for bands of so many positions, and how many floats they take."""
        found, plane = {}, 0
        for y, r in rows.items():
            for x, c in columns.items():
                below, beyond = r.used - high, max(0, c.used - pitch)
                found[y, x] = [plane, r.left, r.first, r.real if c.real else 0, c.left, c.first, c.real, below, beyond]
                plane += -(-((_rows(band, pitch, high) + below) * pitch + beyond) // 16) * 16
        return found, plane

    band = -(-lanes // _STEP) * _STEP
    count = 1
    while copies and band > _STEP and shape[1] * regions(band)[1] > _NEAR:
        count += 1
        band = -(-lanes // (count * _STEP)) * _STEP
    phases, plane = regions(band) if copies else ({}, size[0] * size[1])
    if shape[1] * plane > torch.iinfo(torch.int32).max:
        raise InputError(f"{shape[1]} input maps of {size[0]} x {size[1]} have too many values for a packed convolution.")

    def offset(y: int, x: int) -> int:
        y, x = y * geometry.dilation[0], x * geometry.dilation[1]
        (down, y), (right, x) = divmod(y, geometry.stride[0]), divmod(x, geometry.stride[1])
        return (phases[y, x][0] if copies else 0) + down * pitch + right

    taps = torch.tensor([[offset(y, x) for x in range(kernel[1])] for y in range(kernel[0])], dtype=torch.int32)
    offsets = (torch.arange(shape[1], dtype=torch.int32).view(-1, 1, 1) * plane + taps).flatten()
    valid = torch.zeros(-(-lanes // 16) * 16, dtype=torch.int32)
    valid[:lanes] = torch.arange(lanes) % pitch < wide
    places = valid.cumsum(0, dtype=torch.int32)[7::8] - valid.view(-1, 8).sum(1, dtype=torch.int32)
    bits = (valid.view(-1, 8) << torch.arange(8)).sum(1).to(torch.uint8)
    tensors = (torch.tensor(list(phases.values()), dtype=torch.int64), offsets, bits, places)
    numbers = (
        geometry.groups, shape[1], shape[0] // geometry.groups, *size, *geometry.stride, pitch, plane, lanes, high * wide,
        band, len(phases), *(tensor.data_ptr() for tensor in tensors),
    )  # fmt: skip
    return Plan(ctypes.byref(Map(*numbers)), tensors, shape[1] * plane if copies else 0)


def _rows(band: int, pitch: int, high: int) -> int:
    """How many rows a band of so many positions can touch."""
    return min(high, (band + pitch - 2) // pitch + 1)


def _phases(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> dict[int, _Phase]:
    found: dict[int, _Phase] = {}
    for tap in range(kernel):
        shift, phase = divmod(tap * dilation, stride)
        used = out + shift
        left = min(max(0, -((phase - padding) // stride)), used)
        first = phase + left * stride - padding
        real = max(0, min(-((first - size) // stride), used - left))
        found[phase] = _Phase(first if real else 0, left, real, used)
    return found
