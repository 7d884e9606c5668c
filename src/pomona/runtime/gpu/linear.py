"""nn.Linear with a weight in spans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pomona.runtime.gpu.ops import spans_linear
from pomona.runtime.gpu.spans import Spans
from pomona.runtime.sparse.reading import told_reading
from pomona.vocabulary import InputError


class SpansLinear(nn.Module):
    """x W^T + bias for x (..., in_features) of the weight's type; up to 16 rows of x by the kernel, more by a weight unpacked.

    `tall` and `parts` are how the kernel divides its work (`launch`); they change the time, and the sum's order with `parts`.
    Frozen, and tied to its device and type: gradients go to the input only, and no part is in the state dict, since the
    kernel trusts what `Spans` has checked.

    >>> SpansLinear(Spans.pack(torch.eye(3, dtype=torch.bfloat16)))(torch.ones(2, 5, 3, dtype=torch.bfloat16)).shape
    torch.Size([2, 5, 3])
    """

    bits: Tensor
    living: Tensor
    starts: Tensor
    bias: Tensor | None

    def __init__(self, packed: Spans, bias: Tensor | None = None, tall: int = 8, parts: int = 1) -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.tall, self.parts = tall, parts
        for name, part in packed.parts().items():
            self.register_buffer(name, part, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(self.living).clone(), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The dense weight (out_features, in_features), made anew each time."""
        told_reading(self)
        return self._dense()

    def _dense(self) -> Tensor:
        return Spans((self.out_features, self.in_features), self.bits, self.living, self.starts).dense()

    def forward(self, x: Tensor) -> Tensor:
        """Raises InputError where x is not (..., in_features) of the weight's type on its device."""
        if not x.dim() or x.shape[-1] != self.in_features or x.dtype != self.living.dtype or x.device != self.living.device:
            raise InputError(
                f"This layer takes {self.living.dtype} (..., {self.in_features}) on {self.living.device}; "
                f"got {x.dtype} of shape {tuple(x.shape)} on {x.device}."
            )
        if x.requires_grad and torch.is_grad_enabled():
            return F.linear(x, self._dense(), self.bias)
        rows = x.reshape(x.shape[:-1].numel(), self.in_features)
        y: Tensor = spans_linear(rows, self.bias, self.bits, self.living, self.starts, self.tall, self.parts)
        return y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """As nn.Linear tells itself, and how the kernel works."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"tall={self.tall}, parts={self.parts}"
        )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        return self  # bits are no numbers, and the choice holds for this device only
