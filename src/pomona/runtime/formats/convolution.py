"""Convolution weights as R x 1 blocks: R output channels share their taps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import array, is_padded, padded
from pomona.native.library import threads_of
from pomona.native.told import tensors_of, told_by
from pomona.runtime.formats.addend import checked_addend
from pomona.runtime.formats.conv_format import (
    ConvFormat,
    Geometry,
    Pair,
    checked_conv_shape,
    checked_conv_weight,
    checked_map,
    dense_conv,
    output_size,
)
from pomona.runtime.formats.conv_layer import ConvLayer, Weight
from pomona.vocabulary import InputError

ROWS = (1, 2, 4, 8, 16)
_MOST_TAPS = 1 << 16


@dataclass(frozen=True, eq=False)
class ConvBlocks(ConvFormat):
    """For any geometry, depthwise included: R output channels of a group, one panel, share their taps.

    A tap is input channel (in the group), then kernel row, then kernel column, flattened; it lives in a panel where any of the R
    weights is not zero. `starts` int32 (panels + 1), where each panel begins in `taps`; `taps` uint16 (blocks,), ascending in a
    panel; `values` float32 (blocks, R), padded. The last panel of a group is filled up with zeros.
    """

    name: ClassVar[str] = "conv_blocks"

    starts: Tensor
    taps: Tensor
    values: Tensor

    @classmethod
    def pack(
        cls,
        weight: Tensor,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        rows: int = 8,
    ) -> Self:
        """See `ConvFormat.pack`. `rows` (1, 2, 4, 8 or 16) output channels go together; 1 is for unstructured sparsity."""
        geometry = Geometry.of(stride, padding, dilation, groups)
        weight = checked_conv_weight(weight, geometry, cls.__name__)
        if rows not in ROWS:
            raise InputError(f"{cls.__name__} packs {', '.join(map(str, ROWS))} rows together, not {rows!r}.")
        shape = (weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3])
        _check_taps(shape)
        panels = _panels(weight.reshape(shape[0], -1), groups, rows)
        lives = (panels != 0).any(1)  # (panels, taps)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lives.sum(1).cumsum(0)])
        if int(starts[-1]) * rows > torch.iinfo(torch.int32).max:
            raise InputError(f"A weight of {int(starts[-1]):,} living blocks is too large for {cls.__name__}.")
        values = padded(panels.transpose(1, 2)[lives]).view(-1, rows)
        return cls(shape, geometry, starts.to(torch.int32), lives.nonzero()[:, 1].to(torch.uint16), values)

    def dense(self) -> Tensor:
        """See `ConvFormat.dense`."""
        out, per_group = self.shape[0], self.shape[0] // self.geometry.groups
        rows = self.values.shape[1]
        count = _count(self.shape, self.geometry, rows)
        panel = torch.repeat_interleave(torch.arange(count), self.starts.diff().long())
        found = torch.zeros(count, _taps(self.shape), rows)
        found[panel, self.taps.long()] = self.values
        found = found.transpose(1, 2).reshape(self.geometry.groups, -1, _taps(self.shape))[:, :per_group]
        return found.reshape(out, *self.shape[1:])

    def conv(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
        relu: bool = False,
        threads: int | None = None,
    ) -> Tensor:
        """See `ConvFormat.conv`."""
        x = checked_map(x, self.shape, self.geometry)
        bias = None if bias is None else checked_addend(bias, self.shape[:1], "bias")
        y = self.layer().run(x, None if bias is None else bias.data_ptr(), residual, relu, threads)
        if y is not None:
            return y
        threads_of(threads)
        whole = (len(x), self.shape[0], *output_size(self.shape, self.geometry, (x.shape[2], x.shape[3])))
        residual = None if residual is None else checked_addend(residual, whole, "residual")
        return dense_conv(self.dense(), self.geometry, x, bias, residual, relu)

    def layer(self) -> ConvLayer:
        """See `ConvFormat.layer`."""
        return told_by(self, self._layer)

    def _layer(self) -> ConvLayer:
        blocks, rows = self.values.shape
        weight = Weight(
            starts=array(self.starts, torch.int32, (_count(self.shape, self.geometry, rows) + 1,), "starts"),
            taps=array(self.taps, torch.uint16, (blocks,), "taps"),
            values=array(self.values, torch.float32, (blocks, rows), "values"),
            rows=rows,
        )
        return ConvLayer(weight, self.shape, self.geometry, tensors_of(self))

    def parts(self) -> Mapping[str, Tensor]:
        """See `ConvFormat.parts`."""
        return {"starts": self.starts, "taps": self.taps, "values": self.values}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int, int, int], geometry: Geometry) -> Self:
        """See `ConvFormat.of`."""
        checked_conv_shape(shape, geometry, cls.__name__)
        _check_taps(shape)
        try:
            starts, taps, values = parts["starts"], parts["taps"], parts["values"]
            array(values, torch.float32, (-1, -1), "values")
            array(taps, torch.uint16, (len(values),), "taps")
            array(starts, torch.int32, (-1,), "starts")
        except (KeyError, InputError) as error:
            raise InputError(f"{cls.__name__} of shape {shape} is damaged: {error}") from error
        rows, steps = values.shape[1], starts.long().diff()
        if rows not in ROWS or len(starts) != _count(shape, geometry, rows) + 1:
            raise InputError(f"{cls.__name__} of shape {shape} is damaged: {len(starts)} starts for panels of {rows} rows.")
        if starts[0] != 0 or starts[-1] != len(taps) or bool((steps < 0).any()):
            raise InputError(f"{cls.__name__} of shape {shape} is damaged: its starts do not go from 0 to {len(taps)} blocks.")
        panel = torch.repeat_interleave(torch.arange(len(steps)), steps)
        order = panel * _MOST_TAPS + taps.long()
        if bool((order.diff() <= 0).any()) or bool((taps.long() >= _taps(shape)).any()):
            raise InputError(f"{cls.__name__} of shape {shape} is damaged: its taps are not ascending below {_taps(shape)}.")
        return cls(shape, geometry, starts, taps, values if is_padded(values) else padded(values).view(-1, rows))


def _taps(shape: tuple[int, int, int, int]) -> int:
    return shape[1] * shape[2] * shape[3]


def _check_taps(shape: tuple[int, int, int, int]) -> None:
    if _taps(shape) > _MOST_TAPS:
        raise InputError(f"A kernel of {_taps(shape):,} taps is too large for ConvBlocks: they are numbered in 16 bits.")


def _count(shape: tuple[int, int, int, int], geometry: Geometry, rows: int) -> int:
    """How many panels there are."""
    return geometry.groups * -(-(shape[0] // geometry.groups) // rows)


def _panels(matrix: Tensor, groups: int, rows: int) -> Tensor:
    """(out, taps) as (panels, rows, taps), every group filled up to whole panels."""
    out, taps = matrix.shape
    each = matrix.reshape(groups, out // groups, taps)
    return F.pad(each, (0, 0, 0, -(out // groups) % rows)).reshape(-1, rows, taps)
