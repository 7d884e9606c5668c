"""The layouts that a weight's zeros allow, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pomona.native.living import sparsity_of
from pomona.runtime.formats.conv_format import ConvFormat, Geometry
from pomona.runtime.formats.format import Format
from pomona.runtime.sparse.layouts import conv_layout, linear_layout, linear_layouts
from pomona.vocabulary import InputError

VALUES: Mapping[str, tuple[str, ...]] = {"f32": ("f32",), "bf16": ("f32", "bf16"), "int8": ("f32", "bf16", "int8")}
_WASTE = 1.25  # stored values of blocks for one survivor; with more, single weights are as fast and smaller
_FULL = 0.95  # of the blocks alive: nothing to gain
_SMALL = 16  # rows of x up to which layouts for single rows are worth a try
_BATCH = 4  # rows of x from which layouts for batches are
_WHOLE = {"rowlanes": 32, "blocks": 8}  # rows of blocks that are fastest where none is zero
_PATTERNS = ((2, 4), (1, 4), (4, 8), (8, 16), (4, 16), (2, 16))


@dataclass(frozen=True, order=True)
class Candidate:
    """A layout by name, what its values are stored as, and the settings of its `pack`."""

    layout: str
    values: str = "f32"
    options: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.options)
        return " ".join(filter(None, (self.layout, told, self.values)))

    def pack(self, weight: Tensor) -> Format:
        """The matrix in this layout. Raises InputError where the layout does not take it."""
        kind: Any = linear_layout(self.layout)
        packed: Format = kind.pack(weight, self.values, **dict(self.options))
        return packed

    def pack_conv(self, weight: Tensor, geometry: Geometry) -> ConvFormat:
        """The convolution weight in this layout. Raises InputError where the layout does not take it."""
        g, kind = geometry, conv_layout(self.layout)
        settings: Any = dict(self.options)
        return kind.pack(weight, g.stride, g.padding, g.dilation, g.groups, **settings)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"layout": self.layout, "values": self.values, "options": dict(self.options)}

    @classmethod
    def from_json(cls, found: Any) -> Candidate:
        """The inverse of `to_json`. Raises InputError for anything else."""
        try:
            options = tuple(sorted((str(name), int(value)) for name, value in found["options"].items()))
            return cls(str(found["layout"]), str(found["values"]), options)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{found!r} does not name a layout.") from None


def linear_candidates(weight: Tensor, batch: int, values: str = "f32") -> list[Candidate]:
    """Layouts for a matrix that is multiplied with `batch` rows at a time, exact or with `values` as coarse as is allowed.

    Those for single weights where there are zeros at all; blocks where whole ones are zero, n:m where the pattern holds. And
    for any weight blocks that are all stored, since torch's own products are slow on some processors and for some batches.
    Raises InputError for values of an unknown kind.
    """
    if values not in VALUES:
        raise InputError(f"Values are {', '.join(VALUES)}, not {values!r}.")
    if not weight.numel():
        return []
    known = linear_layouts()
    found = [
        Candidate(layout, kind, options)
        for layout, options in _linear(weight.detach(), batch)
        if layout in known
        for kind in known[layout].kinds
        if kind in VALUES[values] and (layout != "dense" or kind in _dense_kinds(batch))
    ]
    return sorted(found)


def conv_candidates(weight: Tensor, groups: int) -> list[Candidate]:
    """Layouts for the weight (out, in / groups, height, width) of a convolution of so many groups."""
    matrix = weight.detach().flatten(1)
    each = weight.shape[0] // groups
    return sorted(Candidate("conv_blocks", "f32", (("rows", rows),)) for rows in _blocks(matrix, (1, 2, 4, 8, 16), each))


def _linear(weight: Tensor, batch: int) -> Iterator[tuple[str, tuple[tuple[str, int], ...]]]:
    yield "dense", ()
    if batch <= _SMALL:
        if sparsity_of(weight) > 1 - _FULL:
            yield "bitmask", ()
            yield "csr16", ()
        for rows in {_WHOLE["rowlanes"], *_blocks(weight, (16, 32), len(weight))}:
            yield "rowlanes", (("rows", rows),)
        for n, m in _PATTERNS:
            if _holds(weight, n, m):
                yield "nm", (("m", m), ("n", n))
                break
    if batch >= _BATCH:
        for rows in {_WHOLE["blocks"], *_blocks(weight, (1, 2, 4, 8, 16), len(weight))}:
            yield "blocks", (("rows", rows),)


def _dense_kinds(batch: int) -> tuple[str, ...]:
    """Values of which all weights are worth reading: blocks do that better for float32, and for bfloat16 in batches."""
    return ("bf16", "int8") if batch <= _SMALL else ("int8",)


def _blocks(matrix: Tensor, sizes: tuple[int, ...], each: int) -> Iterator[int]:
    """Heights of blocks whose storing wastes little; rows are cut into blocks within parts of `each`."""
    if not matrix.numel() or not each:
        return
    width = matrix.shape[1]
    lives = (matrix != 0).reshape(-1, each, width).float()
    share = float(lives.mean())
    for rows in sizes:
        tall = F.pad(lives, (0, 0, 0, -each % rows)).reshape(-1, rows, width).amax(1)
        stored = float(tall.sum()) * rows / lives.numel()
        if stored <= min(_WASTE * share, _FULL):
            yield rows


def _holds(weight: Tensor, n: int, m: int) -> bool:
    """Whether of every m weights of a row at most n live."""
    if not weight.numel() or weight.shape[1] % m:
        return False
    return int((weight != 0).reshape(-1, m).sum(1).amax()) <= n
