"""NISP: what the final responses do not need goes first, in all layers at once (Yu et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pomona.probes.propagation import Propagation
from pomona.statistics.propagated import Propagated
from pomona.vocabulary import Scores, Statistic, View


@dataclass(frozen=True)
class Nisp:
    """The score of the final responses, carried back through absolute weights to the unit, relative to its axis' largest.

    Of a residual stream, the scores at all places where it is read add up. The paper is about plain, convolutional and
    residual networks; gates and attention are an extension (see `absolute`), and what has no straight line is refused.
    """

    propagation: Propagation = field(default_factory=Propagation)

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """The propagated scores."""
        return (Propagated(self.propagation),)

    def score(self, view: View) -> Scores:
        """One value a unit, in [0, 1]; those of different axes cannot be compared."""
        value = view.stats[self.needs[0]]
        # Products of fifty matrices leave the range of float32.
        return Scores((value / value.max().clamp_min(torch.finfo(value.dtype).tiny)).float())
