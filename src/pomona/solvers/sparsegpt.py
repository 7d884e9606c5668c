"""SparseGPT: columns are pruned from left to right, and those to the right make up for it (Frantar and Alistarh, 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pomona.quadratic.choice import Choice, Mask, Per, check_mask
from pomona.quadratic.problem import Quadratic
from pomona.quadratic.sweep import Snap, swept
from pomona.vocabulary import Decision, InputError, Statistic, View, Working


@dataclass(frozen=True)
class SparseGPT:
    """Of each block of columns those stay whose loss would cost most, w^2 / [U_jj]^2, the weights being what they are by then.

    As many stay as the proposal keeps: the same share of every block of columns, over all rows as in the paper, or in each row
    (`per="row"`); of n:m groups always n. `mask="given"` leaves the proposal as it is and only repairs, as it does where units
    are not single weights. `damping` is in mean diagonals of H.

    With `bits` the survivors are also rounded, in the same sweep, to integers of so many bits times one scale a row, so that
    columns to the right make up for that as well; where everyone stays, that is all that is done. The scales, see `scales`, are
    numbers of so few digits that every product is exact in the type of the weights, so `weight / scale` are the integers. In
    bfloat16 that leaves scales of 8 bits one digit, powers of 2. They are kept nowhere but in the weights.
    """

    block: int = 128
    damping: float = 0.01
    per: Per = "site"
    mask: Mask = "chosen"
    bits: Literal[4, 8] | None = None

    needs: ClassVar[tuple[Statistic, ...]] = Quadratic.needs
    working: ClassVar[Working] = Working(24, 0.5)

    def __post_init__(self) -> None:
        check_mask("SparseGPT", self.mask)
        if self.block < 1:
            raise InputError(f"SparseGPT settles at least 1 column at a time, not {self.block}.")
        if self.bits not in (None, 4, 8):
            raise InputError(f"SparseGPT rounds to 4 or 8 bits, not to {self.bits}.")

    def solve(self, view: View, proposal: Tensor) -> Decision:
        """As many survivors as proposed, and their weights; nothing but rounding changes where everyone stays."""
        if proposal.all() and self.bits is None:
            return Decision(proposal)
        problem, choice = Quadratic.of(view, self.damping), Choice(view, proposal, self.per)
        window, snap = choice.window, None if self.bits is None else _rounding(problem, self.bits)
        if self.mask == "chosen" and choice.apart:
            weight, alive, lost = swept(problem, choice.among, -(-self.block // window) * window, window, snap)
            return problem.decision(problem.keep(alive), weight, lost)
        given = problem.mask(proposal)
        weight, _, lost = swept(problem, lambda worth, start: given[..., start : start + worth.shape[2]], self.block, snap=snap)
        return problem.decision(proposal, weight, lost)


def scales(weight: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """What the integers of each row of `weight` (..., rows, columns) are multiplied with: (..., rows); 1 for rows of zeros.

    The largest |w| over 2^(bits-1) - 1, rounded up to as many binary digits as leave every product exact in `dtype`. Columns of
    inputs that the data never reached do not count: `SparseGPT` takes them for zeros.

    >>> scales(torch.tensor([[0.7, -0.35], [0.0, 0.0]]), 4, torch.float16)
    tensor([0.1001, 1.0000])
    """
    digits = 2 - bits + round(-math.log2(torch.finfo(dtype).eps))
    mantissa, exponent = torch.frexp(weight.abs().amax(-1) / _most(bits))
    scale = torch.ldexp((mantissa * 2**digits).ceil() / 2**digits, exponent)
    return torch.where(scale > 0, scale, 1.0)


def _most(bits: int) -> int:
    return int(2 ** (bits - 1)) - 1


def _rounding(problem: Quadratic, bits: int) -> Snap:
    """Values of a column, (groups, rows), to the nearest of the integers times the row's scale; 0 is one of them."""
    assert problem.view.site.weight is not None  # Quadratic.of saw to it
    most, stored = _most(bits), problem.view.tensors[problem.view.site.weight.tensor].dtype
    scale = scales(problem.weight, bits, stored)
    return lambda values: (values / scale).round().clamp(-most, most) * scale
