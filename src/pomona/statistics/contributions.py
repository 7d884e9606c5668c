"""What the units of an axis add to the outputs of their readers, and how far they cancel (Luo et al., ThiNet, 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.columns import columns
from pomona.statistics.readers import inputs, readers
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch

_CHUNK = 1 << 23  # float64 numbers that a block of contributions may hold: 64 MiB


@dataclass(frozen=True)
class ContributionGram:
    """G_uv = sum over the readers' outputs of (what u adds) * (what v adds), a mean over examples: float64 (units, units).

    Before bias and nonlinearity, readers add up: 1'G1 is the energy of what they receive from the whole axis, and s'Gs of
    what is lost with the units in s. `positions` outputs of each example are looked at, evenly spaced; the paper draws ten
    positions with one output channel each, here every output channel counts. Memory: units squared, for each axis.
    """

    positions: int = 10
    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        grams = [gram(*columns(member, seen, self.positions)) for member in readers(site)]
        return added(state, {"sum": torch.stack(grams).sum(0), "examples": count(seen.examples)})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over examples."""
        return state["sum"] / state["examples"]


def gram(x: Tensor, w: Tensor) -> Tensor:
    """(units, units) from inputs (samples, groups, units, k) and weights (outputs, groups, units, k), all outputs of all samples.

    A unit adds sum_k x_k w_k. Either these sums are formed, or the products of two of them are taken apart into
    (sum over samples of x_k x_l) * (sum over outputs of w_k w_l): whichever costs less.
    """
    samples, outputs, units, k = len(x), len(w), x.shape[2], x.shape[3]
    if k * k * units * (samples + outputs) <= samples * outputs * (k + units):
        apart = [_products(x, place) * _products(w, place) for place in range(k)]
        return torch.stack([block.sum((0, 3)) for block in apart]).sum(0)
    total = x.new_zeros(units, units)
    for piece in torch.split(x, max(1, _CHUNK // (w.shape[0] * w.shape[1] * units))):
        added_by = torch.einsum("sguk,oguk->sgou", piece, w).reshape(-1, units)
        total += added_by.T @ added_by
    return total


def _products(t: Tensor, place: int) -> Tensor:
    """(groups, units, units, k): sums over the first dimension of the numbers at `place` times those at every k."""
    return torch.einsum("sgu,sgvk->guvk", t[..., place], t)
