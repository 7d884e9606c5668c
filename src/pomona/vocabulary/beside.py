"""What a block's call may bring as its target: the same block of the dense model, or what layers read where the call waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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
    end of the block, None where it is added to none of its width. `base` is where it was read before that: the stream is just
    this and the product; None where that is nowhere, "" for what the block is given.
    """

    weight: str
    layer: str
    across: bool
    stream: str | None
    base: str | None = None


@dataclass(frozen=True, eq=False)
class Twin:
    """The target of a pruned block's call: the same block of the dense model, its call, and the taps by weight."""

    dense: nn.Module
    call: Batch
    taps: Mapping[str, Tap]


@dataclass(frozen=True, eq=False)
class Waiting:
    """The target of a call that waits before some layers, which it has gone on to already: what they read, by weight.

    Beside a dense block that waits as well: what its layers give there (`gives`), what is in the stream behind them (`behind`),
    and here what was in the stream before (`before`), by weight, with the taps.
    """

    reads: Mapping[str, Tensor]
    taps: Mapping[str, Tap] = field(default_factory=dict)
    gives: Mapping[str, Tensor] = field(default_factory=dict)
    behind: Mapping[str, Tensor] = field(default_factory=dict)
    before: Mapping[str, Tensor] = field(default_factory=dict)
