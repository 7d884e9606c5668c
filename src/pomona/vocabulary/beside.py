"""What a block's call may bring as its target: the same block of the dense model, or what layers read where the call waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pomona.vocabulary.batch import Batch


@dataclass(frozen=True, eq=False)
class Beside:
    """The same block of a pruned model and of the dense one, each alone, under its full name.

    `calls` are what the two are called with, (pruned, dense), batch by batch, as often as they are asked for: each reads what
    the blocks before it in its own model give.
    """

    block: str
    pruned: nn.Module
    dense: nn.Module
    calls: Iterable[tuple[Batch, Batch]]


@dataclass(frozen=True)
class Tap:
    """Where what a weight makes is compared with what the dense model makes there.

    `layer` is the module that multiplies with the weight, stored as (columns, rows) if it is `across`, and gives the product, up
    to a constant. `stream` is where the stream is first read that the product is added to: the module that reads it, "" for the
    end of the block, None where it is added to none of its width.
    """

    weight: str
    layer: str
    across: bool
    stream: str | None


@dataclass(frozen=True, eq=False)
class Twin:
    """The target of a pruned block's call: the same block of the dense model, its call, and the taps by weight."""

    dense: nn.Module
    call: Batch
    taps: Mapping[str, Tap]


@dataclass(frozen=True, eq=False)
class Waiting:
    """The target of a call that waits before some layers, which it has gone on to already: what they read, by weight."""

    reads: Mapping[str, Tensor]
