"""The squared gradient of the loss at a weight: the diagonal of the empirical Fisher information."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pomona.probes.loss_gradient import PerExampleGradient
from pomona.statistics.sums import added, count, only_weight
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class SquaredGradient:
    """Mean over passes, by default examples, of the gradient squared: float32 of the weight's shape. For single weights."""

    probe: Probe = field(default_factory=PerExampleGradient)

    def watch(self, site: Site) -> Watch:
        """The weight's gradient."""
        return Watch(grads=frozenset({only_weight(site, "The squared gradient of a weight")}))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one pass."""
        return added(state, {"sum": seen.grads[site.members[0].tensor].double().square(), "passes": count(1)})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over passes."""
        return (state["sum"] / state["passes"]).float()
