"""How much every expert adds to the tokens that are sent to it (REAP, Lasby et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from pomona.probes.routed import Routed
from pomona.statistics.sums import added
from pomona.vocabulary import InputError, Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class ExpertNorms:
    """(sum of ||gate * output|| over the tokens sent to an expert, number of these tokens): float64 of shape (2, experts)."""

    probe: Probe = field(default_factory=Routed)
    covered: ClassVar[str] = "experts"

    def watch(self, site: Site) -> Watch:
        """The module that holds the experts' stacked weights; raises InputError for sites that are no experts."""
        return Watch(blocks=frozenset({_holder(site)}))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        numbers, norms = (tensor.flatten() for tensor in seen.blocks[_holder(site)])
        real = numbers < site.units  # what is sent to no expert has a number behind the last
        sums = norms.new_zeros(2, site.units)
        sums.index_add_(1, numbers[real].long(), torch.stack([norms, torch.ones_like(norms)])[:, real])
        return added(state, {"sums": sums})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The sums."""
        return state["sums"]

    def unreached(self, value: Tensor, site: Site) -> Tensor:
        """Which experts no token was sent to: bool (experts,)."""
        return value[1] == 0


def _holder(site: Site) -> str:
    stacked = [m for m in site.members if not m.buffer and m.dim is not None and len(m.shape) > 2]
    holders = {m.tensor.rpartition(".")[0] for m in stacked}
    if site.axis is None or site.axis.family != "expert" or len(holders) != 1:
        raise InputError(f"{site.name} is no axis of experts whose weights one module holds, so what experts add is unknown.")
    return holders.pop()
