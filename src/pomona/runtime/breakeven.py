"""What share of its dense time a layer would take packed, foretold from a few layers of the same kind that are timed once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from torch import nn

from pomona.runtime.patterned import patterned
from pomona.runtime.sparse.choose import choose
from pomona.runtime.sparse.table import Table

SPARSITIES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)  # the measured ones
_LEAST, _MOST = 64, 4096  # lengths of the linear layers that stand for others: beyond, times follow the bytes
_ROWS = 1024


@dataclass(frozen=True)
class Shape:
    """One call of a layer: its weight (out, in) or (out, in / groups, kh, kw), its input, and what a convolution needs beside."""

    weight: tuple[int, ...]
    x: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    @classmethod
    def of(cls, layer: nn.Linear | nn.Conv2d, x: torch.Tensor) -> Shape:
        """The shape of this call. All leading dimensions of a linear layer's input are rows alike."""
        if isinstance(layer, nn.Linear):
            return cls(tuple(layer.weight.shape), (x.shape[:-1].numel(), x.shape[-1]))
        told = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return cls(tuple(layer.weight.shape), tuple(x.shape), *told)

    def standing(self) -> Shape:
        """The layer that is timed for it: lengths rounded to powers of two, so that a model has few of them."""
        if len(self.weight) == 2:
            out, into = (_rounded(length, _LEAST, _MOST) for length in self.weight)
            return replace(self, weight=(out, into), x=(_rounded(self.x[0], 1, _ROWS), into))
        if self.groups > 1:
            return self
        out, into = (_rounded(length, 1, _MOST) for length in self.weight[:2])
        return replace(self, weight=(out, into, *self.weight[2:]), x=(self.x[0], into, *self.x[2:]))

    def layer(self, pattern: str, sparsity: float) -> nn.Module:
        """Such a layer, with random zeros."""
        weight = patterned(self.weight[0], torch.Size(self.weight[1:]).numel(), pattern, 100 * sparsity).reshape(self.weight)
        if len(self.weight) == 2:
            made: nn.Module = nn.Linear(self.weight[1], self.weight[0], bias=False)
        else:
            channels = (self.weight[1] * self.groups, self.weight[0])
            how = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
            made = nn.Conv2d(*channels, self.weight[2:], bias=False, **how)  # type: ignore[arg-type]
        made.weight.data = weight
        return made.eval()


@dataclass(frozen=True)
class Curve:
    """The time of the fastest layout as a share of the dense layer's, at measured sparsities; never more where more is zero."""

    sparsities: tuple[float, ...]
    shares: tuple[float, ...]

    def at(self, sparsity: float) -> float:
        """Interpolated; beyond the measured sparsities that of the nearest. At most 1, for the layer may stay dense.

        >>> Curve((0.5, 0.9), (1.2, 0.4)).at(0.7), Curve((0.5, 0.9), (1.2, 0.4)).at(0.5)
        (0.8, 1.0)
        """
        return min(1.0, round(float(np.interp(sparsity, self.sparsities, self.shares)), 12))


def curve(shape: Shape, pattern: str, cold: bool, values: str, table: Table) -> Curve:
    """For single weights ("weights"), blocks ("8x1") or n:m ("2:4"), from a layer that stands for this one.

    What the table does not know is measured. Only inside `Table.measuring`.
    """
    standing = shape.standing()
    points = (n_m_sparsity(pattern),) if ":" in pattern else SPARSITIES
    shares = [_measured(standing, pattern, point, cold, values, table) for point in points]
    return Curve(points, tuple(accumulate(shares, min)))


def unpruned(shape: Shape, cold: bool, values: str, table: Table) -> float:
    """As `curve`, of a layer that has no zeros: its product may be faster than torch's, or its values rounded."""
    return min(1.0, _measured(shape.standing(), "weights", 0.0, cold, values, table))


def n_m_sparsity(pattern: str) -> float:
    """The share of zeros of an n:m pattern."""
    n, m = map(int, pattern.split(":"))
    return 1 - n / m


def _measured(shape: Shape, pattern: str, sparsity: float, cold: bool, values: str, table: Table) -> float:
    if ":" in pattern and (len(shape.weight) != 2 or shape.weight[1] % int(pattern.split(":")[1])):
        return 1.0
    found = choose(shape.layer(pattern, sparsity), torch.empty(shape.x, device="meta"), cold, values, table)
    return found.best_ms / found.dense_ms if found.tried else 1.0


def _rounded(length: int, least: int, most: int) -> int:
    """The nearest power of two, by the ratio."""
    power = max(length, 1).bit_length() - 1
    low = 1 << power
    return min(most, max(least, low if length * length <= 2 * low * low else 2 * low))
