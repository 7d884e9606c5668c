"""What a decoder of the Llama family consists of, whoever wrote its modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LINEARS = ("query", "key", "value", "out", "gate", "up", "down")  # of a block, in the order of native/kernels/decode_model.h
NORMS = ("before_attention", "before_neurons", "of_query", "of_key")  # the last two where there are any

NOT_FINITE = "The model's numbers are no longer finite; its weights or activations are too large for float32."


@dataclass(frozen=True, eq=False)
class Norm:
    """x / sqrt(mean(x^2) + epsilon) * weight; weight float32 (width,)."""

    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        """Float32 (..., width), of the last axis."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


@dataclass(frozen=True, eq=False)
class Block:
    """One layer; sizes may differ from layer to layer. `scaling` multiplies queries, a key head serves a run of query heads."""

    query_heads: int
    key_heads: int
    key_width: int
    value_width: int
    scaling: float
    linears: Mapping[str, nn.Linear]
    norms: Mapping[str, Norm]


@dataclass(frozen=True, eq=False)
class Llama:
    """Embedding (vocabulary, hidden), blocks, a norm and a head.

    `frequencies` (pairs,) are in radians a position: entries i and i + pairs of every query and key turn by the i-th, and
    `amplitude` multiplies both. `positions` is how many the model was made for.
    """

    embedding: Tensor
    blocks: Sequence[Block]
    last_norm: Norm
    head: nn.Linear
    frequencies: Tensor
    amplitude: float
    positions: int

    def turns(self, count: int, start: int = 0) -> tuple[Tensor, Tensor]:
        """Cosines and sines, float32 (count, pairs), of the positions from `start` on."""
        angles = torch.arange(start, start + count, dtype=torch.float32)[:, None] * self.frequencies
        return angles.cos() * self.amplitude, angles.sin() * self.amplitude
