"""What stripes of m neighbouring channels keep under n:m, and how channels are dealt out to them anew so that they keep more.

With t_1 >= t_2 >= ... the scores of the m - 1 others of a stripe in one row, a newcomer x makes the row keep
t_1 + ... + t_(n-1) + max(t_n, x): one threshold a place and row says all. Sums of maxima are distances in disguise,
sum max(a, b) = (sum a + sum b + sum |a - b|) / 2, so what every stripe would keep with every newcomer is one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from pomona.vocabulary import generator

NOISE = 1e-6  # of what is kept: a gain below is rounding, and would let channels change places for ever
_ENOUGH = 1e-4  # of what is kept: gains that are no longer worth a sweep
_STARTS = 8  # from which it begins, over the number of stripes
_MEETINGS = 32  # sweeps in which nothing must come before it ends, times stripes: few stripes have few pairs in one sweep

Assign: TypeAlias = Callable[[Tensor], Tensor]  # worth (stripes, channels) -> whom each stripe gets, int64 (stripes,)


def kept(columns: Tensor, n: int, m: int) -> Tensor:
    """What each stripe keeps, float64 (stripes,): the n best of every m of `columns` (rows, channels), over all rows."""
    stripes = columns.view(len(columns), -1, m)
    return stripes.topk(n, dim=2, sorted=False).values.sum(dim=(0, 2), dtype=torch.float64)


def redealt(columns: Tensor, n: int, m: int, assign: Assign, sweeps: int, seed: int) -> Tensor:
    """An order of the channels, int64 (channels,), in which stripes keep no less of `columns` (rows, channels) than they do now.

    It begins with the order that is there or with channels dealt out by all that they are worth, whichever keeps more; where
    there are few stripes, with both and with some drawn by `seed`. Each turn takes one channel out of every stripe, and `assign`
    deals these out again. What a stripe keeps depends on its other channels and the one that it gets, so this is an
    assignment, whole and exact. A sweep gives each place one turn.
    """
    chance, number = generator(seed), columns.shape[1]
    here = torch.arange(number, device=columns.device)
    starts = sorted((here, _dealt(columns, m)), key=lambda order: -_total(columns, order, n, m))
    starts += [torch.randperm(number, generator=chance).to(columns.device) for _ in range(_STARTS)]
    ends = [_descended(columns, start, n, m, assign, sweeps, chance) for start in starts[: max(1, _STARTS * m // number)]]
    return max(ends, key=lambda order: _total(columns, order, n, m))


def _descended(columns: Tensor, start: Tensor, n: int, m: int, assign: Assign, sweeps: int, chance: torch.Generator) -> Tensor:
    order, stripes = start.clone(), len(start) // m
    first, totals, quiet = torch.arange(stripes, device=start.device) * m, [_total(columns, start, n, m)], _MEETINGS // stripes
    for _ in range(sweeps if stripes > 1 else 0):
        turns = torch.rand(stripes, m, generator=chance).argsort(dim=1).to(start.device)
        for turn in turns.T:
            places = first + turn
            chosen = assign(_with_others(columns[:, order], places, columns[:, order[places]], n, m))
            order[places] = order[places[chosen]]
        totals.append(_total(columns, order, n, m))
        if totals[-1] <= totals[max(0, len(totals) - 2 - quiet)] * (1 + _ENOUGH) and len(totals) > 1 + quiet:
            break
    return order


def _total(columns: Tensor, order: Tensor, n: int, m: int) -> float:
    return float(kept(columns[:, order], n, m).sum())


def _dealt(columns: Tensor, m: int) -> Tensor:
    """The channels by all that they are worth, dealt out to and fro over the stripes."""
    ranked = columns.sum(0, dtype=torch.float64).argsort(descending=True, stable=True)
    hands = ranked.view(m, -1).clone()
    hands[1::2] = hands[1::2].flip(1)
    return hands.T.flatten()


def _with_others(columns: Tensor, places: Tensor, newcomers: Tensor, n: int, m: int) -> Tensor:
    """What the stripe of each place keeps with each newcomer there: float64 (places, newcomers), from (rows, others)."""
    stripes = columns.view(len(columns), -1, m)
    slots = torch.arange(m, device=columns.device)
    mates = torch.stack([slots[slots != slot] for slot in slots])  # (m, m - 1)
    best = stripes[:, (places // m)[:, None], mates[places % m]].topk(n, dim=2).values  # (rows, places, n)
    threshold, sure = best[:, :, -1], best[:, :, :-1].sum(dim=(0, 2), dtype=torch.float64)
    apart = torch.cdist(threshold.T.contiguous(), newcomers.T.contiguous(), p=1.0)
    totals = threshold.sum(0, dtype=torch.float64)[:, None] + newcomers.sum(0, dtype=torch.float64)
    return sure[:, None] + (totals + apart) / 2
