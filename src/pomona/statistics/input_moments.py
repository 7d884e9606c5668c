"""The mean and the variance of every input that a weight multiplies."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.input_gram import InputGram, device, pieces
from pomona.statistics.sums import added
from pomona.vocabulary import Probe, Seen, Site, State, Watch
from pomona.vocabulary.layout import product_shape


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
        if state is None:
            groups, _, columns = product_shape(site.weight)
            state = {
                name: torch.zeros(groups, size, dtype=torch.float64, device=device(site.weight, seen))
                for name, size in (("sum", columns), ("squares", columns), ("tokens", 1))
            }
        for here, read in pieces(site.weight, seen):
            piece = read.double()
            state["sum"][here] += piece.sum(1)
            state["squares"][here] += piece.square().sum(1)
            state["tokens"][here] += piece.shape[1]
        return state

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The moments; a variance is never negative."""
        tokens = state["tokens"].clamp_min(1.0)
        mean = state["sum"] / tokens
        return torch.stack([mean, (state["squares"] / tokens - mean.square()).clamp_min(0.0)])
