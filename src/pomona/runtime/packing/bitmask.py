"""One sparse weight as a bitmask and its living values: the layout of `docs/formats.md`, read and written."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pomona.vocabulary import InputError

SHORT = 32  # a row of fewer weights is joined with others, where there are other dimensions than the first to join
STRIDE = 1024  # weights at least between two row offsets: 4 bytes for 1024 weights are 0.2 % of their fp16 bytes

_ONES = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)
# Values are moved as whole numbers of their size, so that every bit of every type arrives: -0.0, NaN with its payload, bf16.
_CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight of `shape`, seen as rows of `width`: see `grid`.

    `bits` is uint8 (rows, ceil(width / 8)): weight j of a row is bit j % 8, counted from the lowest, of byte j // 8; a set bit is
    a weight that lives, whatever its value. `values` holds the living in order, row after row, in the weight's own type.
    `offsets` is int32: entry k is how many values lie before row k * `stride(width)`; the last entry is their number.
    """

    shape: tuple[int, ...]
    bits: Tensor
    offsets: Tensor
    values: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored: bits, offsets, values, and the shape at 8 bytes a dimension."""
        return self.bits.nbytes + self.offsets.nbytes + self.values.nbytes + 8 * len(self.shape)


def stride(width: int) -> int:
    """How many rows lie between two offsets: 1 for rows of 1024 weights or more.

    >>> stride(4096), stride(576)
    (1, 2)
    """
    return max(1, -(-STRIDE // max(width, 1)))


def pack(weight: Tensor, keep: Tensor | None = None) -> Packed:
    """The packed form of a weight of any shape and floating type; `unpack` gives it back to the last bit.

    `keep` (bool, the weight's shape) says which weights live, zeros among them; without it all live but those whose every bit is
    0, so that -0.0 lives. Raises InputError where a weight outside of `keep` is not zero.

    >>> pack(torch.tensor([[0.0, 1.5, 0.0, -2.0]])).bits, pack(torch.tensor([[0.0, 1.5, 0.0, -2.0]])).values
    (tensor([[10]], dtype=torch.uint8), tensor([ 1.5000, -2.0000]))
    """
    rows, width = grid(tuple(weight.shape))
    carried = _carried(weight.detach().cpu().contiguous()).reshape(rows, width)
    if keep is None:
        lives = carried != 0
    else:
        if keep.shape != weight.shape:
            raise InputError(f"The mask has shape {tuple(keep.shape)} and the weight {tuple(weight.shape)}; they must be equal.")
        lives = keep.detach().cpu().bool().numpy().reshape(rows, width)
        if bool((weight.detach().cpu().reshape(rows, width).ne(0) & torch.from_numpy(~lives)).any()):
            raise InputError("A weight that the mask removes is not zero; write zeros where the mask says so, then pack.")
    counts = lives.sum(1, dtype=np.int64)
    offsets = np.concatenate([[0], counts.cumsum()])
    ends = np.append(np.arange(0, rows, stride(width)), rows)
    if offsets[-1] > np.iinfo(np.int32).max:
        raise InputError(f"A weight of {offsets[-1]:,} living values is too large to pack; int32 offsets end at 2,147,483,647.")
    bits = np.packbits(lives, axis=1, bitorder="little")
    values = torch.from_numpy(carried[lives]).view(weight.dtype)
    return Packed(tuple(weight.shape), torch.from_numpy(bits), torch.from_numpy(offsets[ends].astype(np.int32)), values)


def unpack(packed: Packed) -> Tensor:
    """The dense weight, zeros where nothing lives. Trusts the numbers; `check` what comes from outside."""
    rows, width = grid(packed.shape)
    values = _carried(packed.values)
    dense = np.zeros((rows, width), dtype=values.dtype)
    dense[_lives(packed)] = values
    return torch.from_numpy(dense).view(packed.values.dtype).view(packed.shape)


def alive(packed: Packed) -> Tensor:
    """Which weights live: bool, the weight's shape."""
    return torch.from_numpy(_lives(packed)).view(packed.shape)


def check(packed: Packed, name: str) -> None:
    """Raise InputError unless bits, offsets, values and shape belong together, so that no reader leaves its bounds."""
    rows, width = grid(packed.shape)
    every = stride(width)
    right = (
        packed.bits.dtype == torch.uint8
        and tuple(packed.bits.shape) == (rows, -(-width // 8))
        and packed.offsets.dtype == torch.int32
        and tuple(packed.offsets.shape) == (-(-rows // every) + 1,)
        and packed.values.dim() == 1
        and packed.values.is_floating_point()
    )
    if not right:
        raise InputError(
            f"The packed weight {name} is damaged: its parts do not have the sizes that a shape of {packed.shape} asks for."
        )
    counts = _ONES[packed.bits.numpy()].sum(1, dtype=np.int64)
    found = np.concatenate([[0], counts.cumsum()])[np.append(np.arange(0, rows, every), rows)]
    if not np.array_equal(found, packed.offsets.numpy()) or found[-1] != len(packed.values):
        raise InputError(f"The packed weight {name} is damaged: its bits, row offsets and {len(packed.values)} values disagree.")
    if width % 8 and packed.bits.numel() and int(packed.bits[:, -1].max()) >> width % 8:
        raise InputError(f"The packed weight {name} is damaged: bits behind the end of a row are set.")


def _lives(packed: Packed) -> np.ndarray[Any, np.dtype[np.bool_]]:
    rows, width = grid(packed.shape)
    if not rows * width:
        return np.zeros((rows, width), dtype=bool)
    return np.unpackbits(packed.bits.numpy(), axis=1, count=width, bitorder="little").view(bool)


def grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, width) of a weight: width is the last dimension, joined by those before it while shorter than 32, but the first.

    So kernels of convolutions do not waste most of a byte each, and a row of a matrix is a row.

    >>> grid((512, 64)), grid((8, 512, 64)), grid((64, 16, 3, 3)), grid(())
    ((512, 64), (4096, 64), (64, 144), (1, 1))
    """
    rows, width = (list(shape[:-1]), shape[-1]) if shape else ([], 1)
    while width < SHORT and len(rows) > 1:
        width *= rows.pop()
    return prod(rows), width


def _carried(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    if not tensor.is_floating_point():
        raise InputError(f"Only floating-point weights can be packed, not {tensor.dtype}.")
    return tensor.view(_CARRIERS[tensor.element_size()]).numpy()
