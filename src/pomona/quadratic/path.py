"""The exact greedy way down: the cheapest weight of each row leaves, the others make up for it (Frantar et al., OBC, 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_BURST = 32  # steps that are looked ahead
_CANDIDATES = 128  # columns among which they are expected
_AT_ONCE = 1 << 23  # numbers that the factors of the rows walked together may hold: what a large cache holds


@dataclass(frozen=True, eq=False)
class Path:
    """One walk of every row. `order` int64 (groups, rows, steps): the column that left at each step, -1 where a row has ended.

    `loss` of the same shape: by how much tr(D H D^T) grew with it, inf where a row has ended. `weight` (groups, rows, columns):
    what stands at the end. Every level of sparsity lies on the walk: the first k of a row are what leaves when k do, and
    `refit` gives the weights there.
    """

    order: Tensor
    loss: Tensor
    weight: Tensor


def walked(inverse: Tensor, weight: Tensor, steps: Tensor, quota: Tensor | None = None, window: int = 1) -> Path:
    """`steps` (groups, rows) removals from each row, in the dtype of `inverse`, P (groups, columns, columns).

    `quota` (groups, rows, windows) is how many of each `window` neighbours may leave. A step takes p with the least w_p^2 / P_pp,
    then w <- w - P_p w_p / P_pp and P <- P - P_p P_p^T / P_pp. P is never made: with U the columns that left, each as it was
    then and over the root of its pivot, it is P - U^T U of the first P, so a row needs (steps x columns) memory. And steps
    are taken in bursts: among the columns that are cheapest now, on their own small part of P; what the burst means for
    all others comes after it in one product, and where one of them would have been cheaper the burst ends before that.
    """
    groups, rows, columns = weight.shape
    most = int(steps.max()) if steps.numel() else 0
    order = torch.full((groups, rows, most), -1, dtype=torch.int64, device=weight.device)
    loss = torch.full((groups, rows, most), torch.inf, dtype=inverse.dtype, device=weight.device)
    found = weight.to(inverse.dtype, copy=True)
    number = max(1, _AT_ONCE // max(1, (most + _BURST) * columns))
    for group in range(groups):
        for rest in torch.split(torch.argsort(steps[group]), number):
            walk = _Walk(
                inverse[group], found[group, rest], steps[group, rest], None if quota is None else quota[group, rest], window
            )
            while bool((walk.done < walk.steps).any()):
                walk.burst()
            far = walk.order.shape[1]
            order[group, rest, :far], loss[group, rest, :far], found[group, rest] = walk.order, walk.loss, walk.weight
    return Path(order, loss, found)


class _Walk:
    """Some rows on their way; lives as long as the call."""

    def __init__(self, inverse: Tensor, weight: Tensor, steps: Tensor, quota: Tensor | None, window: int) -> None:
        rows, columns = weight.shape
        most = int(steps.max())
        self.inverse, self.weight, self.steps, self.window = inverse, weight, steps, window
        self.quota = None if quota is None else quota.clone()
        self.each = torch.arange(rows, device=weight.device)
        self.diagonal = inverse.diagonal().repeat(rows, 1)
        self.floor = float(inverse.diagonal().mean()) * torch.finfo(weight.dtype).eps  # below it a pivot is only rounding
        self.gone = torch.zeros_like(weight, dtype=torch.bool)
        self.done = torch.zeros_like(steps)
        self.order = weight.new_full((rows, most), -1, dtype=torch.int64)
        self.loss = weight.new_full((rows, most), torch.inf)
        self.taken = weight.new_zeros(rows, most + _BURST, columns)  # U; rows that a burst did not take are zero
        self.filled = 0

    def burst(self) -> None:
        """Some steps of every row, at least one where any are left."""
        closed = self.gone if self.quota is None else self.gone | (self.quota <= 0).repeat_interleave(self.window, 1)
        worth = (self.weight.square() / self.diagonal.clamp_min(self.floor)).masked_fill_(closed, torch.inf)
        places = worth.topk(min(_CANDIDATES, worth.shape[1]), dim=1, largest=False, sorted=False).indices
        had = self.taken[:, : self.filled].gather(2, places[:, None].expand(-1, self.filled, -1))
        local, price, share, triangle = self._ahead(places, closed.gather(1, places), had)
        at = places.gather(1, local)
        units = self._columns(at, had.gather(2, local[:, None].expand(-1, self.filled, -1)), triangle)
        units.masked_fill_(~price.isfinite()[..., None], 0.0)  # a row whose candidates are used up
        sums = torch.ones_like(triangle).tril_()  # a cumulative sum along the burst, as a product
        moves, squares = (sums * share[:, None]) @ units, sums @ units.square()
        taken = self._taken(price, moves, squares, closed.scatter(1, places, True))
        self._settle(at, price, taken, units, moves, squares)

    def _ahead(self, places: Tensor, closed: Tensor, had: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(which candidates, losses, w_p / root of the pivot, the triangle of U there) of a burst; `had` is U at all of them."""
        matrix = self.inverse[places[:, :, None], places[:, None]].baddbmm_(had.mT, had, alpha=-1)
        weight, closed = self.weight.gather(1, places), closed.clone()
        quota, family = None if self.quota is None else self.quota.clone(), places // self.window
        count = min(_BURST, places.shape[1])
        made: list[tuple[Tensor, ...]] = []
        for _ in range(count):
            diagonal = matrix.diagonal(dim1=1, dim2=2).clamp_min(self.floor)
            price, at = (weight.square() / diagonal).masked_fill_(closed, torch.inf).min(1)
            root = diagonal[self.each, at].sqrt()
            unit = matrix[self.each, at] / root[:, None]
            share = (weight[self.each, at] / root).masked_fill(~price.isfinite(), 0.0)
            weight = weight - share[:, None] * unit
            matrix.baddbmm_(unit[:, :, None], unit[:, None], alpha=-1)
            closed[self.each, at] = True
            if quota is not None:
                quota[self.each, family[self.each, at]] -= 1
                closed |= quota.gather(1, family) <= 0
            made.append((at, unit, price, share))
        at, units, prices, shares = (torch.stack(each, 1) for each in zip(*made, strict=True))
        triangle = units.gather(2, at[:, None].expand(-1, count, -1)).triu_()
        return at, prices, shares, triangle

    def _columns(self, at: Tensor, had: Tensor, triangle: Tensor) -> Tensor:
        """The new rows of U, (rows, burst, columns): P's columns at `at`, made orthogonal by the triangle. `had` is U there."""
        columns = self.inverse.index_select(0, at.flatten()).view(*at.shape, -1)
        columns.baddbmm_(had.mT, self.taken[:, : self.filled], alpha=-1)
        triangle.diagonal(dim1=1, dim2=2).clamp_min_(self.floor**0.5)
        units: Tensor = torch.linalg.solve_triangular(triangle.mT, columns, upper=False)
        return units

    def _taken(self, price: Tensor, moves: Tensor, squares: Tensor, others: Tensor) -> Tensor:
        """How many steps of the burst hold, (rows,): those before any column outside (where `others` is False) was cheaper."""
        weight = self.weight[:, None] - moves[:, :-1]
        worth = weight.square_() / (self.diagonal[:, None] - squares[:, :-1]).clamp_min_(self.floor)
        cheapest = worth.masked_fill_(others[:, None], torch.inf).amin(2)
        holds = torch.cat([torch.ones_like(price[:, :1], dtype=torch.bool), price[:, 1:] <= cheapest], 1) & price.isfinite()
        return holds.long().cumprod(1).sum(1).minimum(self.steps - self.done)

    def _settle(self, at: Tensor, price: Tensor, taken: Tensor, units: Tensor, moves: Tensor, squares: Tensor) -> None:
        count = at.shape[1]
        holds = torch.arange(count, device=at.device) < taken[:, None]
        last = (taken - 1).clamp_min(0)
        moved = (taken > 0)[:, None]
        self.weight = self.weight - moves[self.each, last] * moved
        self.diagonal = self.diagonal - squares[self.each, last] * moved
        if self.filled + count > self.taken.shape[1]:
            self.taken = torch.cat([self.taken, self.taken.new_zeros(self.taken.shape)], 1)
        self.taken[:, self.filled : self.filled + count] = units.masked_fill_(~holds[..., None], 0.0)
        self.filled += count
        row, step = holds.nonzero(as_tuple=True)
        column = at[row, step]
        self.order[row, self.done[row] + step], self.loss[row, self.done[row] + step] = column, price[row, step]
        self.gone[row, column] = True
        self.weight = self.weight.masked_fill(self.gone, 0.0)
        if self.quota is not None:
            self.quota.index_put_((row, column // self.window), -torch.ones_like(column), accumulate=True)
        self.done = self.done + taken
