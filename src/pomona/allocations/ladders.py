"""The knapsack's integer programme: climb each site's ladder of counts as high as the capacity allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pomona.vocabulary import InputError, Keeps

_LITTLE = 1e-5  # of the mean rung: units that are worth nothing still stay where there is room for them
_INFEASIBLE = 2  # of milp: even the lowest rungs are too dear for this capacity


class Ladder(NamedTuple):
    """What a site may keep: `counts` ascending, the `values` and the whole model's `prices` there, both (counts,) float64."""

    name: str
    counts: list[int]
    values: Tensor
    prices: Tensor


def chosen(ladders: Sequence[Ladder], capacity: float, centre: float) -> tuple[Keeps, float]:
    """The counts of the highest total value whose prices rise above `centre` by at most `capacity` in sum; and that sum.

    One binary variable a rung, which only those stand on who stand on the rung below. The lowest rungs are for free
    to take and must be paid for; where they alone are above the capacity, all sites stay on them.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    value, cost = (torch.cat([t.diff() for t in ts]).numpy() for ts in ([x.values for x in ladders], [x.prices for x in ladders]))
    base = sum(float(ladder.prices[0]) - centre for ladder in ladders)
    rungs = [len(ladder.counts) - 1 for ladder in ladders]
    room = capacity - base
    climbs = np.zeros(len(value))
    if len(value):
        scale, worth = abs(cost).max() or 1.0, value / (abs(value).mean() or 1.0) + _LITTLE
        found = milp(
            -worth,
            integrality=np.ones(len(worth)),
            bounds=Bounds(0, 1),
            constraints=[LinearConstraint(cost[None] / scale, -np.inf, room / scale), LinearConstraint(_below(rungs), 0, np.inf)],
            options={"mip_rel_gap": 1e-9},
        )
        if found.status == 0:
            climbs = found.x.round()
        elif found.status != _INFEASIBLE:
            raise InputError(f"The knapsack could not be solved: {found.message}")
    heights = [int(part.sum()) for part in np.split(climbs, np.cumsum(rungs)[:-1])]
    keeps = {ladder.name: torch.tensor(ladder.counts[height]) for ladder, height in zip(ladders, heights, strict=True)}
    return keeps, base + float(cost @ climbs)


def _below(rungs: Sequence[int]) -> Any:
    """(pairs of neighbouring rungs, rungs), sparse: each rung minus the one above it."""
    from scipy import sparse

    size = sum(rungs)
    highest = np.cumsum(rungs)[np.array(rungs) > 0] - 1
    lower = np.setdiff1d(np.arange(size), highest)
    pairs = np.arange(len(lower))
    rows, columns = np.concatenate([pairs, pairs]), np.concatenate([lower, lower + 1])
    signs = np.concatenate([np.ones(len(lower)), -np.ones(len(lower))])
    return sparse.csr_array((signs, (rows, columns)), shape=(len(lower), size))
