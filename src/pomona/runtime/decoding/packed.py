"""The weights of a `Llama` in layouts that kernels read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pomona.native.library import library
from pomona.native.linear import Linear, linear_layer
from pomona.native.living import sparsity_of
from pomona.runtime.decoding.llama import Llama
from pomona.runtime.formats.bitmask import Bitmask
from pomona.runtime.formats.quantise import quantised_input
from pomona.runtime.formats.values import Values

# From which share of zeros fewer bytes pay for the bits: expanding costs time of its own, more beside small values.
_PAYS = {"f32": 0.1, "bf16": 0.15, "int8": 0.25}
_BY_TABLES = ("avx2", "neon")  # no instruction of theirs expands bytes: reading all of them is faster at any sparsity


@dataclass(frozen=True, eq=False)
class Packed:
    """A linear layer: x W^T + bias; the bias is float32 (rows,) or None.

    For int8 weights x is two bytes an entry: those that every int8 layout takes, and once more what they leave of it.
    """

    weight: Bitmask | Values
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Float32 (tokens, columns) to (tokens, rows)."""
        y = self.weight.linear(x.contiguous(), self.bias)
        return y if self.weight.values != "int8" else y + self.weight.linear(_rest(x))

    def layer(self) -> Linear:
        """For a kernel; points into these tensors."""
        w = self.weight
        if isinstance(w, Values):
            return linear_layer(w.name, w.values, w.shape, w.weights, scales=w.scales, sums=w.sums, bias=self.bias)
        return linear_layer(
            w.name, w.values, w.shape, w.living, bits=w.bits, starts=w.starts, scales=w.scales, sums=w.sums, bias=self.bias
        )

    @property
    def nbytes(self) -> int:
        """Read for one token."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)


@dataclass(frozen=True, eq=False)
class PackedLlama:
    """The blocks' layers by name, and the head."""

    blocks: Sequence[Mapping[str, Packed]]
    head: Packed

    @property
    def nbytes(self) -> int:
        """Bytes of weights that one token reads, less a row of the embedding and what norms have."""
        return self.head.nbytes + sum(packed.nbytes for block in self.blocks for packed in block.values())


def pack(llama: Llama, values: str, head: str) -> PackedLlama:
    """Every layer as a bitmask or dense, whichever the kernels here read faster; `head` is the kind of the head's values.

    Raises InputError where a weight cannot be stored so.
    """
    blocks = [{name: _packed(linear, values) for name, linear in block.linears.items()} for block in llama.blocks]
    return PackedLlama(blocks, _packed(llama.head, head))


def _packed(linear: nn.Linear, values: str) -> Packed:
    weight = linear.weight.detach()
    whole = values == "int8" and library().isa in _BY_TABLES
    layout = Values if whole or sparsity_of(weight) < _PAYS.get(values, 0) else Bitmask
    bias = None if linear.bias is None else linear.bias.detach().to(torch.float32).contiguous()
    return Packed(layout.pack(weight, values), bias)


def _rest(x: Tensor) -> Tensor:
    """What is left of x (tokens, columns) when a row is rounded to steps of its largest magnitude / 127."""
    whole, steps = quantised_input(x)
    return x - steps[:, None] * whole.float()
