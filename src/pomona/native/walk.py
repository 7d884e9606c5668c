"""Rows on the exact greedy way down: the cheapest weight of each leaves, the others make up for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pomona.native.buffers import array, optional, real, size
from pomona.native.library import library, threads_of
from pomona.vocabulary import InputError

_BURST = 32  # steps that are looked ahead
_CANDIDATES = 128  # columns among which they are expected
_AT_ONCE = 1 << 23  # numbers that the factors of the rows walked together may hold: what a large cache holds


def walk(
    inverse: Tensor, weight: Tensor, steps: Tensor, quota: Tensor | None = None, window: int = 1, threads: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(order, loss, weight) after `steps` (rows,) removals from each row of `weight` (rows, columns).

    `order` int64 (rows, the most steps) is which column left at each step, -1 where a row has ended; `loss` w_p^2 / P_pp then,
    inf where it has. `quota` (rows, windows) is how many of each `window` neighbours may leave. A step takes p with the least
    w_p^2 / P_pp of `inverse`, P (columns, columns), then w <- w - P_p w_p / P_pp and P <- P - P_p P_p^T / P_pp. P is never
    made: with U the columns that left, each as it was then and over the root of its pivot, it is P - U^T U of the first P, so
    a row needs (steps x columns) memory. And steps are taken in bursts: among the columns that are cheapest now, on their own
    small part of P; what the burst means for all others comes after it in one product, and where one of them would have been
    cheaper the burst ends before that. A kernel walks rows of float32 on the CPU one by one, torch all others side by side.

    Raises InputError where the columns are not the quota's windows, and where a row cannot take its steps: its quota allows
    fewer, or what it costs is no finite number.
    """
    if quota is not None and quota.shape[1] * window != weight.shape[1]:
        raise InputError(f"{weight.shape[1]} columns are not {quota.shape[1]} windows of {window}.")
    most = int(steps.max()) if steps.numel() else 0
    order = torch.full((len(steps), most), -1, dtype=torch.int64, device=weight.device)
    loss = torch.full((len(steps), most), torch.inf, dtype=weight.dtype, device=weight.device)
    found = weight.clone(memory_format=torch.contiguous_format)
    floor = float(inverse.diagonal().mean()) * torch.finfo(weight.dtype).eps  # below it a pivot is only rounding
    kernel = library().kernel("walk") if weight.is_cpu and weight.dtype == torch.float32 else None
    if kernel is not None:
        _by_kernel(kernel, inverse, found, steps, quota, window, floor, order, loss, threads)
        if bool(((order >= 0).sum(1) < steps).any()):
            raise _stuck()
        return order, loss, found
    number = max(1, _AT_ONCE // max(1, (most + _BURST) * weight.shape[1]))
    for rest in torch.split(torch.argsort(steps), number):
        side = _Walk(inverse, weight[rest], steps[rest], None if quota is None else quota[rest], window, floor)
        while bool((side.done < side.steps).any()):
            if not side.burst():
                raise _stuck()
        far = side.order.shape[1]
        order[rest, :far], loss[rest, :far], found[rest] = side.order, side.loss, side.weight
    return order, loss, found


def _by_kernel(
    kernel: Callable[..., int], inverse: Tensor, found: Tensor, steps: Tensor, quota: Tensor | None, window: int, floor: float,
    order: Tensor, loss: Tensor, threads: int | None,
) -> None:  # fmt: skip
    rows, columns = found.shape
    inverse, steps, quota = inverse.contiguous(), steps.contiguous(), None if quota is None else quota.clone()
    code = kernel(
        array(inverse, torch.float32, (columns, columns), "inverse"), array(found, torch.float32, found.shape, "weight"),
        array(steps, torch.int64, (rows,), "steps"), optional(quota, torch.int64, (rows, columns // window), "quota"),
        size(rows), size(columns), size(window), size(order.shape[1]), real(floor),
        array(order, torch.int64, order.shape, "order"), array(loss, torch.float32, loss.shape, "loss"), threads_of(threads),
    )  # fmt: skip
    if code:
        raise MemoryError(f"There is no memory to walk rows of {columns} columns {order.shape[1]} steps.")


def _stuck() -> InputError:
    return InputError(
        "A row has no weight left that may leave: its windows' quota is less than its steps, or its weights are so large that "
        "their squares are no finite numbers."
    )


class _Walk:
    """Some rows on their way; lives as long as the call."""

    def __init__(self, inverse: Tensor, weight: Tensor, steps: Tensor, quota: Tensor | None, window: int, floor: float) -> None:
        rows, columns = weight.shape
        most = int(steps.max())
        self.inverse, self.weight, self.steps, self.window = inverse, weight, steps, window
        self.quota = None if quota is None else quota.clone()
        self.each = torch.arange(rows, device=weight.device)
        self.diagonal = inverse.diagonal().repeat(rows, 1)
        self.floor = floor
        self.gone = torch.zeros_like(weight, dtype=torch.bool)
        self.done = torch.zeros_like(steps)
        self.order = weight.new_full((rows, most), -1, dtype=torch.int64)
        self.loss = weight.new_full((rows, most), torch.inf)
        self.taken = weight.new_zeros(rows, most + _BURST, columns)  # U; rows that a burst did not take are zero
        self.filled = 0

    def burst(self) -> bool:
        """Some steps of every row, at least one where any are left; whether any were taken."""
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
        return bool(taken.any())

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
