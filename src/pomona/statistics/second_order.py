"""What the loss says about a unit to first and to second order, with its company (Nonnenmacher et al., SOSP, 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomona.probes.hessian_product import HessianProduct
from pomona.statistics.sums import added, count
from pomona.vocabulary import InputError, Member, Probe, Role, Seen, Site, State, Watch


@dataclass(frozen=True)
class SecondOrder:
    """(t'g, t'Hv) of each unit, t its weights and v those of all units of all sites: float64 of shape (2, *site).

    Means over examples, signed. A unit's weights are its members in `roles`: by default those that write and scale it. v
    takes tensors whole, so that units which share a tensor with prunable ones count even where they cannot go themselves.
    """

    roles: tuple[Role, ...] = ("self", "out", "scale")
    probe: Probe = field(default_factory=HessianProduct)

    def members(self, site: Site) -> list[Member]:
        """The members that make a unit up; raises InputError where the site has none."""
        found = [m for m in site.members if m.role in self.roles and not m.buffer]
        if site.kind == "branch" or not found:
            raise InputError(
                f"{site.name} has no units with {' or '.join(self.roles)} weights, so no second order is known; skip it."
            )
        return found

    def watch(self, site: Site) -> Watch:
        """Those members."""
        return Watch(grads=frozenset(m.tensor for m in self.members(site)))

    def update(self, state: State | None, site: Site, seen: Seen) -> State:
        """Add one batch."""
        terms = [_of_units(m, seen.weights[m.tensor].double(), seen) for m in self.members(site)]
        return added(state, {"sum": torch.stack(terms).sum(0) * seen.examples, "examples": count(seen.examples)})

    def merge(self, a: State, b: State) -> State:
        """Sums add."""
        return added(a, b)

    def value(self, state: State, site: Site) -> Tensor:
        """The means over examples."""
        return state["sum"] / state["examples"]


def _of_units(member: Member, weight: Tensor, seen: Seen) -> Tensor:
    products = [weight * seen.grads[member.tensor].double(), weight * seen.curvatures[member.tensor].double()]
    return torch.stack(products if member.dim is None else [member.rows(p).sum(1) for p in products])
