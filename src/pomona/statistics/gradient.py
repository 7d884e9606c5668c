"""The gradient of the loss at a weight."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pomona.probes.loss_gradient import LossGradient
from pomona.statistics.sums import added, count, only_weight
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class Gradient:
    """The signed gradient, averaged over the examples: float32 of the weight's shape. For element sites.

    Batches are weighted by their examples, so for a loss that averages, pieces of a batch add up to the whole.
    """

    probe: Probe = field(default_factory=LossGradient)

    def watch(self, site: Site) -> Watch:
        """The weight's gradient."""
        return Watch(grads=frozenset({only_weight(site, "The gradient of a weight")}))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        gradient = seen.grads[site.members[0].tensor].double()
        return added(state, {"sum": gradient * seen.examples, "examples": count(seen.examples)})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean gradient."""
        return (state["sum"] / state["examples"]).float()
