"""The mean and the variance of every input that a weight multiplies."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.input_gram import InputGram, unfolded
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class InputMoments:
    """(mean, variance) over all tokens, examples and positions: float64 of shape (2, groups, columns).

    Columns are those that the weight multiplies in `layout.to_product`.
    """

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """The weight's inputs; raises InputError where these are unknown."""
        return InputGram(self.probe).watch(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add the sums and the squares of one batch."""
        assert site.weight is not None  # watch() saw to it
        for piece in unfolded(site.weight, seen.inputs[site.weight.tensor].double()):
            sums = {"sum": piece.sum(1), "squares": piece.square().sum(1), "tokens": count(piece.shape[1])}
            state = added(state, sums)
        return state or {}

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The moments; a variance is never negative."""
        tokens = state["tokens"].clamp_min(1.0)
        mean = state["sum"] / tokens
        return torch.stack([mean, (state["squares"] / tokens - mean.square()).clamp_min(0.0)])
