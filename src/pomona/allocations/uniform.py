"""Uniform: the same share of every weight, or of every output row of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
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
    """

    per: Literal["site", "row"] = "site"

    def __post_init__(self) -> None:
        if self.per not in ("site", "row"):
            raise InputError(f"Uniform compares per 'site' or per 'row', not per '{self.per}'.")

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
        return cut(sites, self.keys(sites), budget)

    def keys(self, sites: Mapping[str, Site]) -> dict[str, Tensor]:
        """The ranks as shares, ascending, by site."""
        sizes = {name: (site.units, rows(site) if self.per == "row" else stacked(site)) for name, site in sites.items()}
        # Sites of one size share one ramp: a language model would need as much memory for them as it has weights.
        ramps = {size: _ramp(*size) for size in set(sizes.values())}
        return {name: ramps[size] for name, size in sizes.items()}


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
