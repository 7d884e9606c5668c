"""Columns settled from left to right, those to the right making up for each (Frantar and Alistarh, SparseGPT, 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pomona.native.sweep import settle
from pomona.quadratic.problem import Quadratic

# (what the loss of each weight of a range of columns costs, first column) -> who stays there.
Choose = Callable[[Tensor, int], Tensor]
Snap = Callable[[Tensor], Tensor]


def swept(
    problem: Quadratic, choose: Choose, block: int = 128, window: int = 1, snap: Snap | None = None
) -> tuple[Tensor, Tensor, float]:
    """(weights, who stays, tr(D H D^T)), the first two (groups, rows, columns).

    `choose(worth, start)` says who of the columns from `start` on stays, where worth is w^2 / [U_jj]^2, what losing a weight
    costs when all columns before are settled. It is asked once a block, or where `window` columns must be chosen together,
    once a window, with the weights as they are then. `snap` puts the values of a column, (groups, rows), on a grid, where
    they are to the last digit.

    With H = R R^T, R upper triangular, and E the change of the settled columns P, the best that the others can do is
    W_b + E R_Pb R_bb^-1: one Cholesky and no inverse, and a block is looked at once, when its turn has come.
    """
    weight, columns = problem.weight, problem.weight.shape[2]
    change = torch.empty_like(weight)
    settled = None if snap is None else torch.empty_like(weight)  # weight - change is off the grid by a rounding
    alive, lost = torch.empty_like(weight, dtype=torch.bool), 0.0
    one = torch.eye(block, dtype=weight.dtype, device=weight.device)
    for start in range(0, columns, block):
        here = slice(start, min(start + block, columns))
        upper, size = problem.factor(start, here.stop), here.stop - start
        factor = torch.linalg.solve_triangular(upper[:, start:], one[:size, :size], upper=True)
        now = (weight[..., here] + change[..., :start] @ upper[:, :start] @ factor).mT.contiguous()
        stays, errors = _settled(now, factor, choose, start, window, snap)
        alive[..., here] = stays.mT
        if settled is not None:
            settled[..., here] = now.mT
        moved = torch.sub(weight[..., here], now.mT.contiguous(), out=change[..., here])
        damped = moved.square().sum(1, dtype=torch.float64) * problem.ridge[:, here]
        lost += float(errors.square_().sum(dtype=torch.float64) - damped.sum())
    return torch.sub(weight, change, out=change) if settled is None else settled, alive, max(lost, 0.0)


def _settled(now: Tensor, factor: Tensor, choose: Choose, start: int, window: int, snap: Snap | None) -> tuple[Tensor, Tensor]:
    """Who stays of one block, and errors whose squares are what it costs, both (groups, width, rows).

    `now`, of that shape, is what the block's weights would be and becomes what they are. `factor` is the upper triangular U
    with U^T U the inverse of the block's own matrix, all before it being settled.
    """
    width, scale = now.shape[1], factor.diagonal(dim1=1, dim2=2)[..., None]
    errors, alive = torch.empty_like(now), torch.empty_like(now, dtype=torch.bool)
    step = width if window == 1 else window
    for first in range(0, width, step):
        here = slice(first, min(first + step, width))
        now[:, here] -= factor[:, :first, here].mT @ errors[:, :first]
        alive[:, here] = choose((now[:, here] / scale[:, here]).square().mT, start + first).mT
        settle(now, factor, alive, errors, here, snap)
    return alive, errors
