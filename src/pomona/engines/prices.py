"""Costs bound to a graph and its sites: what keep counts leave of weights, parameters, multiply-accumulates, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from pomona.engines.apportion import Units
from pomona.engines.clocked import Clocked, Foretold
from pomona.vocabulary import Goal, Graph, InputError, Keeps, Member, Price, Site, Structure, Weight
from pomona.vocabulary.goals import CostName


class Costs(Protocol):
    """What a model of some size costs."""

    @property
    def params(self) -> float:
        """Parameters that are there and alive."""
        ...

    @property
    def macs(self) -> float:
        """Multiply-accumulates for the example inputs."""
        ...

    @property
    def kv_bytes(self) -> float:
        """Bytes of the keys and values of one token."""
        ...


class CostedGraph(Graph, Protocol):
    """A graph whose costs are known for any sizes of its axes and densities of its tensors."""

    def costs(
        self,
        sizes: Mapping[str, int] | None = None,
        densities: Mapping[str, float] | None = None,
        without: Collection[str] = (),
    ) -> Costs:
        """Axis name -> units that stay, tensor name -> share of its elements that stays; what is not named is whole.

        `without` are blocks that are left out.
        """
        ...


def price(
    goal: Goal,
    graph: CostedGraph,
    sites: Sequence[Site],
    structure: Structure,
    forecast: Callable[[], Foretold] | None = None,
) -> Price:
    """The goal's cost as a function of keep counts.

    Axis sites shrink tensors, element sites thin them out, branch sites take away the cheapest of their blocks. Where
    blocks at an edge are smaller, the larger ones are taken to stay: the price is never below the truth.
    `forecast` makes what tells the latency of any sizes; only a goal in latency asks for it.
    """
    if goal.cost == "units":
        return Units(tuple(sites))
    if goal.cost == "latency":
        if forecast is None:
            raise InputError("Here nothing is timed, so no goal in latency can be met; ask for macs=0.5x.")
        return Clocked.of(forecast, tuple(sites))
    if goal.cost == "kv":
        return _Remembered.of(graph, tuple(sites))
    tensors = _Tensors(graph.weights, tuple(sites), {s.name: _elements(s, structure) for s in sites if s.kind == "element"})
    return _Sparsity(tensors) if goal.cost == "sparsity" else _Traced(tensors, graph, goal.cost)


@dataclass(frozen=True, eq=False)
class _Tensors:
    """How much of each tensor the counts leave. `elements`: element site -> alive elements by count (None: count is it)."""

    weights: Mapping[str, Weight]
    sites: tuple[Site, ...]
    elements: Mapping[str, Tensor | None]

    @cached_property
    def reach(self) -> dict[str, dict[int, list[tuple[Site, Member]]]]:
        """Tensor -> dimension -> the axis sites that reach it there."""
        found: dict[str, dict[int, list[tuple[Site, Member]]]] = {}
        for site in self.sites:
            for member in site.members if site.kind == "axis" else ():
                if member.dim is not None and not member.buffer:
                    found.setdefault(member.tensor, {}).setdefault(member.dim, []).append((site, member))
        return found

    def size(self, tensor: str, keeps: Keeps) -> int:
        """How many elements the tensor has once the axes are cut."""
        total = 1
        for dim, size in enumerate(self.weights[tensor].shape):
            there = [(m, int(keeps[s.name].sum())) for s, m in self.reach.get(tensor, {}).get(dim, ()) if s.name in keeps]
            total *= _left(size, there)
        return total

    def density(self, keeps: Keeps) -> dict[str, float]:
        """Tensor -> share of its elements that element sites leave."""
        found = {}
        for site in self.sites:
            if site.kind == "element" and site.name in keeps:
                units = int(keeps[site.name].sum())
                table = self.elements[site.name]
                alive = units if table is None else int(table[units])
                found[site.members[0].tensor] = alive / self.weights[site.members[0].tensor].size
        return found

    def skipped(self, keeps: Keeps, alive: Mapping[str, float], base: Mapping[str, float]) -> float:
        """What the blocks that are left out would have cost; `alive` shares of `base` costs by tensor."""
        saved = 0.0
        for site in self.sites:
            if site.kind == "branch" and site.name in keeps:
                gone = site.units - int(keeps[site.name].sum())
                costs = [
                    sum(alive[m.tensor] * base.get(m.tensor, 0.0) for m in site.members if m.tensor.startswith(f"{block}."))
                    for block in (site.blocks if gone else ())
                ]
                saved += sum(sorted(costs)[:gone])
        return saved

    def alive(self, keeps: Keeps, tensors: Sequence[str]) -> dict[str, float]:
        """Tensor -> share of its elements that is there and alive."""
        density = self.density(keeps)
        return {t: self.size(t, keeps) / max(1, self.weights[t].size) * density.get(t, 1.0) for t in tensors}


@dataclass(frozen=True, eq=False)
class _Sparsity:
    """Living elements of the linear, convolution and recurrent weights, and of whatever else element sites act on."""

    tensors: _Tensors

    @cached_property
    def _counted(self) -> list[str]:
        asked = {site.members[0].tensor for site in self.tensors.sites if site.kind == "element"}
        return [name for name, weight in self.tensors.weights.items() if weight.prunable or name in asked]

    @cached_property
    def dense(self) -> float:
        return float(sum(self.tensors.weights[name].size for name in self._counted))

    def __call__(self, keeps: Keeps) -> float:
        base = {name: float(self.tensors.weights[name].size) for name in self._counted}
        alive = self.tensors.alive(keeps, list(self.tensors.weights) if self._branches else self._counted)
        # round: the shares are quotients of integers, their products are integers again
        return round(sum(alive[name] * base[name] for name in self._counted), 6) - self.tensors.skipped(keeps, alive, base)

    @cached_property
    def _branches(self) -> bool:
        return any(site.kind == "branch" for site in self.tensors.sites)


@dataclass(frozen=True, eq=False)
class _Traced:
    """Parameters or multiply-accumulates, from the graph's own polynomials."""

    tensors: _Tensors
    graph: CostedGraph
    cost: CostName

    @cached_property
    def dense(self) -> float:
        return float(getattr(self.graph.costs(), self.cost))

    def __call__(self, keeps: Keeps) -> float:
        sizes = {s.axis.name: int(keeps[s.name].sum()) for s in self.tensors.sites if s.axis is not None and s.name in keeps}
        total = float(getattr(self.graph.costs(sizes=sizes, densities=self.tensors.density(keeps)), self.cost))
        if not any(site.kind == "branch" for site in self.tensors.sites):
            return total
        weights = self.tensors.weights
        base = {name: float(w.size if self.cost == "params" else w.macs) for name, w in weights.items()}
        return total - self.tensors.skipped(keeps, self.tensors.alive(keeps, list(weights)), base)


@dataclass(frozen=True, eq=False)
class _Remembered:
    """Bytes of the keys and values of one token: heads and their widths shrink them, blocks that go take theirs along."""

    graph: CostedGraph
    sites: tuple[Site, ...]

    @classmethod
    def of(cls, graph: CostedGraph, sites: tuple[Site, ...]) -> _Remembered:
        """Raises InputError where there are no keys and values, or where a site would be cut without making them fewer."""
        made = cls(graph, sites)
        if not made.dense:
            raise InputError(
                "No fused attention was seen, so there are no keys and values to count; ask for params=0.5x or macs=0.5x."
            )
        for site in sites:
            if site.units > site.least and made({site.name: torch.tensor(site.least)}) >= made.dense:
                raise InputError(
                    f"{site.name} makes no keys and values, so its units would be lost for nothing; "
                    "prune kv-groups, heads that share none, head-dims or layers."
                )
        return made

    @cached_property
    def dense(self) -> float:
        return float(self.graph.costs().kv_bytes)

    def __call__(self, keeps: Keeps) -> float:
        sizes = {s.axis.name: int(keeps[s.name].sum()) for s in self.sites if s.axis is not None and s.name in keeps}
        total = float(self.graph.costs(sizes=sizes).kv_bytes)
        return total - sum(
            sum(sorted(total - self.graph.costs(sizes=sizes, without=(block,)).kv_bytes for block in site.blocks)[:gone])
            for site in self.sites
            if site.kind == "branch" and (gone := site.units - int(keeps.get(site.name, torch.tensor(site.units)).sum()))
        )


def _elements(site: Site, structure: Structure) -> Tensor | None:
    """(units + 1,) int64: how many elements live when so many units do, the largest first; None where units are elements."""
    assert site.weight is not None
    if site.units == site.weight.size:
        return None
    sizes = structure.reduce(site, {site.weight.tensor: torch.ones(site.weight.shape)}).flatten().round().long()
    return torch.cat([sizes.new_zeros(1), sizes.sort(descending=True).values.cumsum(0)])


def _left(size: int, there: Sequence[tuple[Member, int]]) -> int:
    """What is left of a dimension when each axis that reaches it keeps so many units (which ones does not matter)."""
    if len(there) == 1 and there[0][0].index is None:
        return there[0][1]
    mask = torch.ones(size, dtype=torch.bool)
    for member, keep in there:
        if member.index is None:
            mask[keep:] = False
        else:
            mask[member.index[keep:].flatten()] = False
    return int(mask.sum())
