"""nn.Conv2d with a packed weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from pomona.native.buffers import plain
from pomona.runtime.formats.conv_format import ConvFormat
from pomona.runtime.sparse.ops import differentiated, plain_weight, pulled, sparse_conv2d, unheard
from pomona.runtime.sparse.packed import Packed, unflat
from pomona.runtime.sparse.reading import told_reading
from pomona.runtime.sparse.ready import Ready
from pomona.vocabulary import InputError


class SparseConv2d(nn.Module):
    """The convolution of x (batch, channels, height, width) or (channels, height, width) of any floating-point type.

    Computed in float32 and given back in the type of x. Frozen, as `SparseLinear` is. With `relu`, negative results become 0;
    what is given as `residual` (the shape of the result) is added before that. Sizes are those of nn.Conv2d, which models read to
    pad by themselves.
    """

    padding_mode = "zeros"
    transposed = False
    output_padding = (0, 0)

    def __init__(self, packed: ConvFormat | Packed, bias: Tensor | None = None, relu: bool = False) -> None:
        super().__init__()
        self.bias: Tensor | None
        self.packed = packed if isinstance(packed, Packed) else Packed(packed)
        shape, geometry = self.packed.about[3:]
        self.out_channels, self.in_channels, self.kernel_size = shape[0], shape[1] * geometry[6], (shape[2], shape[3])
        known = unflat(geometry)
        self.stride, self.padding, self.dilation, self.groups = known.stride, known.padding, known.dilation, known.groups
        self.relu = relu
        self._ready: Ready | None = None
        self.register_buffer("bias", None if bias is None else bias.detach().to("cpu", torch.float32).clone())

    @property
    def weight(self) -> Tensor:
        """The dense float32 weight (out_channels, in_channels / groups, height, width)."""
        told_reading(self)
        dense: Tensor = self.packed()
        return dense

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Raises InputError where x has other dimensions or channels, or holds no floating-point numbers."""
        if x.dim() not in (3, 4) or x.shape[-3] != self.in_channels or not x.is_floating_point():
            raise InputError(
                f"This layer takes floating-point (batch, {self.in_channels}, height, width); "
                f"got {x.dtype} of shape {tuple(x.shape)}."
            )
        bias = self._buffers["bias"]
        y: Tensor | None
        if x.dtype is torch.float32 and all(unheard(t) and not pulled(t) for t in (x, residual) if t is not None):
            ready = self._ready
            if ready is None or not ready.holds(self._modules["packed"]._buffers, bias):  # type: ignore[union-attr]
                ready = self._ready = Ready(self.packed, bias)
            y = ready.layer.run(plain(_maps(x)), ready.bias, None if residual is None else _maps(residual).float(), self.relu)
            if y is not None:
                return y if x.dim() == 4 else y.squeeze(0)
        p = self.packed
        maps, added = _maps(x).float(), None if residual is None else _maps(residual).float()
        if differentiated():
            y = self._by_torch(maps, bias, added)
        else:
            y = sparse_conv2d(maps, bias, added, self.relu, p.tensors(), *p.about)
        y = y if x.dim() == 4 else y.squeeze(0)
        return y if x.dtype == torch.float32 else y.to(x.dtype)

    def _by_torch(self, maps: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        g = unflat(self.packed.about[-1])
        y = F.conv2d(maps, plain_weight(self.packed), bias, g.stride, g.padding, g.dilation, g.groups)
        y = y if residual is None else y + residual
        return y.relu() if self.relu else y

    def extra_repr(self) -> str:
        """Channels, kernel, geometry, and the layout."""
        _, layout, _, shape, geometry = self.packed.about
        return f"{self.in_channels}, {self.out_channels}, {tuple(shape[2:])}, {unflat(geometry)}, {layout=}, relu={self.relu}"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        return self  # float32 on the CPU, whatever the rest of the model becomes


def _maps(x: Tensor) -> Tensor:
    """With a dimension for the batch."""
    return x if x.dim() == 4 else x.unsqueeze(0)
