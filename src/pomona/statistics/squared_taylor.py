"""The mean square of weight times gradient: what removing a unit costs, to first order (Molchanov et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pomona.probes.loss_gradient import LossGradient
from pomona.statistics.sums import added, count
from pomona.vocabulary import InputError, Member, Probe, Role, Seen, Site, State, Watch


@dataclass(frozen=True)
class SquaredTaylor:
    """Mean over passes of (sum over the unit of w g)^2: `first="sum"`; or of the sum of (w g)^2: `first="square"`.

    A pass is a batch, or an example where the probe goes example by example. The square comes inside the mean: batches that
    contradict each other do not cancel. `roles` are tried in turn and the first that the site has is read: through its
    readers ("in") the sum is the derivative of a gate on the whole unit, biases and norms included. Where the probe brings
    curvature (`HessianProduct`), w g - w Hw / 2 stands for w g, Hw taking in all weights that are watched.
    Axis sites: float64 of shape (units,). Element sites: of the weight's shape, each element by itself.
    """

    probe: Probe = field(default_factory=LossGradient)
    first: Literal["sum", "square"] = "sum"
    roles: tuple[Role, ...] = ("self", "in", "out")

    def members(self, site: Site) -> list[Member]:
        """The members that are read; raises InputError where the site has none in these roles."""
        if site.kind == "branch":
            raise InputError(f"A Taylor score of whole blocks is undefined; score {site.name} by BlockInfluence.")
        for role in self.roles:
            found = [m for m in site.members if m.role == role and not m.buffer]
            if found:
                return found
        raise InputError(f"{site.name} has no {' or '.join(self.roles)} weights, so it has no Taylor score; skip it.")

    def watch(self, site: Site) -> Watch:
        """The gradients of those members."""
        return Watch(grads=frozenset(m.tensor for m in self.members(site)))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add the square of one pass."""
        terms = [self._term(member, seen) for member in self.members(site)]
        total = torch.stack(terms).sum(0)
        return added(state, {"sum": total.square() if self.first == "sum" else total, "passes": count(1)})

    def _term(self, member: Member, seen: Seen) -> Tensor:
        weight, change = seen.weights[member.tensor].double(), seen.grads[member.tensor].double()
        if member.tensor in seen.curvatures:
            change = change - seen.curvatures[member.tensor].double() / 2
        product = weight * change
        if self.first == "square":
            product = product.square()
        return product if member.dim is None else member.rows(product).sum(1)

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The mean over passes."""
        return state["sum"] / state["passes"]
