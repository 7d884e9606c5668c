"""The living values of every row, each with its column in 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import array, is_padded, padded
from pomona.native.layer import Layer
from pomona.native.linear import linear_layer
from pomona.native.told import tensors_of
from pomona.runtime.formats.format import Format, checked_weight
from pomona.runtime.formats.quantise import check_columns, linear_int8
from pomona.runtime.formats.row_values import MOST_COLUMNS, check_told, check_values, from_values, row_of, to_values
from pomona.vocabulary import InputError


@dataclass(frozen=True, eq=False)
class CSR16(Format):
    """For batch 1 to 8 and any pattern from about 80 % zeros; up to 65,536 columns.

    `living` the values row by row, `columns` uint16 the column of each, both padded, columns rising within a row;
    `starts` int32 (rows + 1), where each row begins in them; `scales` float32 (rows,) of int8 values.
    """

    name: ClassVar[str] = "csr16"
    kinds: ClassVar[tuple[str, ...]] = ("f32", "bf16", "int8")

    living: Tensor
    columns: Tensor
    starts: Tensor
    scales: Tensor | None = None

    @classmethod
    def pack(cls, weight: Tensor, values: str = "f32") -> Self:
        """See `Format.pack`. Takes up to 65,536 columns, int8 up to 65,000."""
        weight = checked_weight(weight, values, cls.kinds, cls.__name__)
        rows, width = weight.shape
        check_columns(width, values)
        check_told(width, "CSR16 takes")
        row, column = weight.nonzero(as_tuple=True)
        if len(row) > torch.iinfo(torch.int32).max:
            raise InputError(f"A weight of {len(row):,} living values is too large for one CSR16; its starts are int32.")
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=rows).cumsum(0)])
        living, scales = to_values(weight[row, column], row, rows, values)
        return cls((rows, width), values, living, padded(column.to(torch.uint16)), starts.to(torch.int32), scales)

    def dense(self) -> Tensor:
        """See `Format.dense`."""
        return self._spread(from_values(self.living, self.scales, row_of(self.starts)))

    def _layer(self) -> Layer:
        struct = linear_layer(
            self.name, self.values, self.shape, self.living, indices=self.columns, starts=self.starts, scales=self.scales
        )
        return Layer("linear", struct, self.shape[0], tensors_of(self))

    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.scales is None:
            return F.linear(x, self.dense(), bias)
        return linear_int8(x, self._spread(self.living), self.scales, bias)

    def parts(self) -> Mapping[str, Tensor]:
        """See `Format.parts`."""
        parts = {"living": self.living, "columns": self.columns, "starts": self.starts}
        return parts if self.scales is None else {**parts, "scales": self.scales}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """See `Format.of`."""
        rows, width = shape
        try:
            living, columns, starts, scales = parts["living"], parts["columns"], parts["starts"], parts.get("scales")
            check_columns(width, values)
            check_told(width, "CSR16 takes")
            check_values(living, scales, rows, values, cls.kinds)
            array(columns, torch.uint16, (len(living),), "columns")
            array(starts, torch.int32, (rows + 1,), "starts")
        except (KeyError, InputError) as error:
            raise InputError(f"A CSR16 of shape {shape} is damaged: {error}") from error
        at = starts.numpy()
        if at[0] != 0 or at[-1] != len(living) or (at[1:] < at[:-1]).any():
            raise InputError(f"A CSR16 of shape {shape} is damaged: its rows do not start one behind the other.")
        # As one rising number: a column that is out of order, twice there or beyond the width is seen.
        place = row_of(starts).numpy() * MOST_COLUMNS + columns.numpy()
        if (columns.numpy() >= width).any() or (place[1:] <= place[:-1]).any():
            raise InputError(f"A CSR16 of shape {shape} is damaged: its columns do not rise within a row of {width}.")
        living, columns = (part if is_padded(part) else padded(part) for part in (living, columns))
        return cls(shape, values, living, columns, starts, scales)

    def _spread(self, values: Tensor) -> Tensor:
        found = torch.zeros(self.shape, dtype=values.dtype)
        found[row_of(self.starts), torch.from_numpy(self.columns.numpy().astype(np.int64))] = values
        return found
