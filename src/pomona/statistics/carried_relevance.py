"""How much of an example's class score each unit carries (Yeom et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.lrp import RelevancePass
from pomona.statistics.readers import by_unit, inputs
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class CarriedRelevance:
    """Mean over examples of the sum of |relevance| over a unit's positions and readers: float64 of shape (units,).

    What the readers hand back to a unit is what its filter's output map carries, for activations pass relevance on.
    Examples count alike: give as many of each class.
    """

    probe: Probe = field(default_factory=RelevancePass)

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        carried = [r.double().abs().sum((0, 2)) for r in by_unit(site, seen, seen.input_grads)]
        return added(state, {"sum": torch.stack(carried).sum(0), "examples": count(seen.examples)})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over examples."""
        return state["sum"] / state["examples"]
