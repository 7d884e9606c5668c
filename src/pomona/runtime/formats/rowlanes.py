"""Blocks of 16 or 32 rows by one column, whose rows are the lanes of a register."""

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
from pomona.runtime.formats.row_values import MOST_COLUMNS, check_told, check_values, from_values, row_of, to_values
from pomona.runtime.formats.stored import DTYPES
from pomona.vocabulary import InputError

_HEIGHTS = (16, 32)


class Struct(ctypes.Structure):
    """`RowLanes` of native/kernels/rowlanes.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "index", "starts", "scales", "bias")),
        *((name, ctypes.c_int64) for name in ("rows", "columns")),
        *((name, ctypes.c_int32) for name in ("lanes", "kind")),
    )


@dataclass(frozen=True, eq=False)
class RowLanes(Format):
    """For batch 1 to 8: L rows (16 or 32) share the columns that live in them; nothing is expanded or gathered.

    `living` (blocks, L), panel by panel of L rows, `columns` uint16 the column of each block, both padded, columns rising in a
    panel; `starts` int32 (panels + 1), where each panel begins in them; rows that the last panel lacks are 0. `scales` float32
    (rows,) of int8 values, which are made floats in the register: x stays as it is.
    """

    name: ClassVar[str] = "rowlanes"
    kinds: ClassVar[tuple[str, ...]] = ("f32", "bf16", "int8")

    living: Tensor
    columns: Tensor
    starts: Tensor
    scales: Tensor | None = None

    @classmethod
    def pack(cls, weight: Tensor, values: str = "f32", rows: int = 16) -> Self:
        """See `Format.pack`; `rows` is L. A block lives where any of its weights is not zero. Takes up to 65,536 columns."""
        if rows not in _HEIGHTS:
            raise InputError(f"RowLanes are of {' or '.join(map(str, _HEIGHTS))} rows, not {rows}.")
        weight = checked_weight(weight, values, cls.kinds, cls.__name__)
        height, width = weight.shape
        check_told(width, "RowLanes take")
        panels = -(-height // rows)
        blocks = F.pad(weight, (0, 0, 0, -height % rows)).reshape(panels, rows, width)
        panel, column = (blocks != 0).any(1).nonzero(as_tuple=True)
        if len(panel) > torch.iinfo(torch.int32).max:
            raise InputError(f"A weight of {len(panel):,} living blocks is too large for one layout; its starts are int32.")
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(panel, minlength=panels).cumsum(0)])
        living, scales = to_values(blocks[panel, :, column].flatten(), _rows(panel, rows), panels * rows, values)
        scales = None if scales is None else scales[:height].clone()
        return cls(
            (height, width), values, living.reshape(-1, rows), padded(column.to(torch.uint16)), starts.to(torch.int32), scales
        )

    @property
    def rows(self) -> int:
        """L."""
        return self.living.shape[1]

    def dense(self) -> Tensor:
        """See `Format.dense`."""
        panel = row_of(self.starts)
        panels = len(self.starts) - 1
        scales = None if self.scales is None else F.pad(self.scales, (0, panels * self.rows - self.shape[0]))
        found = torch.zeros(panels, self.rows, self.shape[1])
        values = from_values(self.living.flatten(), scales, _rows(panel, self.rows))
        found[panel, :, self.columns.to(torch.int64)] = values.reshape(-1, self.rows)
        return found.reshape(panels * self.rows, self.shape[1])[: self.shape[0]]

    def _layer(self) -> Layer:
        rows, columns = self.shape
        struct = Struct(
            values=array(self.living, DTYPES[self.values], (-1, self.rows), "living"),
            index=array(self.columns, torch.uint16, (-1,), "columns"),
            starts=array(self.starts, torch.int32, (-1,), "starts"),
            scales=optional(self.scales, torch.float32, (rows,), "scales"),
            rows=rows, columns=columns, lanes=self.rows, kind=KINDS[self.values],
        )  # fmt: skip
        return Layer("rowlanes", struct, self.shape[0], tensors_of(self))

    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, self.dense(), bias)

    def parts(self) -> Mapping[str, Tensor]:
        """See `Format.parts`."""
        parts = {"living": self.living, "columns": self.columns, "starts": self.starts}
        return parts if self.scales is None else {**parts, "scales": self.scales}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """See `Format.of`."""
        try:
            found = cls(shape, values, parts["living"], parts["columns"], parts["starts"], parts.get("scales"))
            found._check()
        except (KeyError, InputError) as error:
            raise InputError(f"RowLanes of shape {shape} are damaged: {error}") from error
        if is_padded(found.living) and is_padded(found.columns):
            return found
        living = padded(found.living).reshape(-1, found.rows)
        return cls(shape, values, living, padded(found.columns), found.starts, found.scales)

    def _check(self) -> None:
        """Raises InputError unless every number leads to where it may, and a second packing would give the same."""
        height, width = self.shape
        check_told(width, "RowLanes take")
        if self.living.dim() != 2 or self.rows not in _HEIGHTS or not self.living.is_contiguous():
            raise InputError(f"its values are not blocks of {' or '.join(map(str, _HEIGHTS))} rows")
        check_values(self.living.flatten(), self.scales, height, self.values, self.kinds)
        array(self.columns, torch.uint16, (len(self.living),), "columns")
        array(self.starts, torch.int32, (-(-height // self.rows) + 1,), "starts")
        if int(self.starts[0]) != 0 or int(self.starts[-1]) != len(self.living) or bool((self.starts.diff() < 0).any()):
            raise InputError("its panels do not start one behind the other")
        columns, panel = self.columns.to(torch.int64), row_of(self.starts)
        # As one rising number: a column that is out of order, twice there or beyond the width is seen.
        if bool((columns >= width).any()) or bool(((panel * MOST_COLUMNS + columns).diff() <= 0).any()):
            raise InputError(f"its columns do not rise within a panel of {width}")
        beyond = -height % self.rows
        if beyond and bool(self.living[panel == len(self.starts) - 2][:, self.rows - beyond :].any()):
            raise InputError("it has values in rows that the weight lacks")


def _rows(panel: Tensor, rows: int) -> Tensor:
    """The output row of every value of these panels' blocks."""
    return (panel[:, None] * rows + torch.arange(rows)).flatten()
