"""A pruned block beside the dense one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

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
