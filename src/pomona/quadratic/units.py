"""The layer problem where whole groups of columns leave, the same for all rows (OSSCAR, Meng et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pomona.quadratic.pivots import Pivots

_LESS = 1e-9  # an error counts as smaller from this share of it on


@dataclass(frozen=True, eq=False)
class Units:
    """tr((W - W') H (W - W')^T) over W' that are zero in the columns of units that left.

    `gram` H float64 (columns, columns), positive definite; `weight` W float64 (rows, columns); `places` (units, k) the columns
    of each unit. Columns of no unit always stay.
    """

    gram: Tensor
    weight: Tensor
    places: Tensor

    @classmethod
    def of(cls, gram: Tensor, weight: Tensor, places: Tensor) -> Units:
        """With columns that are zero in all rows set apart: another site took them away, and they must not come back."""
        closed = ~(weight != 0).any(0)
        apart = gram.masked_fill(closed[:, None] | closed, 0.0)
        apart.diagonal()[closed] = 1.0
        return cls(apart, weight, places)

    def fitted(self, keep: Tensor) -> Tensor:
        """The best W' for the units that `keep` (units,) says: W_S + W_T H_TS H_SS^-1, T the columns that left."""
        stays = self._columns(keep)
        root = torch.linalg.cholesky(self.gram[stays][:, stays])
        missing = self.weight[:, ~stays] @ self.gram[~stays][:, stays]
        found = torch.zeros_like(self.weight)
        found[:, stays] = self.weight[:, stays] + torch.cholesky_solve(missing.mT, root).mT
        return found

    def lost(self, keep: Tensor) -> float:
        """The error of `fitted`."""
        change = self.weight - self.fitted(keep)
        return float((change @ self.gram * change).sum())

    def prices(self, weight: Tensor, inverse: Tensor, keep: Tensor) -> Tensor:
        """What the error grows by if one unit leaves and all others make up for it: tr(W_g P_gg^-1 W_g^T), (units,); infinite for
        those who left. `weight` is the best for those who are there and `inverse` P the inverse of H on their columns.
        """
        return self._squares(weight, inverse, keep).masked_fill(~keep, torch.inf)

    def eliminated(self, alive: Tensor, count: int, rounds: int) -> Tensor:
        """Of the `alive` units, `count` that stay when the cheapest leave in so many rounds, prices made anew after each."""
        keep, weight, inverse = torch.ones_like(alive), self.weight, torch.cholesky_inverse(torch.linalg.cholesky(self.gram))
        batch = (~alive).nonzero()[:, 0]
        for left in range(rounds, -1, -1):
            if len(batch):
                weight, inverse = _without(weight, inverse, self.places[batch].flatten())
                keep[batch] = False
            leave = max(0, int(keep.sum()) - count)
            if not leave:
                break
            # Ties go to the lower index, on every device.
            batch = self.prices(weight, inverse, keep).argsort(stable=True)[: -(-leave // max(left, 1))]
        return keep

    def exchanged(self, keep: Tensor, alive: Tensor, steps: int, swaps: int) -> Tensor:
        """`keep` after exchanges of who stays for who left, first many at once and then the best ones in chains.

        `swaps` units are exchanged at once, the cheapest for those who are missed most, half as many after each time that this
        does not help; then come chains of up to `swaps` exchanges, see `_chain`. At most `steps` are tried of either.
        """
        keep, error = self._in_batches(keep, alive, steps, swaps)
        # A chain begins with a trade that no chain from here has begun with.
        tried = torch.zeros(len(keep), len(keep), dtype=torch.bool, device=keep.device)
        while steps > 0:
            trial, begun, length = self._chain(keep, alive, tried, min(steps, swaps))
            steps -= length
            if begun is None:
                break
            if (lost := self.lost(trial)) < error * (1 - _LESS):
                keep, error = trial, lost
                tried.zero_()
            else:
                tried[begun] = True
        return keep

    def _in_batches(self, keep: Tensor, alive: Tensor, steps: int, swaps: int) -> tuple[Tensor, float]:
        """(who stays, the error) when no exchange of two or more at once helps."""
        error, number = self.lost(keep), min(swaps, int(keep.sum()), int((alive & ~keep).sum()))
        for _ in range(steps):
            if number < 2:
                break
            at, trial = self._pivots(keep), keep.clone()
            inside = keep.nonzero()[:, 0]
            trial[inside[at.worth(inside).argsort(stable=True)[:number]]] = False
            at.move(self.places[keep & ~trial].flatten())
            outside = (alive & ~trial).nonzero()[:, 0]
            trial[outside[at.worth(outside).argsort(descending=True, stable=True)[:number]]] = True
            if (lost := self.lost(trial)) < error * (1 - _LESS):
                keep, error = trial, lost
            else:
                number //= 2
        return keep, error

    def _chain(self, keep: Tensor, alive: Tensor, tried: Tensor, length: int) -> tuple[Tensor, tuple[int, int] | None, int]:
        """(the best that was met on the way, the first trade, the number of trades) of exchanges one after the other.

        Each is the best of all, also where the error grows by it, among the units that have not moved (Kernighan and Lin, 1970);
        what two units do together is found so, where neither helps alone. The first is none of those `tried` (units, units).
        """
        at, now, best, free = self._pivots(keep), keep.clone(), keep, alive.clone()
        change, least, begun, number = 0.0, 0.0, None, 0
        while number < length:
            inside, outside = (now & free).nonzero()[:, 0], (~now & free).nonzero()[:, 0]
            if not len(inside) or not len(outside):
                break
            trades = torch.cat(list(at.trades(inside, outside)))
            if begun is None:
                trades = trades.masked_fill_(tried[inside][:, outside], torch.inf)
            place = int(trades.argmin())
            grows = float(trades.flatten()[place])
            if grows == torch.inf:
                break
            leaves, comes = int(inside[place // len(outside)]), int(outside[place % len(outside)])
            begun = begun or (leaves, comes)
            now[leaves], now[comes] = False, True
            free[leaves] = free[comes] = False
            number += 1
            for unit in (leaves, comes):
                at.move(self.places[unit])
            change += grows
            if change < least:
                best, least = now.clone(), change
        return best, begun, number

    def _pivots(self, keep: Tensor) -> Pivots:
        return Pivots.of(self.gram, self.weight, self.places, self._columns(keep))

    def _squares(self, rows: Tensor, matrix: Tensor, which: Tensor) -> Tensor:
        """tr(A_g M_gg^-1 A_g^T) for the units in `which`, |A_g|^2 for the others, whose M_gg may not be positive definite."""
        blocks = matrix[self.places[:, :, None], self.places[:, None]]
        blocks = torch.where(
            which[:, None, None], blocks, torch.eye(self.places.shape[1], dtype=blocks.dtype, device=blocks.device)
        )
        parts = rows[:, self.places].permute(1, 2, 0)  # (units, k, rows)
        solved: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(blocks), parts, upper=False)
        return solved.square().sum((1, 2))

    def _columns(self, keep: Tensor) -> Tensor:
        found = torch.ones(len(self.gram), dtype=torch.bool, device=self.gram.device)
        found[self.places[~keep].flatten()] = False
        return found


def _without(weight: Tensor, inverse: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """W and P after these columns left: W - W_J P_JJ^-1 P_J and P - P_J^T P_JJ^-1 P_J, zero there."""
    share = torch.cholesky_solve(inverse[columns], torch.linalg.cholesky(inverse[columns][:, columns]))
    weight, inverse = weight - weight[:, columns] @ share, inverse - inverse[:, columns] @ share
    weight[:, columns], inverse[columns], inverse[:, columns] = 0.0, 0.0, 0.0
    return weight, inverse
