"""nn.Linear with a packed weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pomona.native.buffers import plain
from pomona.runtime.formats.format import Format
from pomona.runtime.sparse.ops import differentiated, plain_weight, pulled, sparse_linear, unheard
from pomona.runtime.sparse.packed import Packed
from pomona.runtime.sparse.reading import told_reading
from pomona.runtime.sparse.ready import Ready
from pomona.vocabulary import InputError


class SparseLinear(nn.Module):
    """x W^T + bias for x (..., in_features) of any floating-point type, computed in float32 and given back in the type of x.

    Frozen: gradients go to the input, by the dense weight, and none to weight and bias, which are buffers. `weight` is made anew
    from the parts each time it is read.

    >>> from pomona.runtime.formats.bitmask import Bitmask
    >>> SparseLinear(Bitmask.pack(torch.eye(3)))(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, packed: Format | Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        self.bias: Tensor | None
        self.packed = packed if isinstance(packed, Packed) else Packed(packed)
        self.out_features, self.in_features = self.packed.about[3]
        self._ready: Ready | None = None
        self.register_buffer("bias", None if bias is None else bias.detach().to("cpu", torch.float32).clone())

    @property
    def weight(self) -> Tensor:
        """The dense float32 weight (out_features, in_features)."""
        told_reading(self)
        dense: Tensor = self.packed()
        return dense

    def forward(self, x: Tensor) -> Tensor:
        """Raises InputError where the last dimension is not `in_features`, or x holds no floating-point numbers."""
        shape = x.shape
        if not shape or shape[-1] != self.in_features or not x.is_floating_point():
            raise InputError(f"This layer takes floating-point (..., {self.in_features}); got {x.dtype} of shape {tuple(shape)}.")
        # Not as attributes: nn.Module looks for these in three dictionaries, half a microsecond each.
        bias = self._buffers["bias"]
        y: Tensor | None
        if x.dtype is torch.float32 and not pulled(x) and unheard(x):
            ready = self._ready
            if ready is None or not ready.holds(self._modules["packed"]._buffers, bias):  # type: ignore[union-attr]
                ready = self._ready = Ready(self.packed, bias)
            y = ready.layer.run(plain(x), ready.bias)
            if y is not None:
                return y
        p = self.packed
        rows = x if x.dim() == 2 else x.reshape(shape[:-1].numel(), self.in_features)
        if differentiated():
            y = F.linear(rows.float(), plain_weight(self.packed), bias)
        else:
            y = sparse_linear(rows.float(), bias, p.tensors(), *p.about)
        y = y if x.dim() == 2 else y.reshape(*shape[:-1], self.out_features)
        return y if x.dtype == torch.float32 else y.to(x.dtype)

    def extra_repr(self) -> str:
        """As nn.Linear tells itself, and the layout."""
        _, layout, values, *_ = self.packed.about
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"layout={layout}, values={values}"
        )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        return self  # float32 on the CPU, whatever the rest of the model becomes
