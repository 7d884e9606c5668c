"""What a unit is worth to the final responses, along all paths (Yu et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pomona.probes.propagation import Propagation
from pomona.statistics.readers import by_unit, inputs
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class Propagated:
    """Mean over batches of a unit's propagated score, summed over readers and positions: float64 of shape (units,).

    For axis sites. Final responses are scored batch by batch, so that larger batches come closer to the paper, which takes
    all samples at once.
    """

    probe: Probe = field(default_factory=Propagation)

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        total = sum(z.sum((0, 2)) / seen.examples for z in by_unit(site, seen, seen.input_grads))
        assert isinstance(total, Tensor)  # watch() saw to it that there is a reader
        return added(state, {"sum": total, "batches": count(1)})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean."""
        return state["sum"] / state["batches"]
