"""One bit a weight, and the living values of every row in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import array, is_padded, optional, padded, size
from pomona.native.library import library, threads_of
from pomona.runtime.formats.format import Format, checked_input, checked_weight
from pomona.vocabulary import InputError

_WORD = 64  # columns: a row of bits is a multiple of this


@dataclass(frozen=True, eq=False)
class Bitmask(Format):
    """For batch 1 and any pattern, from about 10 % zeros: the bytes read shrink with the weights.

    `bits` uint8 (rows, 8 * ceil(columns / 64)), bit i of byte j is column 8j + i; `living` the values row by row, padded;
    `starts` int32 (rows + 1), where each row begins in them.
    """

    name: ClassVar[str] = "bitmask"
    kinds: ClassVar[tuple[str, ...]] = ("f32",)

    bits: Tensor
    living: Tensor
    starts: Tensor

    @classmethod
    def pack(cls, weight: Tensor, values: str = "f32") -> Self:
        """See `Format.pack`."""
        weight = checked_weight(weight, values, cls.kinds, cls.__name__)
        lives = weight != 0
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lives.sum(1).cumsum(0)])
        if int(starts[-1]) > torch.iinfo(torch.int32).max:
            raise InputError(f"A weight of {int(starts[-1]):,} living values is too large for one bitmask; its starts are int32.")
        rows, columns = weight.shape
        wide = F.pad(lives, (0, -columns % _WORD)).numpy()
        bits = torch.from_numpy(np.packbits(wide, axis=1, bitorder="little")).reshape(rows, -(-columns // _WORD) * _WORD // 8)
        return cls((rows, columns), values, bits, padded(weight[lives]), starts.to(torch.int32))

    def dense(self) -> Tensor:
        """See `Format.dense`."""
        rows, columns = self.shape
        found = torch.zeros(rows, columns)
        found[self._lives()] = self.living
        return found

    def linear(self, x: Tensor, bias: Tensor | None = None, threads: int | None = None) -> Tensor:
        """See `Format.linear`."""
        x = checked_input(x, self.shape, bias)
        kernel = library().kernel(f"bitmask_{self.values}")
        if kernel is None:
            return F.linear(x, self.dense(), bias)
        (rows, columns), batch = self.shape, len(x)
        y = torch.empty(batch, rows)
        kernel(
            array(self.bits, torch.uint8, (rows, -1), "bits"), size(self.bits.shape[1]),
            array(self.living, torch.float32, (-1,), "living"), array(self.starts, torch.int32, (rows + 1,), "starts"),
            size(rows), size(columns), array(x, torch.float32, (batch, columns), "x"), size(batch),
            optional(bias, torch.float32, (rows,), "bias"), array(y, torch.float32, (batch, rows), "y"), threads_of(threads),
        )  # fmt: skip
        return y

    def parts(self) -> Mapping[str, Tensor]:
        """See `Format.parts`."""
        return {"bits": self.bits, "living": self.living, "starts": self.starts}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """See `Format.of`."""
        rows, columns = shape
        try:
            found = cls(shape, values, parts["bits"], parts["living"], parts["starts"])
            array(found.bits, torch.uint8, (rows, -(-columns // _WORD) * _WORD // 8), "bits")
            array(found.starts, torch.int32, (rows + 1,), "starts")
            array(found.living, torch.float32, (-1,), "living")
        except (KeyError, InputError) as error:
            raise InputError(f"A bitmask of shape {shape} is damaged: {error}") from error
        counts = np.unpackbits(found.bits.numpy(), axis=1, bitorder="little")
        ends = np.concatenate([[0], counts.sum(1, dtype=np.int64).cumsum()])
        if values not in cls.kinds or counts[:, columns:].any() or not np.array_equal(ends, found.starts.numpy()):
            raise InputError(f"A bitmask of shape {shape} is damaged: its bits and starts disagree.")
        if ends[-1] != len(found.living):
            raise InputError(
                f"A bitmask of shape {shape} is damaged: {ends[-1]} bits are set and it has {len(found.living)} values."
            )
        return found if is_padded(found.living) else cls(shape, values, found.bits, padded(found.living), found.starts)

    def _lives(self) -> Tensor:
        if not self.bits.numel():
            return torch.zeros(self.shape, dtype=torch.bool)
        found = np.unpackbits(self.bits.numpy(), axis=1, count=self.shape[1], bitorder="little")
        return torch.from_numpy(found.view(bool))
