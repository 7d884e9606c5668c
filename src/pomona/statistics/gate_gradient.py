"""The loss change of silencing a feature map, example by example (Molchanov et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.loss_gradient import LossGradient
from pomona.statistics.readers import by_unit, inputs
from pomona.statistics.sums import added, count
from pomona.vocabulary import Probe, Seen, Site, State, Watch


@dataclass(frozen=True)
class GateGradient:
    """Mean over examples of |mean over positions of dL/dz * z|: float64 of shape (units,). For axis sites.

    z is what the unit's readers receive; several readers add up before the absolute value, for the unit leaves all of them.
    The loss is taken to be a mean over the batch, which divides each example's gradient by the batch size: undone here.
    """

    probe: Probe = field(default_factory=LossGradient)

    def watch(self, site: Site) -> Watch:
        """What the readers receive, and the gradient there."""
        return inputs(site)

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        values, grads = by_unit(site, seen, seen.inputs), by_unit(site, seen, seen.input_grads)
        gates = torch.stack([(z.double() * g.double()).mean(2) for z, g in zip(values, grads, strict=True)]).sum(0)
        return added(state, {"sum": gates.abs().sum(0) * seen.examples, "examples": count(seen.examples)})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over examples."""
        return state["sum"] / state["examples"]
