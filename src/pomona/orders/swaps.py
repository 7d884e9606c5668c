"""Swaps: channels change places as long as n:m keeps more (Pool and Yu, "Channel Permutations for N:M Sparsity", 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.orders.stripes import NOISE, redealt


@dataclass(frozen=True)
class Swaps:
    """Exchange two channels of different stripes wherever both together then keep more.

    Each turn looks at one channel of every stripe, drawn by `seed`, and at all exchanges among these; the best ones are carried
    out together, one a stripe at most, until none helps. The search ends after `sweeps` (each is a turn for every place), or
    before where little more comes. Nothing depends on a clock: equal scores give equal orders.

    The paper tries all splits of two stripes into two, where 35 are possible for 2:4; single exchanges lead there in two steps,
    for any n:m, and can be looked at all at once. Its escapes by random exchanges are the random draws.
    """

    sweeps: int = 20
    seed: int = 0

    def arrange(self, columns: Tensor, n: int, m: int) -> Tensor:
        """Whom each place gets: int64 (channels,), from scores (rows, channels)."""
        return redealt(columns, n, m, exchanged, self.sweeps, self.seed)


def exchanged(worth: Tensor) -> Tensor:
    """Whom each stripe gets, int64 (stripes,), where no exchange of two helps any more; `worth` is (stripes, channels)."""
    got = torch.arange(len(worth), device=worth.device)
    number, least = got.clone(), float(worth.diagonal().mean()) * NOISE
    while True:
        now = worth[:, got]
        held = now.diagonal()
        gain = now + now.T - (held[:, None] + held)
        one, two = _mutual(gain.masked_fill_(gain <= least, -torch.inf), number)
        if not len(one):
            return got
        got[one], got[two] = got[two], got[one]


def _mutual(gain: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs that are each other's best partner, then the same among the rest, until nobody has anything to gain."""
    pairs = [number.new_empty(2, 0)]
    while True:
        best, mate = gain.max(dim=1)
        meet = (best > -torch.inf) & (mate[mate] == number) & (number < mate)
        if not bool(meet.any()):
            one, two = torch.cat(pairs, dim=1)
            return one, two
        pairs.append(torch.stack([number[meet], mate[meet]]))
        gone = pairs[-1].flatten()
        gain[gone], gain[:, gone] = -torch.inf, -torch.inf
