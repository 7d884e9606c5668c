"""How much a block turns what passes through it (Men et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pomona.probes.forward import Forward
from pomona.statistics.sums import added, count
from pomona.vocabulary import InputError, Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class AngularChange:
    """Mean over tokens of 1 - cos(what enters, what leaves), for each block of a branch site: float64 of shape (blocks,).

    Between 0 (the block keeps every direction) and 2. Features are the last dimension of 2-d and 3-d tensors and dimension
    1 of feature maps, whose pixels are the tokens.
    """

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """Both ends of every block."""
        if site.kind != "branch":
            raise InputError(f"The influence of blocks is undefined for {site.name}; use structure Layers.")
        return Watch(blocks=frozenset(site.blocks))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        changes = [_change(*seen.blocks[block]) for block in site.blocks]
        tokens = torch.stack([count(c.numel()) for c in changes]).to(changes[0].device)
        return added(state, {"sum": torch.stack([c.sum() for c in changes]), "tokens": tokens})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over tokens."""
        return state["sum"] / state["tokens"]


def _change(entered: Tensor, left: Tensor) -> Tensor:
    dim = 1 if entered.ndim > 3 else -1
    # Half the squared distance of the directions is 1 - cos without the cancellation where a block changes little.
    turn = normalize(entered.double(), dim=dim) - normalize(left.double(), dim=dim)
    return turn.square().sum(dim) / 2
