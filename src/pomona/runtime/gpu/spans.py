"""One bit a weight and the living values, in the order in which a GPU's programs read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from pomona.vocabulary import InputError

SPAN = 512  # columns of a row that lie together; with a start of 32 bits each, 1/16 bit a weight
WORDS = SPAN // 32
SPARE = 4  # values behind the last one: a lane reads four, whether they are its own or not
KINDS = (torch.bfloat16, torch.float16)
_BYTE = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, eq=False)
class Spans:
    """A weight (rows, columns) in bfloat16 or float16, for 1 to 16 rows of x and any pattern of zeros.

    Not the CPU's `Bitmask`: there one thread walks along a row, and its position tells where the values are. Here hundreds of
    programs begin at once, anywhere. So a row is cut into spans of 512 columns that know their own beginning, and the order is
    span by span, then row by row: rows that a program takes together are one piece of memory, in bits and in values alike.

    `bits` int32 (spans, rows, 16), bit i of word j is column 32j + i of the span; `living` the values in that order and four
    spare ones; `starts` int32 (spans, rows), where the values of a row's span begin. All on one device.

    >>> weight = torch.eye(3, dtype=torch.bfloat16)
    >>> Spans.pack(weight).dense().equal(weight)
    True
    """

    shape: tuple[int, int]
    bits: Tensor
    living: Tensor
    starts: Tensor

    @classmethod
    def pack(cls, weight: Tensor) -> Self:
        """The packed form on the weight's device; what is not exactly zero lives.

        Raises InputError unless it is a matrix in bfloat16 or float16 without NaN and infinities, and where more than some 2^31
        values live.
        """
        if weight.dim() != 2 or weight.dtype not in KINDS:
            raise InputError(f"Spans take a bfloat16 or float16 matrix; got {weight.dtype} of shape {tuple(weight.shape)}.")
        if not bool(weight.isfinite().all()):
            raise InputError("Spans cannot pack a weight with NaN or infinities in it.")
        rows, columns = weight.shape
        cut = F.pad(weight.detach(), (0, -columns % SPAN)).reshape(rows, -(-columns // SPAN), SPAN).transpose(0, 1).contiguous()
        lives = cut != 0
        counts = lives.sum(2).flatten()
        ends = counts.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        if total + SPARE > torch.iinfo(torch.int32).max:
            raise InputError(f"A weight of {total:,} living values is too large; where its rows start is told in 32 bits.")
        octets = lives.view(*lives.shape[:2], SPAN // 8, 8) * weight.new_tensor(_BYTE, dtype=torch.uint8)
        bits = octets.sum(3, dtype=torch.uint8).view(torch.int32)
        starts = (ends - counts).to(torch.int32).reshape(lives.shape[:2])
        return cls((rows, columns), bits, F.pad(cut[lives], (0, SPARE)), starts)

    @classmethod
    def of(cls, parts: Mapping[str, Tensor], shape: tuple[int, int]) -> Self:
        """From what `parts` gave, checked: the kernel reads where `bits` and `starts` send it.

        Raises InputError where anything does not belong together.
        """
        rows, columns = shape
        spans = -(-columns // SPAN)
        try:
            bits, living, starts = parts["bits"], parts["living"], parts["starts"]
        except KeyError as error:
            raise InputError(f"Spans of shape {shape} are damaged: there are no {error.args[0]}.") from error
        fits = bits.shape == (spans, rows, WORDS) and starts.shape == (spans, rows) and living.dim() == 1
        kinds = bits.dtype == starts.dtype == torch.int32 and living.dtype in KINDS
        if not fits or not kinds or not bits.device == living.device == starts.device:
            raise InputError(f"Spans of shape {shape} are damaged: shapes, types or devices of their parts are wrong.")
        found = cls(shape, bits.contiguous(), living.contiguous(), starts.contiguous())
        counts = found._lives().sum(2).flatten()
        ends = counts.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        if not torch.equal(starts.flatten().long(), ends - counts) or len(living) != total + SPARE:
            raise InputError(f"Spans of shape {shape} are damaged: bits, starts and number of values disagree.")
        if bool(found._lives().transpose(0, 1).reshape(rows, spans * SPAN)[:, columns:].any()):
            raise InputError(f"Spans of shape {shape} are damaged: there are bits behind the last column.")
        return found

    def parts(self) -> Mapping[str, Tensor]:
        """The tensors that it consists of, by name."""
        return {"bits": self.bits, "living": self.living, "starts": self.starts}

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts().values())

    def dense(self) -> Tensor:
        """The weight (rows, columns), exactly."""
        rows, columns = self.shape
        spans = len(self.starts)
        # No boolean index: it would make a GPU wait until the CPU knows how many there are.
        whole = self.living.new_zeros(spans, rows, SPAN).masked_scatter_(self._lives(), self.living)
        return whole.transpose(0, 1).reshape(rows, spans * SPAN)[:, :columns].contiguous()

    def _lives(self) -> Tensor:
        octets = self.bits.view(torch.uint8)[..., None]
        places = torch.arange(8, dtype=torch.uint8, device=self.bits.device)
        return ((octets >> places) & 1).bool().reshape(*self.starts.shape, SPAN)
