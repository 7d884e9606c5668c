"""Blocks of R rows by one column, for batches."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.native.buffers import array, is_padded, padded
from pomona.native.layer import Layer
from pomona.native.linear import KINDS
from pomona.native.told import tensors_of
from pomona.runtime.formats.format import Format, checked_weight
from pomona.runtime.formats.stored import DTYPES, stored
from pomona.vocabulary import InputError

_BAND = 256  # rows; native/kernels/blocks.cpp has the same
_CUTS = {1: 128, 2: 128, 4: 192, 8: 192, 16: 192}  # columns by R: how much of a tile of x the L1 cache holds


class Struct(ctypes.Structure):
    """`Blocks` of native/kernels/blocks.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "index", "order", "lengths", "starts", "bias")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "cut", "cuts", "panels", "bands")),
        *((name, ctypes.c_int32) for name in ("height", "kind")),
    )


@dataclass(frozen=True, eq=False)
class Blocks(Format):
    """For batches from about 8: R rows (1, 2, 4, 8 or 16) share the columns that live in them; R = 1 takes any pattern.

    Rows are cut into bands of 256 and panels of R, columns into cuts of 128 (R up to 2) or 192. In a cut and band panels come by
    falling number of blocks, in a panel blocks by column:
    `order` uint8 (cuts, panels), the panel's number in its band; `lengths` uint8 (cuts, panels), its blocks; `starts` int32
    (cuts * bands + 1), where those of a cut and band begin; `index` uint8 (blocks,), the column in the cut; `living` (blocks, R).
    Blocks lie as `lengths` does, row by row. `index` and `living` are padded; rows that the last panel lacks are 0.
    """

    name: ClassVar[str] = "blocks"
    kinds: ClassVar[tuple[str, ...]] = ("f32", "bf16")

    living: Tensor
    index: Tensor
    order: Tensor
    lengths: Tensor
    starts: Tensor

    @classmethod
    def pack(cls, weight: Tensor, values: str = "f32", rows: int = 1) -> Self:
        """See `Format.pack`; `rows` is R. A block lives where any of its weights is not zero."""
        if rows not in _CUTS:
            raise InputError(f"Blocks are of {', '.join(map(str, _CUTS))} rows, not {rows}.")
        weight = checked_weight(weight, values, cls.kinds, cls.__name__)
        shape = (weight.shape[0], weight.shape[1])
        cut, cuts, bands = _CUTS[rows], _cuts(shape, rows), -(-shape[0] // _BAND)
        panels = -(-shape[0] // rows)
        blocks = F.pad(weight, (0, 0, 0, -shape[0] % rows)).reshape(panels, rows, shape[1])
        lives = (blocks != 0).any(1)
        counts = _by_cut(lives, cut, cuts).sum(2, dtype=torch.int64)  # (panels, cuts)
        band = torch.arange(panels) * rows // _BAND
        falling = (
            (band[:, None] * (_BAND + 1) + _BAND - counts).argsort(dim=0, stable=True).T.contiguous()
        )  # (cuts, panels): the panel at each place
        at = torch.empty_like(falling).scatter_(1, falling, torch.arange(panels).expand(cuts, panels))  # the place of each panel
        panel, column = lives.nonzero(as_tuple=True)
        in_order = (column // cut * max(panels, 1) + at[column // cut, panel]).argsort(stable=True)
        panel, column = panel[in_order], column[in_order]
        if len(panel) > torch.iinfo(torch.int32).max:
            raise InputError(f"A weight of {len(panel):,} living blocks is too large for one layout; its starts are int32.")
        lengths = counts.T.gather(1, falling)
        starts = _starts(lengths, band, bands).to(torch.int32)
        living = padded(stored(blocks[panel, :, column], values)).reshape(-1, rows)
        order = falling - band * (_BAND // rows)
        return cls(shape, values, living, padded((column % cut).to(torch.uint8)), order.to(torch.uint8),
                   lengths.to(torch.uint8), starts)  # fmt: skip

    @property
    def rows(self) -> int:
        """R."""
        return self.living.shape[1]

    def dense(self) -> Tensor:
        """See `Format.dense`."""
        panel, column = self._places()
        panels = self.order.shape[1]
        found = torch.zeros(panels, self.rows, self.shape[1])
        found[panel, :, column] = self.living.float()
        return found.reshape(panels * self.rows, self.shape[1])[: self.shape[0]]

    def _layer(self) -> Layer:
        rows, columns = self.shape
        cuts, panels, bands = _cuts(self.shape, self.rows), -(-rows // self.rows), -(-rows // _BAND)
        struct = Struct(
            values=array(self.living, DTYPES[self.values], (-1, self.rows), "living"),
            index=array(self.index, torch.uint8, (-1,), "index"),
            order=array(self.order, torch.uint8, (cuts, panels), "order"),
            lengths=array(self.lengths, torch.uint8, (cuts, panels), "lengths"),
            starts=array(self.starts, torch.int32, (cuts * bands + 1,), "starts"),
            rows=rows, columns=columns, cut=_CUTS[self.rows], cuts=cuts, panels=panels, bands=bands,
            height=self.rows, kind=KINDS[self.values],
        )  # fmt: skip
        return Layer("blocks", struct, self.shape[0], tensors_of(self))

    def _by_torch(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, self.dense(), bias)

    def parts(self) -> Mapping[str, Tensor]:
        """See `Format.parts`."""
        return {"living": self.living, "index": self.index, "order": self.order, "lengths": self.lengths, "starts": self.starts}

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int], values: str) -> Self:
        """See `Format.of`."""
        try:
            found = cls(shape, values, **{name: parts[name] for name in ("living", "index", "order", "lengths", "starts")})
            if values not in cls.kinds or found.living.dim() != 2 or found.rows not in _CUTS:
                raise InputError(f"its values are not blocks of {', '.join(map(str, _CUTS))} rows of {', '.join(cls.kinds)}")
            array(found.living, DTYPES[values], (-1, found.rows), "living")
            array(found.index, torch.uint8, (len(found.living),), "index")
            cuts, panels, bands = _cuts(shape, found.rows), -(-shape[0] // found.rows), -(-shape[0] // _BAND)
            array(found.order, torch.uint8, (cuts, panels), "order")
            array(found.lengths, torch.uint8, (cuts, panels), "lengths")
            array(found.starts, torch.int32, (cuts * bands + 1,), "starts")
            found._agree()
        except (KeyError, InputError) as error:
            raise InputError(f"Blocks of shape {shape} are damaged: {error}") from error
        if is_padded(found.living) and is_padded(found.index):
            return found
        living = padded(found.living).reshape(-1, found.rows)
        return cls(shape, values, living, padded(found.index), found.order, found.lengths, found.starts)

    def _agree(self) -> None:
        """Raises InputError unless every number leads to where it may, and a second packing would give the same."""
        cuts, panels = self.order.shape
        band = torch.arange(panels) * self.rows // _BAND
        every = torch.arange(panels) - band * (_BAND // self.rows)
        ranked = (self.order.long() + band * _BAND).sort(1).values - band * _BAND
        if not torch.equal(ranked, every.expand(cuts, panels)):
            raise InputError("its order does not name every panel of a band once")
        bands = -(-self.shape[0] // _BAND)
        ends = _starts(self.lengths.long(), band, bands)
        if not torch.equal(ends, self.starts.long()) or int(ends[-1]) != len(self.living):
            raise InputError("its starts, lengths and blocks disagree")
        falls = (self.lengths[:, 1:] <= self.lengths[:, :-1]) | (band[1:] != band[:-1])
        if not bool(falls.all()):
            raise InputError("its lengths do not fall")
        panel, column = self._places()
        cut = _CUTS[self.rows]
        if bool((self.index >= cut).any()) or bool((column >= self.shape[1]).any()):
            raise InputError("it has a column that the weight lacks")
        same = (panel[1:] == panel[:-1]) & (column[1:] // cut == column[:-1] // cut)
        if bool((same & (column[1:] <= column[:-1])).any()):
            raise InputError("its columns do not rise")
        beyond = -self.shape[0] % self.rows
        if beyond and bool(self.living[panel == panels - 1][:, self.rows - beyond :].any()):
            raise InputError("it has values in rows that the weight lacks")

    def _places(self) -> tuple[Tensor, Tensor]:
        """The panel and the column of every block."""
        cuts, panels = self.order.shape
        band = torch.arange(panels) * self.rows // _BAND
        lengths = self.lengths.flatten().long()
        panel = (self.order.long() + band * (_BAND // self.rows)).flatten()
        cut = torch.arange(cuts).repeat_interleave(panels)
        return panel.repeat_interleave(lengths), cut.repeat_interleave(lengths) * _CUTS[self.rows] + self.index.long()


def _cuts(shape: tuple[int, int], rows: int) -> int:
    return max(1, -(-shape[1] // _CUTS[rows]))


def _by_cut(lives: Tensor, cut: int, cuts: int) -> Tensor:
    """(panels, columns) to (panels, cuts, cut)."""
    return F.pad(lives, (0, cuts * cut - lives.shape[1])).reshape(len(lives), cuts, cut)


def _starts(lengths: Tensor, band: Tensor, bands: int) -> Tensor:
    """Where the blocks of each cut and band begin, and where the last end."""
    each = torch.zeros(len(lengths), bands, dtype=torch.int64).index_add_(1, band, lengths)
    return torch.cat([torch.zeros(1, dtype=torch.int64), each.flatten().cumsum(0)])
