"""At most n living weights in every m columns, 16 rows at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import array, is_padded, optional, padded
from pomona.native.layer import Layer
from pomona.native.linear import KINDS
from pomona.native.told import tensors_of
from pomona.runtime.formats.format import Format, checked_weight
from pomona.runtime.formats.row_values import check_values, from_values, to_values
from pomona.runtime.formats.stored import DTYPES
from pomona.vocabulary import InputError

_LANES = 16
_GROUPS = (2, 4, 8, 16)  # m; a position takes log2(m) bits
_READ = 16  # floats of x that a permutation reads, wherever its unit begins


class Struct(ctypes.Structure):
    """`NM` of native/kernels/nm.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "positions", "scales", "bias")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "units", "stride")),
        *((name, ctypes.c_int32) for name in ("n", "m", "kind")),
    )


@dataclass(frozen=True, eq=False)
class NM(Format):
    """For batch 1 to 8 and n of m (m of 2, 4, 8 or 16) along the columns, 2:4 and 8:16 among them.

    `living` (panels, units, n, 16): a panel is 16 rows, a unit m columns, in each row n values with rising positions; where fewer
    live, zeros take the free positions, and so do rows and columns that the weight lacks. `positions` uint8 (panels, units, n,
    2 * log2(m)): the positions of 16 lanes, from the lowest bit on. Both are padded. `scales` float32 (rows,) of int8
    values, which are made floats in the register: x stays as it is.
    """

    name: ClassVar[str] = "nm"
    kinds: ClassVar[tuple[str, ...]] = ("f32", "bf16", "int8")

    living: Tensor
    positions: Tensor
    scales: Tensor | None = None

    @classmethod
    def pack(cls, weight: Tensor, values: str = "f32", n: int = 2, m: int = 4) -> Self:
        """See `Format.pack`. Raises InputError where more than n of m live, and names the first such place."""
        if m not in _GROUPS or not 1 <= n <= m:
            raise InputError(f"NM packs n of m with m of {', '.join(map(str, _GROUPS))} and n from 1 to m, not {n}:{m}.")
        weight = checked_weight(weight, values, cls.kinds, cls.__name__)
        (rows, columns), panels, units = weight.shape, -(-weight.shape[0] // _LANES), -(-weight.shape[1] // m)
        grouped = F.pad(weight, (0, -columns % m, 0, -rows % _LANES)).reshape(panels, _LANES, units, m)
        lives = grouped != 0
        many = (lives.sum(3) > n).nonzero()
        if len(many):
            panel, lane, unit = many[0].tolist()
            raise InputError(
                f"The weight is not {n}:{m}: row {panel * _LANES + lane} has more than {n} living weights "
                f"in the columns from {unit * m} to {min(unit * m + m, columns) - 1}."
            )
        where = lives.to(torch.uint8).argsort(dim=3, descending=True, stable=True)[..., :n].sort(3).values
        taken = grouped.gather(3, where).permute(0, 2, 3, 1)  # (panels, units, n, 16)
        living, scales = to_values(taken.flatten(), _rows(panels, units, n), panels * _LANES, values)
        scales = None if scales is None else scales[:rows].clone()
        positions = _folded(where.permute(0, 2, 3, 1), _bits(m))
        return cls((rows, columns), values, living.reshape(taken.shape), padded(positions).reshape(positions.shape), scales)

    @property
    def n(self) -> int:
        """Values of a unit."""
        return self.living.shape[2]

    @property
    def m(self) -> int:
        """Columns of a unit."""
        return int(2 ** (self.positions.shape[3] // 2))

    def dense(self) -> Tensor:
        """See `Format.dense`."""
        panels, units = self.living.shape[:2]
        rows, columns = self.shape
        scales = None if self.scales is None else F.pad(self.scales, (0, panels * _LANES - rows))
        values = from_values(self.living.flatten(), scales, _rows(panels, units, self.n)).reshape(self.living.shape)
        found = torch.zeros(panels, units, self.m, _LANES).scatter_(2, self._places(), values)
        return found.permute(0, 3, 1, 2).reshape(panels * _LANES, units * self.m)[:rows, :columns].contiguous()

    def _layer(self) -> Layer:
        (rows, columns), units = self.shape, self.living.shape[1]
        struct = Struct(
            values=array(self.living, DTYPES[self.values], (-1, -1, -1, _LANES), "living"),
            positions=array(self.positions, torch.uint8, (-1, -1, -1, -1), "positions"),
            scales=optional(self.scales, torch.float32, (rows,), "scales"),
            rows=rows, columns=columns, units=units, stride=units * self.m + _READ, n=self.n, m=self.m, kind=KINDS[self.values],
        )  # fmt: skip
        return Layer("nm", struct, self.shape[0], tensors_of(self))

    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, self.dense(), bias)

    def parts(self) -> Mapping[str, Tensor]:
        """See `Format.parts`."""
        parts = {"living": self.living, "positions": self.positions}
        return parts if self.scales is None else {**parts, "scales": self.scales}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """See `Format.of`."""
        try:
            found = cls(shape, values, parts["living"], parts["positions"], parts.get("scales"))
            found._check()
        except (KeyError, InputError) as error:
            raise InputError(f"NM of shape {shape} is damaged: {error}") from error
        living, positions = (
            part if is_padded(part) else padded(part).reshape(part.shape) for part in (found.living, found.positions)
        )
        return cls(shape, values, living, positions, found.scales)

    def _check(self) -> None:
        """Raises InputError unless sizes belong together, and a second packing would give the same."""
        living, positions, (rows, columns) = self.living, self.positions, self.shape
        if living.dim() != 4 or positions.dim() != 4 or not living.is_contiguous():
            raise InputError("its values and positions do not have four dimensions")
        if positions.shape[3] % 2 or self.m not in _GROUPS or not 1 <= self.n <= self.m:
            raise InputError(f"it is not n:m with m of {', '.join(map(str, _GROUPS))}")
        panels, units = -(-rows // _LANES), -(-columns // self.m)
        array(living, living.dtype, (panels, units, self.n, _LANES), "living")
        array(positions, torch.uint8, (panels, units, self.n, 2 * _bits(self.m)), "positions")
        check_values(living.flatten(), self.scales, rows, self.values, self.kinds)
        places = self._places()
        if bool((places.diff(dim=2) <= 0).any()):
            raise InputError("its positions do not rise within a unit")
        column = places + torch.arange(units)[:, None, None] * self.m
        row = torch.arange(panels)[:, None, None, None] * _LANES + torch.arange(_LANES)
        if bool(((column >= columns) & (living != 0)).any()) or bool(((row >= rows) & (living != 0)).any()):
            raise InputError("it has values in rows or columns that the weight lacks")

    def _places(self) -> Tensor:
        """The column within its unit of every value, int64 (panels, units, n, 16)."""
        bits = (self.positions[..., None] >> torch.arange(8, dtype=torch.uint8)) & 1
        each = bits.reshape(*self.positions.shape[:3], _LANES, _bits(self.m)).to(torch.int64)
        return (each << torch.arange(_bits(self.m))).sum(4)


def _bits(m: int) -> int:
    return m.bit_length() - 1


def _folded(where: Tensor, bits: int) -> Tensor:
    """Numbers of so many bits, 16 in a row, as bytes from the lowest bit on."""
    each = (where[..., None] >> torch.arange(bits)) & 1
    eight = each.reshape(*where.shape[:3], 2 * bits, 8)
    return (eight << torch.arange(8)).sum(4).to(torch.uint8)


def _rows(panels: int, units: int, n: int) -> Tensor:
    """The output row of every value."""
    lanes = torch.arange(panels)[:, None, None, None] * _LANES + torch.arange(_LANES)
    return lanes.expand(panels, units, n, _LANES).flatten()
