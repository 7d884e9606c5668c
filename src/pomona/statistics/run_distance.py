"""How far every run of consecutive blocks turns what passes through it (Gromov et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import pi

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pomona.probes.last_token import LastToken
from pomona.statistics.sums import added, count
from pomona.vocabulary import InputError, Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class RunDistance:
    """d[i, j], the mean of arccos(cos(what enters block i, what leaves block j)) / pi over examples: float64 (blocks, blocks).

    0 where directions are equal, 1/2 at right angles, 1 where they are opposite; 0 below the diagonal, where there is no run. All
    runs come from one pass. By default the last token of every sequence is looked at, as in the paper.
    """

    probe: Probe = field(default_factory=LastToken)

    def watch(self, site: Site) -> Watch:
        """Both ends of every block."""
        if site.kind != "branch":
            raise InputError(f"Runs of blocks are undefined for {site.name}; use structure Layers.")
        return Watch(blocks=frozenset(site.blocks))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        entering, leaving = (torch.stack([_directions(seen.blocks[block][end]) for block in site.blocks]) for end in (0, 1))
        # 2 atan2(|a - b|, |a + b|) is the angle of unit vectors without the loss of digits of arccos near 1, and without its NaN.
        gaps = [torch.stack([(enters + sign * leaving).norm(dim=2) for enters in entering]) for sign in (-1, 1)]
        angles = 2 * torch.atan2(*gaps) / pi  # (entering block, leaving block, tokens)
        return added(state, {"sum": angles.sum(2).triu(), "tokens": count(angles.shape[2])})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over examples."""
        return state["sum"] / state["tokens"]


def _directions(x: Tensor) -> Tensor:
    """(tokens, features) float64, of length 1; the pixels of feature maps are tokens."""
    x = x.double().movedim(1, -1) if x.ndim > 3 else x.double()
    return normalize(x.reshape(-1, x.shape[-1]), dim=1)
