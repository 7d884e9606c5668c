"""All weights, stored small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import is_padded, padded
from pomona.native.layer import Layer
from pomona.native.linear import linear_layer
from pomona.native.told import tensors_of
from pomona.runtime.formats.format import Format, checked_weight
from pomona.runtime.formats.quantise import check_columns, linear_int8
from pomona.runtime.formats.row_values import check_values, from_values, to_values
from pomona.vocabulary import InputError


@dataclass(frozen=True, eq=False)
class Values(Format):
    """For batch 1 to 8 and weights with few zeros: what bfloat16 or int8 alone give, which a sparse layout must beat.

    `weights` (rows * columns,) row by row, padded; `scales` float32 (rows,) of int8.
    """

    name: ClassVar[str] = "dense"
    kinds: ClassVar[tuple[str, ...]] = ("f32", "bf16", "int8")

    weights: Tensor
    scales: Tensor | None = None
    sums: Tensor | None = field(default=None, repr=False)

    @classmethod
    def pack(cls, weight: Tensor, values: str = "f32") -> Self:
        """See `Format.pack`. int8 takes up to 65,000 columns."""
        weight = checked_weight(weight, values, cls.kinds, cls.__name__)
        rows, columns = weight.shape
        check_columns(columns, values)
        weights, scales = to_values(weight.reshape(-1), torch.arange(rows).repeat_interleave(columns), rows, values)
        return cls._with_sums((rows, columns), values, weights, scales)

    def dense(self) -> Tensor:
        """See `Format.dense`."""
        rows, columns = self.shape
        return from_values(self.weights, self.scales, torch.arange(rows).repeat_interleave(columns)).reshape(rows, columns)

    def _layer(self) -> Layer:
        struct = linear_layer(self.name, self.values, self.shape, self.weights, scales=self.scales, sums=self.sums)
        return Layer("linear", struct, self.shape[0], tensors_of(self))

    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.scales is None:
            return F.linear(x, self.dense(), bias)
        return linear_int8(x, self.weights.reshape(self.shape), self.scales, bias)

    def parts(self) -> Mapping[str, Tensor]:
        """See `Format.parts`."""
        return {"weights": self.weights} if self.scales is None else {"weights": self.weights, "scales": self.scales}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """See `Format.of`."""
        rows, columns = shape
        try:
            weights, scales = parts["weights"], parts.get("scales")
            check_columns(columns, values)
            check_values(weights, scales, rows, values, cls.kinds)
        except (KeyError, InputError) as error:
            raise InputError(f"Dense values of shape {shape} are damaged: {error}") from error
        if len(weights) != rows * columns:
            raise InputError(f"Dense values of shape {shape} are damaged: there are {len(weights)}.")
        return cls._with_sums(shape, values, weights if is_padded(weights) else padded(weights), scales)

    @classmethod
    def _with_sums(cls, shape: tuple[int, int], values: str, weights: Tensor, scales: Tensor | None) -> Self:
        sums = None if scales is None else weights.reshape(shape).sum(1).to(torch.int32)
        return cls(shape, values, weights, scales, sums)
