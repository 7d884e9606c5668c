"""One bit a weight, and the living values of every row in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from pomona.runtime.formats.quantise import check_columns, linear_int8, row_sums
from pomona.runtime.formats.row_values import check_values, from_values, row_of, to_values
from pomona.vocabulary import InputError

_WORD = 64  # columns: a row of bits is a multiple of this


@dataclass(frozen=True, eq=False)
class Bitmask(Format):
    """For batch 1 to 8 and any pattern, from about 10 % zeros: the bytes read shrink with the weights.

    `bits` uint8 (rows, 8 * ceil(columns / 64)), bit i of byte j is column 8j + i; `living` the values row by row, padded;
    `starts` int32 (rows + 1), where each row begins in them; `scales` float32 (rows,) of int8 values.
    """

    name: ClassVar[str] = "bitmask"
    kinds: ClassVar[tuple[str, ...]] = ("f32", "bf16", "int8")

    bits: Tensor
    living: Tensor
    starts: Tensor
    scales: Tensor | None = None
    sums: Tensor | None = field(default=None, repr=False)

    @classmethod
    def pack(cls, weight: Tensor, values: str = "f32") -> Self:
        """See `Format.pack`. int8 takes up to 65,000 columns."""
        weight = checked_weight(weight, values, cls.kinds, cls.__name__)
        check_columns(weight.shape[1], values)
        lives = weight != 0
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lives.sum(1).cumsum(0)])
        if int(starts[-1]) > torch.iinfo(torch.int32).max:
            raise InputError(f"A weight of {int(starts[-1]):,} living values is too large for one bitmask; its starts are int32.")
        rows, columns = weight.shape
        wide = F.pad(lives, (0, -columns % _WORD)).numpy()
        bits = torch.from_numpy(np.packbits(wide, axis=1, bitorder="little")).reshape(rows, _row_bytes(columns))
        living, scales = to_values(weight[lives], row_of(starts), rows, values)
        return cls._with_sums((rows, columns), values, bits, living, starts.to(torch.int32), scales)

    def dense(self) -> Tensor:
        """See `Format.dense`."""
        found = torch.zeros(self.shape)
        found[self._lives()] = from_values(self.living, self.scales, row_of(self.starts))
        return found

    def _layer(self) -> Layer:
        struct = linear_layer(self.name, self.values, self.shape, self.living, bits=self.bits, starts=self.starts,
                              scales=self.scales, sums=self.sums)  # fmt: skip
        return Layer("linear", struct, self.shape[0], tensors_of(self))

    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.scales is None:
            return F.linear(x, self.dense(), bias)
        whole = torch.zeros(self.shape, dtype=torch.int8)
        whole[self._lives()] = self.living
        return linear_int8(x, whole, self.scales, bias)

    def parts(self) -> Mapping[str, Tensor]:
        """See `Format.parts`."""
        parts = {"bits": self.bits, "living": self.living, "starts": self.starts}
        return parts if self.scales is None else {**parts, "scales": self.scales}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """See `Format.of`."""
        rows, columns = shape
        try:
            bits, living, starts, scales = parts["bits"], parts["living"], parts["starts"], parts.get("scales")
            check_columns(columns, values)
            check_values(living, scales, rows, values, cls.kinds)
            array(bits, torch.uint8, (rows, _row_bytes(columns)), "bits")
            array(starts, torch.int32, (rows + 1,), "starts")
        except (KeyError, InputError) as error:
            raise InputError(f"A bitmask of shape {shape} is damaged: {error}") from error
        counts = np.unpackbits(bits.numpy(), axis=1, bitorder="little")
        ends = np.concatenate([[0], counts.sum(1, dtype=np.int64).cumsum()])
        if counts[:, columns:].any() or not np.array_equal(ends, starts.numpy()):
            raise InputError(f"A bitmask of shape {shape} is damaged: its bits and starts disagree.")
        if ends[-1] != len(living):
            raise InputError(f"A bitmask of shape {shape} is damaged: {ends[-1]} bits are set and it has {len(living)} values.")
        living = living if is_padded(living) else padded(living)
        return cls._with_sums(shape, values, bits, living, starts, scales)

    @classmethod
    def _with_sums(
        cls, shape: tuple[int, int], values: str, bits: Tensor, living: Tensor, starts: Tensor, scales: Tensor | None
    ) -> Self:
        return cls(shape, values, bits, living, starts, scales, None if scales is None else row_sums(living, starts))

    def _lives(self) -> Tensor:
        if not self.bits.numel():
            return torch.zeros(self.shape, dtype=torch.bool)
        found = np.unpackbits(self.bits.numpy(), axis=1, count=self.shape[1], bitorder="little")
        return torch.from_numpy(found.view(bool))


def _row_bytes(columns: int) -> int:
    return -(-columns // _WORD) * _WORD // 8
