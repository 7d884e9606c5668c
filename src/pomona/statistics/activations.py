"""Plain statistics of activations: how large, how often zero (Hu et al., 2016; Molchanov et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from pomona.probes.forward import Forward
from pomona.statistics.readers import by_unit, inputs
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class ActivationMean:
    """Mean |z| of each unit over examples, positions and readers: float64 of shape (units,). For axis sites."""

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        for z in by_unit(site, seen, seen.inputs):
            state = added(state, {"sum": z.double().abs().sum((0, 2)), "number": count(z.shape[0] * z.shape[2])})
        return state or {}

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean."""
        return state["sum"] / state["number"]


@dataclass(frozen=True)
class ZeroShare:
    """The share of each unit's activations that are exactly zero, in [0, 1]: float64 of shape (units,). For axis sites."""

    probe: Probe = field(default_factory=Forward)

    def watch(self, site: Site) -> Watch:
        """What the readers receive."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Count one batch."""
        for z in by_unit(site, seen, seen.inputs):
            state = added(state, {"sum": (z == 0).sum((0, 2)).double(), "number": count(z.shape[0] * z.shape[2])})
        return state or {}

    def merge(self, a: State, b: State) -> State:
        """Counts add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The share."""
        return state["sum"] / state["number"]
