"""Sites, scores and budgets on paper: prices that are plain sums."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from papergraph import linear
from pomona.vocabulary import Budget, Member, Scores, Site, Weight


@dataclass(frozen=True, eq=False)
class Sum:
    """Every unit of a site costs the same."""

    units: dict[str, int]
    cost: dict[str, float]

    @property
    def dense(self):
        return float(sum(self.units[n] * self.cost[n] for n in self.units))

    def __call__(self, keeps):
        return float(sum((int(keeps[n].sum()) if n in keeps else self.units[n]) * self.cost[n] for n in self.units))


def on(weight: Weight) -> Site:
    return Site(weight.tensor, "element", weight.shape, (Member(weight.tensor, "self", shape=weight.shape),), weight=weight)


def flat(**units: int) -> dict[str, Site]:
    """Sites of single rows, called by their keywords."""
    return {name: on(linear(name, 1, n)) for name, n in units.items()}


def scored(**values) -> dict[str, Scores]:
    return {name: Scores(torch.as_tensor(value, dtype=torch.float32)) for name, value in values.items()}


def wish(sites, ratio, cost=None, lower=None, upper=None, multiple=None) -> Budget:
    price = Sum({n: s.units for n, s in sites.items()}, cost or dict.fromkeys(sites, 1.0))
    bounds = {n: 1 for n in sites} | (lower or {}), {n: s.units for n, s in sites.items()} | (upper or {})
    return Budget(price, ratio * price.dense * (1 + 1e-12), *bounds, multiple or {})


def counts(keeps) -> list[int]:
    return [int(k.sum()) for k in keeps.values()]
