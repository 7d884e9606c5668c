"""The layer problem where whole groups of columns leave, the same for all rows (OSSCAR, Meng et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
        """`keep` after exchanges of the cheapest who stay for those who left and are missed most, while the error falls.

        At most `steps` are tried, first `swaps` units at once, half as many after each that does not help; in the end single
        ones, from the cheapest on, until no exchange of one who stays helps.
        """
        error, number, spared = self.lost(keep), min(swaps, int(keep.sum()), int((alive & ~keep).sum())), 0
        for _ in range(steps):
            if not number or spared == int(keep.sum()):
                break
            trial = self._swapped(keep, alive, number, spared)
            if (lost := self.lost(trial)) < error * (1 - _LESS):
                keep, error, spared = trial, lost, 0
            elif number > 1:
                number //= 2
            else:
                spared += 1
        return keep

    def _swapped(self, keep: Tensor, alive: Tensor, number: int, spared: int) -> Tensor:
        """After the cheapest but for those `spared` have left and as many are back, those who are missed most."""
        stays = self._columns(keep)
        inverse = torch.zeros_like(self.gram)
        inverse[stays.nonzero(), stays.nonzero()[:, 0]] = torch.cholesky_inverse(
            torch.linalg.cholesky(self.gram[stays][:, stays])
        )
        thinner = keep.clone()
        cheap = self.prices(self.fitted(keep), inverse, keep).argsort(stable=True)
        thinner[cheap[spared : spared + number]] = False
        gains = self._gains(thinner).masked_fill(~alive | thinner, -torch.inf)
        thinner[gains.argsort(descending=True, stable=True)[:number]] = True
        return thinner

    def _gains(self, keep: Tensor) -> Tensor:
        """What the error falls by if one of those who left comes back: tr(R_g C_g^-1 R_g^T), (units,); anything for the others.

        R = (W - W') H is what the outputs miss, C_g = H_gg - H_gS H_SS^-1 H_Sg what is new in the unit's columns.
        """
        stays = self._columns(keep)
        root, across = torch.linalg.cholesky(self.gram[stays][:, stays]), self.gram[stays][:, ~stays]
        new = torch.zeros_like(self.gram)
        gone = (~stays).nonzero()
        new[gone, gone[:, 0]] = self.gram[~stays][:, ~stays] - across.mT @ torch.cholesky_solve(across, root)
        return self._squares((self.weight - self.fitted(keep)) @ self.gram, new, ~keep)

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
