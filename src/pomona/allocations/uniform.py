"""Uniform: the same share of every weight, or of every output row of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from math import ceil, prod
from typing import Literal

import torch
from torch import Tensor

from pomona.allocations.cut import cut
from pomona.vocabulary import Budget, InputError, Keeps, Scores, Site
from pomona.vocabulary.layout import row_dims


@dataclass(frozen=True)
class Uniform:
    """A unit's key is its rank inside its site (or row), as a share; scores of different sites are never compared.

    `per="row"` compares within one output row of a weight, as Wanda does; sites without rows (axes, layers) count whole. The
    matrices of stacked experts are weights of their own.

    A goal is met within one unit, so of sites of six units some may keep four and some three. With `level` none keeps a smaller
    share than another, but for bounds and rounding up to whole units: the goal is met within one unit of every site.
    """

    per: Literal["site", "row"] = "site"
    level: bool = False

    def __post_init__(self) -> None:
        if self.per not in ("site", "row"):
            raise InputError(f"Uniform compares per 'site' or per 'row', not per '{self.per}'.")
        if self.level and self.per == "row":
            raise InputError("Uniform is level between sites only; leave out per='row'.")

    @property
    def alone(self) -> bool:
        """Sites may be cut one by one."""
        return True

    @property
    def blind(self) -> bool:
        """Reads no scores."""
        return True

    def allocate(self, sites: Mapping[str, Site], scores: Mapping[str, Scores], budget: Budget) -> Keeps:
        """Equal shares that meet the budget; counts () or, per row, (rows,), or (stack,) of stacked matrices."""
        if self.level:
            budget = replace(budget, even=partial(_levelled, sites, budget))
        return cut(sites, self.keys(sites), budget)

    def keys(self, sites: Mapping[str, Site]) -> dict[str, Tensor]:
        """The ranks as shares, ascending, by site."""
        sizes = {name: (site.units, rows(site) if self.per == "row" else stacked(site)) for name, site in sites.items()}
        # Sites of one size share one ramp: a language model would need as much memory for them as it has weights.
        ramps = {size: _ramp(*size) for size in set(sizes.values())}
        return {name: ramps[size] for name, size in sizes.items()}


def _levelled(sites: Mapping[str, Site], budget: Budget, keeps: Keeps) -> Keeps:
    """At least the largest share that any site keeps of its own accord, at every site as far as its bounds allow."""
    counts = {name: int(count.sum()) for name, count in keeps.items()}
    free = [Fraction(n, sites[name].units) for name, n in counts.items() if n > budget.least(sites[name])]
    found = dict(keeps)
    for name, count in counts.items() if free else ():
        units, multiple = sites[name].units, budget.multiple.get(name, 1)
        wanted = min(units, -(-ceil(max(free) * units) // multiple) * multiple)
        more = min(wanted, budget.upper.get(name, units))
        if more > count and not keeps[name].dim():
            found[name] = torch.tensor(more)
    return budget.even(found)


def rows(site: Site) -> int | None:
    """How many output rows a site has: those of its weight, of all matrices of a stack, or rows of the grid of blocks."""
    if site.weight is None or site.weight.out_dim is None or site.weight.in_dim is None:
        return None
    return prod(site.shape[dim] for dim in row_dims(site.weight)) if site.shape == site.weight.shape else site.shape[0]


def stacked(site: Site) -> int | None:
    """How many weights lie in a site on single elements of a stack; None where it is about one."""
    return site.weight.stack if site.weight is not None and site.shape == site.weight.shape else None


def _ramp(units: int, rows: int | None) -> Tensor:
    length = units // (rows or 1)
    ramp = (torch.arange(length, dtype=torch.float64) + 0.5).div(length).float()  # + .5: counts round to the nearest
    return ramp if rows is None else ramp.expand(rows, length)
